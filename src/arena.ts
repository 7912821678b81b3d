import { inspect } from 'node:util'
import { DisposedError, OutOfMemoryError } from './errors.js'
import { DEFAULT_ALIGNMENT, type MemoryPool, poolInternals, poolOption, type PoolOptions } from './memory-pool.js'
import type { MemoryBuffer } from './memory-buffer.js'
import { maxViewBytes } from './native.js'
import { checkAlignmentArgument, checkIntegerFrom, checkSize, option, wrongReceiver } from './validate.js'

/** Options of an {@link Arena}. */
export interface ArenaOptions extends PoolOptions {
  /** Bytes that are taken from the pool at a time, at most 1 GiB. 1 MiB when absent. */
  chunkSize?: number | undefined
  /** Alignment of every array in bytes, a power of two up to 4096. 64 when absent. */
  alignment?: number | undefined
}

const DEFAULT_CHUNK_SIZE = 2 ** 20
const LARGEST_CHUNK_SIZE = 2 ** 30
const LARGEST_ALIGNMENT = 4096

const NOTHING = new ArrayBuffer(0)

/**
 * Scratch memory by the bump: arrays are cut from large chunks of a pool, at about the cost of `new Uint8Array(buffer,
 * offset, length)`, and given back all at once. The content of an array is whatever the memory held.
 *
 * `reset()` makes all the memory ready for reuse. **Arrays handed out before are stale then**: they stay readable and
 * writable, but overlap what is handed out next. `dispose()` ends them (length 0) and gives the chunks back.
 */
export class Arena {
  /** The chunk in use, and the first free byte of it. Before the first chunk and once disposed the limit is -1. */
  #arrayBuffer: ArrayBuffer = NOTHING
  #offset = 0
  #limit = -1
  #mask: number
  readonly #pool: MemoryPool
  readonly #chunkSize: number
  #chunks: MemoryBuffer[] = []
  /** How many of the chunks are in use; the last of them is the current one. */
  #chunksInUse = 0
  /** Chunks for single arrays larger than a chunk. */
  #large: MemoryBuffer[] = []
  /** Bytes used in the chunks before the current one, and in large ones. */
  #usedBefore = 0
  #disposed = false

  constructor(options?: ArenaOptions) {
    const alignment = checkIntegerFrom(option(options, 'alignment', checkAlignmentArgument, DEFAULT_ALIGNMENT), 'alignment', 1, LARGEST_ALIGNMENT)
    const chunkSize = option(options, 'chunkSize', (value, name) => checkIntegerFrom(value, name, 1, LARGEST_CHUNK_SIZE), DEFAULT_CHUNK_SIZE)
    this.#mask = alignment - 1
    this.#chunkSize = Math.max(Math.ceil(chunkSize / DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT, alignment)
    this.#pool = poolOption(options)
  }

