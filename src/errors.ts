/**
 * Every error that offheap throws carries a `code` that starts with `ERR_OFFHEAP_`. The classes extend the built-in
 * error that a JavaScript programmer expects (a bad number is a `RangeError`, a wrong type a `TypeError`), so there is
 * no common base class: test with {@link isOffheapError}, or compare `code`.
 *
 * @module
 */

import type { StackFrame } from './frames.js'
import type { MakeError } from './native.js'

/** The codes that offheap's errors carry. */
export type ErrorCode =
  | 'ERR_OFFHEAP_BUSY'
  | 'ERR_OFFHEAP_CLOSED'
  | 'ERR_OFFHEAP_CORRUPTION'
  | 'ERR_OFFHEAP_DEVICE_UNAVAILABLE'
  | 'ERR_OFFHEAP_DISPOSED'
  | 'ERR_OFFHEAP_IMMUTABLE'
  | 'ERR_OFFHEAP_INTERNAL'
  | 'ERR_OFFHEAP_INVALID_ARGUMENT'
  | 'ERR_OFFHEAP_NOT_SUPPORTED'
  | 'ERR_OFFHEAP_OUT_OF_MEMORY'
  | 'ERR_OFFHEAP_OUT_OF_RANGE'

/** An error thrown by offheap: any `Error` with one of its codes. */
export type OffheapError = Error & { readonly code: ErrorCode }

/** The figures of an {@link OutOfMemoryError}. */
export interface OutOfMemoryDetails {
  /** Bytes that were asked for. */
  readonly requested: number
  /** The limit that refused, in bytes; `undefined` when the system refused. */
  readonly limit?: number | undefined
  /** Bytes that the refusing pool held at that moment; `undefined` when unknown. */
  readonly allocated?: number | undefined
  /** The name of the pool that refused. */
  readonly pool?: string | undefined
}

/** Memory could not be had: a limit would be exceeded, or the system said no. Nothing was changed. */
export class OutOfMemoryError extends Error {
  readonly code = 'ERR_OFFHEAP_OUT_OF_MEMORY'
  /** Bytes that were asked for. */
  readonly requested: number
  /** The limit that refused, in bytes; `undefined` when the system refused. */
  readonly limit: number | undefined
  /** Bytes that the refusing pool held at that moment; `undefined` when unknown. */
  readonly allocated: number | undefined
  /** The name of the pool that refused; `undefined` when it has none. */
  readonly pool: string | undefined

  constructor(message: string, details: OutOfMemoryDetails) {
    if (typeof details !== 'object' || (details as unknown) === null) throw new InvalidArgumentError('details must be an object')
    super(message)
    this.requested = details.requested
    this.limit = details.limit
    this.allocated = details.allocated
    this.pool = details.pool
  }
}

/** An argument has the wrong type, or is an object that cannot be used here. The message names the argument. */
export class InvalidArgumentError extends TypeError {
  readonly code = 'ERR_OFFHEAP_INVALID_ARGUMENT'
}

/** A number argument is not one that could ever be right: negative, fractional, NaN, over 2^53 - 1, no power of two. */
export class InvalidArgumentRangeError extends RangeError {
  readonly code = 'ERR_OFFHEAP_INVALID_ARGUMENT'
}

/** An offset, length or position lies outside the buffer it was meant for. Nothing was read or written. */
export class OutOfRangeError extends RangeError {
  readonly code = 'ERR_OFFHEAP_OUT_OF_RANGE'
}

/** The handle was disposed, or the ArrayBuffer under it was detached, transferred or shrunk. */
export class DisposedError extends Error {
  readonly code = 'ERR_OFFHEAP_DISPOSED'
}

/** The pool, reader, writer or stream was closed. */
export class ClosedError extends Error {
  readonly code = 'ERR_OFFHEAP_CLOSED'
}

/** A write to an immutable buffer. */
export class ImmutableError extends TypeError {
  readonly code = 'ERR_OFFHEAP_IMMUTABLE'
}

/** This build, runtime or kind of buffer cannot do it. */
export class NotSupportedError extends Error {
  readonly code = 'ERR_OFFHEAP_NOT_SUPPORTED'
}

/** The buffer is pinned, or its memory is in use in a way that forbids the call. */
export class BusyError extends Error {
  readonly code = 'ERR_OFFHEAP_BUSY'
}

/** A device, or what is needed to reach it, is not there. */
export class DeviceUnavailableError extends Error {
  readonly code = 'ERR_OFFHEAP_DEVICE_UNAVAILABLE'
  /** Why, in a word for programs: `no-library`, `no-device`, … */
  readonly reason: string

  constructor(message: string, reason: string) {
    super(message)
    this.reason = reason
  }
}

/** What is wrong with a block, or with a call about it. */
export type CorruptionKind =
  | 'overflow'
  | 'underflow'
  | 'write-after-free'
  | 'immutable-write'
  | 'stale-view'
  | 'double-free'
  | 'wrong-size'
  | 'wrong-alignment'
  | 'wrong-pool'
  | 'wrong-domain'
  | 'invalid-pointer'

