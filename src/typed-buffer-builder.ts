import { inspect } from 'node:util'
import { BuilderBlock, type BuilderOptions, type FinishOptions } from './builder-block.js'
import { javaScriptBytes, typedArrayElements, typedArrayName } from './bytes.js'
import type { ElementOf, ElementsOf, ElementType } from './element-type.js'
import { NotSupportedError, OutOfRangeError } from './errors.js'
import { throwHeldBack } from './instrument.js'
import { fillElements, setElements } from './intrinsics.js'
import type { MemoryBuffer, ResizeOptions } from './memory-buffer.js'
import { checkBoolean, checkSize, describe, isArray, isObject, option, outOfRange, property, wrongReceiver, wrongType } from './validate.js'

/**
 * Small integers for the types: 0-7 int8, uint8, int16, uint16, int32, uint32, float32, float64; 8-9 int64, uint64; 10
 * bool. Numbers, bigints and booleans can be told apart by comparing.
 */
type Kind = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10
const BOOL = 10

/** `bit >>> 3` is the byte of a bit up to here. */
const SHIFTABLE = 2 ** 32

/** A typed array that a builder writes through. */
type Window =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array

/** How elements of one type are stored. */
interface Layout {
  readonly kind: Kind
  readonly windowClass: new (buffer: ArrayBuffer, byteOffset?: number, length?: number) => Window
  /** Elements in one byte of memory, or a fraction. */
  readonly perByte: number
  /** What `typeof` says of an element. */
  readonly typeOf: 'number' | 'bigint' | 'boolean'
}

const layouts: ReadonlyMap<unknown, Layout> = new Map<ElementType, Layout>([
  ['int8', { kind: 0, windowClass: Int8Array, perByte: 1, typeOf: 'number' }],
  ['uint8', { kind: 1, windowClass: Uint8Array, perByte: 1, typeOf: 'number' }],
  ['int16', { kind: 2, windowClass: Int16Array, perByte: 1 / 2, typeOf: 'number' }],
  ['uint16', { kind: 3, windowClass: Uint16Array, perByte: 1 / 2, typeOf: 'number' }],
  ['int32', { kind: 4, windowClass: Int32Array, perByte: 1 / 4, typeOf: 'number' }],
  ['uint32', { kind: 5, windowClass: Uint32Array, perByte: 1 / 4, typeOf: 'number' }],
  ['float32', { kind: 6, windowClass: Float32Array, perByte: 1 / 4, typeOf: 'number' }],
  ['float64', { kind: 7, windowClass: Float64Array, perByte: 1 / 8, typeOf: 'number' }],
  ['int64', { kind: 8, windowClass: BigInt64Array, perByte: 1 / 8, typeOf: 'bigint' }],
  ['uint64', { kind: 9, windowClass: BigUint64Array, perByte: 1 / 8, typeOf: 'bigint' }],
  ['bool', { kind: BOOL, windowClass: Uint8Array, perByte: 8, typeOf: 'boolean' }],
])

const typeNames = [...layouts.keys()].map((name) => `'${String(name)}'`).join(', ')

/**
 * Builds a column of one type in pool memory: appends into a window over the memory itself, at 1-3 ns an element with no
 * native call, and hands the block over without a copy.
 *
 * Elements are checked by `typeof` only (number; bigint for 64-bit integers; boolean for bool); integers wrap, as in a
 * typed array. Room at least doubles. When growing fails, the builder is as it was and can still be finished. After
 * `finish` it is empty and can be used again.
 *
 * @example
 * ```ts
 * const builder = new TypedBufferBuilder('float64', { pool })
 * for (const row of rows) builder.append(row.time)
 * const column = builder.finish()
 * ```
 */
