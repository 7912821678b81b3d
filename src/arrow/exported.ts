import { InvalidArgumentError, NotSupportedError } from '../errors.js'
import { bufferInternals } from '../memory-buffer.js'
import { describe, wrongType } from '../validate.js'

/** The native id of a buffer over native memory. */
export function exportedId(value: unknown): number {
  if (!bufferInternals.is(value)) throw wrongType('buffer', 'a MemoryBuffer', value)
  const id = bufferInternals.nativeId(value)
  if (id === undefined) throw new NotSupportedError('a wrapped ArrayBuffer may move: copy it by copyTo(cpuDevice())')
  return id
}

/** An address from the caller. */
export function checkAddress(value: unknown, name: string): bigint {
  if (typeof value !== 'bigint') throw wrongType(name, 'a bigint', value)
  if (value <= 0n || value >= 1n << 64n) throw new InvalidArgumentError(`${name} must be the address of a struct, got ${describe(value)}`)
  return value
}
