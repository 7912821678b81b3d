/**
 * Argument checks. None of them ever runs the caller's code unguarded: no coercion, no `valueOf`, no `toString`, so
 * whatever is passed gives a value or an error with a code.
 *
 * @module
 */

import { InvalidArgumentError, InvalidArgumentRangeError, OutOfRangeError } from './errors.js'

/** A value as it appears in a message: short, and never by calling the value's own code. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length > 40 ? `${JSON.stringify(value.slice(0, 40))}…` : JSON.stringify(value)
    case 'bigint':
      return `${value}n`
    case 'symbol':
      return 'a symbol'
    case 'function':
      return 'a function'
    case 'object':
      return value === null ? 'null' : isArray(value) ? 'an array' : 'an object'
    default:
      return Object.is(value, -0) ? '-0' : String(value)
  }
}

/** The error for an argument of the wrong type. */
export function wrongType(name: string, expected: string, value: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`${name} must be ${expected}, got ${describe(value)}`)
}

/** The error for a method or getter called on something that is not an instance of its class. */
export function wrongReceiver(className: string): InvalidArgumentError {
  return new InvalidArgumentError(`the receiver is not a ${className}: call this as a method of one`)
}

/** The error for a constructor that only offheap may call. */
export function noConstructor(className: string, instead: string): InvalidArgumentError {
  return new InvalidArgumentError(`${className} cannot be constructed: use ${instead}`)
}

/** The error for a range that does not lie in `size` bytes or elements. */
export function outOfRange(offset: number, length: number, size: number, unit = 'bytes'): OutOfRangeError {
  return new OutOfRangeError(`offset ${offset} and length ${length} are out of range of ${size} ${unit}`)
}

/** A size, count, or position: an integer from 0 to 2^53 - 1. */
export function checkSize(value: unknown, name: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number
  throw wrongInteger(value, name, 0)
}

/** An index that may be negative: an integer from -(2^53 - 1) to 2^53 - 1. */
export function checkInteger(value: unknown, name: string): number {
  if (Number.isSafeInteger(value)) return value as number
  throw wrongInteger(value, name, Number.MIN_SAFE_INTEGER)
}

/** An offset or position: an integer that is not negative. A negative one is out of range, as it is for a slice. */
export function checkPosition(value: unknown, name: string): number {
  const position = checkInteger(value, name)
  if (position < 0) throw new OutOfRangeError(`${name} ${position} is out of range: it is negative`)
  return position
}

/** An integer from `least` to `most`. */
export function checkIntegerFrom(value: unknown, name: string, least: number, most: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return value as number
  throw wrongInteger(value, name, least, most)
}

function wrongInteger(value: unknown, name: string, least: number, most = Number.MAX_SAFE_INTEGER): Error {
  const message = `${name} must be an integer from ${least} to ${most}, got ${describe(value)}`
  return typeof value === 'number' ? new InvalidArgumentRangeError(message) : new InvalidArgumentError(message)
}

/** One byte: an integer from 0 to 255. */
export function checkByte(value: unknown, name: string): number {
  return checkIntegerFrom(value, name, 0, 255)
}

/** An alignment in bytes: a power of two. The largest that can be had is for the pool to say. */
export function checkAlignmentArgument(value: unknown, name: string): number {
  const alignment = checkSize(value, name)
  if (alignment > 0 && Number.isInteger(Math.log2(alignment)) && 2 ** Math.log2(alignment) === alignment) return alignment
  throw new InvalidArgumentRangeError(`${name} must be a power of two, got ${describe(value)}`)
}

/** `true` or `false`. */
export function checkBoolean(value: unknown, name: string): boolean {
  if (typeof value === 'boolean') return value
  throw wrongType(name, 'a boolean', value)
}

/** A string without NUL characters, which native libraries would cut. */
export function checkString(value: unknown, name: string): string {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value)
  if (value.includes('\0')) throw new InvalidArgumentError(`${name} must not contain a NUL character, got ${describe(value)}`)
  return value
}

/** `Array.isArray` that answers false for a revoked proxy instead of throwing. */
export function isArray(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value)
  } catch {
    return false
  }
}

/**
 * One property of an object that the caller gave. A getter that throws becomes an `ERR_OFFHEAP_INVALID_ARGUMENT` with
 * the original as its `cause`.
 */
export function property(owner: object, key: PropertyKey, name: string): unknown {
  try {
    return Reflect.get(owner, key)
  } catch (cause) {
    throw new InvalidArgumentError(`${name} could not be read`, { cause })
  }
}

/** The most elements that an array proper can have; only a proxy says more. */
const MOST_ELEMENTS = 2 ** 32 - 1

/**
 * The elements of what `Array.isArray` calls an array, which may be a proxy: read once each, with coded errors. Each is checked
 * before the next is read: an array of four billion holes takes no memory, its elements would take more than there is.
 */
export function arrayElements<Element>(array: readonly unknown[], name: string, check: (value: unknown, name: string) => Element): Element[] {
  const length = checkSize(property(array, 'length', `${name}.length`), `${name}.length`)
  if (length > MOST_ELEMENTS) throw new InvalidArgumentError(`${name} has more elements than an array can have: ${length}`)
  const elements: Element[] = []
  for (let index = 0; index < length; index += 1) elements.push(check(property(array, index, `${name}[${index}]`), `${name}[${index}]`))
  return elements
}

/** True for what has properties. */
export function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

/**
 * One option of a trailing options object: `fallback` when the object or the option is absent, else what `check` makes
 * of it. Anything but `undefined` or an object is an `ERR_OFFHEAP_INVALID_ARGUMENT`.
 */
export function option<Value, Fallback>(
  options: unknown,
  key: string,
  check: (value: unknown, name: string) => Value,
  fallback: Fallback,
): Value | Fallback {
  if (options === undefined) return fallback
  if (typeof options !== 'object' || options === null) throw wrongType('options', 'an object', options)
  const value = property(options, key, `options.${key}`)
  return value === undefined ? fallback : check(value, key)
}
