import test, { type ExecutionContext } from 'ava'
import { Arena, BufferBuilder, defaultMemoryPool, type MemoryPool, MemoryBuffer, type OutOfMemoryError, TypedBufferBuilder } from 'offheap'
import { backendPool, eachBackend, eachPool, held, random, throwsCode } from './support.js'

function outOfMemory(t: ExecutionContext, action: () => unknown): OutOfMemoryError {
  return throwsCode(t, action, 'ERR_OFFHEAP_OUT_OF_MEMORY') as unknown as OutOfMemoryError
}

eachBackend('#12 a limit is exact: what fits is given, one byte more is not', (t, pool) => {
  const capped = pool.limit(1000, { name: 'capped' })
  const figures = () => [capped.bytesAllocated, capped.totalBytesAllocated, capped.peakBytes]
  const first = capped.allocateBuffer(600)
  const second = capped.allocateBuffer(400)
  t.is(capped.available, 0)
  second.dispose()
  capped.allocateBuffer(300).dispose()
  t.deepEqual(figures(), [600, 1300, 1000])
  const error = outOfMemory(t, () => capped.allocateBuffer(401))
  t.like(error, { requested: 401, limit: 1000, allocated: 600, pool: 'capped' })
  t.regex(error.message, /'capped'.* 401 .*600.*1000.*400/)
  t.deepEqual(figures(), [600, 1300, 1000])
  const last = capped.allocateBuffer(400)
  t.is(capped.bytesAllocated, 1000)
  first.dispose()
  last.dispose()
})

eachBackend('#13 a limit holds for reallocations', (t, pool) => {
  const capped = pool.limit(1000)
  const first = capped.allocateResizableBuffer(600)
  const second = capped.allocateResizableBuffer(400)
  second.resize(300)
  t.is(capped.bytesAllocated, 900)
  second.fill(7)
  // Arrow's figure: 401 bytes are 101 more, and 100 are left.
  t.like(
    outOfMemory(t, () => second.resize(401)),
    { requested: 101, limit: 1000, allocated: 900 },
  )
  t.is(capped.bytesAllocated, 900)
  t.is(second.size, 300)
  t.is(second.at(299), 7)
  second.resize(400)
  t.is(capped.bytesAllocated, 1000)
  t.is(capped.available, 0)
  outOfMemory(t, () => first.resize(601))
  outOfMemory(t, () => first.reserve(601))
  first.dispose()
  second.dispose()
})

eachPool('limits nest: every one of a chain holds, and the error names the one that refused', (t, pool) => {
  const outer = pool.limit(1000, { name: 'outer' })
  const inner = outer.limit(2000, { name: 'inner' })
  const innermost = inner.limit(500, { name: 'innermost' })
  t.deepEqual([outer.limitBytes, inner.limitBytes, innermost.limitBytes], [1000, 2000, 500])
  t.deepEqual([outer.available, inner.available, innermost.available], [1000, 1000, 500])
  t.is(outOfMemory(t, () => innermost.allocateBuffer(501)).pool, 'innermost')
  t.is(outOfMemory(t, () => inner.allocateBuffer(1001)).pool, 'outer')
  const buffer = inner.allocateBuffer(700)
  t.deepEqual([outer.available, inner.available, innermost.available], [300, 300, 300])
  t.like(
    outOfMemory(t, () => innermost.allocateBuffer(301)),
    { pool: 'outer', requested: 301, limit: 1000, allocated: 700 },
  )
  t.deepEqual([innermost.bytesAllocated, inner.bytesAllocated, outer.bytesAllocated], [0, 700, 700])
  innermost.allocateBuffer(300).dispose()
  buffer.dispose()
  t.deepEqual([outer.available, inner.available, innermost.available], [1000, 1000, 500])
})

eachBackend('siblings do not use each other up', (t, pool) => {
  const [left, right] = [pool.limit(100), pool.limit(100)]
  const a = left.allocateBuffer(100)
  const b = right.allocateBuffer(100)
  t.is(pool.bytesAllocated, 200)
  outOfMemory(t, () => left.allocateBuffer(1))
  // Arrow's capped pool counts what others take from the wrapped pool: its documented weakness.
  const c = pool.allocateBuffer(1000)
  a.dispose()
  left.allocateBuffer(100).dispose()
  b.dispose()
  c.dispose()
})

eachBackend('the edges: 0, 1, and more than there is memory', (t, pool) => {
  const nothing = pool.limit(0)
  outOfMemory(t, () => nothing.allocateBuffer(1))
  nothing.allocateBuffer(0).dispose()
  t.is(nothing.available, 0)
  const one = pool.limit(1)
  one.allocateBuffer(1).dispose()
  outOfMemory(t, () => one.allocateBuffer(2))
  const huge = pool.limit(Number.MAX_SAFE_INTEGER)
  t.is(huge.limitBytes, Number.MAX_SAFE_INTEGER)
  huge.allocateBuffer(100).dispose()
  t.is(huge.available, Number.MAX_SAFE_INTEGER)
  // Over the limit and refused by the system too: an error either way, and nothing is counted.
  outOfMemory(t, () => huge.allocateBuffer(Number.MAX_SAFE_INTEGER))
  t.is(huge.bytesAllocated, 0)
  t.is(huge.numAllocations, 1)
})

eachBackend('what the system refuses leaves no trace under a limit', (t, pool) => {
  const capped = pool.limit(2 ** 52)
  const error = outOfMemory(t, () => capped.allocateBuffer(2 ** 51))
  t.is(error.limit, undefined)
  t.is(error.requested, 2 ** 51)
  t.deepEqual([capped.bytesAllocated, capped.numAllocations, capped.available], [0, 0, 2 ** 52])
  t.deepEqual([pool.bytesAllocated, pool.numAllocations], [0, 0])
})

