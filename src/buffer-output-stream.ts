import type { Writable } from 'node:stream'
import { BufferBuilder } from './buffer-builder.js'
import type { BuilderOptions, FinishOptions } from './builder-block.js'
import type { ByteSource } from './bytes.js'
import { ClosedError, DisposedError, OutOfMemoryError } from './errors.js'
import type { MemoryBuffer } from './memory-buffer.js'
import { poolOption } from './memory-pool.js'
import { writableTo } from './streams.js'
import { checkSize, option, wrongReceiver } from './validate.js'

/** What a new stream has room for, in bytes. */
const DEFAULT_CAPACITY = 4096
/** Stands for a capacity that was not asked for. */
const UNASKED = -1

/** Options of {@link BufferOutputStream.reset}. */
export interface ResetOptions {
  /** Room to make at once, in bytes. 4096 when absent. */
  capacity?: number | undefined
}

/** Collects what is written to it in pool memory that grows by doubling, and gives it out as one buffer. */
export class BufferOutputStream {
  readonly #builder: BufferBuilder
  #closed = false
  #finished = false

  /** @throws ERR_OFFHEAP_OUT_OF_MEMORY when a `capacity` cannot be had; when absent, 4096 bytes if they can */
  constructor(options?: BuilderOptions) {
    const pool = poolOption(options)
    const alignment = option(options, 'alignment', (value) => value as number, undefined)
    const capacity = option(options, 'capacity', checkSize, UNASKED)
    this.#builder = new BufferBuilder({ pool, alignment })
    BufferOutputStream.#makeRoom(this, capacity)
  }

  /** Makes the room that was asked for; what nobody asked for only where no limit is in the way. */
  static #makeRoom(self: BufferOutputStream, capacity: number): void {
    const builder = self.#builder
    if (capacity === UNASKED) tryOrLeave(() => builder.reserve(Math.max(DEFAULT_CAPACITY - builder.length, 0)))
    else builder.reserve(Math.max(capacity - builder.length, 0))
  }

  static #isStream(value: unknown): value is BufferOutputStream {
    return typeof value === 'object' && value !== null && #builder in value
  }

  static #check(self: unknown): BufferOutputStream {
    if (!BufferOutputStream.#isStream(self)) throw wrongReceiver('BufferOutputStream')
    return self
  }

  /** The stream, when it is open. */
  static #open(receiver: unknown): BufferOutputStream {
    const self = BufferOutputStream.#check(receiver)
    if (self.#builder.disposed) throw new DisposedError('the stream was disposed')
    if (self.#closed) throw new ClosedError('the stream was closed')
    return self
  }

  /** True after {@link close} or {@link finish}. */
  get closed(): boolean {
    return BufferOutputStream.#check(this).#closed
  }

  /** How many bytes there is room for before the next growth. */
  get capacity(): number {
    return BufferOutputStream.#check(this).#builder.capacity
  }

  /** How many bytes were written. */
  tell(): number {
    return BufferOutputStream.#check(this).#builder.length
  }

  /** Appends bytes, or a string as UTF-8. @returns how many bytes were written @throws ERR_OFFHEAP_CLOSED */
  write(bytes: string | ByteSource): number {
    const builder = BufferOutputStream.#open(this).#builder
    const before = builder.length
    builder.append(bytes)
    return builder.length - before
  }

  /** A Node stream that writes here. Ending it closes this stream, which can be finished then. */
  asWritable(): Writable {
    return writableTo(BufferOutputStream.#open(this))
  }

  /** Refuses later writes with ERR_OFFHEAP_CLOSED. What was written stays for {@link finish}. */
  close(): void {
    BufferOutputStream.#check(this).#closed = true
  }

  /**
   * Closes the stream and hands over what was written as a mutable buffer, without a copy.
   *
   * @throws ERR_OFFHEAP_CLOSED the second time
   */
  finish(options?: FinishOptions): MemoryBuffer {
    const self = BufferOutputStream.#check(this)
    if (self.#builder.disposed) throw new DisposedError('the stream was disposed')
    if (self.#finished) throw new ClosedError('the stream was finished')
    const buffer = self.#builder.finish(options)
    self.#closed = self.#finished = true
    return buffer
  }

  /**
   * Drops what was written and not finished, and opens the stream again.
   *
   * @throws ERR_OFFHEAP_OUT_OF_MEMORY when a `capacity` cannot be had; nothing is dropped then
   */
  reset(options?: ResetOptions): void {
    const self = BufferOutputStream.#check(this)
    const capacity = option(options, 'capacity', checkSize, UNASKED)
    const builder = self.#builder
    const wanted = capacity === UNASKED ? DEFAULT_CAPACITY : capacity
    // The room first, in the block that there is: a limit need not have room for two.
    BufferOutputStream.#makeRoom(self, capacity)
    if (wanted === 0) builder.reset()
    else {
      builder.rewind(0)
      // A block that cannot be made smaller serves as well.
      if (wanted < builder.capacity) tryOrLeave(() => builder.resize(wanted))
    }
    self.#closed = self.#finished = false
  }

  /** Gives the memory back for good. The second time it does nothing. */
  dispose(): void {
    const self = BufferOutputStream.#check(this)
    self.#closed = self.#finished = true
    self.#builder.dispose()
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    BufferOutputStream.prototype.dispose.call(this)
  }

  /** `'BufferOutputStream'` */
  get [Symbol.toStringTag](): string {
    return 'BufferOutputStream'
  }
}

/** Does what is welcome, but not needed: memory that runs out is no error. */
function tryOrLeave(action: () => void): void {
  try {
    action()
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error
  }
}
