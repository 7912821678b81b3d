import type { Writable } from 'node:stream'
import { type ByteSource, lengthOfBytesOrText } from './bytes.js'
import { ClosedError } from './errors.js'
import { writableTo } from './streams.js'
import { wrongReceiver } from './validate.js'

/** Counts what is written to it and keeps none of it: tells how large an output will be before memory is taken. */
export class MockOutputStream {
  #written = 0
  #closed = false

  static #isStream(value: unknown): value is MockOutputStream {
    return typeof value === 'object' && value !== null && #written in value
  }

  static #check(self: unknown): MockOutputStream {
    if (!MockOutputStream.#isStream(self)) throw wrongReceiver('MockOutputStream')
    return self
  }

  static #open(receiver: unknown): MockOutputStream {
    const self = MockOutputStream.#check(receiver)
    if (self.#closed) throw new ClosedError('the stream was closed')
    return self
  }

  /** How many bytes were written. */
  get size(): number {
    return MockOutputStream.#check(this).#written
  }

  /** True after {@link close}. */
  get closed(): boolean {
    return MockOutputStream.#check(this).#closed
  }

  /** How many bytes were written. */
  tell(): number {
    return MockOutputStream.#check(this).#written
  }

  /** Counts bytes, or a string as UTF-8. @returns how many bytes @throws ERR_OFFHEAP_CLOSED */
  write(bytes: string | ByteSource): number {
    const self = MockOutputStream.#open(this)
    const count = lengthOfBytesOrText(bytes, 'bytes')
    self.#written += count
    return count
  }

  /** A Node stream that counts here. Ending it closes this stream. */
  asWritable(): Writable {
    return writableTo(MockOutputStream.#open(this))
  }

  /** Refuses later writes with ERR_OFFHEAP_CLOSED. */
  close(): void {
    MockOutputStream.#check(this).#closed = true
  }

  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void {
    MockOutputStream.prototype.close.call(this)
  }

  /** `'MockOutputStream'` */
  get [Symbol.toStringTag](): string {
    return 'MockOutputStream'
  }
}
