import { DisposedError, InvalidArgumentError, NotSupportedError } from '../errors.js'
import { bufferInternals, IS_MUTABLE, type MemoryBuffer } from '../memory-buffer.js'
import { native } from '../native.js'
import { INTERNAL } from '../token.js'
import { checkInteger, checkSize, describe, isArray, noConstructor, option, property, wrongReceiver, wrongType } from '../validate.js'
import { checkAddress, exportedId } from './exported.js'

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

/** How a buffer is a tensor. */
export interface DlpackOptions {
  /** Elements in each dimension. Absent: one dimension of as many as there are behind `offset`. */
  shape?: readonly number[] | undefined
  /** Elements from one to the next in each dimension. Absent: row after row, without gaps. */
  strides?: readonly number[] | undefined
  /** Where the first element lies, in bytes. 0 when absent. */
  offset?: number | undefined
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

/**
 * A buffer as a `DLManagedTensorVersioned`, for one consumer. Made by {@link toDlpack}. What nobody took is released by
 * {@link dispose}, or when the handle is forgotten.
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
  }

  /**
   * Gives the struct's address away, once: whoever has it has to call its deleter.
   *
   * @throws ERR_OFFHEAP_DISPOSED the second time, and after {@link dispose}
   */
  take(): bigint {
    if (!isHandle(this)) throw wrongReceiver('DlpackHandle')
    const struct = this.#struct
    if (struct === undefined) throw new DisposedError('the tensor was taken or released')
    this.#struct = undefined
    return native.dlpackTake(struct)
  }

  /** True once the tensor was taken, or released. */
  get consumed(): boolean {
    if (!isHandle(this)) throw wrongReceiver('DlpackHandle')
    return this.#struct === undefined
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
 * A buffer as a tensor for another library, without a copy and read-only. Work of a stream that writes the buffer has to be done: the
 * struct has no event.
 *
 * @throws ERR_OFFHEAP_OUT_OF_RANGE when an element would lie outside; ERR_OFFHEAP_INVALID_ARGUMENT for types, shapes and strides that
 * cannot be; ERR_OFFHEAP_NOT_SUPPORTED for a wrapped ArrayBuffer
 */
export function toDlpack(buffer: MemoryBuffer, type: TensorElementType, options?: DlpackOptions): DlpackHandle {
  if (typeof type !== 'string' || !Object.hasOwn(TYPES, type)) {
    throw new InvalidArgumentError(`type must be one of ${Object.keys(TYPES).join(', ')}, got ${describe(type)}`)
  }
  const [format, , bits] = TYPES[type]
  const offset = option(options, 'offset', checkSize, 0)
  const given = option(options, 'shape', checkShape, undefined)
  const strides = option(options, 'strides', checkShape, undefined)
  const id = exportedId(buffer)
  const all = Math.max(Math.floor((bufferInternals.size(buffer) - offset) / (bits / 8)), 0)
  return makeHandle(native.dlpackExport(id, format, given ?? [all], strides, offset))
}

function imported(address: bigint): ImportedTensor {
  const { buffer: id, code, bits, shape, readOnly, isCopied } = native.dlpackImport(address)
  const buffer = bufferInternals.create(id, readOnly ? 0 : IS_MUTABLE, undefined, undefined)
  const found = Object.entries(TYPES).find(([, [, c, b]]) => c === code && b === bits)
  if (found === undefined) {
    buffer.dispose()
    throw new NotSupportedError(`elements of DLPack's type ${code} with ${bits} bits are not supported`)
  }
  return { buffer, type: found[0] as TensorElementType, shape, readOnly, copied: isCopied }
}

/**
 * The tensor of a handle as a buffer again, as another library would take it: the handle is consumed.
 *
 * @throws ERR_OFFHEAP_DISPOSED when it was consumed or disposed
 */
export function fromDlpack(handle: DlpackHandle): ImportedTensor {
  if (!isHandle(handle)) throw wrongType('handle', 'a DlpackHandle', handle)
  return imported(handle.take())
}

/**
 * Takes a `DLManagedTensorVersioned` that another native library made, by its address, without a copy. Whatever is refused is released
 * all the same. **The caller is trusted**: a wrong address crashes the process.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for another major version of DLPack, gaps between elements, and element types that JavaScript has
 * no array of; ERR_OFFHEAP_INVALID_ARGUMENT for a tensor that contradicts itself
 */
export function unsafeFromDlpack(address: bigint): ImportedTensor {
  return imported(checkAddress(address, 'address'))
}
