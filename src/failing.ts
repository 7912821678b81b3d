/**
 * Requests for memory that fail on purpose.
 *
 * @module
 */

import { type AllocatorDomain, checkDomain } from './domain-name.js'
import { InvalidArgumentRangeError } from './errors.js'
import type { NativeFailingOptions } from './native.js'
import { checkSize, checkString, describe, option, wrongType } from './validate.js'

/**
 * Which requests fail. Every option narrows: a request counts when it is large enough and its stack matches, and of those
 * that count, `after` or `probability` says which fail. With neither, all of them do.
 */
export interface FailingOptions {
  /** Lets as many requests through, and fails those after them. */
  after?: number | undefined
  /** Fails no more than as many requests; without, it goes on for ever. */
  count?: number | undefined
  /** Fails each request with this probability, 0 to 1. Not together with `after`. */
  probability?: number | undefined
  /** What `probability` draws from: the same seed fails the same requests. 0 when absent. */
  seed?: number | undefined
  /** Smaller requests never fail and do not count, in bytes. */
  minSize?: number | undefined
  /** Only requests whose JavaScript or native stack has this text in a function or a file count. */
  stack?: string | undefined
}

/** Options of `pool.failing()`. */
export interface PoolFailingOptions extends FailingOptions {
  /**
   * Also fails the requests of this domain, of all threads, which count together with the pool's: until the pool is
   * closed or collected.
   */
  domain?: AllocatorDomain | undefined
}

/** What a failing pool has counted since it was armed. */
export interface FailingCounts {
  /** Requests that counted. */
  readonly requests: number
  /** Requests that failed. */
  readonly failures: number
}

function checkProbability(value: unknown, name: string): number {
  if (typeof value !== 'number') throw wrongType(name, 'a number from 0 to 1', value)
  if (value >= 0 && value <= 1) return value
  throw new InvalidArgumentRangeError(`${name} must be a number from 0 to 1, got ${describe(value)}`)
}

/** Options as native code takes them. */
export function nativeFailingOptions(options: unknown): NativeFailingOptions {
  const given = {
    after: option(options, 'after', checkSize, -1),
    count: option(options, 'count', checkSize, -1),
    probability: option(options, 'probability', checkProbability, -1),
    seed: option(options, 'seed', checkSize, 0),
    minSize: option(options, 'minSize', checkSize, 0),
    stack: option(options, 'stack', checkString, undefined),
  }
  if (given.stack === '') throw new InvalidArgumentRangeError("stack must be a part of a function's or file's name, got \"\"")
  return { ...given, stack: given.stack ?? '' }
}

/** The domain option: '' for none. */
export function failingDomain(options: unknown): string {
  return option(options, 'domain', checkDomain, '')
}
