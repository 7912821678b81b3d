/**
 * Proof that a program survives running out of memory: every allocation of it fails in turn.
 *
 * @module
 */

import { type AllocatorDomain, checkDomain } from './domain-name.js'
import { getAllocator, setAllocator } from './domains.js'
import { isOffheapError } from './errors.js'
import { defaultMemoryPool, type MemoryPool, poolInternals } from './memory-pool.js'
import { native, type NativeFailurePoint, type NativeSweepReport } from './native.js'
import type { AllocationInfo } from './tracking.js'
import { arrayElements, checkIntegerFrom, isArray, option, wrongType } from './validate.js'

/** Options of {@link sweepOutOfMemory}. */
export interface SweepOptions {
  /** What the pool that `fn` gets is over. The default pool when absent. */
  pool?: MemoryPool | undefined
  /**
   * Domains whose requests fail, too, those of this thread only. `mem` and `object` when absent: the default pool, which
   * is `fn`'s pool meanwhile, and the control blocks of buffers.
   */
  domains?: readonly AllocatorDomain[] | undefined
  /** The sweep ends after as many runs, unfinished. 10,000 when absent. */
  maxRuns?: number | undefined
}

/** The request that failed in one run of a sweep. */
export interface FailurePoint {
  /** Its number, from 1; 0 in the first run, in which nothing fails. */
  readonly request: number
  /** Whether only that request failed, or all from there on. */
  readonly mode: 'undisturbed' | 'once' | 'forever'
}

/** What a run left behind. */
export interface SweepLeak extends FailurePoint {
  /** Whose blocks; `undefined` for the pool of the sweep. */
  readonly domain: AllocatorDomain | undefined
  /** Their bytes. */
  readonly bytes: number
  /** How many they are. */
  readonly allocations: number
  /** The blocks, with the stacks that allocated them. Empty for control blocks, which nobody can forget by themselves. */
  readonly blocks: readonly AllocationInfo[]
}

/** A run that failed with another error than ERR_OFFHEAP_OUT_OF_MEMORY, or without a reason. */
export interface SweepWrongError extends FailurePoint {
  /** What was thrown. */
  readonly error: unknown
}

/** What {@link sweepOutOfMemory} found. */
export interface SweepReport {
  /** True when the sweep came to its end and found nothing. */
  readonly isClean: boolean
  /** True when it came to its end: runs that no failure met any more, once and for ever. */
  readonly isComplete: boolean
  /** How often `fn` was called. */
  readonly runs: number
  /** Requests of the first run, in which nothing failed. */
  readonly requests: number
  /** Failures of all runs. */
  readonly injected: number
  /** Runs that met a failure and succeeded all the same. */
  readonly survived: number
  /** What runs left behind. */
  readonly leaks: readonly SweepLeak[]
  /** Runs that failed as they should not. */
  readonly wrongErrors: readonly SweepWrongError[]
  /** All of it in words. */
  readonly text: string
}

const PASSED = 0
const OUT_OF_MEMORY = 1
const FAILED = 2

/** Turns of the event loop that memory may wait for work in flight, at the end of a run. */
const MOST_TURNS = 1000
/** Turns after which only the collector can be what it waits for. */
const TURNS_WITHOUT_COLLECTION = 20

function checkPool(value: unknown, name: string): MemoryPool {
  return poolInternals.check(value, name)
}

function checkDomains(value: unknown, name: string): AllocatorDomain[] {
  if (!isArray(value)) throw wrongType(name, 'an array of domains', value)
  return arrayElements(value, name, checkDomain)
}

/** Whether an error, or what it was caused by, says that memory ran out. */
function isOutOfMemory(thrown: unknown): boolean {
  try {
    let error: unknown = thrown
    for (let depth = 0; depth < 16 && error instanceof Error; depth += 1) {
      if (isOffheapError(error) && error.code === 'ERR_OFFHEAP_OUT_OF_MEMORY') return true
      error = error.cause
    }
  } catch {
    // a proxy or a getter that throws
  }
  return false
}

/** Has V8 put the stacks of an error into words: until they were read once, they keep receivers and closures alive. */
function readStacks(thrown: unknown): string {
  let text = ''
  try {
    for (let error: unknown = thrown, depth = 0; depth < 16 && error instanceof Error; error = error.cause, depth += 1) text += String(error.stack)
  } catch {
    // A stack of the program's own making.
  }
  return text
}

function textOf(error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  } catch {
    return 'an error that has no text'
  }
}

const key = ({ request, mode }: NativeFailurePoint): string => `${mode} ${request}`

/** What runs leave behind, as far as the tracker saw it. */
class Leaks {
  readonly byPoint = new Map<string, AllocationInfo[]>()
  #before = new Set<number>()

  constructor(readonly pool: MemoryPool) {}

  begin(): void {
    this.#before = new Set(this.#live().map(({ serial }) => serial))
  }

