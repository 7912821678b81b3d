import { DisposedError } from '../errors.js'
import { bufferInternals, type MemoryBuffer } from '../memory-buffer.js'
import { native, words } from '../native.js'
import { INTERNAL } from '../token.js'
import { arrayElements, checkString, isArray, noConstructor, wrongReceiver, wrongType } from '../validate.js'
import type { ImportedArray } from './device-array.js'
import { checkAddress, exportedId } from './exported.js'
import { type ConsumerOptions, consumerStream, type ProducerOptions, producerMoment } from './moments.js'

/** What a native struct is, to JavaScript: something to hand back. */
type NativeStruct = object

let makeHandle: (struct: NativeStruct) => ArrowDeviceStreamHandle
let isHandle: (value: unknown) => value is ArrowDeviceStreamHandle
let makeReader: (struct: NativeStruct) => ArrowDeviceStreamReader

/**
 * Buffers as an `ArrowDeviceArrayStream`, for one consumer. Made by {@link toArrowDeviceStream}. What nobody took is released by
 * {@link dispose}, or when the handle is forgotten: keep it until the consumer has taken the struct.
 */
export class ArrowDeviceStreamHandle {
  #struct: NativeStruct | undefined

  private constructor(token: typeof INTERNAL, struct: NativeStruct) {
    if (token !== INTERNAL) throw noConstructor('ArrowDeviceStreamHandle', 'toArrowDeviceStream()')
    this.#struct = struct
  }

  static {
    makeHandle = (struct) => new ArrowDeviceStreamHandle(INTERNAL, struct)
    isHandle = (value): value is ArrowDeviceStreamHandle => typeof value === 'object' && value !== null && #struct in value
  }

