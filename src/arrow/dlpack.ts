import type { CudaStream } from '../cuda/stream.js'
import { DisposedError, InvalidArgumentError, NotSupportedError } from '../errors.js'
import { bufferInternals, IS_MUTABLE, type MemoryBuffer } from '../memory-buffer.js'
import { native } from '../native.js'
import { INTERNAL } from '../token.js'
import { checkBoolean, checkInteger, checkSize, describe, isArray, noConstructor, option, property, wrongReceiver, wrongType } from '../validate.js'
import { checkAddress, exportedId } from './exported.js'
import { type ConsumerOptions, consumerStream, type ProducerOptions, producerMoment } from './moments.js'
import type { NativeImportedTensor } from './native.js'

/** The element types that DLPack and typed arrays share, by Arrow's names: `[Arrow's format, DLPack's code, bits]`. */
const TYPES = {
  int8: ['c', 0, 8],
  uint8: ['C', 1, 8],
  int16: ['s', 0, 16],
  uint16: ['S', 1, 16],
  int32: ['i', 0, 32],
  uint32: ['I', 1, 32],
  int64: ['l', 0, 64],
  uint64: ['L', 1, 64],
  float16: ['e', 2, 16],
  float32: ['f', 2, 32],
  float64: ['g', 2, 64],
} as const

/** The type of a tensor's elements. */
export type TensorElementType = keyof typeof TYPES

/** How a buffer is a tensor, and when its bytes are there. */
export interface DlpackOptions extends ProducerOptions {
  /** Elements in each dimension. Absent: one dimension of as many as there are behind `offset`. */
  shape?: readonly number[] | undefined
  /** Elements from one to the next in each dimension. Absent: row after row, without gaps. */
  strides?: readonly number[] | undefined
  /** Where the first element lies, in bytes. 0 when absent. */
  offset?: number | undefined
  /** A copy of the buffer, which the consumer alone has and may write. `false` when absent: the consumer must not write. */
  copy?: boolean | undefined
  /**
   * The struct before DLPack 1.0 (`DLManagedTensor`), for consumers that know no other. It cannot say that it is read-only, so only of
   * a copy. `false` when absent.
   */
  legacy?: boolean | undefined
}

/** How a tensor of another library is taken. */
export interface ForeignTensorOptions {
  /** It is a `DLManagedTensor`, of before DLPack 1.0, which does not say whether it may be written: the buffer is immutable. */
  legacy?: boolean | undefined
  /** The stream that the producer was told and made wait; the buffer is used in its order. Absent: the legacy default stream. */
  stream?: CudaStream | undefined
}

/** A tensor that another library made. */
export interface ImportedTensor {
  /** Its elements, row after row; immutable when the other library says so. Its deleter is called with the last slice and view. */
  readonly buffer: MemoryBuffer
  /** What they are. */
  readonly type: TensorElementType
  /** Elements in each dimension. */
  readonly shape: number[]
  /** Whether the other library forbids writing. */
  readonly readOnly: boolean
  /** Whether nobody else has the memory. */
  readonly copied: boolean
}

/** What a native struct is, to JavaScript: something to hand back. */
type NativeStruct = object

let makeHandle: (struct: NativeStruct) => DlpackHandle
let isHandle: (value: unknown) => value is DlpackHandle
let receive: (handle: DlpackHandle, stream: number) => NativeImportedTensor

/**
 * A buffer as a `DLManagedTensorVersioned` (or `DLManagedTensor`), for one consumer. Made by {@link toDlpack}. What nobody took is
 * released by {@link dispose}, or when the handle is forgotten.
 *
 * The struct has no event: by DLPack's rule the consumer names its stream, and the producer makes that wait
 * (`__dlpack__(stream=…)`), which {@link take} does.
 */
export class DlpackHandle {
  #struct: NativeStruct | undefined

  private constructor(token: typeof INTERNAL, struct: NativeStruct) {
    if (token !== INTERNAL) throw noConstructor('DlpackHandle', 'toDlpack()')
    this.#struct = struct
  }

