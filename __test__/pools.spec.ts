import test from 'ava'
import {
  defaultMemoryPool,
  type MemoryBuffer,
  MemoryPool,
  setDefaultMemoryPool,
  supportedMemoryBackends,
  systemMemoryPool,
  jemallocMemoryPool,
  mappedMemoryPool,
  mimallocMemoryPool,
  totalAllocatedBytes,
} from 'offheap'
import { backendPool, backends, collectUntil, eachBackend, eachPool, poolKinds, runScript, throwsCode, turns } from './support.js'

// Arrow counts the rounded capacity in `bytes_allocated`; offheap counts the size that was asked for, so the figures
// below are those of Arrow's tests where sizes are multiples of 64 and the plain sizes elsewhere.

eachPool('#1 what is allocated is counted, and aligned to 64', (t, pool) => {
  const before = pool.bytesAllocated
  const first = pool.allocateBuffer(100)
  t.is(first.address % 64n, 0n)
  t.is(pool.bytesAllocated, before + 100)
  const second = pool.allocateBuffer(27)
  t.is(second.address % 64n, 0n)
  t.not(second.address, first.address)
  t.is(pool.bytesAllocated, before + 127)
  first.dispose()
  t.is(pool.bytesAllocated, before + 27)
  second.dispose()
  t.is(pool.bytesAllocated, before)
})

eachPool('#2 sizes that nobody has are out of memory, not a crash', (t, pool) => {
  const before = pool.bytesAllocated
  // Arrow asks for sizes near 2^63. A number of JavaScript ends at 2^53 - 1: 8 PiB, more than any address space has.
  for (const size of [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - 63, Number.MAX_SAFE_INTEGER - 127, 2 ** 52, 2 ** 50]) {
    for (const allocate of [
      () => pool.allocateBuffer(size),
      () => pool.allocateBuffer(size, { zeroFill: true }),
      () => pool.allocateBuffer(size, { alignment: 4096 }),
      () => pool.allocateResizableBuffer(size),
    ]) {
      const error = throwsCode(t, allocate, 'ERR_OFFHEAP_OUT_OF_MEMORY')
      t.is((error as unknown as { requested: number }).requested, size)
    }
  }
  t.is(pool.bytesAllocated, before)
})

eachPool('#3 reallocation keeps the bytes and counts the difference', (t, pool) => {
  const before = pool.bytesAllocated
  const buffer = pool.allocateResizableBuffer(10)
  t.is(pool.bytesAllocated, before + 10)
  buffer.fill(35, 0, 1).fill(12, 9, 10)
  buffer.resize(20)
  t.is(buffer.at(9), 12)
  t.is(pool.bytesAllocated, before + 20)
  buffer.resize(5)
  t.is(buffer.at(0), 35)
  t.is(pool.bytesAllocated, before + 5)
  buffer.resize(100_000)
  t.is(buffer.at(0), 35)
  t.is(pool.bytesAllocated, before + 100_000)
  buffer.dispose()
  t.is(pool.bytesAllocated, before)
})

eachPool('#4 any power of two is an alignment', (t, pool) => {
  for (let alignment = 1; alignment <= 2 ** 21; alignment *= 2) {
    for (const size of [0, 1, 100, 4096, 70_000]) {
      const buffer = pool.allocateBuffer(size, { alignment })
      t.is(buffer.address % BigInt(Math.max(alignment, size === 0 ? alignment : 64)), 0n, `${size} bytes at ${alignment}`)
      t.true(buffer.checkAlignment(alignment))
      if (size > 0) {
        buffer.fill(0xaa)
        t.is(buffer.at(-1), 0xaa)
      }
      buffer.dispose()
    }
  }
})

