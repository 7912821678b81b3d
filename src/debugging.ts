/**
 * Debug hooks: memory errors found where they happen (PEP 445).
 *
 * @module
 */

import { CorruptionError, type CorruptionKind, type CorruptionReport, type CorruptionOrigin } from './errors.js'
import { DOMAINS } from './domain-name.js'
import { framesOf } from './frames.js'
import { setReporting } from './instrument.js'
import { native, type NativeCorruption, type NativeOrigin, words } from './native.js'
import { callbacks, guarded } from './observers.js'
import { DEEPEST_STACK } from './stacks.js'
import { checkIntegerFrom, checkSize, option, wrongType } from './validate.js'

/**
 * What happens when damage is found: `abort` and `trap` write the report to stderr and end the process (or stop a
 * debugger), `warn` writes it and goes on, `throw` throws a {@link CorruptionError} from the call that found it (what the
 * collector or another thread finds is an uncaught exception), and a function is told of it after that call.
 */
export type OnCorruption = 'abort' | 'trap' | 'warn' | 'throw' | ((report: CorruptionReport) => void)

/** Options of `pool.debug()` and `setupDebugHooks()`. */
export interface DebugOptions {
  /** What happens when damage is found. `abort` when absent. */
  onError?: OnCorruption | undefined
  /** Bytes of freed blocks that are held back from being used again, so that later writes to them show. 16 MiB when absent. */
  quarantine?: number | undefined
  /** Native frames kept of each allocation and free, 0 to 64. 16 when absent. JavaScript frames are kept anyway. */
  nativeStackDepth?: number | undefined
}

const lines = (text: string): string[] => (text === '' ? [] : text.split('\n'))

function origin({ thread, stack, nativeStack, tags }: NativeOrigin): CorruptionOrigin {
  return { thread, stack: framesOf(stack), nativeStack: lines(nativeStack), tags }
}

/** A report for users. */
export function corruptionReport(found: NativeCorruption): CorruptionReport {
  const { kind, detectedOn, address, size, alignment, pool, domain, givenTo, serial, offset, dump, message, text } = found
  return {
    kind: kind as CorruptionKind,
    message,
    text,
    detectedOn,
    address: BigInt(address),
    size,
    alignment,
    pool,
    domain,
    givenTo,
    serial,
    offset: offset ?? undefined,
    allocatedAt: found.allocatedAt ? origin(found.allocatedAt) : undefined,
    freedAt: found.freedAt ? origin(found.freedAt) : undefined,
    detectedAt: origin(found.detectedAt),
    dump,
  }
}

/** Tells callbacks; the error for what is to be thrown. */
function deliverReports(): CorruptionError | undefined {
  const thrown: CorruptionReport[] = []
  for (const found of native.takeReports()) {
    const report = corruptionReport(found)
    if (found.callback === 0) thrown.push(report)
    else {
      const callback = callbacks.get(found.callback) as ((report: CorruptionReport) => void) | undefined
      if (callback !== undefined) guarded(() => callback(report))
    }
  }
  const [first, ...further] = thrown
  return first === undefined ? undefined : new CorruptionError(first, further)
}

setReporting(deliverReports)

const MODES: readonly unknown[] = ['abort', 'trap', 'warn', 'throw']

function checkOnError(value: unknown, name: string): OnCorruption {
  if (typeof value === 'function' || MODES.includes(value)) return value as OnCorruption
  throw wrongType(name, "'abort', 'trap', 'warn', 'throw' or a function", value)
}

/** The options of debug hooks, for native code. */
export interface CheckedDebugOptions {
  readonly mode: string
  readonly callback: ((report: CorruptionReport) => void) | undefined
  readonly quarantine: number
  readonly depth: number
}

/** The options of debug hooks, checked. */
export function checkDebugOptions(options: unknown): CheckedDebugOptions {
  const onError = option(options, 'onError', checkOnError, 'abort')
  const isCallback = typeof onError === 'function'
  return {
    mode: isCallback ? 'call' : onError,
    callback: isCallback ? onError : undefined,
    quarantine: option(options, 'quarantine', checkSize, -1),
    depth: option(options, 'nativeStackDepth', (value, name) => checkIntegerFrom(value, name, 0, DEEPEST_STACK), 16),
  }
}

/** The native id of a pool with debug hooks over the one with this id; word 0 is its key. */
export function debugged(pool: number, options: CheckedDebugOptions): number {
  const id = native.poolDebug(pool, options.mode, options.quarantine, options.depth)
  if (options.callback !== undefined) callbacks.set(words[1]!, options.callback)
  return id
}

/** Puts debug hooks over all domains; the domains. */
export function debugAll(options: CheckedDebugOptions): typeof DOMAINS {
  const callback = native.debugSetup(options.mode, options.quarantine, options.depth)
  if (options.callback !== undefined) callbacks.set(callback, options.callback)
  return DOMAINS
}
