import { Readable } from 'node:stream'
import { type ByteTarget, javaScriptBytes } from '../bytes.js'
import { ClosedError, InvalidArgumentError, OutOfRangeError } from '../errors.js'
import { bufferInternals, type MemoryBuffer } from '../memory-buffer.js'
import type { MemoryReader } from '../memory-files.js'
import { native } from '../native.js'
import type { ReadableOptions } from '../streams.js'
import {
  arrayElements,
  checkInteger,
  checkIntegerFrom,
  checkPosition,
  checkSize,
  isArray,
  option,
  outOfRange,
  property,
  wrongReceiver,
  wrongType,
} from '../validate.js'
import { copy } from './copy.js'
import { CudaMemoryManager } from './memory-manager.js'

/** A part of a buffer. */
export interface ByteRange {
  readonly offset: number
  readonly length: number
}

const DEFAULT_CHUNK_SIZE = 1 << 20
const LARGEST_CHUNK_SIZE = 2 ** 30

/** The argument of a reader or writer of a GPU's memory: a buffer that a {@link CudaMemoryManager} manages, and not the CPU's. */
export function checkGpuBuffer(value: unknown, className: string): MemoryBuffer {
  if (!bufferInternals.is(value)) throw wrongType('buffer', 'a MemoryBuffer', value)
  const manager = value.memoryManager
  if (manager instanceof CudaMemoryManager && manager.kind !== 'host') return value
  throw new InvalidArgumentError(`buffer must be memory of a GPU for a ${className}, got memory of ${manager.device.toString()}: use manager.reader() or manager.writer()`)
}

/**
 * Reads a GPU's memory from front to back or at any position (Arrow's `CudaBufferReader`): as slices that stay on the GPU, where no
 * byte moves, or copied to the CPU. It holds on to the buffer's handle and makes no other; when the buffer is disposed, reads
 * throw ERR_OFFHEAP_DISPOSED. Reads stop at the end: they return fewer bytes, then none.
 *
 * `readInto` waits for the GPU, and with it the event loop; `readIntoAsync` does not. Both come after what the stream of the
 * buffer's manager has by then.
 */
export class CudaBufferReader implements MemoryReader {
  readonly #buffer: MemoryBuffer
  /** The part of the buffer that is read. */
  readonly #start: number
  readonly #size: number
  /** The reader that this is a stream of: closing it closes this. */
  readonly #parent: CudaBufferReader | undefined
  #position = 0
  #closed = false

  /** @throws ERR_OFFHEAP_INVALID_ARGUMENT for memory that is not a GPU's */
  constructor(buffer: MemoryBuffer)
  /** @internal */
  constructor(buffer: MemoryBuffer, start: number, size: number, parent: CudaBufferReader)
  constructor(buffer: MemoryBuffer, start?: number, size?: number, parent?: unknown) {
    this.#buffer = checkGpuBuffer(buffer, 'CudaBufferReader')
    const isPart = CudaBufferReader.#isReader(parent)
    this.#parent = isPart ? parent : undefined
    this.#start = isPart ? start! : 0
    this.#size = isPart ? size! : bufferInternals.size(this.#buffer)
  }

