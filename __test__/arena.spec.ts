import { inspect } from 'node:util'
import test from 'ava'
import { Arena, defaultMemoryPool } from 'offheap'
import { collectUntil, eachPool, held, random, throwsCode, turns, withPool } from './support.js'

const makers = {
  alloc: Uint8Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  float32: Float32Array,
  float64: Float64Array,
} as const
const names = Object.keys(makers) as (keyof typeof makers)[]

type AnyView = { buffer: ArrayBuffer; byteOffset: number; byteLength: number; length: number; fill(value: never): unknown }

eachPool('an arena cuts arrays of every type from one chunk', (t, pool) => {
  const before = held(pool)
  const arena = new Arena({ pool })
  t.is(arena.used, 0)
  t.is(arena.bytesAllocated, 0)
  for (const name of names) {
    const array = arena[name](10)
    t.is(array.constructor, makers[name])
    t.is(array.length, 10)
    t.is(array.byteOffset % 64, 0, name)
    t.is(arena[name](0).length, 0)
  }
  t.is(pool.liveAllocations - before.allocations, 1)
  t.is(arena.bytesAllocated, 2 ** 20)
  t.is(pool.bytesAllocated - before.bytes, 2 ** 20)
  t.true(arena.used >= names.length * 10 && arena.used < 10_000)
  arena.dispose()
})

withPool('arrays never overlap, whatever their sizes, and survive until reset', (t, pool) => {
  const next = random(19)
  for (const options of [{}, { chunkSize: 1000 }, { chunkSize: 1, alignment: 1 }, { alignment: 1 }, { alignment: 4096, chunkSize: 10_000 }]) {
    const arena = new Arena({ pool, ...options })
    for (let round = 0; round < 3; round += 1) {
      const arrays: { array: AnyView; bytes: Uint8Array; mark: number }[] = []
      for (let index = 0; index < 500; index += 1) {
        const name = names[Math.floor(next() * names.length)]!
        const length = Math.floor(next() ** 4 * 2000)
        const array = arena[name](length) as unknown as AnyView
        t.is(array.length, length)
        const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength).fill(index & 0xff)
        arrays.push({ array, bytes, mark: index & 0xff })
      }
      for (const { bytes, mark } of arrays) if (!bytes.every((byte) => byte === mark)) t.fail('overlap')
      const used = arrays.reduce((sum, { array }) => sum + array.byteLength, 0)
      t.true(arena.used >= used, `${arena.used} used, ${used} handed out`)
      t.true(arena.bytesAllocated >= used)
      arena.reset()
      t.is(arena.used, 0)
    }
    arena.dispose()
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  }
})

withPool('reset keeps the chunks and hands the same memory out again', (t, pool) => {
  const arena = new Arena({ pool, chunkSize: 4096 })
  const first = arena.alloc(100)
  for (let index = 0; index < 200; index += 1) arena.alloc(100)
  const { bytesAllocated } = arena
  const { numAllocations } = pool
  for (let round = 0; round < 100; round += 1) {
    arena.reset()
    for (let index = 0; index < 201; index += 1) arena.alloc(100)
  }
  t.is(arena.bytesAllocated, bytesAllocated)
  t.is(pool.numAllocations, numAllocations)
  arena.reset()
  // Documented: what was handed out before is stale, and overlaps.
  arena.alloc(100).fill(9)
  t.is(first[0], 9)
  arena.dispose()
})

withPool('arrays larger than a chunk have a block of their own, which reset gives back', (t, pool) => {
  const arena = new Arena({ pool, chunkSize: 1024 })
  const small = arena.alloc(10).fill(1)
  const large = arena.float64(1000)
  t.is(large.length, 1000)
  large.fill(1.5)
  t.is(arena.bytesAllocated, 1024 + 8000)
  t.deepEqual(held(pool), { bytes: 9024, allocations: 2 })
  t.true(small.every((byte) => byte === 1))
  arena.reset()
  t.deepEqual(held(pool), { bytes: 1024, allocations: 1 })
  t.is(large.length, 0)
  t.is(small.length, 10)
  arena.dispose()
  t.is(small.length, 0)
})