  end(point: NativeFailurePoint): void {
    const left = this.#live().filter(({ serial }) => !this.#before.has(serial))
    if (left.length > 0) this.byPoint.set(key(point), left)
  }

  #live(): AllocationInfo[] {
    return this.pool.allocations().filter(({ parked }) => !parked)
  }
}

/** Calls `fn` once; how it ended. */
async function run(fn: (pool: MemoryPool) => unknown, pool: MemoryPool): Promise<{ outcome: number; error: unknown }> {
  try {
    await fn(pool)
    return { outcome: PASSED, error: undefined }
  } catch (error) {
    readStacks(error) // before memory that these would keep is waited for
    return { outcome: isOutOfMemory(error) ? OUT_OF_MEMORY : FAILED, error }
  } finally {
    // What was disposed while a request was in flight goes when the event loop is idle; where only the collector tells that
    // nobody uses a view any more, with a collection.
    for (let turn = 1; turn <= MOST_TURNS && native.parkedBytes() > 0; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve))
      if (turn % TURNS_WITHOUT_COLLECTION === 0) (globalThis as { gc?: () => void }).gc?.()
    }
  }
}

/**
 * Calls `fn` again and again, with its first request for memory failing, its second, and so on until a run passes that no
 * failure met; then once more with all requests failing from there on (SQLite's method). After each run nothing may be
 * left behind, and an error must be ERR_OFFHEAP_OUT_OF_MEMORY, or be caused by one.
 *
 * `fn` gets the pool whose requests fail, which is the default pool meanwhile; it must dispose of all that it makes, also
 * when it fails, and do the same at each call. Requests of other threads for the default pool go on as usual. One sweep is
 * under way at a time.
 *
 * Where `capabilities().gate` is `'collect'` or `safeDispose` is on, memory of which there were views goes with a collection:
 * run Node with `--expose-gc` there, or it is reported as left behind.
 *
 * ```ts
 * const report = await sweepOutOfMemory((pool) => {
 *   using buffer = pool.allocateBuffer(100)
 *   using copy = buffer.copySlice(0, 50)
 * })
 * if (!report.isClean) throw new Error(report.text)
 * ```
 *
 * @throws ERR_OFFHEAP_BUSY while another sweep is under way
 */
export async function sweepOutOfMemory(fn: (pool: MemoryPool) => unknown, options?: SweepOptions): Promise<SweepReport> {
  if (typeof fn !== 'function') throw wrongType('fn', 'a function', fn)
  const base = option(options, 'pool', checkPool, undefined) ?? defaultMemoryPool()
  const domains = option(options, 'domains', checkDomains, ['mem', 'object'])
  const maxRuns = option(options, 'maxRuns', (value, name) => checkIntegerFrom(value, name, 1, Number.MAX_SAFE_INTEGER), 10_000)
  const tracked = base.track()
  const before = getAllocator('mem')
  const errors = new Map<string, unknown>()
  const leaks = new Leaks(tracked)
  const replacesDefault = domains.includes('mem')
  if (replacesDefault) setAllocator('mem', tracked)
  let found: NativeSweepReport
  try {
    const pool = poolInternals.adopt(native.sweepStart(poolInternals.id(tracked), domains, maxRuns))
    found = await runAll(fn, pool, leaks, errors)
  } finally {
    if (replacesDefault && getAllocator('mem') === tracked) setAllocator('mem', before)
  }
  const { leaks: left, wrongErrors, isComplete, ...figures } = found
  return {
    ...figures,
    isComplete,
    isClean: isComplete && left.length === 0 && wrongErrors.length === 0,
    leaks: left.map(({ point, domain, bytes, allocations }) => ({
      request: point.request,
      mode: point.mode,
      domain: domain === '' ? undefined : (domain as AllocatorDomain),
      bytes,
      allocations,
      blocks: domain === 'object' || domain === 'raw' ? [] : (leaks.byPoint.get(key(point)) ?? []),
    })),
    wrongErrors: wrongErrors.map(({ point }) => ({ request: point.request, mode: point.mode, error: errors.get(key(point)) })),
  }
}

async function runAll(
  fn: (pool: MemoryPool) => unknown,
  pool: MemoryPool,
  leaks: Leaks,
  errors: Map<string, unknown>,
): Promise<NativeSweepReport> {
  try {
    for (let point = begin(leaks); point !== null; point = begin(leaks)) {
      const { outcome, error } = await run(fn, pool)
      native.sweepEnd(outcome, outcome === FAILED ? textOf(error) : '')
      if (outcome !== PASSED) errors.set(key(point), error)
      leaks.end(point)
    }
  } catch (error) {
    native.sweepFinish()
    throw error
  }
  return native.sweepFinish()
}

function begin(leaks: Leaks): NativeFailurePoint | null {
  leaks.begin()
  return native.sweepBegin()
}
