import test from 'ava'
import { defaultMemoryPool, MemoryBuffer, type MemoryPool } from 'offheap'
import { eachBackend, eachPool, held, random, throwsCode, withPool } from './support.js'

eachPool('#36 resizable buffers of no bytes', (t, pool) => {
  const before = pool.bytesAllocated
  const first = pool.allocateResizableBuffer(0)
  const second = pool.allocateResizableBuffer(0)
  t.is(first.size, 0)
  t.true(first.address > 0n)
  t.is(first.address, second.address)
  t.is(pool.bytesAllocated, before)
  first.resize(0)
  first.reserve(0)
  t.is(pool.bytesAllocated, before)
  first.resize(10)
  t.is(first.fill(1).at(9), 1)
  t.not(first.address, second.address)
  first.dispose()
  second.dispose()
})

eachPool('#37 resize to zero gives the memory back and keeps an address', (t, pool) => {
  const before = held(pool)
  const buffer = pool.allocateResizableBuffer(1000)
  t.is(pool.bytesAllocated, before.bytes + 1000)
  buffer.resize(0)
  t.is(buffer.size, 0)
  t.true(buffer.address > 0n)
  t.is(pool.bytesAllocated, before.bytes)
  t.is(pool.liveAllocations, before.allocations + 1)
  buffer.resize(1000)
  t.is(buffer.fill(1).at(999), 1)
  buffer.dispose()
  t.deepEqual(held(pool), before)
})

eachPool('#48 resize: size, capacity and bytes at every step', (t, pool) => {
  const before = pool.bytesAllocated
  const buffer = pool.allocateResizableBuffer(0)
  const figures = () => [buffer.size, buffer.capacity, pool.bytesAllocated - before]
  t.deepEqual(figures(), [0, 0, 0])
  buffer.resize(100)
  t.deepEqual(figures(), [100, 128, 100])
  buffer.fill(42)
  buffer.resize(200)
  t.deepEqual(figures(), [200, 256, 200])
  t.deepEqual([buffer.at(0), buffer.at(99)], [42, 42])
  buffer.resize(50)
  t.deepEqual(figures(), [50, 64, 50])
  buffer.resize(100)
  t.deepEqual(figures(), [100, 128, 100])
  t.deepEqual([buffer.at(0), buffer.at(49)], [42, 42])
  buffer.resize(50, { shrinkToFit: false })
  // What is kept counts: the capacity that was asked for.
  t.deepEqual(figures(), [50, 128, 100])
  t.is(buffer.at(49), 42)
  buffer.dispose()
})

eachPool('#49 resize of doubles', (t, pool) => {
  const buffer = pool.allocateResizableBuffer(0)
  const resize = (count: number, shrinkToFit = true) => buffer.resize(count * 8, { shrinkToFit })
  resize(100)
  t.deepEqual([buffer.size, buffer.capacity], [800, 832])
  buffer.asFloat64Array().fill(1.5)
  resize(200)
  t.deepEqual([buffer.size, buffer.capacity], [1600, 1600])
  t.is(buffer.asFloat64Array()[99], 1.5)
  resize(50, true)
  t.deepEqual([buffer.size, buffer.capacity], [400, 448])
  t.is(buffer.asFloat64Array()[49], 1.5)
  resize(100)
  t.deepEqual([buffer.size, buffer.capacity], [800, 832])
  resize(50, false)
  t.deepEqual([buffer.size, buffer.capacity], [400, 832])
  t.is(buffer.asFloat64Array().length, 50)
  t.true(buffer.asFloat64Array().every((value) => value === 1.5))
  buffer.dispose()
})

