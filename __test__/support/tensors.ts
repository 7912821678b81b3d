/** Structs of DLPack as another library would make them: without a deleter, in a buffer whose address they have. */
import { defaultMemoryPool, type MemoryBuffer } from 'offheap'

export interface ForeignTensor {
  data: bigint
  shape: readonly number[]
  strides?: readonly number[]
  type?: readonly [code: number, bits: number, lanes?: number]
  device?: readonly [type: number, id: number]
  byteOffset?: number
  flags?: number
  version?: readonly [major: number, minor: number]
  /** The struct before 1.0. */
  legacy?: boolean
}

/** The struct; keep it as long as what was imported. */
export function foreignTensor(tensor: ForeignTensor): MemoryBuffer {
  const { data, shape, strides, type = [2, 64], device = [1, 0], byteOffset = 0, flags = 0, version = [1, 1], legacy = false } = tensor
  const numbers = 96
  const struct = defaultMemoryPool().allocateBuffer(numbers + 16 * (shape.length + 1), { zeroFill: true })
  const view = new DataView(new ArrayBuffer(struct.size))
  const at = legacy ? 0 : 32
  if (!legacy) {
    view.setUint32(0, version[0], true)
    view.setUint32(4, version[1], true)
    view.setBigUint64(24, BigInt(flags), true)
  }
  view.setBigUint64(at, data, true)
  view.setInt32(at + 8, device[0], true)
  view.setInt32(at + 12, device[1], true)
  view.setInt32(at + 16, shape.length, true)
  view.setUint8(at + 20, type[0])
  view.setUint8(at + 21, type[1])
  view.setUint16(at + 22, type[2] ?? 1, true)
  if (shape.length > 0) view.setBigUint64(at + 24, struct.address + BigInt(numbers), true)
  if (strides !== undefined) view.setBigUint64(at + 32, struct.address + BigInt(numbers + 8 * shape.length), true)
  view.setBigUint64(at + 40, BigInt(byteOffset), true)
  for (const [index, number] of [...shape, ...(strides ?? [])].entries()) view.setBigInt64(numbers + 8 * index, BigInt(number), true)
  struct.getWriter().write(new Uint8Array(view.buffer))
  return struct
}
