/**
 * Where the log of a pool goes.
 *
 * @module
 */

import { type Channel, channel } from 'node:diagnostics_channel'
import { fileURLToPath } from 'node:url'
import { InvalidArgumentError } from './errors.js'
import { native } from './native.js'
import { type AllocationEvent, observe, observerOf } from './observers.js'
import { checkString, describe, isObject, option, property, wrongType } from './validate.js'

/** The name of the channel that `pool.log('offheap:allocation')` publishes {@link AllocationEvent}s to. */
export const ALLOCATION_CHANNEL = 'offheap:allocation'

/**
 * Where a log goes: `'stderr'`; a file, by its path or URL, which is made anew; a function, which is called with each
 * event; a channel of `node:diagnostics_channel`, or `'offheap:allocation'` for the one of that name.
 */
export type LogSink = 'stderr' | typeof ALLOCATION_CHANNEL | string | URL | Channel | ((event: AllocationEvent) => void)

/** Options of `pool.log()`. */
export interface LogOptions {
  /**
   * How the lines of stderr or a file look: `text` as Arrow's logging pool prints, `json` an object a line, `rmm-csv` what
   * RMM's replay benchmark reads. `text` when absent. Functions and channels get objects, and take no format.
   */
  format?: 'text' | 'json' | 'rmm-csv' | undefined
}

const FORMATS: readonly unknown[] = ['text', 'json', 'rmm-csv']

function checkFormat(value: unknown, name: string): string {
  if (FORMATS.includes(value)) return value as string
  throw new InvalidArgumentError(`${name} must be one of 'text', 'json', 'rmm-csv', got ${describe(value)}`)
}

function isChannel(sink: unknown): sink is Channel {
  return isObject(sink) && typeof property(sink, 'publish', 'sink.publish') === 'function'
}

function fileOf(sink: URL): string {
  try {
    return fileURLToPath(sink)
  } catch (cause) {
    throw new InvalidArgumentError('sink must be a file: URL', { cause })
  }
}

/** The native id of a pool over the one with this id that logs; word 0 is its key. */
export function logged(pool: number, sink: unknown, options: unknown): number {
  const format = option(options, 'format', checkFormat, undefined)
  const told = sink === ALLOCATION_CHANNEL ? publisher(channel(ALLOCATION_CHANNEL)) : typeof sink === 'function' ? sink : undefined
  if (told !== undefined || (!(sink instanceof URL) && isChannel(sink))) {
    if (format !== undefined) throw new InvalidArgumentError('format is for lines: functions and channels get objects')
    const tell = (told ?? publisher(sink as Channel)) as (event: AllocationEvent) => void
    return observe(observerOf(tell), (kinds) => native.poolObserve(pool, kinds))
  }
  const lines = format ?? 'text'
  if (sink === undefined || sink === 'stderr') return native.poolLog(pool, '', lines)
  if (sink instanceof URL) return native.poolLog(pool, fileOf(sink), lines)
  if (typeof sink !== 'string') throw wrongType('sink', "'stderr', a file, a function or a channel", sink)
  if (sink === '') throw new InvalidArgumentError('sink must not be an empty path')
  return native.poolLog(pool, checkString(sink, 'sink'), lines)
}

/** Subscribers that throw are reported by the channel itself. */
function publisher(to: Channel): (event: AllocationEvent) => void {
  return (event) => to.publish(event)
}
