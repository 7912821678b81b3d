import { bufferInternals, type MemoryBuffer } from './memory-buffer.js'
import { INTERNAL } from './token.js'
import { noConstructor, wrongReceiver } from './validate.js'

/** Makes a pin for a buffer that has counted it. @internal */
export let createPin: (buffer: MemoryBuffer) => Pin

/**
 * Holds a buffer's memory and views in place while work that offheap cannot see uses them: a socket with an `onread`
 * buffer, a `v8.Deserializer`, a thread of another addon, a zlib stream that waits for backpressure. While a pin is
 * held, disposing, resizing or freezing the buffer is `ERR_OFFHEAP_BUSY`. Made by {@link MemoryBuffer.pin}.
 */
export class Pin {
  #buffer: MemoryBuffer | undefined

  private constructor(token: typeof INTERNAL, buffer: MemoryBuffer) {
    if (token !== INTERNAL) throw noConstructor('Pin', 'buffer.pin()')
    this.#buffer = buffer
  }

  static {
    createPin = (buffer) => new Pin(INTERNAL, buffer)
  }

  static #isPin(value: unknown): value is Pin {
    return typeof value === 'object' && value !== null && #buffer in value
  }

  /** True once the pin was given up. */
  get disposed(): boolean {
    if (!Pin.#isPin(this)) throw wrongReceiver('Pin')
    return this.#buffer === undefined
  }

  /** Gives the pin up. The second time it does nothing. */
  dispose(): void {
    if (!Pin.#isPin(this)) throw wrongReceiver('Pin')
    const buffer = this.#buffer
    if (buffer === undefined) return
    this.#buffer = undefined
    bufferInternals.unpin(buffer)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    Pin.prototype.dispose.call(this)
  }

  /** `'Pin'` */
  get [Symbol.toStringTag](): string {
    return 'Pin'
  }
}
