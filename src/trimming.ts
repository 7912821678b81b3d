/**
 * When unused memory goes back to the system by itself.
 *
 * @module
 */

import { native, words } from './native.js'
import { checkIntegerFrom, checkSize, option, wrongType } from './validate.js'

/** Options of `MemoryPool.trim`. */
export interface TrimOptions {
  /**
   * How long nearly nothing must be allocated, in milliseconds: while more than an eighth of the unused bytes is allocated or
   * freed in that time, they stay. 500 when absent; at most a week.
   */
  idleMs?: number | undefined
  /** How many bytes must have been freed and not used again. 32 MiB when absent. */
  minBytes?: number | undefined
}

/** What `MemoryPool.trimPolicy` says. */
export interface TrimPolicy {
  readonly idleMs: number
  readonly minBytes: number
}

const IDLE_MS = 500
const MIN_BYTES = 32 * 2 ** 20
const LONGEST_IDLE_MS = 7 * 24 * 3600 * 1000

/** Sets the policy of the allocator under a pool. */
export function setTrimPolicy(pool: number, options: TrimOptions | false | undefined): void {
  if (options === false) {
    native.poolTrim(pool, -1, 0)
    return
  }
  if (options !== undefined && (typeof options !== 'object' || options === null)) {
    throw wrongType('options', 'an object or false', options)
  }
  const idleMs = option(options, 'idleMs', (value, name) => checkIntegerFrom(value, name, 0, LONGEST_IDLE_MS), IDLE_MS)
  const minBytes = option(options, 'minBytes', checkSize, MIN_BYTES)
  native.poolTrim(pool, idleMs, minBytes)
}

/** The policy of the allocator under a pool. */
export function trimPolicy(pool: number): TrimPolicy | undefined {
  native.poolTrimPolicy(pool)
  return words[0]! < 0 ? undefined : { idleMs: words[0]!, minBytes: words[1]! }
}