export class TypedBufferBuilder<Type extends ElementType = ElementType> {
  readonly #type: Type
  readonly #layout: Layout
  readonly #kind: Kind
  readonly #block: BuilderBlock
  #window: Window
  /** In elements, as is the limit: the capacity, or -1 once disposed, so that every way in ends in #grow. */
  #length = 0
  #limit = 0
  /** As far as {@link append} goes by itself: the limit, but for bits as far as shifting reaches. */
  #shortLimit = 0
  /** How many bytes of bits {@link falseCount} has counted, and how many bits in them are true. */
  #countedBytes = 0
  #countedTrues = 0

  /**
   * @param type - of the elements
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for an unknown type; ERR_OFFHEAP_OUT_OF_MEMORY for a `capacity` that cannot be had
   */
  constructor(type: Type, options?: BuilderOptions) {
    const layout = layouts.get(type)
    if (layout === undefined) throw wrongType('type', `one of ${typeNames}`, type)
    const capacity = option(options, 'capacity', checkSize, 0)
    this.#type = type
    this.#layout = layout
    this.#kind = layout.kind
    this.#block = new BuilderBlock(this, options, layout.kind === BOOL)
    this.#window = new layout.windowClass(this.#block.arrayBuffer)
    this.#block.reserve(TypedBufferBuilder.#bytesFor(this, capacity))
    TypedBufferBuilder.#rewindow(this)
  }

