import test from 'ava'
import { defaultMemoryPool, MemoryBuffer } from 'offheap'
import { eachBackend, eachPool, held, throwsCode, withPool } from './support.js'

withPool('#25 copySlice is a block of its own, with zero padding', (t, pool) => {
  using buffer = MemoryBuffer.from('some data to copy', { pool })
  const copy = buffer.copySlice(5, 4, { pool })
  t.is(copy.toString(), 'data')
  t.is(copy.size, 4)
  t.is(copy.capacity, 64)
  t.true(copy.isMutable)
  t.is(copy.parent, undefined)
  t.is(copy.pool, pool)
  t.deepEqual(held(pool), { bytes: 21, allocations: 2 })
  copy.fill(0x2a)
  t.is(buffer.toString(), 'some data to copy')
  const bigger = MemoryBuffer.concat([copy, new Uint8Array(60)], { pool })
  copy.dispose()
  bigger.dispose()
})

test('#25 copySlice checks its range: Arrow aborts', (t) => {
  using buffer = MemoryBuffer.from('some data')
  for (const [offset, length] of [
    [-1, 0],
    [0, -1],
    [0, 10],
    [9, 1],
    [10, 0],
    [5, Number.MAX_SAFE_INTEGER],
    [Number.MAX_SAFE_INTEGER, 1],
  ] as const) {
    throwsCode(t, () => buffer.copySlice(offset, length), 'ERR_OFFHEAP_OUT_OF_RANGE')
  }
  using rest = buffer.copySlice(5)
  t.is(rest.toString(), 'data')
})

withPool('#26 copySlice of nothing, at the start and at the end', (t, pool) => {
  using buffer = MemoryBuffer.from('some data', { pool })
  for (const offset of [0, 9]) {
    using copy = buffer.copySlice(offset, 0, { pool })
    t.is(copy.size, 0)
    t.true(copy.address > 0n)
  }
})

