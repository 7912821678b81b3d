import { inspect } from 'node:util'
import { deviceInternals } from '../device.js'
import { DisposedError } from '../errors.js'
import { native } from '../native.js'
import { INTERNAL } from '../token.js'
import { noConstructor, wrongReceiver, wrongType } from '../validate.js'
import type { CudaDevice } from './device.js'

/** What the rest of `src/cuda` may do with an event. */
interface EventInternals {
  /** The native id. @throws ERR_OFFHEAP_DISPOSED */
  id(event: CudaEvent): number
  check(value: unknown, name: string): CudaEvent
  /** A handle for an event that native code made. */
  adopt(id: number, device: CudaDevice): CudaEvent
}

/** @internal */
export let eventInternals: EventInternals

/**
 * A moment in the work of a stream. Made by {@link CudaStream.record} or {@link CudaDevice.createEvent}; one that was never
 * recorded is complete.
 */
export class CudaEvent {
  /** 0 when disposed. */
  #id: number
  readonly #device: CudaDevice

  private constructor(token: typeof INTERNAL, id: number, device: CudaDevice) {
    if (token !== INTERNAL) throw noConstructor('CudaEvent', 'stream.record() or device.createEvent()')
    this.#id = id
    this.#device = device
  }

  static {
    const forgotten = new FinalizationRegistry<number>((id) => native.cudaEventDrop(id))
    eventInternals = {
      id: (event) => CudaEvent.#live(event),
      check(value, name) {
        if (CudaEvent.#isEvent(value)) return value
        throw wrongType(name, 'a CudaEvent', value)
      },
      adopt(id, device) {
        const event = new CudaEvent(INTERNAL, id, device)
        forgotten.register(event, id)
        return event
      },
    }
  }

  static #isEvent(value: unknown): value is CudaEvent {
    return typeof value === 'object' && value !== null && #id in value
  }

  static #check(self: unknown): CudaEvent {
    if (!CudaEvent.#isEvent(self)) throw wrongReceiver('CudaEvent')
    return self
  }

  static #live(self: unknown): number {
    const id = CudaEvent.#check(self).#id
    if (id === 0) throw new DisposedError('the event was disposed')
    return id
  }

  /** The GPU whose streams record it. */
  get device(): CudaDevice {
    return CudaEvent.#check(this).#device
  }

  /** True after {@link dispose}. */
  get disposed(): boolean {
    return CudaEvent.#check(this).#id === 0
  }

  /** True when the moment has come. Asks the driver, and waits for nothing. */
  get isComplete(): boolean {
    return native.cudaEventIsComplete(CudaEvent.#live(this))
  }

  /** Resolves when the moment that is recorded now has come. The event loop goes on. */
  async completed(): Promise<void> {
    await native.cudaEventCompleted(CudaEvent.#live(this))
  }

  /**
   * Milliseconds from `since` to this event, as the GPU measured them, to half a microsecond.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED for an event without timing; ERR_OFFHEAP_BUSY when one has not come yet;
   * ERR_OFFHEAP_INVALID_ARGUMENT when one was never recorded
   */
  elapsedMs(since: CudaEvent): number {
    return native.cudaEventElapsedMs(CudaEvent.#live(this), eventInternals.id(eventInternals.check(since, 'since')))
  }

  /** Gives the event up; streams that wait for it still do. The second time it does nothing. */
  dispose(): void {
    const event = CudaEvent.#check(this)
    const id = event.#id
    if (id === 0) return
    event.#id = 0
    native.cudaEventDrop(id)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    CudaEvent.prototype.dispose.call(this)
  }

  /** `'CudaEvent'` */
  get [Symbol.toStringTag](): string {
    return 'CudaEvent'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!CudaEvent.#isEvent(this)) return 'CudaEvent {}'
    const where = native.deviceLocation(deviceInternals.id(this.#device))
    return `CudaEvent { ${where}${this.#id === 0 ? ', disposed' : ''} }`
  }
}
