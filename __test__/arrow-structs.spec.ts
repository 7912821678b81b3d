// offheap/arrow: buffers as structs for other native libraries, and back. The structs themselves are tested against C in the crate.
import test from 'ava'
import { capabilities, defaultCpuMemoryManager, defaultMemoryPool, MemoryBuffer, systemMemoryPool } from 'offheap'
import * as arrow from 'offheap/arrow'
import * as shm from 'offheap/shm'
import { cleanEnvironment, runNode } from './support.js'
import { type ForeignTensor, foreignTensor } from './support/tensors.js'

const code = (name: string) => ({ code: `ERR_OFFHEAP_${name}` })

function doubles(pool = defaultMemoryPool()): MemoryBuffer {
  const buffer = pool.allocateBuffer(80)
  if (capabilities().externalBuffers) buffer.asFloat64Array().set(Array.from({ length: 10 }, (_, i) => i / 2))
  else buffer.getWriter().write(new Uint8Array(Float64Array.from({ length: 10 }, (_, i) => i / 2).buffer))
  return buffer
}

test('#95 an array goes there and back without a copy, and keeps its memory', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffer = doubles(pool)
  const address = buffer.address
  const handle = arrow.toArrowDevice(buffer, 'g', { offset: 2, length: 5 })
  t.false(handle.consumed)
  t.true(handle.arrayAddress > 0n && handle.schemaAddress > 0n)
  buffer.dispose()
  t.is(pool.bytesAllocated, 80)
  const found = arrow.fromArrowDevice(handle)
  t.true(handle.consumed)
  t.deepEqual([found.format, found.length, found.bitOffset], ['g', 5, 0])
  t.is(found.buffer.address, address + 16n)
  t.is(found.buffer.size, 40)
  t.false(found.buffer.isMutable)
  t.deepEqual([...found.buffer.asFloat64Array()], [1, 1.5, 2, 2.5, 3])
  const slice = found.buffer.slice(8, 8)
  found.buffer.dispose()
  handle.dispose()
  t.is(pool.bytesAllocated, 80)
  t.is(slice.asFloat64Array()[0], 1.5)
  slice.dispose()
  t.is(pool.bytesAllocated, 0)
})

test('#148 an array is for one consumer, and released when there was none', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffer = doubles(pool)
  const handle = arrow.toArrowDevice(buffer, 'g')
  const { arrayAddress, schemaAddress } = handle
  arrow.fromArrowDevice(handle).buffer.dispose()
  t.throws(() => arrow.fromArrowDevice(handle), { ...code('INVALID_ARGUMENT'), message: /released ArrowArray/ })
  t.throws(() => arrow.unsafeFromArrowDevice(arrayAddress, schemaAddress), code('INVALID_ARGUMENT'))
  const other = arrow.toArrowDevice(buffer, 'C')
  buffer.dispose()
  t.is(pool.bytesAllocated, 80)
  other.dispose()
  other.dispose()
  t.true(other.consumed)
  t.throws(() => other.arrayAddress, code('DISPOSED'))
  t.throws(() => arrow.fromArrowDevice(other), code('DISPOSED'))
  t.is(pool.bytesAllocated, 0)
  {
    using third = arrow.toArrowDevice(doubles(), 'l', { offset: 10, length: 0 })
    t.is(third.consumed, false)
  }
})

test('by addresses, as another library gives them', (t) => {
  const handle = arrow.toArrowDevice(doubles(), 'l')
  const found = arrow.unsafeFromArrowDevice(handle.arrayAddress, handle.schemaAddress)
  t.deepEqual([found.format, found.length, found.buffer.size], ['l', 10, 80])
  const tensor = arrow.toDlpack(doubles(), 'float64')
  t.is(arrow.unsafeFromDlpack(tensor.take()).type, 'float64')
})

