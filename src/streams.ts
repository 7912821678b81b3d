/**
 * Node streams over readers and writers.
 *
 * @module
 */

import { Readable, Writable } from 'node:stream'
import type { BufferReader } from './buffer-reader.js'
import type { MemoryBuffer } from './memory-buffer.js'
import { checkIntegerFrom, option } from './validate.js'

/** Options of {@link BufferReader.asReadable}. */
export interface ReadableOptions {
  /** Bytes in one chunk, at most 1 GiB. 65,536 when absent. */
  chunkSize?: number | undefined
}

const DEFAULT_CHUNK_SIZE = 65_536
const LARGEST_CHUNK_SIZE = 2 ** 30

/** A stream of what `reader` has left. The buffer is pinned until the stream is closed. */
export function readableOf(reader: BufferReader, buffer: MemoryBuffer, options: ReadableOptions | undefined): Readable {
  const chunkSize = option(options, 'chunkSize', (value, name) => checkIntegerFrom(value, name, 1, LARGEST_CHUNK_SIZE), DEFAULT_CHUNK_SIZE)
  const pin = buffer.pin()
  return new Readable({
    highWaterMark: chunkSize,
    read() {
      try {
        const chunk = reader.peek(chunkSize)
        reader.seek(reader.tell() + chunk.byteLength)
        this.push(chunk.byteLength === 0 ? null : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
      } catch (error) {
        this.destroy(error as Error)
      }
    },
    destroy(error, callback) {
      pin.dispose()
      callback(error)
    },
  })
}

/** Anything of this package that bytes can be written to. */
interface Sink {
  write(bytes: Uint8Array): number
  close(): void
}

/** A stream that writes into `sink` and closes it at its end. Each chunk is copied in the call. */
export function writableTo(sink: Sink): Writable {
  return new Writable({
    write(chunk: Uint8Array, _encoding, callback) {
      let failure: Error | null = null
      try {
        sink.write(chunk)
      } catch (error) {
        failure = error as Error
      }
      callback(failure)
    },
    final(callback) {
      sink.close()
      callback()
    },
  })
}
