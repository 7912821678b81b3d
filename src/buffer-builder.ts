import { inspect } from 'node:util'
import { BuilderBlock, type BuilderOptions, type FinishOptions } from './builder-block.js'
import { type ByteSource, javaScriptBytes, typedArrayElements } from './bytes.js'
import { OutOfRangeError } from './errors.js'
import { throwHeldBack } from './instrument.js'
import { bytesOf, fillElements, setElements, writeUtf8 } from './intrinsics.js'
import { bufferInternals, type MemoryBuffer, type ResizeOptions } from './memory-buffer.js'
import { checkBoolean, checkByte, checkPosition, checkSize, option, outOfRange, wrongReceiver, wrongType } from './validate.js'

/** Up to this many UTF-16 units, a loop in JavaScript beats a call into the engine's encoder. */
const SHORT_STRING = 24

/** The most bytes that one UTF-16 unit becomes in UTF-8. */
const LARGEST_UNIT = 3

/**
 * Builds a run of bytes in pool memory: bytes and strings (as UTF-8) are written straight into a window over the memory,
 * and `finish` hands the block over without a copy. Room at least doubles. When growing fails, the builder is as it was.
 * After `finish` it is empty and can be used again.
 */
export class BufferBuilder {
  readonly #block: BuilderBlock
  #window: Buffer<ArrayBuffer>
  #length = 0
  /** The capacity, or -1 once disposed, so that every way in ends in #grow. */
  #limit = 0

  /** @throws ERR_OFFHEAP_OUT_OF_MEMORY for a `capacity` that cannot be had */
  constructor(options?: BuilderOptions) {
    const capacity = option(options, 'capacity', checkSize, 0)
    this.#block = new BuilderBlock(this, options, false)
    this.#window = Buffer.from(this.#block.arrayBuffer)
    this.#block.reserve(capacity)
    BufferBuilder.#rewindow(this)
  }

