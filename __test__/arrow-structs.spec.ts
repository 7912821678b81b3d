// offheap/arrow: buffers as structs for other native libraries, and back. The structs themselves are tested against C in the crate.
import test from 'ava'
import { capabilities, defaultCpuMemoryManager, defaultMemoryPool, MemoryBuffer, systemMemoryPool } from 'offheap'
import * as arrow from 'offheap/arrow'
import * as shm from 'offheap/shm'

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
