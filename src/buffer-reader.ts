import type { Readable } from 'node:stream'
import type { ByteSource } from './bytes.js'
import { javaScriptBytes } from './bytes.js'
import { ClosedError, OutOfRangeError } from './errors.js'
import { bufferInternals, MemoryBuffer } from './memory-buffer.js'
import type { MemoryReader } from './memory-files.js'
import { readableOf, type ReadableOptions } from './streams.js'
import { checkInteger, checkPosition, checkSize, outOfRange, wrongReceiver, wrongType } from './validate.js'

/**
 * Reads a buffer from front to back or at any position, without a copy: what it returns are slices of the buffer. It
 * holds on to the buffer's handle and makes no other; when the buffer is disposed, reads throw ERR_OFFHEAP_DISPOSED.
 * Reads stop at the end: they return fewer bytes, then none.
 */
export class BufferReader implements MemoryReader {
  readonly #buffer: MemoryBuffer
  /** The part of the buffer that is read. */
  readonly #start: number
  readonly #size: number
  /** The reader that this is a stream of: closing it closes this. */
  readonly #parent: BufferReader | undefined
  #position = 0
  #closed = false

  constructor(source: ByteSource)
  /** @internal */
  constructor(source: ByteSource, start: number, size: number, parent: BufferReader)
  constructor(source: ByteSource, start?: number, size?: number, parent?: unknown) {
    this.#buffer = bufferInternals.is(source) ? source : MemoryBuffer.wrap(source)
    bufferInternals.checkCpu(this.#buffer)
    const isPart = BufferReader.#isReader(parent)
    this.#parent = isPart ? parent : undefined
    this.#start = isPart ? start! : 0
    this.#size = isPart ? size! : bufferInternals.size(this.#buffer)
  }

  static #isReader(value: unknown): value is BufferReader {
    return typeof value === 'object' && value !== null && #buffer in value
  }

  /** The reader, when it is open. */
  static #open(self: unknown): BufferReader {
    if (!BufferReader.#isReader(self)) throw wrongReceiver('BufferReader')
    if (self.closed) throw new ClosedError('the reader was closed')
    return self
  }

  /** How many bytes of `wanted` there are from `position`. */
  static #available(self: BufferReader, position: number, wanted: number): number {
    if (position > self.#size) throw outOfRange(position, wanted, self.#size)
    return Math.min(wanted, self.#size - position)
  }

  static #into(self: BufferReader, position: number, target: unknown): number {
    const bytes = javaScriptBytes(target)
    if (bytes === undefined) throw wrongType('target', 'an ArrayBuffer or a view of one', target)
    const count = BufferReader.#available(self, position, bytes.byteLength)
    bufferInternals.read(self.#buffer, self.#start + position, count === bytes.byteLength ? bytes : bytes.subarray(0, count))
    return count
  }

  /** Length in bytes of what is read. */
  get size(): number {
    return BufferReader.#open(this).#size
  }

  /** True after {@link close}. */
  get closed(): boolean {
    if (!BufferReader.#isReader(this)) throw wrongReceiver('BufferReader')
    return this.#closed || (this.#parent !== undefined && this.#parent.closed)
  }

  /** The position of the next read, in bytes. */
  tell(): number {
    return BufferReader.#open(this).#position
  }

  /** Moves to `position`. @throws ERR_OFFHEAP_OUT_OF_RANGE when it is not 0 to `size`; the position stays then */
  seek(position: number): void {
    const self = BufferReader.#open(this)
    const target = checkInteger(position, 'position')
    if (target < 0 || target > self.#size) throw new OutOfRangeError(`position ${target} is out of range of ${self.#size} bytes`)
    self.#position = target
  }

  /** The next `length` bytes as a slice, fewer at the end. Dispose it when done. */
  read(length: number): MemoryBuffer {
    const self = BufferReader.#open(this)
    const count = BufferReader.#available(self, self.#position, checkSize(length, 'length'))
    const slice = self.#buffer.slice(self.#start + self.#position, count)
    self.#position += count
    return slice
  }

  /** Copies the next bytes into `target`. @returns how many; fewer than fit at the end, 0 behind it */
  readInto(target: ArrayBufferView | ArrayBufferLike): number {
    const self = BufferReader.#open(this)
    const count = BufferReader.#into(self, self.#position, target)
    self.#position += count
    return count
  }

  /** The `length` bytes at `position` as a slice, fewer at the end. The reader's own position stays. */
  readAt(position: number, length: number): MemoryBuffer {
    const self = BufferReader.#open(this)
    const start = checkPosition(position, 'position')
    const count = BufferReader.#available(self, start, checkSize(length, 'length'))
    return self.#buffer.slice(self.#start + start, count)
  }

  /** Copies the bytes at `position` into `target`. @returns how many */
  readIntoAt(position: number, target: ArrayBufferView | ArrayBufferLike): number {
    const self = BufferReader.#open(this)
    return BufferReader.#into(self, checkPosition(position, 'position'), target)
  }

  /** The next `length` bytes, fewer at the end, as a view of the buffer's memory. The position stays. */
  peek(length: number): Uint8Array<ArrayBuffer> {
    const self = BufferReader.#open(this)
    const count = BufferReader.#available(self, self.#position, checkSize(length, 'length'))
    return self.#buffer.asUint8Array(self.#start + self.#position, count)
  }

  /**
   * A reader with a position of its own over `length` bytes from `start`, fewer at the end. Closing it leaves this one
   * open; closing this one closes it.
   */
  getStream(start: number, length: number): BufferReader {
    const self = BufferReader.#open(this)
    const from = checkPosition(start, 'start')
    const count = BufferReader.#available(self, from, checkSize(length, 'length'))
    return new BufferReader(self.#buffer, self.#start + from, count, self)
  }

  /**
   * A Node stream of what is left to read. Chunks are views of the buffer's memory, which is pinned until the stream
   * is closed: what still holds a chunk after that must not outlive the buffer.
   */
  asReadable(options?: ReadableOptions): Readable {
    const self = BufferReader.#open(this)
    return readableOf(self, self.#buffer, options)
  }

  /** Refuses later reads with ERR_OFFHEAP_CLOSED. The buffer stays. */
  close(): void {
    if (!BufferReader.#isReader(this)) throw wrongReceiver('BufferReader')
    this.#closed = true
  }

  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void {
    BufferReader.prototype.close.call(this)
  }

  /** `'BufferReader'` */
  get [Symbol.toStringTag](): string {
    return 'BufferReader'
  }
}