  static #isArena(value: unknown): value is Arena {
    return typeof value === 'object' && value !== null && #mask in value
  }

  static #check(self: unknown): Arena {
    if (!Arena.#isArena(self)) throw wrongReceiver('Arena')
    if (self.#disposed) throw new DisposedError('the arena was disposed')
    return self
  }

  /** Bytes held from the pool. */
  get bytesAllocated(): number {
    const self = Arena.#check(this)
    return [...self.#chunks, ...self.#large].reduce((sum, chunk) => sum + chunk.size, 0)
  }

  /** Bytes handed out since the start or the last {@link reset}, with what alignment and chunk ends cost. */
  get used(): number {
    const self = Arena.#check(this)
    return self.#usedBefore + self.#offset
  }

  /** True after {@link dispose}. */
  get disposed(): boolean {
    if (!Arena.#isArena(this)) throw wrongReceiver('Arena')
    return this.#disposed
  }

  /** Moves past `bytes` bytes of the current chunk and returns where they begin; -1 when they need another chunk. */
  static #bump(self: Arena, bytes: number, elementMask: number): number {
    const mask = self.#mask | elementMask
    const offset = (self.#offset + mask) & ~mask
    if (bytes > self.#limit - offset) return -1
    self.#offset = offset + bytes
    return offset
  }

  /** Finds another chunk for `bytes` bytes, makes it the current one where possible, and says where the bytes are. */
  static #slow(receiver: unknown, length: unknown, elementSize: number): { buffer: ArrayBuffer; offset: number } {
    const self = Arena.#check(receiver)
    const bytes = checkSize(length, 'length') * elementSize
    if (bytes > maxViewBytes) {
      throw new OutOfMemoryError(`an array of ${bytes} bytes is larger than this runtime can show (${maxViewBytes})`, {
        requested: bytes,
        limit: maxViewBytes,
        allocated: self.bytesAllocated,
        pool: self.#pool.name,
      })
    }
    if (bytes > self.#chunkSize) {
      const chunk = poolInternals.allocateForCpu(self.#pool, bytes, Math.max(self.#mask + 1, DEFAULT_ALIGNMENT))
      const buffer = keepOrDispose(chunk)
      self.#large.push(chunk)
      self.#usedBefore += bytes
      return { buffer, offset: 0 }
    }
    let chunk = self.#chunks[self.#chunksInUse]
    while (chunk !== undefined && !isIntact(chunk)) {
      Arena.#drop(self, self.#chunksInUse)
      chunk = self.#chunks[self.#chunksInUse]
    }
    if (chunk === undefined) {
      chunk = poolInternals.allocateForCpu(self.#pool, self.#chunkSize, Math.max(self.#mask + 1, DEFAULT_ALIGNMENT))
      keepOrDispose(chunk)
      self.#chunks.push(chunk)
    }
    self.#chunksInUse += 1
    self.#usedBefore += self.#offset
    self.#arrayBuffer = chunk.arrayBuffer
    self.#limit = self.#chunkSize
    self.#offset = bytes
    return { buffer: self.#arrayBuffer, offset: 0 }
  }

  /** Gives a chunk up whose ArrayBuffer was transferred away by whoever got an array of it. */
  static #drop(self: Arena, index: number): void {
    for (const chunk of self.#chunks.splice(index, 1)) chunk.dispose()
  }

  /** Leaves the current chunk, whose ArrayBuffer is not there any more, so that the next array needs another one. */
  static #abandonChunk(self: Arena): void {
    self.#chunksInUse -= 1
    Arena.#drop(self, self.#chunksInUse)
    self.#usedBefore += self.#offset
    self.#arrayBuffer = NOTHING
    self.#offset = 0
    self.#limit = -1
  }

  /**
   * An array of `length` bytes. At most about 25 ns, unless a new chunk is needed.
   *
   * @throws ERR_OFFHEAP_OUT_OF_MEMORY when a chunk is needed and cannot be had
   */
  alloc(length: number): Uint8Array<ArrayBuffer> {
    if (Arena.#isArena(this) && isSmall(length)) {
      const offset = Arena.#bump(this, length, 0)
      if (offset >= 0) {
        try {
          return new Uint8Array(this.#arrayBuffer, offset, length)
        } catch {
          Arena.#abandonChunk(this)
        }
      }
    }
    const { buffer, offset } = Arena.#slow(this, length, 1)
    return new Uint8Array(buffer, offset, length)
  }

  /** An array of `length` int8. */
  int8(length: number): Int8Array<ArrayBuffer> {
    return Arena.#typed<Int8Array<ArrayBuffer>>(this, Int8Array, 1, length)
  }

  /** An array of `length` uint8; the same as {@link alloc}. */
  uint8(length: number): Uint8Array<ArrayBuffer> {
    return Arena.#typed<Uint8Array<ArrayBuffer>>(this, Uint8Array, 1, length)
  }

  /** An array of `length` int16. */
  int16(length: number): Int16Array<ArrayBuffer> {
    return Arena.#typed<Int16Array<ArrayBuffer>>(this, Int16Array, 2, length)
  }

  /** An array of `length` uint16. */
  uint16(length: number): Uint16Array<ArrayBuffer> {
    return Arena.#typed<Uint16Array<ArrayBuffer>>(this, Uint16Array, 2, length)
  }

  /** An array of `length` int32. */
  int32(length: number): Int32Array<ArrayBuffer> {
    return Arena.#typed<Int32Array<ArrayBuffer>>(this, Int32Array, 4, length)
  }

  /** An array of `length` uint32. */
  uint32(length: number): Uint32Array<ArrayBuffer> {
    return Arena.#typed<Uint32Array<ArrayBuffer>>(this, Uint32Array, 4, length)
  }

  /** An array of `length` int64. */
  int64(length: number): BigInt64Array<ArrayBuffer> {
    return Arena.#typed<BigInt64Array<ArrayBuffer>>(this, BigInt64Array, 8, length)
  }

  /** An array of `length` uint64. */
  uint64(length: number): BigUint64Array<ArrayBuffer> {
    return Arena.#typed<BigUint64Array<ArrayBuffer>>(this, BigUint64Array, 8, length)
  }

  /** An array of `length` float32. */
  float32(length: number): Float32Array<ArrayBuffer> {
    return Arena.#typed<Float32Array<ArrayBuffer>>(this, Float32Array, 4, length)
  }

  /** An array of `length` float64. */
  float64(length: number): Float64Array<ArrayBuffer> {
    return Arena.#typed<Float64Array<ArrayBuffer>>(this, Float64Array, 8, length)
  }

  static #typed<View>(
    self: Arena,
    viewClass: new (buffer: ArrayBuffer, byteOffset: number, length: number) => View,
    elementSize: number,
    length: number,
  ): View {
    if (Arena.#isArena(self) && isSmall(length)) {
      const offset = Arena.#bump(self, length * elementSize, elementSize - 1)
      if (offset >= 0) {
        try {
          return new viewClass(self.#arrayBuffer, offset, length)
        } catch {
          Arena.#abandonChunk(self)
        }
      }
    }
    const { buffer, offset } = Arena.#slow(self, length, elementSize)
    return new viewClass(buffer, offset, length)
  }

  /**
   * Makes all memory ready for reuse, which makes the arrays handed out so far stale. The chunks are kept; those of
   * arrays larger than a chunk are given back, and those arrays end.
   */
  reset(): void {
    const self = Arena.#check(this)
    const large = self.#large
    self.#large = []
    Arena.#rewind(self)
    for (const chunk of large) chunk.dispose()
  }

  static #rewind(self: Arena): void {
    self.#chunksInUse = 0
    self.#usedBefore = 0
    self.#arrayBuffer = NOTHING
    self.#offset = 0
    self.#limit = -1
  }

  /** Ends all arrays and gives all memory back to the pool. The second time it does nothing. */
  dispose(): void {
    if (!Arena.#isArena(this)) throw wrongReceiver('Arena')
    if (this.#disposed) return
    this.#disposed = true
    Arena.#rewind(this)
    const chunks = [...this.#chunks, ...this.#large]
    this.#chunks = []
    this.#large = []
    for (const chunk of chunks) chunk.dispose()
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    Arena.prototype.dispose.call(this)
  }

  /** `'Arena'` */
  get [Symbol.toStringTag](): string {
    return 'Arena'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!Arena.#isArena(this)) return 'Arena {}'
    if (this.#disposed) return 'Arena { disposed }'
    return `Arena { ${this.used} bytes used of ${this.bytesAllocated} }`
  }
}

/** True for lengths with which 32-bit arithmetic cannot overflow; everything else takes the checked way. */
function isSmall(length: unknown): length is number {
  return typeof length === 'number' && length >= 0 && length <= 0x7ffffff && (length | 0) === length
}

/** False for a chunk whose ArrayBuffer was transferred away. */
function isIntact(chunk: MemoryBuffer): boolean {
  try {
    return chunk.arrayBuffer.byteLength > 0
  } catch {
    return false
  }
}

/** The ArrayBuffer of a new chunk; a chunk that cannot be shown is not kept. */
function keepOrDispose(chunk: MemoryBuffer): ArrayBuffer {
  try {
    return chunk.arrayBuffer
  } catch (error) {
    chunk.dispose()
    throw error
  }
}
