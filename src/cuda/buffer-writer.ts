import { Writable } from 'node:stream'
import { type ByteSource, lengthOfBytesOrText, toBytesOrText, typedArrayElements } from '../bytes.js'
import { ClosedError, OutOfRangeError } from '../errors.js'
import { bufferInternals, type MemoryBuffer } from '../memory-buffer.js'
import type { MemoryWriter } from '../memory-files.js'
import { type Bytes, native } from '../native.js'
import { checkInteger, checkPosition, checkSize, option, outOfRange, wrongReceiver } from '../validate.js'
import { checkGpuBuffer } from './buffer-reader.js'
import { copy } from './copy.js'
import type { CudaMemoryManager } from './memory-manager.js'

/** Options of {@link CudaBufferWriter}. */
export interface CudaWriterOptions {
  /** Bytes of page-locked memory in which small writes gather, so that they go to the GPU as one copy. 0, none, when absent. */
  bufferSize?: number | undefined
}

/**
 * Writes a GPU's memory (Arrow's `CudaBufferWriter`): at once, or by way of a page-locked buffer, where small writes gather until
 * it is full, {@link flush}, {@link seek} or {@link close}. What does not fit into the GPU's buffer is refused as a whole. It holds on to
 * the buffer's handle and makes no other.
 *
 * `write`, `flush`, `seek` and `close` wait for the GPU where they copy, and with them the event loop; `writeAsync`, `flushAsync` and
 * `closeAsync` do not. All are done in the order of the stream of the buffer's manager. Close it: what a forgotten writer has
 * gathered is lost.
 */
export class CudaBufferWriter implements MemoryWriter {
  readonly #buffer: MemoryBuffer
  readonly #size: number
  /** Where the first gathered byte belongs. */
  #position = 0
  #bufferSize = 0
  /** What has gathered, in page-locked memory; absent while there is nothing. */
  #staging: MemoryBuffer | undefined = undefined
  #staged = 0
  /** Copies that are under way. */
  readonly #copies = new Set<Promise<void>>()
  #closed = false

  /**
   * @throws ERR_OFFHEAP_IMMUTABLE for an immutable buffer; ERR_OFFHEAP_INVALID_ARGUMENT for memory that is not a GPU's;
   * ERR_OFFHEAP_OUT_OF_MEMORY for the page-locked buffer
   */
  constructor(buffer: MemoryBuffer, options?: CudaWriterOptions) {
    const bufferSize = option(options, 'bufferSize', checkSize, 0)
    this.#buffer = checkGpuBuffer(buffer, 'CudaBufferWriter')
    bufferInternals.checkMutable(this.#buffer)
    this.#size = bufferInternals.size(this.#buffer)
    CudaBufferWriter.#gatherIn(this, bufferSize)
  }

  static #isWriter(value: unknown): value is CudaBufferWriter {
    return typeof value === 'object' && value !== null && #buffer in value
  }

  /** The writer, when it is open. */
  static #open(self: unknown): CudaBufferWriter {
    if (!CudaBufferWriter.#isWriter(self)) throw wrongReceiver('CudaBufferWriter')
    if (self.#closed) throw new ClosedError('the writer was closed')
    return self
  }

  static #id(self: CudaBufferWriter): number {
    return bufferInternals.bytesAnywhere(self.#buffer) as number
  }

  static #stagingOf(self: CudaBufferWriter, bytes: number): MemoryBuffer {
    return (self.#buffer.memoryManager as CudaMemoryManager).gpu.allocateHostBuffer(bytes)
  }

  /** Nothing has gathered. */
  static #gatherIn(self: CudaBufferWriter, bytes: number): void {
    const staging = bytes === 0 ? undefined : CudaBufferWriter.#stagingOf(self, bytes)
    self.#staging?.dispose()
    self.#staging = staging
    self.#bufferSize = bytes
  }

  static #checkRoom(self: CudaBufferWriter, position: number, count: number): void {
    if (position + count > self.#size) throw outOfRange(position, count, self.#size)
  }

  /** Puts bytes that fit there behind those that have gathered. */
  static #gather(self: CudaBufferWriter, bytes: Bytes, count: number): void {
    self.#staging ??= CudaBufferWriter.#stagingOf(self, self.#bufferSize)
    bufferInternals.write(self.#staging, self.#staged, bytes, count)
    self.#staged += count
  }