test('what cannot be is refused', (t) => {
  const buffer = doubles()
  t.throws(() => arrow.toArrowDevice(buffer, 'g', { length: 11 }), code('OUT_OF_RANGE'))
  t.throws(() => arrow.toArrowDevice(buffer, 'g', { offset: 1e15, length: 1 }), code('OUT_OF_RANGE'))
  t.throws(() => arrow.toArrowDevice(buffer, 'no format'), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.toArrowDevice(buffer, 'no format', { length: 1 }), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.toArrowDevice(buffer, 'u', { length: 1 }), code('NOT_SUPPORTED'))
  t.throws(() => arrow.toArrowDevice(buffer.slice(1), 'g', { length: 1 }), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.toArrowDevice(MemoryBuffer.wrap(new ArrayBuffer(8)), 'g'), code('NOT_SUPPORTED'))
  t.throws(() => arrow.toDlpack(buffer, 'float64', { shape: [3, 4] }), code('OUT_OF_RANGE'))
  t.throws(() => arrow.toDlpack(buffer, 'float64', { shape: [2, -1] }), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.toDlpack(buffer, 'float64', { shape: [2, 2], strides: [1] }), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.toDlpack(buffer, 'bool' as never), code('INVALID_ARGUMENT'))
  for (const wrong of [undefined, null, 1, {}, 'g', []]) {
    t.throws(() => arrow.toArrowDevice(wrong as never, 'g'), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.toArrowDevice(buffer, (wrong === 'g' ? Symbol('g') : wrong) as never), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.fromArrowDevice(wrong as never), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.toDlpack(wrong as never, 'int8'), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.fromDlpack(wrong as never), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.unsafeFromDlpack(wrong as never), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.unsafeFromArrowDevice(wrong as never, 8n), code('INVALID_ARGUMENT'))
  }
  for (const address of [0n, -8n, 1n << 64n]) t.throws(() => arrow.unsafeFromDlpack(address), code('INVALID_ARGUMENT'))
  for (const Class of [arrow.ArrowDeviceHandle, arrow.DlpackHandle]) t.throws(() => Reflect.construct(Class, []), code('INVALID_ARGUMENT'))
  for (const [Class, members] of [
    [arrow.ArrowDeviceHandle, ['arrayAddress', 'schemaAddress', 'consumed']],
    [arrow.DlpackHandle, ['consumed']],
  ] as const) {
    for (const member of members) t.throws(() => Reflect.get(Class.prototype, member, {}), code('INVALID_ARGUMENT'))
    t.throws(() => Class.prototype.dispose.call({}), code('INVALID_ARGUMENT'))
  }
  t.throws(() => arrow.DlpackHandle.prototype.take.call({}), code('INVALID_ARGUMENT'))
  buffer.dispose()
  t.throws(() => arrow.toArrowDevice(buffer, 'g'), code('DISPOSED'))
  t.throws(() => arrow.toDlpack(buffer, 'float64'), code('DISPOSED'))
})

test('a tensor goes there and back, once', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffer = doubles(pool)
  const handle = arrow.toDlpack(buffer, 'float64', { shape: [2, 4], offset: 16 })
  buffer.dispose()
  const found = arrow.fromDlpack(handle)
  t.deepEqual([found.type, found.shape, found.readOnly, found.copied], ['float64', [2, 4], true, false])
  t.false(found.buffer.isMutable)
  t.deepEqual([...found.buffer.asFloat64Array()], [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5])
  t.true(handle.consumed)
  t.throws(() => arrow.fromDlpack(handle), code('DISPOSED'))
  t.throws(() => handle.take(), code('DISPOSED'))
  found.buffer.dispose()
  t.is(pool.bytesAllocated, 0)
  const spare = arrow.toDlpack(doubles(pool), 'uint8', { shape: [] })
  spare.dispose()
  spare.dispose()
  t.true(spare.consumed)
  using strided = arrow.toDlpack(doubles(), 'float64', { shape: [5], strides: [2] })
  t.throws(() => arrow.fromDlpack(strided), code('NOT_SUPPORTED'))
})