eachBackend('a random program never exceeds its limit and is never refused while bytes are free', (t, pool) => {
  const next = random(48_105)
  const limit = 100_000
  const capped = pool.limit(limit)
  const live: MemoryBuffer[] = []
  let bytes = 0
  let refused = 0
  for (let step = 0; step < 20_000; step += 1) {
    const size = Math.floor(next() ** 3 * 20_000)
    const choice = next()
    const fits = (added: number) => bytes + added <= limit
    if (choice < 0.5) {
      if (fits(size)) {
        live.push(capped.allocateResizableBuffer(size))
        bytes += size
      } else {
        refused += 1
        t.like(
          outOfMemory(t, () => capped.allocateResizableBuffer(size)),
          { requested: size, limit, allocated: bytes },
        )
      }
    } else if (choice < 0.7 && live.length > 0) {
      const buffer = live[Math.floor(next() * live.length)]!
      if (fits(size - buffer.size)) {
        bytes += size - buffer.size
        buffer.resize(size)
      } else {
        refused += 1
        outOfMemory(t, () => buffer.resize(size))
      }
    } else if (live.length > 0) {
      const [buffer] = live.splice(Math.floor(next() * live.length), 1)
      bytes -= buffer!.size
      buffer!.dispose()
    }
    if (capped.bytesAllocated !== bytes || capped.available !== limit - bytes) t.fail(`step ${step}: ${capped.bytesAllocated} is not ${bytes}`)
  }
  t.true(refused > 100, String(refused))
  t.true(capped.peakBytes <= limit)
  for (const buffer of live) buffer.dispose()
})

eachBackend('growth inside of the padding counts too: a limit of 10 bytes never holds 11', (t, pool) => {
  const capped = pool.limit(10)
  const buffer = capped.allocateResizableBuffer(10)
  outOfMemory(t, () => buffer.resize(11))
  outOfMemory(t, () => buffer.reserve(11))
  t.is(buffer.size, 10)
  t.is(capped.bytesAllocated, 10)
  buffer.resize(3)
  t.is(capped.bytesAllocated, 3)
  buffer.reserve(10)
  t.is(capped.bytesAllocated, 10)
  outOfMemory(t, () => capped.allocateBuffer(1))
  buffer.dispose()
})

eachBackend('a shown buffer can shrink, whatever the limit', (t, pool) => {
  const capped = pool.limit(1000)
  const buffer = capped.allocateResizableBuffer(1000)
  const view = buffer.asUint8Array().fill(5)
  buffer.resize(900)
  t.is(view.length, 0)
  t.is(capped.bytesAllocated, 900)
  t.true(buffer.asUint8Array().every((byte) => byte === 5))
  buffer.resize(1000)
  t.is(buffer.at(899), 5)
  t.is(capped.bytesAllocated, 1000)
  buffer.dispose()
})

test('builders and arenas under a limit: the error, and what they held stays whole', (t) => {
  const pool = defaultMemoryPool().limit(64 * 1024)
  const typed = new TypedBufferBuilder('int32', { pool })
  let appended = 0
  const error = outOfMemory(t, () => {
    for (;;) {
      typed.append(appended)
      appended += 1
    }
  })
  t.like(error, { limit: 64 * 1024 })
  t.is(typed.length, appended)
  t.is(appended, 16_384, 'the limit has room for exactly as many')
  const column = typed.finish()
  t.true(column.asInt32Array().every((value, index) => value === index))
  column.dispose()
  typed.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })

  const bytes = new BufferBuilder({ pool })
  bytes.append('kept')
  outOfMemory(t, () => bytes.append(new Uint8Array(70_000)))
  outOfMemory(t, () => bytes.appendCopies(1, 70_000))
  outOfMemory(t, () => bytes.reserve(70_000))
  outOfMemory(t, () => bytes.resize(70_000))
  outOfMemory(t, () => bytes.append('x'.repeat(70_000)))
  using text = bytes.finish()
  t.is(text.toString(), 'kept')
  bytes.dispose()

  const arena = new Arena({ pool, chunkSize: 32 * 1024 })
  const first = arena.alloc(100).fill(9)
  outOfMemory(t, () => arena.alloc(64 * 1024))
  outOfMemory(t, () => {
    for (;;) arena.alloc(1000)
  })
  t.true(first.every((byte) => byte === 9))
  arena.dispose()
})

test('the pool of a query: bound it, use it, close it', (t) => {
  const query = backendPool('system').limit(1_000_000, { name: 'query' })
  const buffers: MemoryBuffer[] = []
  const run = (pool: MemoryPool) => {
    for (;;) buffers.push(pool.allocateBuffer(100_000).fill(1))
  }
  outOfMemory(t, () => run(query))
  t.is(buffers.length, 10)
  t.like(query.close(), { pool: 'query', liveBytes: 1_000_000, liveAllocations: 10 })
  for (const buffer of buffers) buffer.dispose()
  t.like(query.close(), { liveBytes: 0, liveAllocations: 0 })
})

test('slices count nothing', (t) => {
  const pool = defaultMemoryPool().limit(100)
  const buffer = pool.allocateBuffer(100)
  const slices = Array.from({ length: 1000 }, (_, index) => (index % 2 === 0 ? buffer.slice(index % 100) : buffer.sliceMutable(0, 10)))
  t.deepEqual(held(pool), { bytes: 100, allocations: 1 })
  buffer.dispose()
  t.deepEqual(held(pool), { bytes: 100, allocations: 1 })
  for (const slice of slices) slice.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  t.is(MemoryBuffer.from('x', { pool }).slice(0).parent!.size, 1)
})