eachPool('alignments that are no power of two are invalid on every backend', (t, pool) => {
  for (const alignment of [0, 3, 48, 63, 65, 100, 2 ** 33 + 1, 2 ** 52 - 1]) {
    const error = throwsCode(t, () => pool.allocateBuffer(10, { alignment }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
    t.true(error.message.includes(String(alignment)), error.message)
    throwsCode(t, () => pool.allocateResizableBuffer(10, { alignment }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  }
  // Over 4 GiB is refused as an argument or as memory, but the same everywhere.
  throwsCode(t, () => pool.allocateBuffer(10, { alignment: 2 ** 40 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
})

eachPool('#4 alignment survives every reallocation', (t, pool) => {
  for (const alignment of [64, 512, 4096, 65_536]) {
    const buffer = pool.allocateResizableBuffer(10, { alignment })
    buffer.fill(7)
    for (const size of [100, 5000, 10, 3_000_000, 64, 200_000, 1]) {
      buffer.resize(size)
      t.is(buffer.address % BigInt(alignment), 0n, `${size} bytes at ${alignment}`)
      t.is(buffer.at(0), 7)
    }
    buffer.dispose()
  }
})

eachPool('#5 #103 releaseUnused changes no figure', (t, pool) => {
  const buffer = pool.allocateBuffer(100_000)
  const { bytesAllocated, numAllocations, totalBytesAllocated, liveAllocations, peakBytes } = pool
  pool.releaseUnused()
  t.deepEqual(
    [pool.bytesAllocated, pool.numAllocations, pool.totalBytesAllocated, pool.liveAllocations, pool.peakBytes],
    [bytesAllocated, numAllocations, totalBytesAllocated, liveAllocations, peakBytes],
  )
  buffer.fill(1)
  t.is(buffer.at(-1), 1)
  buffer.dispose()
  pool.releaseUnused()
})

test('#6 the default pool is one of the backends, and the same handle each time', (t) => {
  const pool = defaultMemoryPool()
  t.true(backends.map(backendPool).includes(pool))
  t.is(defaultMemoryPool(), pool)
  t.is(pool, backendPool(pool.backendName))
  for (const name of backends) t.is(backendPool(name), backendPool(name))
})

eachBackend('#7 statistics count as in Arrow', (t, pool) => {
  const figures = () => [pool.peakBytes, pool.totalBytesAllocated, pool.bytesAllocated, pool.numAllocations]
  const first = pool.allocateResizableBuffer(100)
  const second = pool.allocateBuffer(50)
  second.dispose()
  t.deepEqual(figures(), [150, 150, 100, 2])
  first.resize(150)
  t.deepEqual(figures(), [150, 200, 150, 3])
  first.resize(50)
  t.deepEqual(figures(), [150, 200, 50, 3])
  first.dispose()
  t.deepEqual(figures(), [150, 200, 0, 3])
  t.is(pool.maxMemory, pool.peakBytes)
})

eachBackend('#9 a proxy counts its own, its parent counts both', (t, pool) => {
  const proxy = pool.proxy()
  const own = pool.allocateBuffer(100)
  const through = proxy.allocateBuffer(300)
  t.deepEqual([pool.bytesAllocated, proxy.bytesAllocated], [400, 300])
  t.deepEqual([pool.liveAllocations, proxy.liveAllocations], [2, 1])
  own.dispose()
  t.deepEqual([pool.bytesAllocated, proxy.bytesAllocated], [300, 300])
  through.dispose()
  t.deepEqual([pool.bytesAllocated, proxy.bytesAllocated], [0, 0])
  t.deepEqual([pool.peakBytes, proxy.peakBytes], [400, 300])
  t.deepEqual([pool.totalBytesAllocated, proxy.totalBytesAllocated], [400, 300])
})

eachBackend('accounts nest, and all of a chain count', (t, pool) => {
  const chain = [pool]
  for (let level = 0; level < 20; level += 1) {
    const top = chain.at(-1)!
    chain.push(level % 2 === 0 ? top.proxy() : top.limit(10_000))
  }
  const buffer = chain.at(-1)!.allocateResizableBuffer(1000)
  t.true(chain.every((level) => level.bytesAllocated === 1000))
  buffer.resize(1500)
  t.true(chain.every((level) => level.bytesAllocated === 1500 && level.numAllocations === 2))
  buffer.dispose()
  t.true(chain.every((level) => level.bytesAllocated === 0 && level.peakBytes === 1500))
})

test.serial('#98 totalAllocatedBytes is the sum over all backends', (t) => {
  const sum = () => backends.reduce((total, name) => total + backendPool(name).bytesAllocated, 0)
  t.is(totalAllocatedBytes(), sum())
  const before = totalAllocatedBytes()
  const buffers = poolKinds.map(({ make }, index) => make().allocateBuffer(1000 + index))
  const allocated = buffers.reduce((total, buffer) => total + buffer.size, 0)
  t.is(totalAllocatedBytes(), before + allocated)
  t.is(totalAllocatedBytes(), sum())
  for (const buffer of buffers) buffer.dispose()
  t.is(totalAllocatedBytes(), before)
})

test.serial('#98 with the default pool alone, its bytes are all bytes', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    const buffer = offheap.defaultMemoryPool().allocateBuffer(12345)
    console.log(offheap.defaultMemoryPool().bytesAllocated, offheap.totalAllocatedBytes())
    buffer.dispose()
    console.log(offheap.defaultMemoryPool().bytesAllocated, offheap.totalAllocatedBytes())
  `)
  t.deepEqual({ stdout, stderr, code }, { stdout: '12345 12345\n0 0\n', stderr: '', code: 0 })
})

test.serial('#99 a proxy pool that nobody holds is freed, a buffer keeps its pool alive', async (t) => {
  const before = defaultMemoryPool().bytesAllocated
  // In functions of their own, so that no register of this one keeps a handle alive.
  const allocate = () => {
    const proxy = defaultMemoryPool().proxy({ name: 'weak' })
    return { buffer: proxy.allocateBuffer(100), weakPool: new WeakRef(proxy) }
  }
  const weakPools: WeakRef<MemoryPool>[] = []
  const held: MemoryBuffer[] = []
  ;(() => {
    const { buffer, weakPool } = allocate()
    held.push(buffer)
    weakPools.push(weakPool)
  })()
  globalThis.gc!()
  await turns(3)
  ;(() => {
    const buffer = held.pop()!
    t.is(buffer.pool!.name, 'weak')
    t.is(buffer.pool!.bytesAllocated, 100)
    t.is(defaultMemoryPool().bytesAllocated, before + 100)
    buffer.dispose()
  })()
  t.is(defaultMemoryPool().bytesAllocated, before)
  t.true(await collectUntil(() => weakPools[0]!.deref() === undefined), 'the pool was never collected')
})

test('#102 the default backend is one of the known ones', (t) => {
  t.true(['system', 'jemalloc', 'mimalloc'].includes(defaultMemoryPool().backendName))
})

test('#105 factories give the pool they are named after, or say that it is not built in', (t) => {
  for (const [name, factory] of Object.entries({ system: systemMemoryPool, jemalloc: jemallocMemoryPool, mimalloc: mimallocMemoryPool, mapped: mappedMemoryPool })) {
    if (backends.includes(name)) {
      const pool = factory()
      t.is(pool.backendName, name)
      t.is(pool.name, name)
      t.is(pool.limitBytes, undefined)
      t.is(pool.available, undefined)
    } else {
      throwsCode(t, factory, 'ERR_OFFHEAP_NOT_SUPPORTED', name)
    }
  }
})

test('#106 the supported backends include the system, the preferred one first', (t) => {
  t.true(backends.includes('system'))
  t.deepEqual(
    backends,
    ['mimalloc', 'jemalloc', 'system', 'mapped'].filter((name) => backends.includes(name)),
  )
  supportedMemoryBackends().length = 0
  t.deepEqual(supportedMemoryBackends(), backends)
})

test.serial('#113 printStats writes something to stderr on glibc, for every backend', async (t) => {
  const names = { system: 'systemMemoryPool', jemalloc: 'jemallocMemoryPool', mimalloc: 'mimallocMemoryPool', mapped: 'mappedMemoryPool' } as Record<string, string>
  for (const name of backends) {
    const { stdout, stderr, code } = await runScript(`
      const pool = offheap.${names[name]}()
      pool.allocateBuffer(1000).fill(1)
      pool.printStats()
      pool.limit(10).printStats()
    `)
    t.is(code, 0, stderr)
    t.is(stdout, '')
    t.true(stderr.length > 100, `${name}: ${stderr}`)
  }
})

eachPool('sizes that are no sizes name the argument and the value', (t, pool) => {
  const methods = {
    size: (value: unknown) => [() => pool.allocateBuffer(value as number), () => pool.allocateResizableBuffer(value as number)],
    bits: (value: unknown) => [() => pool.allocateBitmap(value as number), () => pool.allocateEmptyBitmap(value as number)],
    maxBytes: (value: unknown) => [() => pool.limit(value as number)],
  }
  for (const [argument, calls] of Object.entries(methods)) {
    for (const value of [-1, 1.5, Number.NaN, Infinity, -Infinity, 2 ** 53, -(2 ** 53), 1e300]) {
      for (const call of calls(value)) {
        const error = throwsCode(t, call, 'ERR_OFFHEAP_INVALID_ARGUMENT', argument)
        t.true(error instanceof RangeError, error.stack)
        t.true(error.message.includes(String(value)), error.message)
      }
    }
    for (const value of [undefined, null, '10', 10n, [], {}, Symbol('10'), true, { valueOf: () => 10 }]) {
      for (const call of calls(value)) {
        const error = throwsCode(t, call, 'ERR_OFFHEAP_INVALID_ARGUMENT', argument)
        t.true(error instanceof TypeError, error.stack)
      }
    }
  }
  t.notThrows(() => pool.allocateBuffer(-0).dispose())
})

eachPool('zeroFill gives zeros where memory was dirty before', (t, pool) => {
  for (const size of [1, 64, 1000, 100_000, 3_000_000]) {
    for (let round = 0; round < 3; round += 1) {
      pool.allocateBuffer(size).fill(0xff).dispose()
      const zeroed = pool.allocateBuffer(size, { zeroFill: true })
      t.true(zeroed.asUint8Array().every((byte) => byte === 0))
      zeroed.dispose()
    }
  }
  throwsCode(t, () => pool.allocateBuffer(1, { zeroFill: 1 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'zeroFill')
})

eachBackend('resetPeak starts the peak anew', (t, pool) => {
  const small = pool.allocateBuffer(10)
  pool.allocateBuffer(1000).dispose()
  t.is(pool.peakBytes, 1010)
  pool.resetPeak()
  t.is(pool.peakBytes, 10)
  pool.allocateBuffer(100).dispose()
  t.is(pool.peakBytes, 110)
  small.dispose()
  t.is(pool.peakBytes, 110)
})

eachPool('stats says everything at once, and unknown is null', (t, pool, name) => {
  const buffer = pool.allocateBuffer(10_000)
  const stats = pool.stats()
  t.is(stats.backendName, pool.backendName)
  t.is(stats.name, pool.name)
  t.is(stats.bytesAllocated, pool.bytesAllocated)
  t.is(stats.peakBytes, pool.peakBytes)
  t.is(stats.totalBytesAllocated, pool.totalBytesAllocated)
  t.is(stats.numAllocations, pool.numAllocations)
  t.is(stats.liveAllocations, pool.liveAllocations)
  t.is(stats.closed, false)
  t.is(stats.limitBytes, name.startsWith('limit') ? 1e9 : null)
  t.is(stats.available, name.startsWith('limit') ? 1e9 - pool.bytesAllocated : null)
  t.is(stats.parkedBytes, 0)
  for (const figure of [stats.usableBytes, stats.residentBytes, stats.retainedBytes, stats.fragmentedBytes]) {
    t.true(figure === null || (Number.isSafeInteger(figure) && figure >= 0), String(figure))
  }
  // The backend's figures are of all pools over it, and include ours.
  if (stats.usableBytes !== null) t.true(stats.usableBytes >= 10_000, String(stats.usableBytes))
  buffer.dispose()
})

eachBackend('a name is shown, and tells pools apart', (t, pool) => {
  t.is(pool.limit(10, { name: 'the query' }).name, 'the query')
  t.is(pool.proxy({ name: 'Zoë ☃ 🎉' }).name, 'Zoë ☃ 🎉')
  t.true(pool.limit(10).name.length > 0)
  t.not(pool.limit(10), pool.limit(10))
  throwsCode(t, () => pool.limit(10, { name: 5 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'name')
  throwsCode(t, () => pool.proxy({ name: 'a\0b' }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'name')
})

eachBackend('close refuses later allocations, keeps what is alive, and reports it', (t, pool) => {
  const query = pool.limit(10_000, { name: 'query' })
  const child = query.proxy()
  const first = query.allocateResizableBuffer(1000)
  const second = child.allocateBuffer(500)
  first.fill(3)
  const report = query.close()
  t.like(report, { pool: 'query', liveBytes: 1500, liveAllocations: 2 })
  t.true(Number.isSafeInteger(report.sharedTickets))
  t.true(query.closed)
  throwsCode(t, () => query.allocateBuffer(1), 'ERR_OFFHEAP_CLOSED', 'query')
  throwsCode(t, () => query.allocateBuffer(0), 'ERR_OFFHEAP_CLOSED')
  throwsCode(t, () => child.allocateBuffer(1), 'ERR_OFFHEAP_CLOSED')
  throwsCode(t, () => first.resize(2000), 'ERR_OFFHEAP_CLOSED')
  throwsCode(t, () => setDefaultMemoryPool(query), 'ERR_OFFHEAP_CLOSED')
  t.is(first.at(999), 3)
  t.is(query.bytesAllocated, 1500)
  first.dispose()
  t.like(query.close(), { liveBytes: 500, liveAllocations: 1 })
  second.dispose()
  t.like(query.close(), { liveBytes: 0, liveAllocations: 0 })
  pool.allocateBuffer(10).dispose()
})

test('closing a backend or the default pool is an invalid argument', (t) => {
  for (const name of backends) {
    throwsCode(t, () => backendPool(name).close(), 'ERR_OFFHEAP_INVALID_ARGUMENT', name)
    t.false(backendPool(name).closed)
  }
  throwsCode(t, () => defaultMemoryPool().close(), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => defaultMemoryPool()[Symbol.dispose](), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  defaultMemoryPool().allocateBuffer(1).dispose()
})

test('using closes a pool at the end of its block', (t) => {
  let pool: MemoryPool
  {
    using query = defaultMemoryPool().limit(100)
    pool = query
    query.allocateBuffer(100).dispose()
  }
  t.true(pool.closed)
  throwsCode(t, () => pool.allocateBuffer(1), 'ERR_OFFHEAP_CLOSED')
})

test('pools are made by functions only', (t) => {
  const Constructor = MemoryPool as unknown as new (...values: unknown[]) => MemoryPool
  throwsCode(t, () => new Constructor(), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'MemoryPool')
  throwsCode(t, () => new Constructor(Symbol('offheap.internal'), 1), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  const forged = Object.create(MemoryPool.prototype) as MemoryPool
  throwsCode(t, () => forged.bytesAllocated, 'ERR_OFFHEAP_INVALID_ARGUMENT', 'MemoryPool')
  throwsCode(t, () => forged.allocateBuffer(1), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'MemoryPool')
})

eachBackend('100,000 allocations leave exact figures', (t, pool) => {
  const live: MemoryBuffer[] = []
  let bytes = 0
  let total = 0
  let peak = 0
  for (let index = 0; index < 100_000; index += 1) {
    const size = (index * 7919) % 3000
    live.push(pool.allocateBuffer(size))
    bytes += size
    total += size
    peak = Math.max(peak, bytes)
    if (live.length > 100) {
      const victim = live.splice((index * 31) % live.length, 1)[0]!
      bytes -= victim.size
      victim.dispose()
    }
  }
  t.deepEqual(
    [pool.bytesAllocated, pool.totalBytesAllocated, pool.numAllocations, pool.liveAllocations, pool.peakBytes],
    [bytes, total, 100_000, live.length, peak],
  )
  for (const buffer of live) buffer.dispose()
})