  static #isReader(value: unknown): value is CudaBufferReader {
    return typeof value === 'object' && value !== null && #buffer in value
  }

  /** The reader, when it is open. */
  static #open(self: unknown): CudaBufferReader {
    if (!CudaBufferReader.#isReader(self)) throw wrongReceiver('CudaBufferReader')
    if (self.closed) throw new ClosedError('the reader was closed')
    return self
  }

  /** How many bytes of `wanted` there are from `position`. */
  static #available(self: CudaBufferReader, position: number, wanted: number): number {
    if (position > self.#size) throw outOfRange(position, wanted, self.#size)
    return Math.min(wanted, self.#size - position)
  }

  static #slice(self: CudaBufferReader, position: number, length: unknown): MemoryBuffer {
    const count = CudaBufferReader.#available(self, position, checkSize(length, 'length'))
    return self.#buffer.slice(self.#start + position, count)
  }

  static #into(self: CudaBufferReader, position: number, target: unknown): number {
    const bytes = javaScriptBytes(target)
    if (bytes === undefined) throw wrongType('target', 'an ArrayBuffer or a view of one', target)
    const count = CudaBufferReader.#available(self, position, bytes.byteLength)
    const id = bufferInternals.bytesAnywhere(self.#buffer) as number
    native.cudaRead(id, self.#start + position, count === bytes.byteLength ? bytes : bytes.subarray(0, count))
    return count
  }

  /** How many bytes of the target a read fills; it must be one that {@link copy} takes. */
  static #fitting(self: CudaBufferReader, position: number, target: unknown): number {
    bufferInternals.size(self.#buffer) // throws when it was disposed
    if (bufferInternals.is(target)) {
      bufferInternals.checkMutable(target)
      return CudaBufferReader.#available(self, position, bufferInternals.size(target))
    }
    const bytes = javaScriptBytes(target)
    if (bytes === undefined) throw wrongType('target', 'a MemoryBuffer, an ArrayBuffer or a view of one', target)
    return CudaBufferReader.#available(self, position, bytes.byteLength)
  }

  /** Length in bytes of what is read. */
  get size(): number {
    return CudaBufferReader.#open(this).#size
  }

  /** True after {@link close}. */
  get closed(): boolean {
    if (!CudaBufferReader.#isReader(this)) throw wrongReceiver('CudaBufferReader')
    return this.#closed || (this.#parent !== undefined && this.#parent.closed)
  }

  /** The position of the next read, in bytes. */
  tell(): number {
    return CudaBufferReader.#open(this).#position
  }

  /** Moves to `position`. @throws ERR_OFFHEAP_OUT_OF_RANGE when it is not 0 to `size`; the position stays then */
  seek(position: number): void {
    const self = CudaBufferReader.#open(this)
    const target = checkInteger(position, 'position')
    if (target < 0 || target > self.#size) throw new OutOfRangeError(`position ${target} is out of range of ${self.#size} bytes`)
    self.#position = target
  }

  /** The next `length` bytes as a slice on the GPU, fewer at the end: no byte moves. Dispose it when done. */
  read(length: number): MemoryBuffer {
    const self = CudaBufferReader.#open(this)
    const slice = CudaBufferReader.#slice(self, self.#position, length)
    self.#position += bufferInternals.size(slice)
    return slice
  }

  /**
   * Copies the next bytes to the CPU, into `target`, and waits for it.
   *
   * @returns how many; fewer than fit at the end, 0 behind it
   * @throws what the driver says; the position stays then
   */
  readInto(target: ArrayBufferView | ArrayBufferLike): number {
    const self = CudaBufferReader.#open(this)
    const count = CudaBufferReader.#into(self, self.#position, target)
    self.#position += count
    return count
  }

  /**
   * As {@link readInto} without waiting: resolves with how many bytes there are in `target`, which may be a buffer, too (the fastest
   * is page-locked). The position moves at once, so several reads may be under way.
   *
   * @throws (rejects) as {@link copy}; when the arguments are refused the position stays
   */
  async readIntoAsync(target: ByteTarget): Promise<number> {
    const self = CudaBufferReader.#open(this)
    const from = self.#position
    const count = CudaBufferReader.#fitting(self, from, target)
    const copied = copy(target, self.#buffer, { sourceOffset: self.#start + from, length: count })
    self.#position += count
    await copied
    return count
  }

  /** The `length` bytes at `position` as a slice on the GPU, fewer at the end. The reader's own position stays. */
  readAt(position: number, length: number): MemoryBuffer {
    const self = CudaBufferReader.#open(this)
    return CudaBufferReader.#slice(self, checkPosition(position, 'position'), length)
  }

  /** Copies the bytes at `position` to the CPU, into `target`, and waits for it. @returns how many */
  readIntoAt(position: number, target: ArrayBufferView | ArrayBufferLike): number {
    const self = CudaBufferReader.#open(this)
    return CudaBufferReader.#into(self, checkPosition(position, 'position'), target)
  }

  /** As {@link readIntoAt} without waiting, into what {@link readIntoAsync} takes. */
  async readIntoAtAsync(position: number, target: ByteTarget): Promise<number> {
    const self = CudaBufferReader.#open(this)
    const from = checkPosition(position, 'position')
    const count = CudaBufferReader.#fitting(self, from, target)
    await copy(target, self.#buffer, { sourceOffset: self.#start + from, length: count })
    return count
  }

  /**
   * The next `length` bytes, fewer at the end, as a view of the buffer's memory. The position stays. Of managed memory only.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED for memory that the CPU cannot read: a GPU's own
   */
  peek(length: number): Uint8Array<ArrayBuffer> {
    const self = CudaBufferReader.#open(this)
    const count = CudaBufferReader.#available(self, self.#position, checkSize(length, 'length'))
    bufferInternals.checkCpu(self.#buffer)
    return self.#buffer.asUint8Array(self.#start + self.#position, count)
  }

  /**
   * Says that these parts will be read soon (Arrow's `WillNeed`). A GPU has its memory at hand, so the ranges are checked, and no
   * more is done.
   *
   * @throws ERR_OFFHEAP_OUT_OF_RANGE for a range that begins behind the end
   */
  willNeed(ranges: readonly ByteRange[]): void {
    const self = CudaBufferReader.#open(this)
    if (!isArray(ranges)) throw wrongType('ranges', 'an array', ranges)
    arrayElements(ranges, 'ranges', (range, name) => {
      if (typeof range !== 'object' || range === null) throw wrongType(name, 'an object with offset and length', range)
      const offset = checkPosition(property(range, 'offset', `${name}.offset`), `${name}.offset`)
      CudaBufferReader.#available(self, offset, checkSize(property(range, 'length', `${name}.length`), `${name}.length`))
    })
  }

  /**
   * A reader with a position of its own over `length` bytes from `start`, fewer at the end. Closing it leaves this one
   * open; closing this one closes it.
   */
  getStream(start: number, length: number): CudaBufferReader {
    const self = CudaBufferReader.#open(this)
    const from = checkPosition(start, 'start')
    const count = CudaBufferReader.#available(self, from, checkSize(length, 'length'))
    return new CudaBufferReader(self.#buffer, self.#start + from, count, self)
  }

  /** A Node stream of what is left to read: copies in memory of the CPU, made without blocking. `chunkSize` is 1 MiB when absent. */
  asReadable(options?: ReadableOptions): Readable {
    const self = CudaBufferReader.#open(this)
    const chunkSize = option(options, 'chunkSize', (value, name) => checkIntegerFrom(value, name, 1, LARGEST_CHUNK_SIZE), DEFAULT_CHUNK_SIZE)
    const next = async (): Promise<Buffer | null> => {
      const open = CudaBufferReader.#open(self)
      const chunk = Buffer.allocUnsafeSlow(CudaBufferReader.#available(open, open.#position, chunkSize))
      if (chunk.byteLength === 0) return null
      await CudaBufferReader.prototype.readIntoAsync.call(open, chunk)
      return chunk
    }
    return new Readable({
      highWaterMark: chunkSize,
      read() {
        next().then(
          (chunk) => void this.push(chunk),
          (error: Error) => void this.destroy(error),
        )
      },
    })
  }

  /** Refuses later reads with ERR_OFFHEAP_CLOSED. The buffer stays, and reads that are under way go on. */
  close(): void {
    if (!CudaBufferReader.#isReader(this)) throw wrongReceiver('CudaBufferReader')
    this.#closed = true
  }

  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void {
    CudaBufferReader.prototype.close.call(this)
  }

  /** `'CudaBufferReader'` */
  get [Symbol.toStringTag](): string {
    return 'CudaBufferReader'
  }
}