eachBackend('#28 a slice holds the memory; the last handle frees it', (t, pool) => {
  const buffer = pool.allocateBuffer(100).fill(4)
  const slice = buffer.slice(10, 20)
  t.is(slice.parent, buffer)
  t.is(slice.pool, pool)
  t.is(slice.address, buffer.address + 10n)
  t.is(slice.size, 20)
  t.is(slice.capacity, 20)
  t.deepEqual(held(pool), { bytes: 100, allocations: 1 })
  const sliceOfSlice = slice.slice(5)
  t.is(sliceOfSlice.parent, slice)
  t.is(sliceOfSlice.size, 15)
  buffer.dispose()
  slice.dispose()
  t.is(sliceOfSlice.toHex(), '04'.repeat(15))
  t.deepEqual(held(pool), { bytes: 100, allocations: 1 })
  sliceOfSlice.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

eachPool('#29 slice out of range', (t, pool) => {
  const source = MemoryBuffer.from('some data to slice', { pool })
  const { size } = source
  for (const buffer of [source, pool.allocateBuffer(size), MemoryBuffer.wrap(new Uint8Array(size))]) {
    const slices = [(o: number, l?: number) => buffer.slice(o, l), ...(buffer.isMutable ? [(o: number, l?: number) => buffer.sliceMutable(o, l)] : [])]
    for (const slice of slices) {
      for (const [offset, length] of [
        [5, 4],
        [0, 4],
        [0, 0],
        [4, 0],
        [size, 0],
        [0, size],
        [0, undefined],
        [5, undefined],
        [size, undefined],
      ] as const) {
        const result = slice(offset, length)
        t.is(result.size, length ?? size - offset)
        using expected = MemoryBuffer.from(buffer.asUint8Array().slice(offset, offset + result.size))
        t.true(result.equals(expected))
        result.dispose()
      }
      for (const [offset, length] of [
        [-1, 0],
        [0, -1],
        [0, size + 1],
        [2, size - 1],
        [size + 1, 0],
        [3, Number.MAX_SAFE_INTEGER - 2],
        [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
        [-1, undefined],
        [size + 1, undefined],
        [Number.MAX_SAFE_INTEGER, undefined],
      ] as const) {
        throwsCode(t, () => slice(offset, length), 'ERR_OFFHEAP_OUT_OF_RANGE', String(offset))
      }
      for (const value of [1.5, Number.NaN, Infinity, 2 ** 53, '1', null, {}, 1n, true]) {
        throwsCode(t, () => slice(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'offset')
        throwsCode(t, () => slice(0, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
      }
      throwsCode(t, () => slice(undefined as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'offset')
    }
    buffer.dispose()
  }
})

eachPool('#32 a mutable slice writes through', (t, pool) => {
  const buffer = pool.allocateBuffer(10, { zeroFill: true })
  const slice = buffer.sliceMutable(2, 3)
  t.true(slice.isMutable)
  t.is(slice.parent, buffer)
  slice.fill(0xff)
  t.is(buffer.toHex(), '0000FFFFFF0000000000')
  slice.sliceMutable(1).fill(0x11).dispose()
  t.is(buffer.toHex(), '0000FF11110000000000')
  using same = buffer.slice(2, 3)
  t.true(slice.equals(same))
  throwsCode(t, () => same.sliceMutable(0), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => same.fill(0), 'ERR_OFFHEAP_IMMUTABLE')
  buffer.dispose()
  slice.fill(1)
  slice.dispose()
  t.is(same.toHex(), '010101')
  same.dispose()
})

test('#124 subarray is Uint8Array.subarray for every pair of indexes', (t) => {
  const bytes = Uint8Array.from('0123456789', (digit) => digit.charCodeAt(0))
  const size = bytes.length
  using buffer = MemoryBuffer.from(bytes)
  using wrapped = MemoryBuffer.wrap(bytes)
  for (const source of [buffer, wrapped]) {
    for (let start = -2 * size; start <= 2 * size; start += 1) {
      using open = source.subarray(start)
      t.is(open.toString(), Buffer.from(bytes).subarray(start).toString())
      for (let end = -2 * size; end <= 2 * size; end += 1) {
        using part = source.subarray(start, end)
        if (part.toString() !== Buffer.from(bytes).subarray(start, end).toString()) t.fail(`subarray(${start}, ${end})`)
      }
    }
    using all = source.subarray()
    t.is(all.size, size)
    for (const value of [1.5, Number.NaN, '1', null, {}, 1n]) {
      throwsCode(t, () => source.subarray(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'start')
      throwsCode(t, () => source.subarray(0, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'end')
    }
  }
})

test('#124 slice is range-checked where subarray clamps', (t) => {
  using buffer = MemoryBuffer.from('abc')
  for (const offset of [4, -1]) throwsCode(t, () => buffer.slice(offset), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => buffer.slice(0, 4), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => buffer.slice(0, -1), 'ERR_OFFHEAP_OUT_OF_RANGE')
  t.is(buffer.subarray(4).size, 0)
  t.is(buffer.subarray(0, 4).size, 3)
})

withPool('a new handle each time, also when nothing is cut off', (t, pool) => {
  const buffer = pool.allocateBuffer(10)
  const whole = buffer.slice(0)
  t.not(whole, buffer)
  whole.dispose()
  t.false(buffer.disposed)
  t.is(buffer.size, 10)
  buffer.dispose()
})

withPool("disposing a handle ends that handle's views only", (t, pool) => {
  const buffer = pool.allocateBuffer(10, { zeroFill: true })
  const slice = buffer.sliceMutable(2, 4)
  const viewOfBuffer = buffer.asUint8Array()
  const viewOfSlice = slice.asUint8Array()
  viewOfSlice.fill(9)
  t.is(viewOfBuffer[2], 9)
  slice.dispose()
  t.is(viewOfSlice.length, 0)
  t.is(viewOfBuffer.length, 10)
  const other = buffer.slice(0, 3)
  const viewOfOther = other.asUint8Array()
  buffer.dispose()
  t.is(viewOfBuffer.length, 0)
  t.is(viewOfOther.length, 3)
  t.is(viewOfOther[2], 9)
  other.dispose()
  t.is(viewOfOther.length, 0)
})

withPool('the parent of a slice is there as long as the slice, disposed or not', (t, pool) => {
  const buffer = pool.allocateBuffer(10)
  const slice = buffer.slice(1)
  buffer.dispose()
  t.is(slice.parent, buffer)
  t.true(slice.parent!.disposed)
  slice.dispose()
  throwsCode(t, () => slice.parent, 'ERR_OFFHEAP_DISPOSED')
})

withPool('slices of slices, 1,000 deep, hold one block', (t, pool) => {
  let current = pool.allocateBuffer(2000).fill(1)
  for (let depth = 0; depth < 1000; depth += 1) {
    const next = current.sliceMutable(1)
    current.dispose()
    current = next
  }
  t.is(current.size, 1000)
  t.is(current.fill(2).at(-1), 2)
  t.deepEqual(held(pool), { bytes: 2000, allocations: 1 })
  current.dispose()
})

test('slices of a default pool report its pool', (t) => {
  const buffer = defaultMemoryPool().allocateBuffer(10)
  using slice = buffer.slice(1)
  buffer.dispose()
  t.is(slice.pool, defaultMemoryPool())
})
