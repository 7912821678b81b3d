import { DisposedError, OutOfMemoryError } from './errors.js'
import { isHeldBack } from './instrument.js'
import { bytesOf, setElements } from './intrinsics.js'
import { bufferInternals, IS_MUTABLE, IS_RESIZABLE, type MemoryBuffer } from './memory-buffer.js'
import { DEFAULT_ALIGNMENT, type MemoryPool, poolInternals, poolOption, type PoolOptions } from './memory-pool.js'
import { forgottenOwners, type OwnedBuffer } from './lifetime.js'
import { maxViewBytes, native, RESIZABLE_BLOCK, ZERO_FILL } from './native.js'
import { checkAlignmentArgument, option } from './validate.js'

/** Options of the builders' constructors. */
export interface BuilderOptions extends PoolOptions {
  /** Room to make at once: bytes, or elements of a typed builder. None when absent. */
  capacity?: number | undefined
  /** Alignment of the memory in bytes, a power of two. 64 when absent. */
  alignment?: number | undefined
}

/** Options of the builders' `finish`. */
export interface FinishOptions {
  /** False to keep capacity that was not used, which saves a reallocation. True when absent. */
  shrinkToFit?: boolean | undefined
}

/** Below this capacity in bytes, a native call and a new window cost more than the memory: room grows by more. */
const SMALL = 32 * 1024
const SMALL_GROWTH = 4

const NOTHING = new ArrayBuffer(0)

/**
 * The block that a builder fills, and the one ArrayBuffer over it. The ArrayBuffer is never shown to anyone but the
 * builder, so the block can move, shrink and be handed over at any time.
 */
export class BuilderBlock {
  readonly #pool: MemoryPool
  readonly #alignment: number
  readonly #zeroed: boolean
  readonly #owned: OwnedBuffer = { id: 0 }
  #disposed = false
  #arrayBuffer = NOTHING
  #capacity = 0

  /**
   * @param owner - the builder; when it is forgotten, the block is released
   * @param zeroed - true to zero all room before the builder sees it
   */
  constructor(owner: object, options: unknown, zeroed: boolean) {
    this.#pool = poolOption(options)
    this.#alignment = option(options, 'alignment', checkAlignmentArgument, DEFAULT_ALIGNMENT)
    this.#zeroed = zeroed
    forgottenOwners.register(owner, this.#owned)
  }

  /** The memory, all of the capacity. Changes whenever the capacity does. */
  get arrayBuffer(): ArrayBuffer {
    return this.#arrayBuffer
  }

  /** In bytes: what the pool counts. The memory may be up to 63 bytes larger, which nobody uses. */
  get capacity(): number {
    return this.#capacity
  }

  /** Throws when the builder was disposed. */
  check(): void {
    if (this.#disposed) throw new DisposedError('the builder was disposed')
  }

  /** Makes room for `needed` bytes in all, and for at least twice as many as now, or as `from`, if they can be had. */
  grow(needed: number, from = this.#capacity): void {
    this.check()
    if (needed <= this.#capacity) return
    const grown = Math.min((from < SMALL ? SMALL_GROWTH : 2) * from, maxViewBytes)
    if (grown <= roundUp(needed) || !this.#trySetCapacity(grown)) this.reserve(needed)
  }

  /** Makes room for `needed` bytes in all, rounded up to 64 if that many can be had. */
  reserve(needed: number): void {
    this.check()
    if (needed <= this.#capacity) return
    const rounded = roundUp(needed)
    if (rounded === needed || !this.#trySetCapacity(rounded)) this.#setCapacity(needed)
  }

  /** Takes over what is in another block, and disposes that. There must be room for it. */
  takeOver(other: BuilderBlock): void {
    const bytes = other.#capacity
    setElements(bytesOf(this.#arrayBuffer, 0, bytes), bytesOf(other.#arrayBuffer, 0, bytes), 0)
    other.dispose()
  }

  /** False when a limit, or the system, has no room for so much: it may have for less. */
  #trySetCapacity(capacity: number): boolean {
    try {
      this.#setCapacity(capacity)
      return true
    } catch (error) {
      if (error instanceof OutOfMemoryError) return false
      throw error
    }
  }

  /** Makes the capacity `capacity` bytes rounded up to 64, or leaves it when it would shrink and must not. */
  resize(capacity: number, shrinkToFit: boolean): void {
    this.check()
    if (capacity > this.capacity) return this.reserve(capacity)
    const rounded = roundUp(capacity)
    if (!shrinkToFit || rounded === this.capacity) return
    if (rounded === 0) return this.reset()
    this.#endWindow(rounded, true)
    this.#setCapacity(rounded)
  }

  #setCapacity(capacity: number): void {
    if (roundUp(capacity) > maxViewBytes) {
      throw new OutOfMemoryError(`a builder of ${capacity} bytes is larger than this runtime can show (${maxViewBytes})`, {
        requested: capacity,
        limit: maxViewBytes,
        allocated: this.capacity,
        pool: this.#pool.name,
      })
    }
    const owned = this.#owned
    if (owned.id === 0) {
      const flags = this.#zeroed ? RESIZABLE_BLOCK | ZERO_FILL : RESIZABLE_BLOCK
      owned.id = native.bufferAllocate(poolInternals.id(this.#pool), capacity, this.#alignment, flags)
    }
    this.#arrayBuffer = native.builderWindow(owned.id, capacity, this.#window(), this.#zeroed)
    this.#capacity = capacity
  }

  #window(): ArrayBuffer | undefined {
    return this.#arrayBuffer === NOTHING ? undefined : this.#arrayBuffer
  }

  #endWindow(size: number, shrinkToFit: boolean): void {
    native.builderFinish(this.#owned.id, size, shrinkToFit, this.#window())
    this.#arrayBuffer = NOTHING
    this.#capacity = 0
  }

  /** Hands the first `size` bytes over as a buffer, and starts again with nothing. */
  finish(size: number, shrinkToFit: boolean): MemoryBuffer {
    this.check()
    const owned = this.#owned
    if (owned.id === 0) {
      const empty = native.bufferAllocate(poolInternals.id(this.#pool), 0, this.#alignment, RESIZABLE_BLOCK)
      return bufferInternals.create(empty, IS_MUTABLE | IS_RESIZABLE, this.#pool, undefined)
    }
    this.#endWindow(size, shrinkToFit)
    const buffer = bufferInternals.create(owned.id, IS_MUTABLE | IS_RESIZABLE, this.#pool, undefined)
    owned.id = 0
    if (isHeldBack()) buffer.dispose() // the builder throws next, and nobody gets it
    return buffer
  }

  /** Gives the memory back and starts again with nothing. */
  reset(): void {
    this.check()
    const owned = this.#owned
    if (owned.id === 0) return
    this.#endWindow(0, true) // nobody else has seen the window, so it need not wait for work in flight
    const id = owned.id
    owned.id = 0
    native.bufferDispose(id, undefined, 0)
  }

  /** Gives the memory back for good. */
  dispose(): void {
    if (this.#disposed) return
    this.reset()
    this.#disposed = true
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
}