eachPool('#50 a resize that cannot be had leaves the buffer as it was', (t, pool) => {
  const before = held(pool)
  const buffer = pool.allocateResizableBuffer(100)
  buffer.fill(3)
  const { address } = buffer
  for (const size of [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - 63, 2 ** 50]) {
    throwsCode(t, () => buffer.resize(size), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => buffer.reserve(size), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    const view = buffer.asUint8Array()
    throwsCode(t, () => buffer.resize(size), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => buffer.reserve(size), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.is(view.length, 100, 'the view ended though nothing moved')
    t.is(view[99], 3)
  }
  t.deepEqual([buffer.size, buffer.capacity, buffer.address], [100, 128, address])
  t.is(buffer.toHex(), '03'.repeat(100))
  t.deepEqual(held(pool), { bytes: before.bytes + 100, allocations: before.allocations + 1 })
  buffer.dispose()
})

eachPool('#128 a resizable buffer resizes, another does not', (t, pool) => {
  const resizable = pool.allocateResizableBuffer(10)
  t.true(resizable.isResizable)
  resizable.resize(20)
  t.is(resizable.size, 20)
  resizable.dispose()
  const fixed = pool.allocateBuffer(10)
  t.false(fixed.isResizable)
  throwsCode(t, () => fixed.resize(20), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => fixed.reserve(20), 'ERR_OFFHEAP_NOT_SUPPORTED')
  t.is(fixed.size, 10)
  fixed.dispose()
})

eachPool('reserve makes room and keeps the size', (t, pool) => {
  const before = pool.bytesAllocated
  const buffer = pool.allocateResizableBuffer(10)
  buffer.fill(8)
  buffer.reserve(1000)
  t.deepEqual([buffer.size, buffer.capacity, pool.bytesAllocated - before], [10, 1024, 1000])
  const { address } = buffer
  buffer.reserve(5)
  buffer.reserve(1000)
  t.deepEqual([buffer.size, buffer.capacity, buffer.address], [10, 1024, address])
  buffer.resize(1000)
  t.is(buffer.address, address)
  t.is(pool.bytesAllocated - before, 1000)
  using kept = buffer.slice(0, 10)
  t.is(kept.toHex(), '08'.repeat(10))
  kept.dispose()
  buffer.dispose()
})

eachPool('views end when the size or the place changes', (t, pool) => {
  const buffer = pool.allocateResizableBuffer(100)
  const first = buffer.asUint8Array().fill(1)
  buffer.resize(200)
  t.is(first.length, 0)
  const second = buffer.asUint8Array()
  t.is(second.length, 200)
  t.is(second[99], 1)
  buffer.reserve(5000)
  t.is(second.length, 0)
  const third = buffer.asUint8Array()
  buffer.resize(150, { shrinkToFit: false })
  t.is(third.length, 0)
  const fourth = buffer.asUint8Array()
  t.is(fourth.length, 150)
  buffer.resize(150, { shrinkToFit: false })
  buffer.reserve(10)
  t.is(fourth.length, 150, 'nothing changed, yet the view ended')
  buffer.dispose()
  t.is(fourth.length, 0)
})

withPool('a buffer with slices or pins cannot move', (t, pool) => {
  const buffer = pool.allocateResizableBuffer(100)
  buffer.fill(1)
  const slice = buffer.slice(0, 10)
  throwsCode(t, () => buffer.resize(1000), 'ERR_OFFHEAP_BUSY')
  throwsCode(t, () => buffer.reserve(1000), 'ERR_OFFHEAP_BUSY')
  t.is(buffer.size, 100)
  t.is(slice.toHex(), '01'.repeat(10))
  slice.dispose()
  const pin = buffer.pin()
  for (const action of [() => buffer.resize(1000), () => buffer.reserve(1000), () => buffer.freeze(), () => buffer.dispose()]) {
    throwsCode(t, action, 'ERR_OFFHEAP_BUSY', 'pin')
  }
  pin.dispose()
  buffer.resize(1000)
  t.is(buffer.size, 1000)
  buffer.dispose()
})

test('a slice is not resizable', (t) => {
  using buffer = defaultMemoryPool().allocateResizableBuffer(100)
  using slice = buffer.sliceMutable(0)
  t.false(slice.isResizable)
  throwsCode(t, () => slice.resize(10), 'ERR_OFFHEAP_NOT_SUPPORTED')
})

test('arguments of resize and reserve', (t) => {
  using buffer = defaultMemoryPool().allocateResizableBuffer(10)
  for (const value of [-1, 1.5, Number.NaN, 2 ** 53, Infinity, '1', null, undefined, 1n, {}]) {
    throwsCode(t, () => buffer.resize(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'size')
    throwsCode(t, () => buffer.reserve(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'capacity')
  }
  for (const shrinkToFit of [0, 1, 'yes', null, {}]) {
    throwsCode(t, () => buffer.resize(20, { shrinkToFit: shrinkToFit as boolean }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'shrinkToFit')
  }
  for (const options of [5, 'options', null, true]) {
    throwsCode(t, () => buffer.resize(20, options as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  }
  t.is(buffer.size, 10)
})

eachBackend('a random program of resizes keeps the bytes, and counts the most that was asked', (t, pool: MemoryPool) => {
  const next = random(26)
  const buffer = pool.allocateResizableBuffer(0)
  let model = Buffer.alloc(0)
  let counted = 0
  for (let step = 0; step < 3000; step += 1) {
    const size = next() < 0.1 ? Math.floor(next() * 3_000_000) : Math.floor(next() * 3000)
    const choice = next()
    if (choice < 0.6) {
      const shrinkToFit = next() < 0.5
      const grown = Math.max(size - model.length, 0)
      buffer.resize(size, { shrinkToFit })
      counted = size > counted || (shrinkToFit && size <= model.length) ? size : counted
      model = Buffer.concat([model.subarray(0, size), Buffer.alloc(grown, step & 0xff)])
      if (grown > 0) buffer.fill(step & 0xff, size - grown)
    } else if (choice < 0.8) {
      buffer.reserve(size)
      counted = Math.max(counted, size)
    } else if (size < model.length) {
      model[size] = step & 0xff
      if (next() < 0.5) buffer.asUint8Array()[size] = step & 0xff
      else buffer.fill(step & 0xff, size, size + 1)
    }
    t.true(buffer.capacity >= counted && buffer.capacity % 64 === 0 && buffer.address % 64n === 0n)
    if (pool.bytesAllocated !== counted) t.fail(`step ${step}: ${pool.bytesAllocated} bytes counted, not ${counted}`)
    if (step % 10 === 0 && !buffer.equals(model)) t.fail(`step ${step}: the bytes differ`)
  }
  t.true(buffer.equals(model))
  buffer.dispose()
})

test('resizing to the same size again and again costs no memory', (t) => {
  const pool = defaultMemoryPool().proxy()
  const buffer = pool.allocateResizableBuffer(1000)
  const { numAllocations } = pool
  for (let round = 0; round < 1000; round += 1) buffer.resize(1000)
  t.is(pool.numAllocations, numAllocations)
  buffer.dispose()
})

test('MemoryBuffer.from and concat are not resizable', (t) => {
  using text = MemoryBuffer.from('x')
  using both = MemoryBuffer.concat([text, text])
  t.false(both.isResizable)
  throwsCode(t, () => both.resize(10), 'ERR_OFFHEAP_NOT_SUPPORTED')
})
