import { DisposedError } from '../errors.js'
import { bufferInternals, type MemoryBuffer } from '../memory-buffer.js'
import { native, words } from '../native.js'
import { INTERNAL } from '../token.js'
import { checkSize, checkString, noConstructor, option, wrongReceiver, wrongType } from '../validate.js'
import { checkAddress, exportedId } from './exported.js'
import { type ConsumerOptions, consumerStream, type ProducerOptions, producerMoment } from './moments.js'
import type { NativeImportedArray } from './native.js'

/** Which elements of a buffer {@link toArrowDevice} gives, and when they are there. */
export interface ArrowDeviceOptions extends ProducerOptions {
  /** The first element. 0 when absent. */
  offset?: number | undefined
  /** How many elements. Absent: as many as there are behind `offset`. */
  length?: number | undefined
}

/** An array that another library made. */
export interface ImportedArray {
  /** Its elements, immutable. The other library's memory is released with the last slice and view. */
  readonly buffer: MemoryBuffer
  /** What they are: Arrow's format string, `'g'` for float64. */
  readonly format: string
  /** How many elements. */
  readonly length: number
  /** Which bit of the first byte is the first element: 0 but for `'b'`. */
  readonly bitOffset: number
}

/** What a native struct is, to JavaScript: something to hand back. */
type NativeStruct = object

let makeHandle: (struct: NativeStruct) => ArrowDeviceHandle
let isHandle: (value: unknown) => value is ArrowDeviceHandle
/** @throws ERR_OFFHEAP_DISPOSED */
let structOf: (handle: ArrowDeviceHandle) => NativeStruct

/**
 * A buffer as an `ArrowDeviceArray` with its `ArrowSchema`, for one consumer. Made by {@link toArrowDevice}.
 *
 * Give the two addresses to a library that imports from Arrow's C Device interface: it moves the structs (and marks these as
 * released), and the buffer's memory lives until it releases them. What nobody took is released by {@link dispose}, or when the
 * handle is forgotten: keep it until the consumer has taken the structs.
 */
export class ArrowDeviceHandle {
  #struct: NativeStruct | undefined

  private constructor(token: typeof INTERNAL, struct: NativeStruct) {
    if (token !== INTERNAL) throw noConstructor('ArrowDeviceHandle', 'toArrowDevice()')
    this.#struct = struct
  }

  static {
    makeHandle = (struct) => new ArrowDeviceHandle(INTERNAL, struct)
    isHandle = (value): value is ArrowDeviceHandle => typeof value === 'object' && value !== null && #struct in value
    structOf = (handle) => ArrowDeviceHandle.#of(handle)
  }

  static #of(self: unknown): NativeStruct {
    if (!isHandle(self)) throw wrongReceiver('ArrowDeviceHandle')
    if (self.#struct === undefined) throw new DisposedError('the array was released')
    return self.#struct
  }

  static #addresses(self: unknown): { array: bigint; schema: bigint } {
    native.arrowAddresses(ArrowDeviceHandle.#of(self))
    return { array: BigInt(words[0]!), schema: BigInt(words[1]!) }
  }

  /** The address of the `ArrowDeviceArray`; of memory that the CPU reads, also that of an `ArrowArray`. */
  get arrayAddress(): bigint {
    return ArrowDeviceHandle.#addresses(this).array
  }

  /** The address of the `ArrowSchema`. */
  get schemaAddress(): bigint {
    return ArrowDeviceHandle.#addresses(this).schema
  }

  /** True once a consumer took the array, or it was released. */
  get consumed(): boolean {
    if (!isHandle(this)) throw wrongReceiver('ArrowDeviceHandle')
    return this.#struct === undefined || native.arrowIsConsumed(this.#struct)
  }

  /** Releases the array unless a consumer took it. The second time it does nothing. */
  dispose(): void {
    if (!isHandle(this)) throw wrongReceiver('ArrowDeviceHandle')
    const struct = this.#struct
    if (struct === undefined) return
    this.#struct = undefined
    native.arrowRelease(struct)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    ArrowDeviceHandle.prototype.dispose.call(this)
  }

  /** `'ArrowDeviceHandle'` */
  get [Symbol.toStringTag](): string {
    return 'ArrowDeviceHandle'
  }
}