  static {
    makeHandle = (struct) => new DlpackHandle(INTERNAL, struct)
    isHandle = (value): value is DlpackHandle => typeof value === 'object' && value !== null && #struct in value
    receive = (handle, stream) => {
      const found = native.dlpackReceive(DlpackHandle.#of(handle), stream)
      handle.#struct = undefined
      return found
    }
  }

  static #of(self: unknown): NativeStruct {
    if (!isHandle(self)) throw wrongReceiver('DlpackHandle')
    if (self.#struct === undefined) throw new DisposedError('the tensor was taken or released')
    return self.#struct
  }

  /**
   * Gives the struct's address away, once: whoever has it has to call its deleter. (A consumer that failed before it took over:
   * `unsafeFromDlpack(address).buffer.dispose()`.) Later work of `stream` has the tensor's bytes; without one the call waits for
   * them.
   *
   * @throws ERR_OFFHEAP_DISPOSED the second time, and after {@link dispose}; ERR_OFFHEAP_INVALID_ARGUMENT, with nothing taken, for a stream
   * of other than the memory's GPU
   */
  take(options?: ConsumerOptions): bigint {
    if (!isHandle(this)) throw wrongReceiver('DlpackHandle')
    const stream = consumerStream(options)
    const address = native.dlpackTake(DlpackHandle.#of(this), stream)
    this.#struct = undefined
    return address
  }

  /**
   * As {@link take}, for a stream of another library, by DLPack's number for it: 1 for CUDA's legacy default stream, 2 for the calling
   * thread's, -1 when nobody should wait, else the stream's address. **The caller is trusted**: a wrong address crashes the process.
   *
   * @throws as {@link take}; ERR_OFFHEAP_INVALID_ARGUMENT for 0, which may be either default, and for memory of other than a GPU
   */
  unsafeTake(stream: bigint): bigint {
    const struct = DlpackHandle.#of(this)
    if (typeof stream !== 'bigint') throw wrongType('stream', 'a bigint', stream)
    const address = native.dlpackTakeFor(struct, stream)
    this.#struct = undefined
    return address
  }

  /** True once the tensor was taken, or released. */
  get consumed(): boolean {
    if (!isHandle(this)) throw wrongReceiver('DlpackHandle')
    return this.#struct === undefined || native.dlpackIsConsumed(this.#struct)
  }

  /** Releases the tensor unless it was taken. The second time it does nothing. */
  dispose(): void {
    if (!isHandle(this)) throw wrongReceiver('DlpackHandle')
    const struct = this.#struct
    if (struct === undefined) return
    this.#struct = undefined
    native.dlpackRelease(struct)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    DlpackHandle.prototype.dispose.call(this)
  }

  /** `'DlpackHandle'` */
  get [Symbol.toStringTag](): string {
    return 'DlpackHandle'
  }
}

/** DLPack's consumers know no more. */
const MOST_DIMENSIONS = 64

function checkShape(value: unknown, name: string): number[] {
  if (!isArray(value)) throw wrongType(name, 'an array of integers', value)
  // Asked for before any element: an array with nothing in it may have billions.
  const length = checkSize(property(value, 'length', `${name}.length`), `${name}.length`)
  if (length > MOST_DIMENSIONS) throw new InvalidArgumentError(`${name} must have at most ${MOST_DIMENSIONS} dimensions, got ${length}`)
  return Array.from({ length }, (_, index) => checkInteger(property(value, index, `${name}[${index}]`), `${name}[${index}]`))
}

/**
 * A buffer as a tensor for another library: without a copy and read-only, or with `copy` its own. The bytes are there at `event`, or
 * at the end of what `stream` has now, or else of what the stream of the buffer's own memory manager has: {@link DlpackHandle.take}
 * makes the consumer wait for that.
 *
 * @throws ERR_OFFHEAP_OUT_OF_RANGE when an element would lie outside; ERR_OFFHEAP_INVALID_ARGUMENT for types, shapes and strides that
 * cannot be, and an event or a stream of other than the memory's GPU; ERR_OFFHEAP_NOT_SUPPORTED for a wrapped ArrayBuffer, and `legacy`
 * without `copy`
 */
export function toDlpack(buffer: MemoryBuffer, type: TensorElementType, options?: DlpackOptions): DlpackHandle {
  if (typeof type !== 'string' || !Object.hasOwn(TYPES, type)) {
    throw new InvalidArgumentError(`type must be one of ${Object.keys(TYPES).join(', ')}, got ${describe(type)}`)
  }
  const [format, , bits] = TYPES[type]
  const offset = option(options, 'offset', checkSize, 0)
  const given = option(options, 'shape', checkShape, undefined)
  const strides = option(options, 'strides', checkShape, undefined)
  const copied = option(options, 'copy', checkBoolean, false)
  const legacy = option(options, 'legacy', checkBoolean, false)
  const { event, stream } = producerMoment(options)
  const id = exportedId(buffer)
  const all = Math.max(Math.floor((bufferInternals.size(buffer) - offset) / (bits / 8)), 0)
  return makeHandle(native.dlpackExport(id, { format, shape: given ?? [all], strides, offset, copied, legacy }, event, stream))
}

function imported({ buffer: id, code, bits, shape, readOnly, isCopied }: NativeImportedTensor): ImportedTensor {
  const buffer = bufferInternals.create(id, readOnly ? 0 : IS_MUTABLE, undefined, undefined)
  const found = Object.entries(TYPES).find(([, [, c, b]]) => c === code && b === bits)
  if (found === undefined) {
    buffer.dispose()
    throw new NotSupportedError(`elements of DLPack's type ${code} with ${bits} bits are not supported`)
  }
  return { buffer, type: found[0] as TensorElementType, shape, readOnly, copied: isCopied }
}

/**
 * The tensor of a handle as a buffer again, as another library would take it: the handle is consumed. With `stream` nobody waits for
 * the bytes here: the buffer is used in the order of that stream.
 *
 * @throws ERR_OFFHEAP_DISPOSED when it was consumed or disposed; ERR_OFFHEAP_INVALID_ARGUMENT, with nothing consumed, for a stream of
 * other than the memory's GPU; ERR_OFFHEAP_NOT_SUPPORTED for gaps between elements
 */
export function fromDlpack(handle: DlpackHandle, options?: ConsumerOptions): ImportedTensor {
  if (!isHandle(handle)) throw wrongType('handle', 'a DlpackHandle', handle)
  return imported(receive(handle, consumerStream(options)))
}

/**
 * Takes a `DLManagedTensorVersioned` (or with `legacy` a `DLManagedTensor`) that another native library made, by its address, without a
 * copy. Whatever is refused is released all the same. **The caller is trusted**: a wrong address crashes the process.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for another major version of DLPack, gaps between elements, and element types that JavaScript has
 * no array of; ERR_OFFHEAP_INVALID_ARGUMENT for a tensor that contradicts itself, and a stream of other than its GPU;
 * ERR_OFFHEAP_DEVICE_UNAVAILABLE for memory of a GPU where there is no driver
 */
export function unsafeFromDlpack(address: bigint, options?: ForeignTensorOptions): ImportedTensor {
  const legacy = option(options, 'legacy', checkBoolean, false)
  const stream = consumerStream(options)
  return imported(native.dlpackImport(checkAddress(address, 'address'), legacy, stream))
}