test('what is forgotten is released', async (t) => {
  const pool = systemMemoryPool().proxy()
  for (let i = 0; i < 20; i += 1) {
    const buffer = doubles(pool)
    arrow.toArrowDevice(buffer, 'g')
    arrow.toDlpack(buffer, 'float64')
    arrow.fromArrowDeviceStream(arrow.toArrowDeviceStream([buffer], 'g')).next()
    arrow.toArrowDeviceStream([buffer], 'g')
    buffer.dispose()
  }
  for (let i = 0; i < 50 && pool.bytesAllocated > 0; i += 1) {
    globalThis.gc!()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.is(pool.bytesAllocated, 0)
})

test('#148 memory of another device keeps its device', (t) => {
  using shared = shm.memoryManager().allocateBuffer(64, { zeroFill: true })
  const found = arrow.fromArrowDevice(arrow.toArrowDevice(shared, 'g')).buffer
  t.is(found.address, shared.address)
  t.is(found.device.typeName, 'shm')
  const viewed = arrow.fromDlpack(arrow.toDlpack(shared.viewOn(defaultCpuMemoryManager()), 'int32')).buffer
  t.is(viewed.address, shared.address)
  t.is(viewed.device.typeName, 'cpu')
})

test('tensors of another library: both structs, strides or none, a byte offset, flags', (t) => {
  const data = doubles()
  const cases: [Partial<ForeignTensor>, Partial<arrow.ImportedTensor>, number, number][] = [
    [{ shape: [2, 5] }, { type: 'float64', shape: [2, 5], readOnly: false, copied: false }, 0, 80],
    [{ shape: [2, 5], legacy: true }, { type: 'float64', shape: [2, 5], readOnly: true, copied: false }, 0, 80],
    [{ shape: [3, 2], strides: [2, 1], byteOffset: 16, flags: 1 }, { shape: [3, 2], readOnly: true }, 16, 48],
    [{ shape: [4], strides: [1], byteOffset: 8, legacy: true, type: [1, 8] }, { type: 'uint8' }, 8, 4],
    // One element has no next: its stride says nothing.
    [{ shape: [1, 3], strides: [99, 1], flags: 2, type: [0, 16] }, { type: 'int16', copied: true }, 0, 6],
    [{ shape: [], type: [2, 32] }, { type: 'float32', shape: [] }, 0, 4],
    [{ shape: [0, 7], strides: [5, 5] }, { shape: [0, 7] }, 0, 0],
    [{ shape: [2], version: [1, 99], flags: 4, type: [2, 16] }, { type: 'float16' }, 0, 4],
  ]
  for (const [tensor, expected, offset, size] of cases) {
    using struct = foreignTensor({ data: data.address, shape: [], ...tensor })
    const found = arrow.unsafeFromDlpack(struct.address, { legacy: tensor.legacy })
    t.like(found, expected)
    t.is(found.buffer.size, size)
    t.is(found.buffer.isMutable, !found.readOnly)
    if (size > 0) t.is(found.buffer.address, data.address + BigInt(offset))
    found.buffer.dispose()
  }
  t.is(data.asFloat64Array()[9], 4.5)
})

test('tensors of another library that are refused', (t) => {
  const data = doubles()
  const cases: [Partial<ForeignTensor>, string, RegExp?][] = [
    [{ shape: [2], type: [2, 32, 4] }, 'NOT_SUPPORTED', /4 lanes/],
    [{ shape: [2], type: [2, 32, 0] }, 'INVALID_ARGUMENT', /dtype/],
    [{ shape: [2, 2], strides: [1, 2] }, 'NOT_SUPPORTED', /without gaps/],
    [{ shape: [3], strides: [-1] }, 'NOT_SUPPORTED', /without gaps/],
    [{ shape: [2], type: [6, 8] }, 'NOT_SUPPORTED'],
    [{ shape: [2], type: [5, 64] }, 'NOT_SUPPORTED'],
    [{ shape: [2], type: [4, 16] }, 'NOT_SUPPORTED'],
    [{ shape: [2], type: [1, 4] }, 'NOT_SUPPORTED', /fewer than 8 bits/],
    [{ shape: [2], type: [3, 64] }, 'NOT_SUPPORTED', /opaque/],
    [{ shape: [2], byteOffset: 4 }, 'INVALID_ARGUMENT', /multiples of 8/],
    [{ shape: [-1] }, 'INVALID_ARGUMENT'],
    [{ shape: [2 ** 40, 2 ** 40] }, 'INVALID_ARGUMENT'],
    [{ shape: [2], data: 0n }, 'INVALID_ARGUMENT', /NULL/],
    [{ shape: [2], device: [99, 0] }, 'INVALID_ARGUMENT', /device_type/],
    [{ shape: [2], device: [8, 0] }, 'INVALID_ARGUMENT', /device_type/],
  ]
  for (const [tensor, name, message] of cases) {
    for (const legacy of [false, true]) {
      using struct = foreignTensor({ data: data.address, shape: [], ...tensor, legacy })
      t.throws(() => arrow.unsafeFromDlpack(struct.address, { legacy }), { ...code(name), ...(message && { message }) })
    }
  }
  using struct = foreignTensor({ data: data.address, shape: [2], version: [2, 0] })
  t.throws(() => arrow.unsafeFromDlpack(struct.address), { ...code('NOT_SUPPORTED'), message: /DLPack 2\.0/ })
  for (const wrong of [{ legacy: 1 }, { legacy: null }, null, 1] as never[]) t.throws(() => arrow.unsafeFromDlpack(struct.address, wrong), code('INVALID_ARGUMENT'))
  data.dispose()
})

test('a copy is the consumer’s own, and only that goes without flags', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffer = doubles(pool)
  for (const legacy of [false, true]) {
    const handle = arrow.toDlpack(buffer, 'float64', { copy: true, legacy, shape: [4], offset: 8 })
    t.is(pool.bytesAllocated, 160)
    const found = arrow.fromDlpack(handle)
    t.deepEqual([found.readOnly, found.copied, found.buffer.isMutable], [legacy, !legacy, !legacy])
    t.deepEqual([...found.buffer.asFloat64Array()], [0.5, 1, 1.5, 2])
    if (!legacy) {
      found.buffer.asFloat64Array()[0] = 99
      t.is(buffer.asFloat64Array()[1], 0.5)
    }
    found.buffer.dispose()
    t.is(pool.bytesAllocated, 80)
  }
  t.throws(() => arrow.toDlpack(buffer, 'float64', { legacy: true }), { ...code('NOT_SUPPORTED'), message: /read-only/ })
  for (const wrong of [{ copy: 1 }, { legacy: 'yes' }] as never[]) t.throws(() => arrow.toDlpack(buffer, 'float64', wrong), code('INVALID_ARGUMENT'))
  arrow.toDlpack(buffer, 'float64', { copy: true }).dispose()
  buffer.dispose()
  t.is(pool.bytesAllocated, 0)
})