  /** The address of the `ArrowDeviceArrayStream`. */
  get streamAddress(): bigint {
    if (!isHandle(this)) throw wrongReceiver('ArrowDeviceStreamHandle')
    if (this.#struct === undefined) throw new DisposedError('the stream was released')
    native.arrowStreamAddress(this.#struct)
    return BigInt(words[0]!)
  }

  /** True once a consumer took the stream, or it was released. */
  get consumed(): boolean {
    if (!isHandle(this)) throw wrongReceiver('ArrowDeviceStreamHandle')
    return this.#struct === undefined || native.arrowStreamIsConsumed(this.#struct)
  }

  /** Releases the stream unless a consumer took it. The second time it does nothing. */
  dispose(): void {
    if (!isHandle(this)) throw wrongReceiver('ArrowDeviceStreamHandle')
    const struct = this.#struct
    if (struct === undefined) return
    this.#struct = undefined
    native.arrowStreamRelease(struct)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    ArrowDeviceStreamHandle.prototype.dispose.call(this)
  }

  /** `'ArrowDeviceStreamHandle'` */
  get [Symbol.toStringTag](): string {
    return 'ArrowDeviceStreamHandle'
  }
}

/**
 * Arrays that another library makes, one after the other. Made by {@link fromArrowDeviceStream}. `dispose()` releases the stream; the
 * arrays that it gave stay.
 */
export class ArrowDeviceStreamReader implements Iterable<ImportedArray> {
  #struct: NativeStruct | undefined

  private constructor(token: typeof INTERNAL, struct: NativeStruct) {
    if (token !== INTERNAL) throw noConstructor('ArrowDeviceStreamReader', 'fromArrowDeviceStream()')
    this.#struct = struct
  }

  static {
    makeReader = (struct) => new ArrowDeviceStreamReader(INTERNAL, struct)
  }

  static #check(self: unknown): ArrowDeviceStreamReader {
    if (typeof self === 'object' && self !== null && #struct in self) return self
    throw wrongReceiver('ArrowDeviceStreamReader')
  }

  static #of(self: unknown): NativeStruct {
    const struct = ArrowDeviceStreamReader.#check(self).#struct
    if (struct === undefined) throw new DisposedError('the stream was released')
    return struct
  }

  /** What the arrays' elements are: Arrow's format string. */
  get format(): string {
    return native.arrowStreamFormat(ArrowDeviceStreamReader.#of(this))
  }

  /**
   * The next array, or `undefined` at the end. Its event is waited for: by `stream`, in whose order the buffer is then used, or without
   * one by this call, as also where the CPU reaches the memory.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED with what the other library says, and for nulls; ERR_OFFHEAP_INVALID_ARGUMENT for an array that
   * contradicts itself or the stream, which is released; ERR_OFFHEAP_DISPOSED
   */
  next(options?: ConsumerOptions): ImportedArray | undefined {
    ArrowDeviceStreamReader.#check(this)
    const stream = consumerStream(options)
    const found = native.arrowStreamNext(ArrowDeviceStreamReader.#of(this), stream) ?? undefined
    if (found === undefined) return undefined
    const { buffer, format, length, bitOffset } = found
    return { buffer: bufferInternals.create(buffer, 0, undefined, undefined), format, length, bitOffset }
  }

  /** The arrays that are left, each as {@link next} gives it. */
  *[Symbol.iterator](): IterableIterator<ImportedArray> {
    for (let array = ArrowDeviceStreamReader.prototype.next.call(this); array !== undefined; array = ArrowDeviceStreamReader.prototype.next.call(this)) {
      yield array
    }
  }

  /** Releases the stream. The second time it does nothing. */
  dispose(): void {
    const reader = ArrowDeviceStreamReader.#check(this)
    const struct = reader.#struct
    if (struct === undefined) return
    reader.#struct = undefined
    native.arrowStreamDrop(struct)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    ArrowDeviceStreamReader.prototype.dispose.call(this)
  }

  /** `'ArrowDeviceStreamReader'` */
  get [Symbol.toStringTag](): string {
    return 'ArrowDeviceStreamReader'
  }
}

/**
 * All elements of each buffer as a stream of arrays for another library, without a copy. The buffers are of one kind of device; each
 * array has its own event, as {@link toArrowDevice} gives it.
 *
 * @throws as {@link toArrowDevice}; ERR_OFFHEAP_INVALID_ARGUMENT for buffers of different kinds of devices
 */
export function toArrowDeviceStream(buffers: readonly MemoryBuffer[], format: string, options?: ProducerOptions): ArrowDeviceStreamHandle {
  checkString(format, 'format')
  const { event, stream } = producerMoment(options)
  if (!isArray(buffers)) throw wrongType('buffers', 'an array of buffers', buffers)
  const ids = arrayElements(buffers, 'buffers', (buffer) => exportedId(buffer))
  return makeHandle(native.arrowStreamExport(ids, format, event, stream))
}

/**
 * The stream of a handle as another library would take it: the handle is consumed.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT (`Cannot import released ArrowDeviceArrayStream`) when it was consumed; ERR_OFFHEAP_DISPOSED when it
 * was disposed
 */
export function fromArrowDeviceStream(handle: ArrowDeviceStreamHandle): ArrowDeviceStreamReader {
  if (!isHandle(handle)) throw wrongType('handle', 'an ArrowDeviceStreamHandle', handle)
  return makeReader(native.arrowStreamImport(Reflect.get(ArrowDeviceStreamHandle.prototype, 'streamAddress', handle) as bigint))
}

/**
 * Takes an `ArrowDeviceArrayStream` that another native library made, by its address. Its type is asked for at once. **The caller is
 * trusted**: a wrong address crashes the process.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a released stream; ERR_OFFHEAP_NOT_SUPPORTED for other than columns of fixed-width elements, and
 * with what the other library says
 */
export function unsafeFromArrowDeviceStream(address: bigint): ArrowDeviceStreamReader {
  return makeReader(native.arrowStreamImport(checkAddress(address, 'address')))
}
