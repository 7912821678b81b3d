import type { Writable } from 'node:stream'
import { type ByteSource, type ByteTarget, lengthOfBytesOrText, toBytesOrText, typedArrayElements } from './bytes.js'
import { ClosedError, OutOfRangeError } from './errors.js'
import { bufferInternals, MemoryBuffer } from './memory-buffer.js'
import type { MemoryWriter } from './memory-files.js'
import { writableTo } from './streams.js'
import { checkInteger, checkPosition, wrongReceiver } from './validate.js'

/**
 * Writes into a buffer of fixed size. What does not fit is refused as a whole. It holds on to the buffer's handle and
 * makes no other.
 */
export class FixedSizeBufferWriter implements MemoryWriter {
  readonly #buffer: MemoryBuffer
  readonly #size: number
  #position = 0
  #closed = false

  /** @throws ERR_OFFHEAP_IMMUTABLE for an immutable buffer */
  constructor(target: ByteTarget) {
    this.#buffer = bufferInternals.is(target) ? target : MemoryBuffer.wrap(target)
    bufferInternals.checkMutable(this.#buffer)
    bufferInternals.checkCpu(this.#buffer)
    this.#size = bufferInternals.size(this.#buffer)
  }

  static #isWriter(value: unknown): value is FixedSizeBufferWriter {
    return typeof value === 'object' && value !== null && #buffer in value
  }

  /** The writer, when it is open. */
  static #open(self: unknown): FixedSizeBufferWriter {
    if (!FixedSizeBufferWriter.#isWriter(self)) throw wrongReceiver('FixedSizeBufferWriter')
    if (self.#closed) throw new ClosedError('the writer was closed')
    return self
  }

  /** Length of the buffer in bytes. */
  get size(): number {
    return FixedSizeBufferWriter.#open(this).#size
  }

  /** True after {@link close}. */
  get closed(): boolean {
    if (!FixedSizeBufferWriter.#isWriter(this)) throw wrongReceiver('FixedSizeBufferWriter')
    return this.#closed
  }

  /** The position of the next write, in bytes. */
  tell(): number {
    return FixedSizeBufferWriter.#open(this).#position
  }

  /** Moves to `position`. @throws ERR_OFFHEAP_OUT_OF_RANGE when it is not 0 to `size`; the position stays then */
  seek(position: number): void {
    const self = FixedSizeBufferWriter.#open(this)
    const target = checkInteger(position, 'position')
    if (target < 0 || target > self.#size) throw new OutOfRangeError(`position ${target} is out of range of ${self.#size} bytes`)
    self.#position = target
  }

  /**
   * Writes at the position and moves it. A string is written as UTF-8.
   *
   * @returns how many bytes were written: all
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when they do not fit; nothing is written then
   */
  write(bytes: string | ByteSource): number {
    const self = FixedSizeBufferWriter.#open(this)
    const count = FixedSizeBufferWriter.#put(self, self.#position, bytes)
    self.#position += count
    return count
  }

  /** Writes at `position`. The writer's own position stays, as with `pwrite`. @returns how many bytes were written */
  writeAt(position: number, bytes: string | ByteSource): number {
    const self = FixedSizeBufferWriter.#open(this)
    return FixedSizeBufferWriter.#put(self, checkPosition(position, 'position'), bytes)
  }

  static #put(self: FixedSizeBufferWriter, position: number, source: unknown): number {
    const bytes = toBytesOrText(source, 'bytes')
    const count = typeof bytes === 'number' ? lengthOfBytesOrText(source, 'bytes') : typedArrayElements(bytes)
    bufferInternals.write(self.#buffer, position, bytes, count)
    return count
  }

  /** Nothing is held back: this only checks that the writer is open. */
  flush(): void {
    FixedSizeBufferWriter.#open(this)
  }

  /** A Node stream that writes here. Ending it closes this writer. */
  asWritable(): Writable {
    return writableTo(FixedSizeBufferWriter.#open(this))
  }

  /** Refuses later writes with ERR_OFFHEAP_CLOSED. The buffer stays. */
  close(): void {
    if (!FixedSizeBufferWriter.#isWriter(this)) throw wrongReceiver('FixedSizeBufferWriter')
    this.#closed = true
  }

  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void {
    FixedSizeBufferWriter.prototype.close.call(this)
  }

  /** `'FixedSizeBufferWriter'` */
  get [Symbol.toStringTag](): string {
    return 'FixedSizeBufferWriter'
  }
}