  static #flush(self: CudaBufferWriter): void {
    if (self.#staged === 0) return
    native.cudaWrite(CudaBufferWriter.#id(self), self.#position, bufferInternals.bytes(self.#staging!), self.#staged)
    self.#position += self.#staged
    self.#staged = 0
  }

  /** Starts a copy, and remembers it until it is done. */
  static async #start(self: CudaBufferWriter, position: number, bytes: ByteSource, length: number): Promise<void> {
    const copied = copy(self.#buffer, bytes, { targetOffset: position, length })
    self.#copies.add(copied)
    try {
      await copied
    } finally {
      self.#copies.delete(copied)
    }
  }

  /** Starts a copy of what has gathered. Later bytes gather in a buffer of their own. */
  static async #flushAsync(self: CudaBufferWriter): Promise<void> {
    const staging = self.#staging
    if (self.#staged === 0 || staging === undefined) return
    const copied = CudaBufferWriter.#start(self, self.#position, staging, self.#staged)
    self.#position += self.#staged
    self.#staged = 0
    self.#staging = undefined
    // The copy keeps the memory.
    staging.dispose()
    await copied
  }

  /** Length of the buffer in bytes. */
  get size(): number {
    return CudaBufferWriter.#open(this).#size
  }

  /** True after {@link close}. */
  get closed(): boolean {
    if (!CudaBufferWriter.#isWriter(this)) throw wrongReceiver('CudaBufferWriter')
    return this.#closed
  }

  /** Bytes that can gather before they go to the GPU; 0 for none. */
  get bufferSize(): number {
    return CudaBufferWriter.#open(this).#bufferSize
  }

  /** Bytes that have gathered. */
  get numBytesBuffered(): number {
    return CudaBufferWriter.#open(this).#staged
  }

  /** Flushes, and has `bytes` bytes gather from now on; 0 for none. @throws ERR_OFFHEAP_OUT_OF_MEMORY; it stays as it was then */
  setBufferSize(bytes: number): void {
    const self = CudaBufferWriter.#open(this)
    const size = checkSize(bytes, 'bytes')
    CudaBufferWriter.#flush(self)
    CudaBufferWriter.#gatherIn(self, size)
  }

  /** The position of the next write, in bytes. */
  tell(): number {
    const self = CudaBufferWriter.#open(this)
    return self.#position + self.#staged
  }

  /** Flushes, and moves to `position`. @throws ERR_OFFHEAP_OUT_OF_RANGE when it is not 0 to `size`; nothing happens then */
  seek(position: number): void {
    const self = CudaBufferWriter.#open(this)
    const target = checkInteger(position, 'position')
    if (target < 0 || target > self.#size) throw new OutOfRangeError(`position ${target} is out of range of ${self.#size} bytes`)
    CudaBufferWriter.#flush(self)
    self.#position = target
  }

  /**
   * Writes at the position and moves it. A string is written as UTF-8. What fits into {@link bufferSize} gathers there.
   *
   * @returns how many bytes were written: all
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when they do not fit: nothing is written then; what the driver says: what had gathered is kept
   * for the next flush
   */
  write(bytes: string | ByteSource): number {
    const self = CudaBufferWriter.#open(this)
    const given = toBytesOrText(bytes, 'bytes')
    const count = typeof given === 'number' ? lengthOfBytesOrText(bytes, 'bytes') : typedArrayElements(given)
    CudaBufferWriter.#checkRoom(self, self.#position + self.#staged, count)
    if (self.#staged + count > self.#bufferSize) CudaBufferWriter.#flush(self)
    if (count > self.#bufferSize) {
      native.cudaWrite(CudaBufferWriter.#id(self), self.#position, given, count)
      self.#position += count
    } else if (count > 0) {
      CudaBufferWriter.#gather(self, given, count)
      if (self.#staged === self.#bufferSize) CudaBufferWriter.#flush(self)
    }
    return count
  }

  /**
   * As {@link write} without waiting: resolves when the bytes have gathered or are on the GPU. They are the writer's at once but for those
   * of a {@link MemoryBuffer}, which must not be written until then; that may be a GPU's, too. The position moves at once, so several
   * writes may be under way.
   *
   * @throws (rejects) as {@link copy}, of bytes that had gathered, too; those are lost then
   */
  async writeAsync(bytes: string | ByteSource): Promise<number> {
    const self = CudaBufferWriter.#open(this)
    const source = typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : bytes
    const isGpus = bufferInternals.is(source) && !source.isCpu
    const given = isGpus ? undefined : toBytesOrText(source, 'bytes')
    const count = typeof given === 'object' ? typedArrayElements(given) : lengthOfBytesOrText(source, 'bytes')
    CudaBufferWriter.#checkRoom(self, self.#position + self.#staged, count)
    const copies: Promise<void>[] = []
    if (isGpus || self.#staged + count > self.#bufferSize) copies.push(CudaBufferWriter.#flushAsync(self))
    if (isGpus || count > self.#bufferSize) {
      copies.push(CudaBufferWriter.#start(self, self.#position, source, count))
      self.#position += count
    } else if (count > 0) {
      CudaBufferWriter.#gather(self, given!, count)
      if (self.#staged === self.#bufferSize) copies.push(CudaBufferWriter.#flushAsync(self))
    }
    await Promise.all(copies)
    return count
  }

  /** Flushes, and writes at `position`. The writer's own position stays, as with `pwrite`. @returns how many bytes were written */
  writeAt(position: number, bytes: string | ByteSource): number {
    const self = CudaBufferWriter.#open(this)
    const target = checkPosition(position, 'position')
    const given = toBytesOrText(bytes, 'bytes')
    const count = typeof given === 'number' ? lengthOfBytesOrText(bytes, 'bytes') : typedArrayElements(given)
    CudaBufferWriter.#checkRoom(self, target, count)
    CudaBufferWriter.#flush(self)
    native.cudaWrite(CudaBufferWriter.#id(self), target, given, count)
    return count
  }

  /** Brings what has gathered to the GPU. @throws what the driver says; it is kept for the next flush then */
  flush(): void {
    CudaBufferWriter.#flush(CudaBufferWriter.#open(this))
  }

  /** Resolves when all that was written is on the GPU. @throws (rejects) what the driver says; what had gathered is lost then */
  async flushAsync(): Promise<void> {
    const self = CudaBufferWriter.#open(this)
    await Promise.all([CudaBufferWriter.#flushAsync(self), ...self.#copies])
  }

  /** A Node stream that writes here, without blocking. Ending it closes this writer. */
  asWritable(): Writable {
    const self = CudaBufferWriter.#open(this)
    const { writeAsync, closeAsync } = CudaBufferWriter.prototype
    const tell = async (work: Promise<unknown>, callback: (error: Error | null) => void): Promise<void> => {
      let failure: Error | null = null
      try {
        await work
      } catch (error) {
        failure = error as Error
      }
      callback(failure)
    }
    return new Writable({
      write: (chunk: Uint8Array, _encoding, callback) => void tell(writeAsync.call(self, chunk), callback),
      final: (callback) => void tell(closeAsync.call(self), callback),
    })
  }

  static #end(self: CudaBufferWriter): void {
    self.#closed = true
    self.#staging?.dispose()
    self.#staging = undefined
    self.#staged = 0
  }

  /** {@link flush}es, and refuses later writes with ERR_OFFHEAP_CLOSED. The buffer stays. @throws what the driver says; it is closed all the same */
  close(): void {
    if (!CudaBufferWriter.#isWriter(this)) throw wrongReceiver('CudaBufferWriter')
    if (this.#closed) return
    try {
      CudaBufferWriter.#flush(this)
    } finally {
      CudaBufferWriter.#end(this)
    }
  }

  /** As {@link close} without waiting: resolves when all that was written is on the GPU. Closed at once. */
  async closeAsync(): Promise<void> {
    if (!CudaBufferWriter.#isWriter(this)) throw wrongReceiver('CudaBufferWriter')
    if (this.#closed) return
    const flushed = CudaBufferWriter.#flushAsync(this)
    CudaBufferWriter.#end(this)
    await Promise.all([flushed, ...this.#copies])
  }

  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void {
    CudaBufferWriter.prototype.close.call(this)
  }

  /** The same as {@link closeAsync}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await CudaBufferWriter.prototype.closeAsync.call(this)
  }

  /** `'CudaBufferWriter'` */
  get [Symbol.toStringTag](): string {
    return 'CudaBufferWriter'
  }
}
