import { inspect } from 'node:util'
import { BuilderBlock, type FinishOptions } from './builder-block.js'
import { type ByteSource, javaScriptBytes, typedArrayElements } from './bytes.js'
import { OutOfMemoryError, OutOfRangeError } from './errors.js'
import { isHeldBack, throwHeldBack } from './instrument.js'
import { bytesOf, fillElements, setElements, writeUtf8 } from './intrinsics.js'
import { bufferInternals, type MemoryBuffer } from './memory-buffer.js'
import { DEFAULT_ALIGNMENT, type MemoryPool, poolOption, type PoolOptions } from './memory-pool.js'
import { checkAlignmentArgument, checkBoolean, checkSize, isArray, isObject, option, property, wrongReceiver, wrongType } from './validate.js'

/** The type of the offsets: Arrow's Binary and Utf8 have `'int32'`, LargeBinary and LargeUtf8 `'int64'`. */
export type OffsetType = 'int32' | 'int64'

/** Options of a {@link BinaryBufferBuilder}. */
export interface BinaryBuilderOptions extends PoolOptions {
  /** Type of the offsets. `'int32'` when absent, which reaches over 2 GiB - 1 of values. */
  offsets?: OffsetType | undefined
  /** Room to make at once, in values. None when absent. */
  capacity?: number | undefined
  /** Room to make at once for the bytes of the values. None when absent. */
  capacityInBytes?: number | undefined
  /** Alignment of both buffers in bytes, a power of two. 64 when absent. */
  alignment?: number | undefined
}

/** What a {@link BinaryBufferBuilder} makes: value `i` is the bytes of `data` from `offsets[i]` to before `offsets[i + 1]`. */
export interface BinaryBuffers {
  /** One offset more than there are values; the first is 0. */
  readonly offsets: MemoryBuffer
  /** The bytes of the values, one after the other. */
  readonly data: MemoryBuffer
}

/** Up to this many UTF-16 units, a loop in JavaScript beats a call into the engine's encoder: where each becomes one or two bytes. */
const SHORT_STRING = 20

/** The most bytes that one UTF-16 unit becomes in UTF-8. */
const LARGEST_UNIT = 3

/** What int32 offsets reach over. */
const LARGEST_INT32 = 2 ** 31 - 1

const NO_OFFSETS = new Int32Array(0)

/**
 * Builds a column of strings or of bytes in pool memory, as Arrow lays out Binary and Utf8: the values one after the
 * other, and beside them the offsets at which each begins. Both are written through windows over the memory itself, strings
 * as UTF-8, with lone surrogates as U+FFFD like `TextEncoder`; `finish` hands the blocks over without a copy.
 *
 * Room at least doubles. When growing fails, the builder is as it was and can still be finished. After `finish` it is empty
 * and can be used again. Nulls are a `TypedBufferBuilder` of bool beside it, and an
 * empty value here.
 *
 * @example
 * ```ts
 * const names = new BinaryBufferBuilder({ pool })
 * for (const row of rows) names.append(row.name)
 * const { offsets, data } = names.finish()
 * const column = makeVector(makeData({ type: new Utf8(), valueOffsets: offsets.asInt32Array(), data: data.asUint8Array() }))
 * ```
 */
export class BinaryBufferBuilder {
  readonly #data: BuilderBlock
  #offsets: BuilderBlock
  /** What both blocks are made with. */
  readonly #options: { readonly pool: MemoryPool; readonly alignment: number }
  /** 32-bit words of an offset: 1, or 2, the low one first as on every platform that there is a package for. */
  readonly #step: 1 | 2
  /** How many bytes the offsets reach over. */
  readonly #largest: number
  #window: Buffer<ArrayBuffer>
  #offsetWindow = NO_OFFSETS
  /** In values, as is the limit: the capacity, or -1 where there is no room for the first offset, either. */
  #length = 0
  #limit = -1
  /** In bytes, as is the limit: what the offsets reach of the capacity, or -1 once disposed, so that every way in ends in #makeRoom. */
  #dataLength = 0
  #dataLimit = 0