test('a tensor that its consumer could not take is neither lost nor taken twice', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffer = doubles(pool)
  const strided = arrow.toDlpack(buffer, 'float64', { shape: [5], strides: [2] })
  t.throws(() => arrow.fromDlpack(strided), code('NOT_SUPPORTED'))
  t.true(strided.consumed)
  t.throws(() => arrow.fromDlpack(strided), code('DISPOSED'))
  t.throws(() => strided.take(), code('DISPOSED'))
  t.throws(() => strided.unsafeTake(1n), code('DISPOSED'))
  const taken = arrow.toDlpack(buffer, 'float64').take()
  buffer.dispose()
  t.is(pool.bytesAllocated, 80)
  arrow.unsafeFromDlpack(taken).buffer.dispose()
  t.is(pool.bytesAllocated, 0)
  // The consumer's getter takes it first.
  const other = doubles(pool)
  const handle = arrow.toDlpack(other, 'float64')
  other.dispose()
  const options = {
    get stream(): undefined {
      handle.dispose()
      return undefined
    },
  }
  t.throws(() => handle.take(options), code('DISPOSED'))
  t.is(pool.bytesAllocated, 0)
})

test('memory of a GPU, where there is no driver, says so', async (t) => {
  const program = `const arrow = require('offheap/arrow')
    const { defaultMemoryPool } = require('offheap')
    const struct = defaultMemoryPool().allocateBuffer(128, { zeroFill: true })
    const view = new DataView(new ArrayBuffer(128))
    view.setUint32(0, 1, true)
    view.setBigUint64(32, 4096n, true)
    view.setInt32(40, 2, true)
    view.setUint8(53, 8)
    view.setUint16(54, 1, true)
    struct.getWriter().write(new Uint8Array(view.buffer))
    try { arrow.unsafeFromDlpack(struct.address) } catch (error) { console.log(error.code) }`
  const env = cleanEnvironment({ OFFHEAP_CUDA_LIBRARY: '/nowhere/libcuda.so' })
  const { stdout, stderr } = await runNode(['-e', program], { env })
  t.deepEqual([stdout.trim(), stderr], ['ERR_OFFHEAP_DEVICE_UNAVAILABLE', ''])
})