  static #isBuilder(value: unknown): value is BufferBuilder {
    return typeof value === 'object' && value !== null && #block in value
  }

  static #check(self: unknown): BufferBuilder {
    if (!BufferBuilder.#isBuilder(self)) throw wrongReceiver('BufferBuilder')
    self.#block.check()
    return self
  }

  /** Takes over the block's memory after its capacity changed. */
  static #rewindow(self: BufferBuilder): void {
    self.#window = Buffer.from(self.#block.arrayBuffer)
    self.#limit = self.#block.capacity
    throwHeldBack()
  }

  /** Makes room for `additional` bytes, doubling at least. */
  static #grow(self: BufferBuilder, additional: number): void {
    self.#block.grow(self.#length + additional)
    BufferBuilder.#rewindow(self)
  }

  static #empty(self: BufferBuilder): void {
    self.#length = 0
    BufferBuilder.#rewindow(self)
  }

  /** How many bytes were appended. */
  get length(): number {
    return BufferBuilder.#check(this).#length
  }

  /** How many bytes fit before the next growth. */
  get capacity(): number {
    return BufferBuilder.#check(this).#limit
  }

  /** True after {@link dispose}. */
  get disposed(): boolean {
    if (!BufferBuilder.#isBuilder(this)) throw wrongReceiver('BufferBuilder')
    return this.#limit < 0
  }

  /** Appends a string as UTF-8, or bytes. */
  append(value: string | ByteSource): void {
    if (!BufferBuilder.#isBuilder(this)) throw wrongReceiver('BufferBuilder')
    if (typeof value !== 'string') return BufferBuilder.#appendBytes(this, value)
    const count = value.length
    const start = this.#length
    if (count <= SHORT_STRING && start + count <= this.#limit) {
      const window = this.#window
      let index = 0
      for (; index < count; index += 1) {
        const unit = value.charCodeAt(index)
        if (unit > 0x7f) break
        window[start + index] = unit
      }
      if (index === count) {
        this.#length = start + count
        return
      }
    }
    BufferBuilder.#appendText(this, value)
  }

  static #appendText(self: BufferBuilder, text: string): void {
    if (self.#length + text.length * LARGEST_UNIT > self.#limit) {
      const bytes = Buffer.byteLength(text, 'utf8')
      if (self.#length + bytes > self.#limit) BufferBuilder.#grow(self, bytes)
    }
    if (text.length > 0) self.#length += writeUtf8(self.#window, text, self.#length)
  }

  static #appendBytes(self: BufferBuilder, source: unknown): void {
    self.#block.check()
    if (bufferInternals.is(source)) {
      const count = bufferInternals.size(source)
      if (count > self.#limit - self.#length) BufferBuilder.#grow(self, count)
      bufferInternals.read(source, 0, bytesOf(self.#block.arrayBuffer, self.#length, count))
      self.#length += count
      return
    }
    const bytes = javaScriptBytes(source)
    if (bytes === undefined) throw wrongType('value', 'a string, a MemoryBuffer, an ArrayBuffer or a view of one', source)
    const count = typedArrayElements(bytes)
    if (count > self.#limit - self.#length) BufferBuilder.#grow(self, count)
    setElements(self.#window, bytes, self.#length)
    self.#length += count
  }

  /** Appends the same byte `count` times. */
  appendCopies(byte: number, count: number): void {
    const self = BufferBuilder.#check(this)
    const value = checkByte(byte, 'byte')
    const copies = checkSize(count, 'count')
    if (copies > self.#limit - self.#length) BufferBuilder.#grow(self, copies)
    fillElements(self.#window, value, self.#length, self.#length + copies)
    self.#length += copies
  }

  /** Appends `count` zero bytes. */
  advance(count: number): void {
    BufferBuilder.#check(this).appendCopies(0, count)
  }

  /** Makes room for exactly `additional` more bytes (rounded up to 64), if there is less. */
  reserve(additional: number): void {
    const self = BufferBuilder.#check(this)
    self.#block.reserve(self.#length + checkSize(additional, 'additional'))
    BufferBuilder.#rewindow(self)
  }

  /**
   * Sets the capacity in bytes, rounded up to 64.
   *
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when it is less than the length
   */
  resize(capacity: number, options?: ResizeOptions): void {
    const self = BufferBuilder.#check(this)
    const bytes = checkSize(capacity, 'capacity')
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    if (bytes < self.#length) throw new OutOfRangeError(`capacity ${bytes} is less than the length ${self.#length}`)
    try {
      self.#block.resize(bytes, shrinkToFit)
    } finally {
      BufferBuilder.#rewindow(self)
    }
  }

  /** Forgets what was appended behind `position`. @throws ERR_OFFHEAP_OUT_OF_RANGE when that is over the length */
  rewind(position: number): void {
    const self = BufferBuilder.#check(this)
    const length = checkPosition(position, 'position')
    if (length > self.#length) throw outOfRange(length, 0, self.#length)
    self.#length = length
  }

  /** Hands what was appended over as a mutable buffer, without a copy; its padding is zero. The builder is empty then. */
  finish(options?: FinishOptions): MemoryBuffer {
    const self = BufferBuilder.#check(this)
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    const buffer = self.#block.finish(self.#length, shrinkToFit)
    BufferBuilder.#empty(self)
    return buffer
  }

  /**
   * The same as {@link finish} for the first `length` bytes. More than were appended are zeros.
   *
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when `length` is over the capacity
   */
  finishWithLength(length: number, options?: FinishOptions): MemoryBuffer {
    const self = BufferBuilder.#check(this)
    const bytes = checkSize(length, 'length')
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    if (bytes > self.#limit) throw outOfRange(0, bytes, self.#limit, 'bytes of capacity')
    if (bytes > self.#length) fillElements(self.#window, 0, self.#length, bytes)
    const buffer = self.#block.finish(bytes, shrinkToFit)
    BufferBuilder.#empty(self)
    return buffer
  }

  /** Drops what was appended and gives the memory back. */
  reset(): void {
    const self = BufferBuilder.#check(this)
    self.#block.reset()
    BufferBuilder.#empty(self)
  }

  /** Gives the memory back for good. The second time it does nothing. */
  dispose(): void {
    if (!BufferBuilder.#isBuilder(this)) throw wrongReceiver('BufferBuilder')
    this.#block.dispose()
    try {
      BufferBuilder.#empty(this) // which may end with what debug hooks found
    } finally {
      this.#limit = -1
    }
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    BufferBuilder.prototype.dispose.call(this)
  }

  /** `'BufferBuilder'` */
  get [Symbol.toStringTag](): string {
    return 'BufferBuilder'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!BufferBuilder.#isBuilder(this)) return 'BufferBuilder {}'
    if (this.#limit < 0) return 'BufferBuilder { disposed }'
    return `BufferBuilder { ${this.#length} of ${this.#limit} bytes }`
  }
}
