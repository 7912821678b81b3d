import { NotSupportedError } from '../errors.js'
import { bufferInternals, type MemoryBuffer } from '../memory-buffer.js'
import { native } from '../native.js'
import { INTERNAL } from '../token.js'
import { noConstructor, wrongReceiver, wrongType } from '../validate.js'

let makeRegistration: (id: number) => HostRegistration

/** Page-locks memory that is there already. Made by {@link registerHost}. */
export class HostRegistration {
  /** 0 when disposed. */
  #id: number

  private constructor(token: typeof INTERNAL, id: number) {
    if (token !== INTERNAL) throw noConstructor('HostRegistration', 'registerHost(buffer)')
    this.#id = id
  }

  static {
    const forgotten = new FinalizationRegistry<number>((id) => native.cudaUnregisterHost(id))
    makeRegistration = (id) => {
      const registration = new HostRegistration(INTERNAL, id)
      forgotten.register(registration, id)
      return registration
    }
  }

  static #check(self: unknown): HostRegistration {
    if (typeof self === 'object' && self !== null && #id in self) return self
    throw wrongReceiver('HostRegistration')
  }

  /** True after {@link dispose}. */
  get disposed(): boolean {
    return HostRegistration.#check(this).#id === 0
  }

  /** Lets the pages go when the copies that are under way are done. The second time it does nothing. */
  dispose(): void {
    const registration = HostRegistration.#check(this)
    const id = registration.#id
    if (id === 0) return
    registration.#id = 0
    native.cudaUnregisterHost(id)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    HostRegistration.prototype.dispose.call(this)
  }

  /** `'HostRegistration'` */
  get [Symbol.toStringTag](): string {
    return 'HostRegistration'
  }
}

/**
 * Page-locks a buffer of any pool of the CPU, so that GPUs copy from and to it themselves, until the registration is disposed;
 * it keeps the memory. Locking costs about as much as touching each page once.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for memory of a GPU, memory that is the driver's own (page-locked, managed) and wrapped ArrayBuffers;
 * ERR_OFFHEAP_BUSY for memory that is registered already; ERR_OFFHEAP_INVALID_ARGUMENT for an empty buffer
 */
export function registerHost(buffer: MemoryBuffer): HostRegistration {
  if (!bufferInternals.is(buffer)) throw wrongType('buffer', 'a MemoryBuffer', buffer)
  bufferInternals.checkCpu(buffer)
  const id = bufferInternals.bytesAnywhere(buffer)
  if (typeof id !== 'number') throw new NotSupportedError('a wrapped ArrayBuffer cannot be page-locked: it may move')
  return makeRegistration(native.cudaRegisterHost(id))
}
