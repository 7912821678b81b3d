/**
 * What trackers know: live blocks, and the places they came from.
 *
 * @module
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { writeSync } from 'node:fs'
import { InvalidArgumentError } from './errors.js'
import { formatFrame, framesOf, type StackFrame } from './frames.js'
import { setTags } from './instrument.js'
import { native, type NativeAllocation, type NativeSite, type NativeSites } from './native.js'
import { checkString, describe, isArray, isObject, property, wrongType } from './validate.js'

/** Options of `pool.track()`. */
export interface TrackOptions {
  /** JavaScript frames kept of each allocation, 0 to 64. 16 when absent. */
  stackDepth?: number | undefined
  /** Native frames kept of each allocation, 0 to 64. 0 when absent. */
  nativeStackDepth?: number | undefined
  /** True to write what is alive to stderr when the process or worker exits, by place. */
  reportAtExit?: boolean | undefined
}

/** Words of the program on what it allocates. */
export type Tags = Readonly<Record<string, string>>

/** A live block, and where it came from. */
export interface AllocationInfo {
  /** The block's address. */
  readonly address: bigint
  /** Bytes asked for. */
  readonly size: number
  /** The alignment asked for, in bytes. */
  readonly alignment: number
  /** The tracker's number of the allocation, from 1. A resized block keeps its own. */
  readonly serial: number
  /** The thread that allocated, numbered from 1 in the order of their first request. */
  readonly thread: number
  /** How long ago it was allocated, in milliseconds. */
  readonly ageMs: number
  /** JavaScript frames, the innermost first, source maps applied. Empty for what no JavaScript asked for. */
  readonly stack: readonly StackFrame[]
  /** Native frames, the innermost first, as text. */
  readonly nativeStack: readonly string[]
  /** Tags in force when it was allocated: `key=value, …`; '' for none. */
  readonly tags: string
  /** True when the bytes were given back and only the memory waits for work in flight. */
  readonly parked: boolean
}

/** Blocks that one place allocated. */
export interface AllocationSite {
  /** Their bytes. */
  readonly bytes: number
  /** How many they are. */
  readonly count: number
  /** JavaScript frames, the innermost first, source maps applied. */
  readonly stack: readonly StackFrame[]
  /** Native frames, the innermost first, as text. */
  readonly nativeStack: readonly string[]
  /** Tags in force: `key=value, …`; '' for none. */
  readonly tags: string
  /** How long ago the first and the last of them were allocated, in milliseconds. */
  readonly oldestMs: number
  readonly newestMs: number
}

/** What is alive and what was forgotten, by place; the most bytes first. */
export interface AllocationSites {
  readonly sites: readonly AllocationSite[]
  /** What the garbage collector freed because nobody disposed of it. */
  readonly forgotten: readonly AllocationSite[]
}

const lines = (text: string): string[] => (text === '' ? [] : text.split('\n'))

/** A block for users. */
export function allocationInfo(found: NativeAllocation): AllocationInfo {
  const { address, stack, nativeStack, ...rest } = found
  return { address: BigInt(address), ...rest, stack: framesOf(stack), nativeStack: lines(nativeStack) }
}

function site({ stack, nativeStack, ...rest }: NativeSite): AllocationSite {
  return { ...rest, stack: framesOf(stack), nativeStack: lines(nativeStack) }
}

/** Places for users; nothing where nothing is tracked. */
export function allocationSites(found: NativeSites | null): AllocationSites {
  return found === null ? { sites: [], forgotten: [] } : { sites: found.sites.map(site), forgotten: found.forgotten.map(site) }
}

/** Places that a report names. */
const MOST_PRINTED = 50

function printed(heading: string, sites: readonly AllocationSite[]): string {
  if (sites.length === 0) return ''
  const bytes = sites.reduce((sum, site) => sum + site.bytes, 0)
  const count = sites.reduce((sum, site) => sum + site.count, 0)
  let text = `offheap: ${heading}: ${bytes} bytes in ${count} allocations of ${sites.length} places\n`
  for (const site of sites.slice(0, MOST_PRINTED)) {
    text += `  ${site.bytes} bytes in ${site.count} allocations${site.tags === '' ? '' : ` [${site.tags}]`}\n`
    for (const frame of site.stack) text += `    at ${formatFrame(frame)}\n`
    for (const frame of site.nativeStack) text += `    by ${frame}\n`
  }
  if (sites.length > MOST_PRINTED) text += `  … ${sites.length - MOST_PRINTED} more places\n`
  return text
}

/** The text of a report at exit; '' when nothing is left. */
export function formatSites(pool: string, { sites, forgotten }: AllocationSites): string {
  return printed(`pool '${pool}': not disposed at exit`, sites) + printed(`pool '${pool}': forgotten, freed by the collector`, forgotten)
}

/** Pools that report at the exit of this environment, by native id. What was asked to be reported is kept until then. */
const reporting = new Map<number, { readonly name: string }>()

/** Writes what the pool's tracker knows to stderr at exit. */
export function reportAtExit(id: number, pool: { readonly name: string }): void {
  if (reporting.size === 0) process.on('exit', writeReports)
  reporting.set(id, pool)
}

/** Ends that. */
export function endReportAtExit(id: number): void {
  if (reporting.delete(id) && reporting.size === 0) process.off('exit', writeReports)
}

function writeReports(): void {
  for (const [id, { name }] of reporting) {
    try {
      const text = formatSites(name, allocationSites(native.poolSites(id)))
      // Synchronously: nothing asynchronous runs any more.
      if (text !== '') writeSync(2, text)
    } catch {
      // A stderr that is closed takes no report.
    }
  }
}

const storage = new AsyncLocalStorage<{ readonly tags: ReadonlyMap<string, string>; readonly text: string }>()

setTags(() => storage.getStore()?.text ?? '')

/**
 * Calls `fn`, and has everything that is allocated meanwhile, also in what it awaits, carry `tags` in the reports of
 * trackers. Scopes nest; an inner tag replaces the outer one of its name.
 *
 * @returns what `fn` returns
 */
export function withTags<Result>(tags: Tags, fn: () => Result): Result {
  if (!isObject(tags) || typeof tags === 'function' || isArray(tags)) throw wrongType('tags', 'an object of strings', tags)
  if (typeof fn !== 'function') throw wrongType('fn', 'a function', fn)
  const all = new Map(storage.getStore()?.tags)
  let keys: string[]
  try {
    keys = Object.keys(tags)
  } catch (cause) {
    throw new InvalidArgumentError('tags could not be read', { cause })
  }
  for (const key of keys) {
    if (/[=,\n]/.test(key) || key === '') throw new InvalidArgumentError(`tags must have names without '=', ',' and line breaks, got ${describe(key)}`)
    const value = checkString(property(tags, key, `tags.${key}`), `tags.${key}`)
    if (/[,\n]/.test(value)) throw new InvalidArgumentError(`tags.${key} must be a string without ',' and line breaks, got ${describe(value)}`)
    all.set(key, value)
  }
  const text = Array.from(all, ([key, value]) => `${key}=${value}`).join(', ')
  return storage.run({ tags: all, text }, fn)
}
