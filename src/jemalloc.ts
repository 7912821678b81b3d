/**
 * What only jemalloc offers. All of these throw ERR_OFFHEAP_NOT_SUPPORTED when jemalloc is not built in.
 *
 * @module
 */

import { native } from './native.js'
import { checkIntegerFrom, checkString } from './validate.js'

/** The longest decay time: jemalloc counts in a signed 64-bit integer of nanoseconds. */
const LONGEST_DECAY_MS = 9_223_372_036_854

/** How long jemalloc keeps freed pages before it gives them back: 0 = not at all, -1 = for ever. In milliseconds. */
export function jemallocSetDecayMs(ms: number): void {
  native.jemallocSetDecayMs(checkIntegerFrom(ms, 'ms', -1, LONGEST_DECAY_MS))
}

/**
 * One of jemalloc's figures by its name, such as `'stats.allocated'` or `'thread.peak.read'`.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a name that jemalloc does not know
 */
export function jemallocStat(name: string): number {
  return native.jemallocStat(checkString(name, 'name'))
}

/** Starts the peak of this thread (`'thread.peak.read'`) anew. */
export function jemallocPeakReset(): void {
  native.jemallocPeakReset()
}

/** jemalloc's report as text. `options` are those of `malloc_stats_print`: `'J'` for JSON, letters that leave parts out. */
export function jemallocStatsString(options = ''): string {
  return native.jemallocStatsString(checkString(options, 'options'))
}

/** Writes {@link jemallocStatsString} to standard error. */
export function jemallocStatsPrint(options = ''): void {
  process.stderr.write(jemallocStatsString(options))
}