test('buffers go there and back as a stream, in order, each for itself', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffers = [doubles(pool), doubles(pool), doubles(pool)]
  const sizes = [80, 16, 0]
  const handle = arrow.toArrowDeviceStream(buffers.map((buffer, index) => buffer.slice(0, sizes[index])), 'g')
  t.false(handle.consumed)
  t.true(handle.streamAddress > 0n)
  for (const buffer of buffers) buffer.dispose()
  const reader = arrow.fromArrowDeviceStream(handle)
  t.true(handle.consumed)
  t.is(reader.format, 'g')
  const found = [...reader]
  t.deepEqual(found.map(({ length, format, bitOffset }) => [length, format, bitOffset]), [[10, 'g', 0], [2, 'g', 0], [0, 'g', 0]])
  t.is(reader.next(), undefined)
  t.deepEqual([...found[1]!.buffer.asFloat64Array()], [0, 0.5])
  reader.dispose()
  reader.dispose()
  t.throws(() => reader.next(), code('DISPOSED'))
  t.throws(() => reader.format, code('DISPOSED'))
  for (const { buffer } of found) buffer.dispose()
  globalThis.gc!()
  t.throws(() => arrow.fromArrowDeviceStream(handle), { ...code('INVALID_ARGUMENT'), message: /released ArrowDeviceArrayStream/ })
  handle.dispose()
  t.throws(() => handle.streamAddress, code('DISPOSED'))
  t.throws(() => arrow.fromArrowDeviceStream(handle), code('DISPOSED'))
  const none = arrow.toArrowDeviceStream([], 'i')
  t.deepEqual([...arrow.unsafeFromArrowDeviceStream(none.streamAddress)], [])
})

test('a stream keeps its buffers until they are asked for, or it is released', (t) => {
  const pool = systemMemoryPool().proxy()
  const exported = (): arrow.ArrowDeviceStreamHandle => {
    const buffers = [doubles(pool), doubles(pool)]
    const handle = arrow.toArrowDeviceStream(buffers, 'C')
    for (const buffer of buffers) buffer.dispose()
    return handle
  }
  const first = exported()
  t.is(pool.bytesAllocated, 160)
  first.dispose()
  first.dispose()
  t.is(pool.bytesAllocated, 0)
  {
    using reader = arrow.fromArrowDeviceStream(exported())
    reader.next()!.buffer.dispose()
    t.is(pool.bytesAllocated, 80)
  }
  t.is(pool.bytesAllocated, 0)
})

test('streams that cannot be are refused, and nothing is taken', (t) => {
  const buffer = doubles()
  t.throws(() => arrow.toArrowDeviceStream([buffer], 'u'), code('NOT_SUPPORTED'))
  t.throws(() => arrow.toArrowDeviceStream([buffer], 'nonsense'), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.toArrowDeviceStream([buffer, buffer.slice(1)], 'g'), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.toArrowDeviceStream([buffer, MemoryBuffer.wrap(new ArrayBuffer(8))], 'g'), code('NOT_SUPPORTED'))
  using shared = shm.memoryManager().allocateBuffer(64)
  t.throws(() => arrow.toArrowDeviceStream([buffer, shared], 'g'), { ...code('INVALID_ARGUMENT'), message: /another device/ })
  for (const wrong of [undefined, null, 1, {}, 'g', [1]] as never[]) {
    t.throws(() => arrow.toArrowDeviceStream(wrong, 'g'), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.fromArrowDeviceStream(wrong), code('INVALID_ARGUMENT'))
    t.throws(() => arrow.unsafeFromArrowDeviceStream(wrong), code('INVALID_ARGUMENT'))
  }
  t.throws(() => arrow.toArrowDeviceStream([buffer], 1 as never), code('INVALID_ARGUMENT'))
  t.throws(() => arrow.unsafeFromArrowDeviceStream(0n), code('INVALID_ARGUMENT'))
  for (const [Class, members, methods] of [
    [arrow.ArrowDeviceStreamHandle, ['streamAddress', 'consumed'], ['dispose']],
    [arrow.ArrowDeviceStreamReader, ['format'], ['dispose', 'next']],
  ] as const) {
    t.throws(() => Reflect.construct(Class, []), code('INVALID_ARGUMENT'))
    for (const member of members) t.throws(() => Reflect.get(Class.prototype, member, {}), code('INVALID_ARGUMENT'))
    for (const method of methods) t.throws(() => (Class.prototype as unknown as Record<string, () => void>)[method]!.call({}), code('INVALID_ARGUMENT'))
  }
  buffer.dispose()
  t.throws(() => arrow.toArrowDeviceStream([buffer], 'g'), code('DISPOSED'))
})