/** Bytes of an element, by the format; a bit is an eighth. */
const WIDTHS: ReadonlyMap<string, number> = new Map([
  ...['b'].map((format) => [format, 1 / 8] as const),
  ...['c', 'C'].map((format) => [format, 1] as const),
  ...['s', 'S', 'e'].map((format) => [format, 2] as const),
  ...['i', 'I', 'f', 'tdD', 'tts', 'ttm', 'tiM'].map((format) => [format, 4] as const),
  ...['l', 'L', 'g', 'tdm', 'ttu', 'ttn', 'tDs', 'tDm', 'tDu', 'tDn', 'tiD'].map((format) => [format, 8] as const),
  ...['tin'].map((format) => [format, 16] as const),
])

/** Bytes of a format's elements; `undefined` where any number of them fits. What is no format is for native code to say. */
function elementBytes(format: string): number | undefined {
  const bytes = /^w:(\d+)$/.exec(format)?.[1]
  if (bytes !== undefined) return Number(bytes) || undefined
  const decimal = /^d:\d+,-?\d+(?:,(\d+))?$/.exec(format)
  if (decimal !== null) return Number(decimal[1] ?? 128) / 8 || undefined
  return WIDTHS.get(format) ?? (/^ts[smun]:/.test(format) ? 8 : 1)
}

/**
 * Elements of a buffer as an array for another library, without a copy. Both sides treat the bytes as immutable.
 *
 * The array of a GPU's memory has an event (`sync_event`), which every consumer has to wait for: `event`, or else the end of what
 * `stream` has now, or else of what the stream of the buffer's own memory manager has. It lives as long as the array.
 *
 * @param format Arrow's format string: `'C'` uint8, `'i'` int32, `'l'` int64, `'g'` float64, `'b'` bits, `'w:16'` 16 bytes, …
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for what is no format, elements at addresses that are not multiples of their size, and an event
 * or a stream of other than the memory's GPU; ERR_OFFHEAP_OUT_OF_RANGE when the buffer has fewer elements; ERR_OFFHEAP_NOT_SUPPORTED
 * for a wrapped ArrayBuffer
 */
export function toArrowDevice(buffer: MemoryBuffer, format: string, options?: ArrowDeviceOptions): ArrowDeviceHandle {
  checkString(format, 'format')
  const offset = option(options, 'offset', checkSize, 0)
  const given = option(options, 'length', checkSize, undefined)
  const { event, stream } = producerMoment(options)
  const id = exportedId(buffer)
  const size = bufferInternals.size(buffer)
  const bytes = elementBytes(format)
  if (given === undefined && bytes === undefined) throw wrongType('length', `a number of elements for format '${format}'`, given)
  const length = given ?? Math.max(Math.floor(size / bytes!) - offset, 0)
  return makeHandle(native.arrowExport(id, { format, offset, length }, event, stream))
}

function imported({ buffer, format, length, bitOffset }: NativeImportedArray): ImportedArray {
  return { buffer: bufferInternals.create(buffer, 0, undefined, undefined), format, length, bitOffset }
}

/**
 * The array of a handle as a buffer again, as another library would take it: the handle is consumed, and its event waited for. With
 * `stream` nobody waits here: the buffer is used in the order of that stream.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT (`Cannot import released ArrowArray`) when it was consumed, and for a stream of other than the
 * memory's GPU; ERR_OFFHEAP_DISPOSED when it was disposed
 */
export function fromArrowDevice(handle: ArrowDeviceHandle, options?: ConsumerOptions): ImportedArray {
  if (!isHandle(handle)) throw wrongType('handle', 'an ArrowDeviceHandle', handle)
  const stream = consumerStream(options)
  return imported(native.arrowReceive(structOf(handle), stream))
}

/**
 * Takes an array that another native library made, by the addresses of its `ArrowDeviceArray` and `ArrowSchema`, without a copy.
 * Its event is waited for: by `stream`, in whose order the buffer is then used, or without one by this call, as also where the CPU
 * reaches the memory. Whatever is refused is released all the same. **The caller is trusted**: wrong addresses crash the process.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a released array, one that contradicts itself, and a stream of other than the memory's GPU;
 * ERR_OFFHEAP_NOT_SUPPORTED for other than one column of fixed-width elements without nulls; ERR_OFFHEAP_DEVICE_UNAVAILABLE for memory of
 * a GPU where there is no driver
 */
export function unsafeFromArrowDevice(arrayAddress: bigint, schemaAddress: bigint, options?: ConsumerOptions): ImportedArray {
  const stream = consumerStream(options)
  return imported(native.arrowImport(checkAddress(arrayAddress, 'arrayAddress'), checkAddress(schemaAddress, 'schemaAddress'), stream))
}