withPool('dispose ends every array and gives everything back', (t, pool) => {
  const arena = new Arena({ pool, chunkSize: 1024 })
  const arrays = Array.from({ length: 100 }, (_, index) => arena.alloc(index * 20))
  arena.dispose()
  t.true(arrays.every((array) => array.length === 0))
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  arena.dispose()
  arena[Symbol.dispose]()
  t.true(arena.disposed)
  for (const use of [...names.map((name) => () => arena[name](1)), ...names.map((name) => () => arena[name](0)), () => arena.reset(), () => arena.used, () => arena.bytesAllocated]) {
    throwsCode(t, use, 'ERR_OFFHEAP_DISPOSED')
  }
})

test('lengths that are none, or too large', (t) => {
  const pool = defaultMemoryPool().proxy()
  const arena = new Arena({ pool })
  for (const name of names) {
    for (const value of [-1, 1.5, Number.NaN, 2 ** 53, Infinity, '1', null, undefined, {}, [], 1n, Symbol('x')]) {
      throwsCode(t, () => arena[name](value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    }
    // The product of length and element may be no size any more.
    for (const value of [2 ** 50, Number.MAX_SAFE_INTEGER]) throwsCode(t, () => arena[name](value), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  }
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  t.is(arena.used, 0)
  arena.dispose()
})

test('arguments of an arena', (t) => {
  for (const chunkSize of [0, -1, 1.5, Number.NaN, 2 ** 31, '1', null, {}]) {
    throwsCode(t, () => new Arena({ chunkSize: chunkSize as number }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'chunkSize')
  }
  for (const alignment of [0, -1, 3, 100, 8192, 1.5, '64', null]) {
    throwsCode(t, () => new Arena({ alignment: alignment as number }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  }
  throwsCode(t, () => new Arena({ pool: 5 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  throwsCode(t, () => new Arena(5 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  const { alloc } = Arena.prototype
  for (const receiver of [undefined, null, {}, Object.create(Arena.prototype)]) {
    throwsCode(t, () => Reflect.apply(alloc, receiver, [1]), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'Arena')
  }
  t.notThrows(() => inspect(Arena.prototype))
  using arena = new Arena()
  arena.alloc(10)
  t.regex(inspect(arena), /^Arena \{ 10 bytes used of 1048576 \}$/)
})

withPool('every alignment is honoured, by address', (t, pool) => {
  for (let alignment = 1; alignment <= 4096; alignment *= 2) {
    const arena = new Arena({ pool, alignment, chunkSize: 100_000 })
    for (let index = 0; index < 100; index += 1) {
      const array = arena.alloc(index)
      t.is(array.byteOffset % alignment, 0)
      t.is(arena.float64(1).byteOffset % Math.max(8, alignment), 0)
    }
    arena.dispose()
  }
})

test('a forgotten arena frees its chunks', async (t) => {
  const pool = defaultMemoryPool().proxy()
  ;(() => {
    for (let index = 0; index < 20; index += 1) new Arena({ pool }).alloc(10)
  })()
  t.is(pool.liveAllocations, 20)
  t.true(await collectUntil(() => pool.liveAllocations === 0), `${pool.liveAllocations} are left`)
})

withPool('an array keeps its chunk: a forgotten arena frees nothing that is in use', async (t, pool) => {
  const arrays: Uint8Array[] = []
  ;(() => arrays.push(new Arena({ pool }).alloc(10).fill(6)))()
  await collectUntil(() => false, 5)
  t.true(arrays[0]!.every((byte) => byte === 6))
  arrays.length = 0
  t.true(await collectUntil(() => pool.liveAllocations === 0))
  await turns()
})

withPool('an arena whose memory was transferred away answers with a code', async (t, pool) => {
  const arena = new Arena({ pool })
  const { buffer } = arena.alloc(10)
  const transfer = (buffer as unknown as { transfer?: () => ArrayBuffer }).transfer
  if (transfer === undefined) {
    try {
      structuredClone(buffer, { transfer: [buffer] })
    } catch {
      // Node 22 and later refuse.
    }
  } else {
    transfer.call(buffer)
  }
  try {
    arena.alloc(10)
    arena.float64(10)
    t.pass()
  } catch (error) {
    t.is((error as { code: string }).code, 'ERR_OFFHEAP_DISPOSED', (error as Error).stack)
  }
  arena.dispose()
  // What was moved belongs to whoever has it, until that is collected.
  t.true(await collectUntil(() => pool.liveAllocations === 0))
})
