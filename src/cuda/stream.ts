import { inspect } from 'node:util'
import { deviceInternals } from '../device.js'
import { DisposedError } from '../errors.js'
import { native } from '../native.js'
import { INTERNAL } from '../token.js'
import { noConstructor, option, wrongReceiver, wrongType } from '../validate.js'
import type { CudaDevice } from './device.js'
import { type CudaEvent, eventInternals } from './event.js'

/** What the rest of `src/cuda` may do with a stream. */
interface StreamInternals {
  /** The native id. @throws ERR_OFFHEAP_DISPOSED */
  id(stream: CudaStream): number
  check(value: unknown, name: string): CudaStream
  /** A handle for a stream that native code made. */
  adopt(id: number, device: CudaDevice): CudaStream
}

/** @internal */
export let streamInternals: StreamInternals

/** The stream of a trailing options object: its id, or 0 for the device's default one. */
export function streamOption(options: unknown): number {
  const stream = option(options, 'stream', streamInternals.check, undefined)
  return stream === undefined ? 0 : streamInternals.id(stream)
}

/**
 * A queue of work for a GPU, done in order; work of different streams overlaps. Made by {@link CudaDevice.createStream}.
 *
 * `dispose()` waits for nothing: what was queued is still done.
 */
export class CudaStream {
  /** 0 when disposed. */
  #id: number
  readonly #device: CudaDevice

  private constructor(token: typeof INTERNAL, id: number, device: CudaDevice) {
    if (token !== INTERNAL) throw noConstructor('CudaStream', 'device.createStream() or device.defaultStream')
    this.#id = id
    this.#device = device
  }

  static {
    const forgotten = new FinalizationRegistry<number>((id) => native.cudaStreamDrop(id))
    streamInternals = {
      id: (stream) => CudaStream.#live(stream),
      check(value, name) {
        if (CudaStream.#isStream(value)) return value
        throw wrongType(name, 'a CudaStream', value)
      },
      adopt(id, device) {
        const stream = new CudaStream(INTERNAL, id, device)
        forgotten.register(stream, id)
        return stream
      },
    }
  }

  static #isStream(value: unknown): value is CudaStream {
    return typeof value === 'object' && value !== null && #id in value
  }

  static #check(self: unknown): CudaStream {
    if (!CudaStream.#isStream(self)) throw wrongReceiver('CudaStream')
    return self
  }

  static #live(self: unknown): number {
    const id = CudaStream.#check(self).#id
    if (id === 0) throw new DisposedError('the stream was disposed')
    return id
  }

  /** The GPU that does the work. */
  get device(): CudaDevice {
    return CudaStream.#check(this).#device
  }

  /** True after {@link dispose}. */
  get disposed(): boolean {
    return CudaStream.#check(this).#id === 0
  }

  /** How urgent its work is: lower is more. The nearest that the GPU has to what {@link CudaDevice.createStream} was asked for. */
  get priority(): number {
    return native.cudaStreamPriority(CudaStream.#live(this))
  }

  /** True for a stream that waits for CUDA's legacy default stream, and that for it. */
  get blocking(): boolean {
    return native.cudaStreamIsBlocking(CudaStream.#live(this))
  }

  /** True when all work that was queued is done. Asks the driver, and waits for nothing. */
  get isComplete(): boolean {
    return native.cudaStreamIsComplete(CudaStream.#live(this))
  }

  /** Resolves when all work that is queued now is done. The event loop goes on. @throws what the driver says of that work */
  async synchronize(): Promise<void> {
    await native.cudaStreamSynchronize(CudaStream.#live(this))
  }

  /**
   * The moment at which all work that is queued now is done, as `event` or a new one.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for an event of another GPU
   */
  record(event?: CudaEvent): CudaEvent {
    const id = CudaStream.#live(this)
    const recorded = event === undefined ? this.#device.createEvent() : eventInternals.check(event, 'event')
    native.cudaEventRecord(eventInternals.id(recorded), id)
    return recorded
  }

  /** Work that is queued from now on begins after `event`. Nobody here waits; it may be an event of another GPU. */
  waitEvent(event: CudaEvent): void {
    native.cudaStreamWaitEvent(CudaStream.#live(this), eventInternals.id(eventInternals.check(event, 'event')))
  }

  /** Gives the stream up. What was queued is still done; what still uses the stream keeps it. The second time it does nothing. */
  dispose(): void {
    const stream = CudaStream.#check(this)
    const id = stream.#id
    if (id === 0) return
    stream.#id = 0
    native.cudaStreamDrop(id)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    CudaStream.prototype.dispose.call(this)
  }

  /** `'CudaStream'` */
  get [Symbol.toStringTag](): string {
    return 'CudaStream'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!CudaStream.#isStream(this)) return 'CudaStream {}'
    const where = native.deviceLocation(deviceInternals.id(this.#device))
    return `CudaStream { ${where}${this.#id === 0 ? ', disposed' : ''} }`
  }
}
