/**
 * Copies and fills that the GPU does while the event loop goes on.
 *
 * @module
 */

import { type ByteSource, type ByteTarget, type Region, regionBytes, regionOf } from '../bytes.js'
import type { Device } from '../device.js'
import { NotSupportedError } from '../errors.js'
import { bufferInternals, MemoryBuffer } from '../memory-buffer.js'
import { native } from '../native.js'
import { checkByte, checkPosition, checkSize, option, outOfRange, wrongType } from '../validate.js'
import { CudaDevice, device } from './device.js'
import { type CudaStream, streamInternals } from './stream.js'

/** Options of {@link copy}. */
export interface CopyOptions {
  /** In whose order. The stream of the target's manager when absent, of the source's where that has none. */
  stream?: CudaStream | undefined
  /** Where in the target to begin. 0 when absent. */
  targetOffset?: number | undefined
  /** Where in the source to begin. 0 when absent. */
  sourceOffset?: number | undefined
  /** How many bytes. From `sourceOffset` to the end of the source when absent. */
  length?: number | undefined
}

/** Options of {@link fill}. */
export interface FillOptions {
  /** In whose order. The stream of the buffer's manager when absent. */
  stream?: CudaStream | undefined
  /** Where to begin. 0 when absent. */
  offset?: number | undefined
  /** How many bytes. From `offset` to the end when absent. */
  length?: number | undefined
}

/** One side of a copy: a buffer's native id, or where bytes of JavaScript's are now, as the engine says: a caller's properties may say anything. */
function sideOf(value: unknown, name: string): number | Region {
  const own = bufferInternals.is(value) ? bufferInternals.bytesAnywhere(value) : undefined
  if (typeof own === 'number') return own
  const region = regionOf(own ?? value)
  if (region === undefined) throw wrongType(name, 'a MemoryBuffer or bytes', value)
  regionBytes(region) // refuses a detached one
  return region
}

function sizeOf(value: unknown, side: number | Region): number {
  return typeof side === 'number' ? bufferInternals.size(value as MemoryBuffer) : side.length
}

/** A range of JavaScript's bytes as they are now. */
function part({ buffer, offset }: Region, start: number, length: number): Uint8Array {
  return regionBytes({ buffer, offset: offset + start, length })
}

/** The GPU whose work it is where no stream says so. */
function gpuOf(...values: readonly unknown[]): CudaDevice {
  for (const value of values) {
    if (!bufferInternals.is(value) || typeof bufferInternals.bytesAnywhere(value) !== 'number') continue
    // Not by the object itself, where a property may shadow it.
    const found = Reflect.get(MemoryBuffer.prototype, 'device', value) as Device
    if (found instanceof CudaDevice) return found
  }
  return device()
}

/**
 * Copies bytes in any direction, and resolves when they are there; the event loop goes on meanwhile. Both sides are kept until
 * then, whatever is disposed. Until it resolves the source must not be written, and the target neither written nor read, but by
 * work of the same stream. The stream first waits for those in whose order both sides were used until now.
 *
 * The GPU itself copies its own memory and what is page-locked (`allocateHostBuffer`, `registerHost`). Other memory of the CPU
 * goes through page-locked blocks of ours, which a thread of the driver fills and empties. Bytes of JavaScript's own (a
 * `Uint8Array`, a wrapped ArrayBuffer), which may move, are copied to one in the call, or from one when it resolves.
 *
 * @throws (rejects) ERR_OFFHEAP_OUT_OF_RANGE or ERR_OFFHEAP_IMMUTABLE with nothing copied; ERR_OFFHEAP_INVALID_ARGUMENT for a GPU's copy
 * whose sides overlap; what the driver says of this copy or of work before it
 */
export async function copy(target: ByteTarget, source: ByteSource, options?: CopyOptions): Promise<void> {
  // First: reading options may run the caller's code, and that dispose of buffers.
  const given = option(options, 'stream', streamInternals.check, undefined)
  const targetOffset = option(options, 'targetOffset', checkPosition, 0)
  const sourceOffset = option(options, 'sourceOffset', checkPosition, 0)
  const asked = option(options, 'length', checkSize, undefined)
  const [to, from] = [sideOf(target, 'target'), sideOf(source, 'source')]
  if (bufferInternals.is(target)) bufferInternals.checkMutable(target)
  const [toSize, fromSize] = [sizeOf(target, to), sizeOf(source, from)]
  const length = asked ?? Math.max(fromSize - sourceOffset, 0)
  if (sourceOffset + length > fromSize) throw outOfRange(sourceOffset, length, fromSize)
  if (targetOffset + length > toSize) throw outOfRange(targetOffset, length, toSize)

  const stream = given === undefined ? 0 : streamInternals.id(given)
  if (typeof to === 'number' && typeof from === 'number') return native.cudaCopy(to, targetOffset, from, sourceOffset, length, stream)
  // What is page-locked and belongs to nobody else, for the side that may move.
  using staged = (given?.device ?? gpuOf(target, source)).allocateHostBuffer(length)
  const id = bufferInternals.bytesAnywhere(staged) as number
  if (typeof from !== 'number') native.bufferWrite(id, 0, part(from, sourceOffset, length))
  if (typeof to === 'number') return await native.cudaCopy(to, targetOffset, id, 0, length, stream)
  if (typeof from === 'number') await native.cudaCopy(id, 0, from, sourceOffset, length, stream)
  // Asked for again: it may have moved, been frozen, or gone.
  if (bufferInternals.is(target)) bufferInternals.checkMutable(target)
  const now = sideOf(target, 'target') as Region
  if (targetOffset + length > now.length) throw outOfRange(targetOffset, length, now.length)
  if (length > 0) native.bufferRead(id, 0, part(now, targetOffset, length))
}

/**
 * Sets bytes to one value, in the order of a stream; resolves when it is done. For memory of a GPU and of the CPU that a GPU
 * reaches.
 *
 * @throws (rejects) as {@link copy}; ERR_OFFHEAP_NOT_SUPPORTED for memory that no GPU reaches
 */
export async function fill(target: MemoryBuffer, byte: number, options?: FillOptions): Promise<void> {
  const given = option(options, 'stream', streamInternals.check, undefined)
  const offset = option(options, 'offset', checkPosition, 0)
  const asked = option(options, 'length', checkSize, undefined)
  const value = checkByte(byte, 'byte')
  if (!bufferInternals.is(target)) throw wrongType('target', 'a MemoryBuffer', target)
  bufferInternals.checkMutable(target)
  const size = bufferInternals.size(target)
  const length = asked ?? Math.max(size - offset, 0)
  if (offset + length > size) throw outOfRange(offset, length, size)
  const stream = given === undefined ? 0 : streamInternals.id(given)
  const id = bufferInternals.bytesAnywhere(target)
  if (typeof id !== 'number') throw new NotSupportedError('no GPU fills a wrapped ArrayBuffer: it is not page-locked, and may move')
  await native.cudaFill(id, offset, length, value, stream)
}