/** Where a block was allocated or freed, or damage was found. */
export interface CorruptionOrigin {
  /** The thread, numbered from 1 in the order of their first request. */
  readonly thread: number
  /** JavaScript frames, the innermost first, source maps applied. Empty for what no JavaScript asked for. */
  readonly stack: readonly StackFrame[]
  /** Native frames, the innermost first, as text. */
  readonly nativeStack: readonly string[]
  /** Tags in force; '' for none. */
  readonly tags: string
}

/** Damage to memory that debug hooks found, or a call that would have damaged it. */
export interface CorruptionReport {
  readonly kind: CorruptionKind
  /** One line: what is wrong. */
  readonly message: string
  /** All of it, with the stacks, as it is written to stderr. */
  readonly text: string
  /** In what it was found: `deallocation`, `reallocation`, `leaving the quarantine` or `check`. */
  readonly detectedOn: string
  /** The block's address, or the one that was given. */
  readonly address: bigint
  /** The block's size in bytes; 0 for an unknown block. */
  readonly size: number
  /** Its alignment; 0 for an unknown block. */
  readonly alignment: number
  /** The pool that the block came from. */
  readonly pool: string
  /** The letter of its domain: `r`, `m` or `o`. */
  readonly domain: string
  /** The pool that the block was given back to. */
  readonly givenTo: string
  /** Which of the debug hooks' allocations it was, from 1; 0 for an unknown block. */
  readonly serial: number
  /** The first damaged byte, seen from the block's first; `undefined` when no byte is known to be. */
  readonly offset: number | undefined
  readonly allocatedAt: CorruptionOrigin | undefined
  readonly freedAt: CorruptionOrigin | undefined
  readonly detectedAt: CorruptionOrigin
  /** The bytes around the damage in hexadecimal, 16 a line; '' when none may be looked at. */
  readonly dump: string
}

/** Debug hooks found that memory was damaged. The call that found it has done its work. */
export class CorruptionError extends Error {
  readonly code = 'ERR_OFFHEAP_CORRUPTION'
  /** What was found. */
  readonly report: CorruptionReport
  /** What was found besides in the same call. */
  readonly further: readonly CorruptionReport[]

  constructor(report: CorruptionReport, further: readonly CorruptionReport[] = []) {
    if (typeof report !== 'object' || (report as unknown) === null) throw new InvalidArgumentError('report must be an object')
    super(report.message)
    this.report = report
    this.further = further
  }
}

/** A fault of offheap itself, caught before it could do harm. Please report it. */
export class InternalError extends Error {
  readonly code = 'ERR_OFFHEAP_INTERNAL'
}

for (const errorClass of [
  OutOfMemoryError,
  InvalidArgumentError,
  InvalidArgumentRangeError,
  OutOfRangeError,
  DisposedError,
  ClosedError,
  ImmutableError,
  NotSupportedError,
  BusyError,
  DeviceUnavailableError,
  CorruptionError,
  InternalError,
]) {
  Object.defineProperty(errorClass.prototype, 'name', { value: errorClass.name, configurable: true, writable: true })
}

/** True when `value` is an error thrown by offheap. Never throws. */
export function isOffheapError(value: unknown): value is OffheapError {
  try {
    if (!(value instanceof Error)) return false
    const code: unknown = Object.getOwnPropertyDescriptor(value, 'code')?.value
    return typeof code === 'string' && code.startsWith('ERR_OFFHEAP_')
  } catch {
    return false // a proxy whose traps throw
  }
}

/** Builds the errors of native code; the numbers are -1 and the strings '' where they do not apply. */
export const makeError: MakeError = (code, message, detail, requested, limit, allocated, pool) => {
  switch (code) {
    case 'ERR_OFFHEAP_OUT_OF_MEMORY':
      return new OutOfMemoryError(message, {
        requested,
        limit: limit < 0 ? undefined : limit,
        allocated: allocated < 0 ? undefined : allocated,
        pool: pool === '' ? undefined : pool,
      })
    case 'ERR_OFFHEAP_INVALID_ARGUMENT':
      return new InvalidArgumentError(message)
    case 'ERR_OFFHEAP_OUT_OF_RANGE':
      return new OutOfRangeError(message)
    case 'ERR_OFFHEAP_DISPOSED':
      return new DisposedError(message)
    case 'ERR_OFFHEAP_CLOSED':
      return new ClosedError(message)
    case 'ERR_OFFHEAP_IMMUTABLE':
      return new ImmutableError(message)
    case 'ERR_OFFHEAP_NOT_SUPPORTED':
      return new NotSupportedError(message)
    case 'ERR_OFFHEAP_BUSY':
      return new BusyError(message)
    case 'ERR_OFFHEAP_DEVICE_UNAVAILABLE':
      return new DeviceUnavailableError(message, detail)
    default:
      return new InternalError(`${code}: ${message}`)
  }
}
