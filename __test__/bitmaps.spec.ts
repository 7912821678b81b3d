import test from 'ava'
import { MemoryBuffer } from 'offheap'
import { eachPool, throwsCode } from './support.js'

eachPool('#18 a bitmap has a byte for eight bits, rounded up, and its last byte is zero', (t, pool) => {
  pool.allocateBuffer(64).fill(0xff).dispose()
  const bitmap = pool.allocateBitmap(100)
  t.is(bitmap.size, 13)
  t.is(bitmap.capacity % 8, 0)
  t.is(bitmap.at(12), 0)
  t.true(bitmap.isMutable)
  bitmap.dispose()
  for (const [bits, bytes] of [
    [0, 0],
    [1, 1],
    [7, 1],
    [8, 1],
    [9, 2],
    [512, 64],
    [513, 65],
  ] as const) {
    for (const make of [() => pool.allocateBitmap(bits), () => pool.allocateEmptyBitmap(bits)]) {
      const each = make()
      t.is(each.size, bytes, `${bits} bits`)
      if (bytes > 0) t.is(each.at(-1), 0)
      each.dispose()
    }
  }
})

eachPool('#19 an empty bitmap is zero to the end of its capacity', (t, pool) => {
  for (let round = 0; round < 5; round += 1) {
    pool.allocateBuffer(64).fill(0xff).dispose()
    const bitmap = pool.allocateEmptyBitmap(100)
    t.is(bitmap.size, 13)
    t.is(bitmap.toHex(), '00'.repeat(13))
    bitmap.dispose()
  }
  const large = pool.allocateEmptyBitmap(8_000_001)
  t.is(large.size, 1_000_001)
  t.true(large.asUint8Array().every((byte) => byte === 0))
  large.dispose()
})

eachPool('bitmaps take an alignment', (t, pool) => {
  for (const make of [() => pool.allocateBitmap(100, { alignment: 4096 }), () => pool.allocateEmptyBitmap(100, { alignment: 4096 })]) {
    const bitmap = make()
    t.is(bitmap.address % 4096n, 0n)
    bitmap.dispose()
  }
  throwsCode(t, () => pool.allocateBitmap(8, { alignment: 3 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
})

eachPool('the most bits there are: out of memory, not a crash', (t, pool) => {
  throwsCode(t, () => pool.allocateBitmap(Number.MAX_SAFE_INTEGER), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  throwsCode(t, () => pool.allocateEmptyBitmap(Number.MAX_SAFE_INTEGER), 'ERR_OFFHEAP_OUT_OF_MEMORY')
})

test('a bitmap under a limit that is too small leaves nothing', (t) => {
  const pool = MemoryBuffer.from('x').pool!.limit(10)
  throwsCode(t, () => pool.allocateBitmap(81), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  throwsCode(t, () => pool.allocateEmptyBitmap(81), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.is(pool.bytesAllocated, 0)
  pool.allocateBitmap(80).dispose()
})