  static #isBuilder(value: unknown): value is TypedBufferBuilder {
    return typeof value === 'object' && value !== null && #kind in value
  }

  static #check(self: unknown): TypedBufferBuilder {
    if (!TypedBufferBuilder.#isBuilder(self)) throw wrongReceiver('TypedBufferBuilder')
    self.#block.check()
    return self
  }

  static #bytesFor(self: TypedBufferBuilder, elements: number): number {
    return Math.ceil(elements / self.#layout.perByte)
  }

  /** Takes over the block's memory after its capacity changed. */
  static #rewindow(self: TypedBufferBuilder): void {
    const { windowClass, perByte, kind } = self.#layout
    const elements = Math.floor(self.#block.capacity * (kind === BOOL ? 1 : perByte))
    self.#window = new windowClass(self.#block.arrayBuffer, 0, elements)
    // Multiplied as small integers: a field that once held a float is slower to compare with ever after.
    self.#limit = self.#kind === BOOL ? self.#window.length * 8 : self.#window.length
    self.#shortLimit = self.#kind === BOOL && self.#limit > SHIFTABLE ? SHIFTABLE : self.#limit
    throwHeldBack()
  }

  /** Makes room for `additional` elements, doubling at least. */
  static #grow(self: TypedBufferBuilder, additional: number): void {
    self.#block.grow(TypedBufferBuilder.#bytesFor(self, self.#length + additional))
    TypedBufferBuilder.#rewindow(self)
  }

  static #wrongElement(self: TypedBufferBuilder, value: unknown): Error {
    return wrongType('value', `a ${self.#layout.typeOf} for a builder of ${self.#type}`, value)
  }

  static #empty(self: TypedBufferBuilder): void {
    self.#length = 0
    self.#countedBytes = self.#countedTrues = 0
    TypedBufferBuilder.#rewindow(self)
  }

  /** The type of the elements. */
  get type(): Type {
    if (!TypedBufferBuilder.#isBuilder(this)) throw wrongReceiver('TypedBufferBuilder')
    return this.#type as Type
  }

  /** How many elements were appended. */
  get length(): number {
    return TypedBufferBuilder.#check(this).#length
  }

  /** How many elements fit before the next growth. */
  get capacity(): number {
    return TypedBufferBuilder.#check(this).#limit
  }

  /** {@link length} in bytes. */
  get lengthInBytes(): number {
    const self = TypedBufferBuilder.#check(this)
    return TypedBufferBuilder.#bytesFor(self, self.#length)
  }

  /**
   * How many of the elements are false. Counts what was appended since it was asked last.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED for all types but bool
   */
  get falseCount(): number {
    const self = TypedBufferBuilder.#check(this)
    if (self.#kind !== BOOL) throw new NotSupportedError(`falseCount: a builder of ${self.#type} has no booleans`)
    const bytes = self.#window as Uint8Array
    const wholeBytes = Math.floor(self.#length / 8)
    let trues = self.#countedTrues
    for (let index = self.#countedBytes; index < wholeBytes; index += 1) trues += onesIn[bytes[index]!]!
    self.#countedBytes = wholeBytes
    self.#countedTrues = trues
    const rest = self.#length & 7
    return self.#length - trues - (rest === 0 ? 0 : onesIn[bytes[wholeBytes]! & ((1 << rest) - 1)]!)
  }

  /** True after {@link dispose}. */
  get disposed(): boolean {
    if (!TypedBufferBuilder.#isBuilder(this)) throw wrongReceiver('TypedBufferBuilder')
    return this.#limit < 0
  }

  /**
   * Appends one element.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a value of the wrong type; ERR_OFFHEAP_OUT_OF_MEMORY when it cannot grow
   */
  append(value: ElementOf<Type>): void {
    let index: number
    try {
      index = this.#length // throws on a wrong receiver, and costs nothing on a right one, unlike asking first
    } catch {
      throw wrongReceiver('TypedBufferBuilder')
    }
    const element: unknown = value
    if (index < this.#shortLimit) {
      const kind = this.#kind
      const window = this.#window
      // V8 inlines up to 920 bytes of bytecode into a loop, and where it does not inline this, every float becomes an
      // object first: so this is short, that a loop over rows can hold the appends of several columns. A store stays an
      // instruction while it sees up to four kinds of arrays, therefore three of them; the literals cost no loads.
      if (kind < 8) {
        if (typeof element === 'number') {
          if (kind < 4) (window as Int8Array)[index] = element
          else (window as Float64Array)[index] = element
          this.#length = index + 1
          return
        }
      } else if (kind === BOOL) {
        // Room is zeroed before it is used, so false only moves on. Compared by identity: faster than by type.
        if (element === true) {
          ;(window as Uint8Array)[index >>> 3]! |= 1 << (index & 7)
          this.#length = index + 1
          return
        }
        if (element === false) {
          this.#length = index + 1
          return
        }
      } else if (typeof element === 'bigint') {
        ;(window as BigInt64Array)[index] = element
        this.#length = index + 1
        return
      }
    }
    TypedBufferBuilder.#appendSlow(this, element)
  }

  /** The rare part of append: refuses an element of the wrong type, else makes room for it first. */
  static #appendSlow(self: TypedBufferBuilder, element: unknown): void {
    if (typeof element !== self.#layout.typeOf) throw TypedBufferBuilder.#wrongElement(self, element)
    const index = self.#length
    if (index >= self.#limit) TypedBufferBuilder.#grow(self, 1)
    if (self.#kind !== BOOL) (self.#window as Float64Array)[index] = element as number
    else if (element === true) (self.#window as Uint8Array)[byteOf(index)]! |= 1 << (index & 7)
    self.#length = index + 1
  }

  /**
   * Appends all of a typed array, an array or any other iterable. A typed array of numbers goes into any builder of
   * numbers, converted as by `TypedArray.prototype.set`, and into one of bool, where all but 0 is true.
   *
   * When an element of an iterable is refused, those before it stay appended.
   */
  appendValues(values: ElementsOf<Type>): void {
    const self = TypedBufferBuilder.#check(this)
    const source: unknown = values
    if (ArrayBuffer.isView(source)) return TypedBufferBuilder.#appendTypedArray(self, source)
    if (isArray(source)) {
      if (source.length > self.#limit - self.#length) TypedBufferBuilder.#grow(self, source.length)
      for (let index = 0; index < source.length; index += 1) self.append(source[index] as ElementOf<ElementType>)
      return
    }
    if (!isObject(source) || typeof property(source, Symbol.iterator, 'values[Symbol.iterator]') !== 'function') {
      throw wrongType('values', 'a typed array, an array or an iterable', source)
    }
    for (const value of source as Iterable<ElementOf<ElementType>>) self.append(value)
  }

  static #appendTypedArray(self: TypedBufferBuilder, source: ArrayBufferView): void {
    const name = typedArrayName(source)
    const isBigInt = name !== undefined && name.startsWith('Big')
    if (name === undefined || isBigInt !== (self.#layout.typeOf === 'bigint')) {
      throw wrongType('values', `a typed array of ${isBigInt ? 'number' : self.#layout.typeOf}s for a builder of ${self.#type}`, source)
    }
    const count = typedArrayElements(source)
    if (count === 0) return void javaScriptBytes(source) // refuses a detached one
    if (count > self.#limit - self.#length) TypedBufferBuilder.#grow(self, count)
    const start = self.#length
    if (self.#kind === BOOL) {
      packBits(self.#window as Uint8Array, start, source as Uint8Array, count)
    } else {
      setElements(self.#window as Float64Array, source as Float64Array, start)
    }
    self.#length = start + count
  }

  /** Appends the same element `count` times. */
  appendCopies(value: ElementOf<Type>, count: number): void {
    const self = TypedBufferBuilder.#check(this)
    const element: unknown = value
    if (typeof element !== self.#layout.typeOf) throw TypedBufferBuilder.#wrongElement(self, element)
    const copies = checkSize(count, 'count')
    if (copies > self.#limit - self.#length) TypedBufferBuilder.#grow(self, copies)
    const start = self.#length
    if (self.#kind !== BOOL) fillElements(self.#window as Float64Array, element as number, start, start + copies)
    else if (element === true) setBits(self.#window as Uint8Array, start, start + copies)
    self.#length = start + copies
  }

  /** Appends `count` zeros, or falses. */
  advance(count: number): void {
    const self = TypedBufferBuilder.#check(this)
    const zero = { number: 0, bigint: 0n, boolean: false }[self.#layout.typeOf]
    self.appendCopies(zero, count)
  }

  /** Makes room for exactly `additional` more elements (rounded up to 64 bytes), if there is less. */
  reserve(additional: number): void {
    const self = TypedBufferBuilder.#check(this)
    self.#block.reserve(TypedBufferBuilder.#bytesFor(self, self.#length + checkSize(additional, 'additional')))
    TypedBufferBuilder.#rewindow(self)
  }

  /**
   * Sets the capacity in elements, rounded up to 64 bytes.
   *
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when it is less than the length
   */
  resize(capacity: number, options?: ResizeOptions): void {
    const self = TypedBufferBuilder.#check(this)
    const elements = checkSize(capacity, 'capacity')
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    if (elements < self.#length) throw new OutOfRangeError(`capacity ${elements} is less than the length ${self.#length}`)
    try {
      self.#block.resize(TypedBufferBuilder.#bytesFor(self, elements), shrinkToFit)
    } finally {
      TypedBufferBuilder.#rewindow(self)
    }
  }

  /** Hands what was appended over as a mutable buffer, without a copy; its padding is zero. The builder is empty then. */
  finish(options?: FinishOptions): MemoryBuffer {
    const self = TypedBufferBuilder.#check(this)
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    const buffer = self.#block.finish(TypedBufferBuilder.#bytesFor(self, self.#length), shrinkToFit)
    TypedBufferBuilder.#empty(self)
    return buffer
  }

  /**
   * The same as {@link finish} for the first `length` elements. More than were appended are zeros.
   *
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when `length` is over the capacity
   */
  finishWithLength(length: number, options?: FinishOptions): MemoryBuffer {
    const self = TypedBufferBuilder.#check(this)
    const elements = checkSize(length, 'length')
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    if (elements > self.#limit) throw outOfRange(0, elements, self.#limit, 'elements of capacity')
    const buffer = self.#kind === BOOL ? TypedBufferBuilder.#finishBits(self, elements, shrinkToFit) : TypedBufferBuilder.#finishElements(self, elements, shrinkToFit)
    TypedBufferBuilder.#empty(self)
    return buffer
  }

  static #finishElements(self: TypedBufferBuilder, elements: number, shrinkToFit: boolean): MemoryBuffer {
    const zero = (self.#layout.typeOf === 'bigint' ? 0n : 0) as number
    if (elements > self.#length) fillElements(self.#window as Float64Array, zero, self.#length, elements)
    return self.#block.finish(TypedBufferBuilder.#bytesFor(self, elements), shrinkToFit)
  }

  /** Room behind the last bit is zero; the bits that are cut off come back when finishing fails. */
  static #finishBits(self: TypedBufferBuilder, bits: number, shrinkToFit: boolean): MemoryBuffer {
    const bytes = self.#window as Uint8Array
    const last = byteOf(bits)
    const before = bytes[last]
    if (before !== undefined && (bits & 7) !== 0) bytes[last] = before & ((1 << (bits & 7)) - 1)
    try {
      return self.#block.finish(TypedBufferBuilder.#bytesFor(self, bits), shrinkToFit)
    } catch (error) {
      if (before !== undefined) bytes[last] = before
      throw error
    }
  }

  /** Drops what was appended and gives the memory back. */
  reset(): void {
    const self = TypedBufferBuilder.#check(this)
    self.#block.reset()
    TypedBufferBuilder.#empty(self)
  }

  /** Gives the memory back for good. The second time it does nothing. */
  dispose(): void {
    if (!TypedBufferBuilder.#isBuilder(this)) throw wrongReceiver('TypedBufferBuilder')
    this.#block.dispose()
    try {
      TypedBufferBuilder.#empty(this) // which may end with what debug hooks found
    } finally {
      this.#limit = this.#shortLimit = -1
    }
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    TypedBufferBuilder.prototype.dispose.call(this)
  }

  /** `'TypedBufferBuilder'` */
  get [Symbol.toStringTag](): string {
    return 'TypedBufferBuilder'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!TypedBufferBuilder.#isBuilder(this)) return 'TypedBufferBuilder {}'
    if (this.#limit < 0) return `TypedBufferBuilder { ${this.#type}, disposed }`
    return `TypedBufferBuilder { ${describe(this.#type)}, ${this.#length} of ${this.#limit} elements }`
  }
}

/** The byte in which a bit lies; also behind 2^32 bits, where shifting wraps. */
function byteOf(bit: number): number {
  return bit < SHIFTABLE ? bit >>> 3 : Math.floor(bit / 8)
}

/** Sets the bits from `start` to before `end`. */
function setBits(bytes: Uint8Array, start: number, end: number): void {
  let bit = start
  for (; bit < end && (bit & 7) !== 0; bit += 1) bytes[byteOf(bit)]! |= 1 << (bit & 7)
  const wholeBytes = Math.floor((end - bit) / 8)
  fillElements(bytes, 0xff, byteOf(bit), byteOf(bit) + wholeBytes)
  for (bit += wholeBytes * 8; bit < end; bit += 1) bytes[byteOf(bit)]! |= 1 << (bit & 7)
}

/** Writes one bit per element of `source`, into bits that are zero. */
function packBits(bytes: Uint8Array, start: number, source: ArrayLike<number>, count: number): void {
  let byte = byteOf(start)
  let bit = start & 7
  let packed = bytes[byte]!
  for (let index = 0; index < count; index += 1) {
    packed |= (source[index] ? 1 : 0) << bit
    if ((bit = (bit + 1) & 7) === 0) {
      bytes[byte] = packed
      byte += 1
      packed = 0
    }
  }
  if (bit !== 0) bytes[byte] = packed
}

/** The number of ones in each byte. */
const onesIn = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length)
