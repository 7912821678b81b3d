/**
 * Reading a file into a buffer and writing a buffer to a file. Both hold a pin while they run, so nothing that the
 * caller does meanwhile can free or move the bytes under the thread pool.
 *
 * @module
 */

import type { FileHandle } from 'node:fs/promises'
import { InvalidArgumentError } from './errors.js'
import { bufferInternals, type MemoryBuffer } from './memory-buffer.js'
import { checkPosition, checkSize, isObject, option, outOfRange, property, wrongType } from './validate.js'

/** Options of {@link MemoryBuffer.readFrom} and {@link MemoryBuffer.writeTo}. */
export interface FileTransferOptions {
  /** Position in the file, in bytes. The file's current position, which then moves, when absent or `null`. */
  position?: number | null | undefined
  /** How many bytes. From `offset` to the end of the buffer when absent. */
  length?: number | undefined
  /** Where in the buffer to begin. 0 when absent. */
  offset?: number | undefined
}

/** The most bytes that one call moves: what every platform's read and write take. */
const LARGEST_TRANSFER = 2 ** 30

/** The most bytes that one call moves through a bounce buffer, where views are copies. */
const LARGEST_BOUNCE = 2 ** 20

interface Transfer {
  readonly file: FileHandle
  readonly offset: number
  readonly length: number
  readonly position: number | null
}

function checkTransfer(buffer: MemoryBuffer, fileHandle: unknown, options: unknown, method: 'read' | 'write'): Transfer {
  if (!isObject(fileHandle) || typeof property(fileHandle, method, `fileHandle.${method}`) !== 'function') {
    throw wrongType('fileHandle', 'a FileHandle of node:fs/promises', fileHandle)
  }
  const offset = option(options, 'offset', checkPosition, 0)
  const size = bufferInternals.size(buffer)
  const length = option(options, 'length', checkSize, Math.max(size - offset, 0))
  if (offset + length > size) throw outOfRange(offset, length, size)
  const position = option(options, 'position', (value, name) => (value === null ? null : checkPosition(value, name)), null)
  return { file: fileHandle as FileHandle, offset, length, position }
}

/** How many bytes a call of the file moved, if it says so; what is no FileHandle may answer anything. */
function moved(answer: unknown, key: 'bytesRead' | 'bytesWritten'): number {
  return isObject(answer) ? (property(answer, key, `the answer's ${key}`) as number) : Number.NaN
}

/** Moves `length` bytes in as many calls as it takes; `step` says how many its call moved, 0 for the end. */
async function transfer(
  buffer: MemoryBuffer,
  { offset, length, position }: Transfer,
  step: (chunk: Uint8Array, chunkOffset: number, position: number | null) => Promise<number>,
): Promise<number> {
  const direct = bufferInternals.isDirect(buffer)
  const largest = direct ? LARGEST_TRANSFER : LARGEST_BOUNCE
  const pin = buffer.pin()
  try {
    let done = 0
    while (done < length) {
      const size = Math.min(length - done, largest)
      const chunk = direct ? buffer.asUint8Array(offset + done, size) : Buffer.allocUnsafeSlow(size)
      const moved: unknown = await step(chunk, offset + done, position === null ? null : position + done)
      if (!Number.isSafeInteger(moved) || (moved as number) < 0 || (moved as number) > size) {
        throw new InvalidArgumentError('fileHandle answered with an impossible number of bytes')
      }
      if (moved === 0) break
      done += moved as number
    }
    return done
  } finally {
    pin.dispose()
  }
}

/** Reads from a file into a mutable buffer, until `length` bytes are there or the file ends. */
export async function readFile(buffer: MemoryBuffer, fileHandle: FileHandle, options: FileTransferOptions | undefined): Promise<number> {
  const request = checkTransfer(buffer, fileHandle, options, 'read')
  const direct = bufferInternals.isDirect(buffer)
  return transfer(buffer, request, async (chunk, chunkOffset, position) => {
    const done = chunkOffset - request.offset
    try {
      const bytesRead = moved(await request.file.read(chunk, 0, chunk.byteLength, position), 'bytesRead')
      if (!direct) bufferInternals.write(buffer, chunkOffset, chunk.subarray(0, bytesRead), bytesRead)
      return bytesRead
    } catch (error) {
      // Some file systems answer EINVAL, not 0, when O_DIRECT reads on behind the partial block at the file's end.
      if (done % 512 !== 0 && (error as NodeJS.ErrnoException | null)?.code === 'EINVAL') return 0
      throw error
    }
  })
}

/** Writes a buffer's bytes to a file. */
export async function writeFile(buffer: MemoryBuffer, fileHandle: FileHandle, options: FileTransferOptions | undefined): Promise<number> {
  const request = checkTransfer(buffer, fileHandle, options, 'write')
  const direct = bufferInternals.isDirect(buffer)
  return transfer(buffer, request, async (chunk, chunkOffset, position) => {
    if (!direct) bufferInternals.read(buffer, chunkOffset, chunk)
    return moved(await request.file.write(chunk, 0, chunk.byteLength, position), 'bytesWritten')
  })
}