  /**
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for unknown `offsets`; ERR_OFFHEAP_OUT_OF_MEMORY for capacities that cannot be
   *   had; ERR_OFFHEAP_OUT_OF_RANGE for a `capacityInBytes` that int32 offsets do not reach over
   */
  constructor(options?: BinaryBuilderOptions) {
    const type = option(options, 'offsets', checkOffsetType, 'int32')
    const capacity = option(options, 'capacity', checkSize, 0)
    const capacityInBytes = option(options, 'capacityInBytes', checkSize, 0)
    const alignment = option(options, 'alignment', checkAlignmentArgument, DEFAULT_ALIGNMENT)
    this.#options = { pool: poolOption(options), alignment }
    this.#step = type === 'int32' ? 1 : 2
    this.#largest = type === 'int32' ? LARGEST_INT32 : Number.MAX_SAFE_INTEGER
    this.#data = new BuilderBlock(this, this.#options, false)
    this.#offsets = new BuilderBlock(this, this.#options, false)
    this.#window = Buffer.from(this.#data.arrayBuffer)
    if (capacity > 0 || capacityInBytes > 0) BinaryBufferBuilder.#reserve(this, capacity, capacityInBytes)
  }

  static #isBuilder(value: unknown): value is BinaryBufferBuilder {
    return typeof value === 'object' && value !== null && #step in value
  }

  static #check(self: unknown): BinaryBufferBuilder {
    if (!BinaryBufferBuilder.#isBuilder(self)) throw wrongReceiver('BinaryBufferBuilder')
    self.#data.check()
    return self
  }

  /** The bytes that the offsets of `values` values take. */
  static #offsetBytes(self: BinaryBufferBuilder, values: number): number {
    return (values + 1) * 4 * self.#step
  }

  /** Takes over the memory of the values after its capacity changed. */
  static #rewindowData(self: BinaryBufferBuilder): void {
    self.#window = Buffer.from(self.#data.arrayBuffer)
    const { capacity } = self.#data
    self.#dataLimit = capacity < self.#largest ? capacity : self.#largest
    throwHeldBack()
  }

  /** Takes over the memory of the offsets after its capacity changed. */
  static #rewindowOffsets(self: BinaryBufferBuilder): void {
    const { capacity, arrayBuffer } = self.#offsets
    const step = self.#step
    const offsets = Math.floor(capacity / (4 * step))
    const window = offsets === 0 ? NO_OFFSETS : new Int32Array(arrayBuffer, 0, offsets * step)
    if (offsets > 0) fillElements(window, 0, 0, step)
    self.#offsetWindow = window
    // From the array: a field that once held the result of a division is slower to compare with ever after.
    self.#limit = (step === 1 ? window.length : window.length / 2) - 1
    throwHeldBack()
  }

  static #growOffsets(self: BinaryBufferBuilder, additional: number): void {
    self.#offsets.grow(BinaryBufferBuilder.#offsetBytes(self, self.#length + additional))
    BinaryBufferBuilder.#rewindowOffsets(self)
  }

  /**
   * Makes both blocks larger, or neither: the offsets move to a new block, which can be dropped when the data cannot grow,
   * while a block that has grown may be refused to shrink again.
   */
  static #enlargeBoth(self: BinaryBufferBuilder, enlargeOffsets: (block: BuilderBlock) => void, enlargeData: (block: BuilderBlock) => void): void {
    const spare = new BuilderBlock(self, self.#options, false)
    try {
      enlargeOffsets(spare)
      enlargeData(self.#data)
    } catch (error) {
      spare.dispose()
      throw error
    }
    spare.takeOver(self.#offsets)
    self.#offsets = spare
    try {
      BinaryBufferBuilder.#rewindowOffsets(self)
    } finally {
      BinaryBufferBuilder.#rewindowData(self)
    }
  }

  /** Makes room for one value of `bytes` bytes, doubling at least. */
  static #makeRoom(self: BinaryBufferBuilder, bytes: number): void {
    self.#data.check()
    const end = BinaryBufferBuilder.#endOf(self, bytes)
    const isFull = self.#length >= self.#limit
    if (end <= self.#dataLimit) {
      if (isFull) BinaryBufferBuilder.#growOffsets(self, 1)
    } else if (isFull) {
      const needed = BinaryBufferBuilder.#offsetBytes(self, self.#length + 1)
      const { capacity } = self.#offsets
      BinaryBufferBuilder.#enlargeBoth(self, (block) => block.grow(needed, capacity), (block) => block.grow(end))
    } else {
      self.#data.grow(end)
      BinaryBufferBuilder.#rewindowData(self)
    }
  }

  /** Where the data end with `bytes` bytes more. */
  static #endOf(self: BinaryBufferBuilder, bytes: number): number {
    const end = self.#dataLength + bytes
    if (end <= self.#largest) return end
    const instead = self.#step === 1 ? ": use offsets: 'int64'" : ''
    throw new OutOfRangeError(`${self.#dataLength} bytes of values and ${bytes} more are over the ${self.#largest} that the offsets reach${instead}`)
  }

  /** Counts a value in whose bytes are written; there is room for its offset. */
  static #addValue(self: BinaryBufferBuilder, bytes: number): void {
    const end = self.#dataLength + bytes
    const index = self.#length + 1
    const offsets = self.#offsetWindow
    if (self.#step === 1) {
      offsets[index] = end
    } else {
      offsets[2 * index] = end // modulo 2^32
      offsets[2 * index + 1] = Math.floor(end / 2 ** 32)
    }
    self.#length = index
    self.#dataLength = end
  }

  static #empty(self: BinaryBufferBuilder): void {
    self.#length = self.#dataLength = 0
    try {
      BinaryBufferBuilder.#rewindowOffsets(self)
    } finally {
      BinaryBufferBuilder.#rewindowData(self)
    }
  }

  /** The type of the offsets. */
  get offsetType(): OffsetType {
    if (!BinaryBufferBuilder.#isBuilder(this)) throw wrongReceiver('BinaryBufferBuilder')
    return this.#step === 1 ? 'int32' : 'int64'
  }

  /** How many values were appended. */
  get length(): number {
    return BinaryBufferBuilder.#check(this).#length
  }

  /** How many bytes the values have. */
  get lengthInBytes(): number {
    return BinaryBufferBuilder.#check(this).#dataLength
  }

  /** How many values fit before the offsets grow. */
  get capacity(): number {
    return Math.max(BinaryBufferBuilder.#check(this).#limit, 0)
  }

  /** How many bytes of values fit before the data grow. */
  get capacityInBytes(): number {
    return BinaryBufferBuilder.#check(this).#dataLimit
  }

  /** True after {@link dispose}. */
  get disposed(): boolean {
    if (!BinaryBufferBuilder.#isBuilder(this)) throw wrongReceiver('BinaryBufferBuilder')
    return this.#dataLimit < 0
  }

  /**
   * Appends one value: a string as UTF-8, or bytes.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for anything else; ERR_OFFHEAP_OUT_OF_RANGE when int32 offsets cannot reach over it;
   *   ERR_OFFHEAP_OUT_OF_MEMORY when the builder cannot grow
   */
  append(value: string | ByteSource): void {
    let start: number
    try {
      start = this.#dataLength // throws on a wrong receiver, and costs nothing on a right one, unlike asking first
    } catch {
      throw wrongReceiver('BinaryBufferBuilder')
    }
    if (typeof value !== 'string') return BinaryBufferBuilder.#appendBytes(this, value)
    const count = value.length
    if (count <= SHORT_STRING && start + 2 * count <= this.#dataLimit && this.#length < this.#limit) {
      const window = this.#window
      let at = start
      let index = 0
      for (; index < count; index += 1) {
        const unit = value.charCodeAt(index)
        if (unit < 0x80) {
          window[at] = unit
          at += 1
        } else if (unit < 0x800) {
          window[at] = 0xc0 | (unit >> 6)
          window[at + 1] = 0x80 | (unit & 0x3f)
          at += 2
        } else {
          break // three bytes, or half of a pair
        }
      }
      if (index === count) return BinaryBufferBuilder.#addValue(this, at - start)
    }
    BinaryBufferBuilder.#appendText(this, value)
  }

  static #appendText(self: BinaryBufferBuilder, text: string): void {
    if (self.#dataLength + text.length * LARGEST_UNIT > self.#dataLimit || self.#length >= self.#limit) {
      BinaryBufferBuilder.#makeRoom(self, Buffer.byteLength(text, 'utf8'))
    }
    BinaryBufferBuilder.#addValue(self, text.length > 0 ? writeUtf8(self.#window, text, self.#dataLength) : 0)
  }

  static #appendBytes(self: BinaryBufferBuilder, source: unknown): void {
    self.#data.check()
    if (bufferInternals.is(source)) {
      const count = bufferInternals.size(source)
      BinaryBufferBuilder.#makeRoom(self, count)
      bufferInternals.read(source, 0, bytesOf(self.#data.arrayBuffer, self.#dataLength, count))
      return BinaryBufferBuilder.#addValue(self, count)
    }
    const bytes = javaScriptBytes(source)
    if (bytes === undefined) throw wrongType('value', 'a string, a MemoryBuffer, an ArrayBuffer or a view of one', source)
    const count = typedArrayElements(bytes)
    BinaryBufferBuilder.#makeRoom(self, count)
    setElements(self.#window, bytes, self.#dataLength)
    BinaryBufferBuilder.#addValue(self, count)
  }

  /** Appends all values of an array or any other iterable. When one is refused, those before it stay appended. */
  appendValues(values: Iterable<string | ByteSource>): void {
    const self = BinaryBufferBuilder.#check(this)
    const source: unknown = values
    if (isArray(source)) {
      if (source.length > self.#limit - self.#length) BinaryBufferBuilder.#growOffsets(self, source.length)
      for (let index = 0; index < source.length; index += 1) self.append(source[index] as string)
      return
    }
    if (!isObject(source) || ArrayBuffer.isView(source) || typeof property(source, Symbol.iterator, 'values[Symbol.iterator]') !== 'function') {
      throw wrongType('values', 'an array or an iterable of strings or bytes', source)
    }
    for (const value of source as Iterable<string>) self.append(value)
  }

  /** Makes room for exactly `values` more values with `bytes` bytes in all (each rounded up to 64 bytes), where there is less. */
  reserve(values: number, bytes = 0): void {
    const self = BinaryBufferBuilder.#check(this)
    BinaryBufferBuilder.#reserve(self, checkSize(values, 'values'), checkSize(bytes, 'bytes'))
  }

  static #reserve(self: BinaryBufferBuilder, values: number, bytes: number): void {
    const end = BinaryBufferBuilder.#endOf(self, bytes)
    const needed = BinaryBufferBuilder.#offsetBytes(self, self.#length + values)
    if (needed <= self.#offsets.capacity) {
      self.#data.reserve(end)
      BinaryBufferBuilder.#rewindowData(self)
    } else if (end <= self.#data.capacity) {
      self.#offsets.reserve(needed)
      BinaryBufferBuilder.#rewindowOffsets(self)
    } else {
      BinaryBufferBuilder.#enlargeBoth(self, (block) => block.reserve(needed), (block) => block.reserve(end))
    }
  }

  /**
   * Hands what was appended over as two mutable buffers, without a copy; their padding is zero. The builder is empty then.
   * Without values, `offsets` has the one offset 0.
   */
  finish(options?: FinishOptions): BinaryBuffers {
    const self = BinaryBufferBuilder.#check(this)
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    const isNew = self.#limit < 0
    if (isNew) BinaryBufferBuilder.#growOffsets(self, 0)
    let data: MemoryBuffer
    try {
      data = self.#data.finish(self.#dataLength, shrinkToFit)
    } catch (error) {
      if (isNew) BinaryBufferBuilder.#dropOffsets(self)
      throw error
    }
    const offsets = BinaryBufferBuilder.#finishOffsets(self, shrinkToFit)
    if (isHeldBack()) data.dispose() // what follows throws, and nobody gets them
    BinaryBufferBuilder.#empty(self)
    return { offsets, data }
  }

  static #dropOffsets(self: BinaryBufferBuilder): void {
    self.#offsets.reset()
    BinaryBufferBuilder.#rewindowOffsets(self)
  }

  /** The data are a buffer by now: where shrinking the offsets is refused, they stay as large as they are. */
  static #finishOffsets(self: BinaryBufferBuilder, shrinkToFit: boolean): MemoryBuffer {
    const bytes = BinaryBufferBuilder.#offsetBytes(self, self.#length)
    try {
      return self.#offsets.finish(bytes, shrinkToFit)
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error
      return self.#offsets.finish(bytes, false)
    }
  }

  /** Drops what was appended and gives the memory back. */
  reset(): void {
    const self = BinaryBufferBuilder.#check(this)
    self.#data.reset()
    self.#offsets.reset()
    BinaryBufferBuilder.#empty(self)
  }

  /** Gives the memory back for good. The second time it does nothing. */
  dispose(): void {
    if (!BinaryBufferBuilder.#isBuilder(this)) throw wrongReceiver('BinaryBufferBuilder')
    this.#data.dispose()
    this.#offsets.dispose()
    try {
      BinaryBufferBuilder.#empty(this) // which may end with what debug hooks found
    } finally {
      this.#dataLimit = -1
    }
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    BinaryBufferBuilder.prototype.dispose.call(this)
  }

  /** `'BinaryBufferBuilder'` */
  get [Symbol.toStringTag](): string {
    return 'BinaryBufferBuilder'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!BinaryBufferBuilder.#isBuilder(this)) return 'BinaryBufferBuilder {}'
    if (this.#dataLimit < 0) return 'BinaryBufferBuilder { disposed }'
    return `BinaryBufferBuilder { ${this.#length} values, ${this.#dataLength} of ${this.#dataLimit} bytes }`
  }
}

function checkOffsetType(value: unknown, name: string): OffsetType {
  if (value === 'int32' || value === 'int64') return value
  throw wrongType(name, "'int32' or 'int64'", value)
}
