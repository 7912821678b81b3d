/** Allocator domains from TypeScript: whose allocator it is, who sees what, and what goes back where. */
import test, { type ExecutionContext } from 'ava'
import {
  type AllocationEvent,
  type AllocatorDomain,
  BufferBuilder,
  defaultMemoryPool,
  domainPool,
  getAllocator,
  MemoryBuffer,
  mimallocMemoryPool,
  objectMemoryPool,
  setAllocator,
  setArenaAllocator,
  setDefaultMemoryPool,
  systemMemoryPool,
} from 'offheap'
import { held, throwsCode } from './support.js'

const domains: readonly AllocatorDomain[] = ['raw', 'mem', 'object']

/** Runs `body` and puts every domain's allocator back. Allocators are the process's: such tests run one by one. */
function restoring(title: string, body: (t: ExecutionContext) => void | Promise<void>): void {
  test.serial(title, async (t) => {
    const before = domains.map((domain) => getAllocator(domain))
    try {
      await body(t)
    } finally {
      domains.forEach((domain, index) => setAllocator(domain, before[index]!))
    }
    t.deepEqual(domains.map(getAllocator), before)
  })
}

restoring("mem's allocator is the default pool: setting either sets both", (t) => {
  t.is(getAllocator('mem'), defaultMemoryPool())
  const limit = systemMemoryPool().limit(1000)
  t.is(setAllocator('mem', limit), limit)
  t.is(defaultMemoryPool(), limit)
  throwsCode(t, () => MemoryBuffer.from('x'.repeat(1001)), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  const other = systemMemoryPool().proxy()
  setDefaultMemoryPool(other)
  t.is(getAllocator('mem'), other)
})

restoring('an observer of a domain sees the requests of everybody, a pool fetched by name bypasses it', (t) => {
  const before = getAllocator('mem')
  const events: AllocationEvent[] = []
  const pool = setAllocator('mem', { onMalloc: (event) => events.push(event), onFree: (event) => events.push(event) })
  t.is(defaultMemoryPool(), pool)
  const buffer = MemoryBuffer.from('hello')
  const builder = new BufferBuilder()
  builder.append('world')
  builder.finish().dispose()
  buffer.dispose()
  t.true(events.some(({ type, size }) => type === 'malloc' && size === 5))
  t.is(events.filter(({ type }) => type === 'malloc').length, events.filter(({ type }) => type === 'free').length)
  const seen = events.length
  if (before === mimallocMemoryPool()) mimallocMemoryPool().allocateBuffer(100).dispose()
  t.is(events.length, seen)
  setAllocator('mem', before)
  MemoryBuffer.from('unseen').dispose()
  t.is(events.length, seen)
})

restoring('two observers: the one set last is asked first, and both see it', (t) => {
  const order: string[] = []
  const first = setAllocator('mem', { onMalloc: () => order.push('first') })
  const second = setAllocator('mem', { onMalloc: () => order.push('second') })
  t.not(first, second)
  MemoryBuffer.from('x').dispose()
  t.deepEqual(order.toSorted(), ['first', 'second'])
  setAllocator('mem', first)
  MemoryBuffer.from('x').dispose()
  t.deepEqual(order.slice(2), ['first'])
})

restoring('a block goes back to the allocator that made it, also after it was replaced', (t) => {
  const made = systemMemoryPool().proxy()
  setAllocator('mem', made)
  const buffer = MemoryBuffer.from('kept')
  setAllocator('mem', systemMemoryPool().proxy())
  t.is(made.bytesAllocated, 4)
  t.is(buffer.toString(), 'kept')
  buffer.dispose()
  t.deepEqual(held(made), { bytes: 0, allocations: 0 })
})

restoring('the control blocks of buffers come from object', (t) => {
  const sizes: number[] = []
  setAllocator('object', { onMalloc: ({ size }) => sizes.push(size) })
  systemMemoryPool().allocateBuffer(10_000).dispose()
  t.deepEqual(sizes, [64])
})

restoring('an observer that replaces the allocator while it is called', (t) => {
  const before = getAllocator('mem')
  let calls = 0
  setAllocator('mem', {
    onMalloc() {
      calls += 1
      setAllocator('mem', before)
      MemoryBuffer.from('inner').dispose()
    },
  })
  MemoryBuffer.from('outer').dispose()
  MemoryBuffer.from('later').dispose()
  t.is(calls, 1)
})

test('a pool of a domain follows its allocator', (t) => {
  for (const domain of domains) {
    const pool = domainPool(domain)
    t.is(pool, domainPool(domain))
    const before = held(pool)
    const buffer = pool.allocateBuffer(100, { zeroFill: true })
    t.is(buffer.size, 100)
    t.is(buffer.capacity, 100, 'no padding')
    t.is(buffer.asUint8Array().fill(7).reduce((sum, byte) => sum + byte), 700)
    t.is(held(pool).bytes, before.bytes + 100)
    buffer.dispose()
    t.deepEqual(held(pool), before)
  }
})

test('the pool of small objects', (t) => {
  const pool = objectMemoryPool().proxy()
  t.is(pool.backendName, 'object')
  const buffers = Array.from({ length: 1000 }, (_, size) => pool.allocateBuffer(size, { zeroFill: true }))
  for (const buffer of buffers) t.is(buffer.address % 64n, 0n)
  t.is(pool.bytesAllocated, 499_500)
  for (const buffer of buffers) buffer.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

restoring('arenas come from a pool, are seen by an observer, and go back to who made them', (t) => {
  const arenas = systemMemoryPool().proxy()
  setArenaAllocator(arenas)
  const small = objectMemoryPool().proxy()
  const make = () => Array.from({ length: 3000 }, () => small.allocateBuffer(500))
  const first = make()
  const made = arenas.liveAllocations
  t.true(made >= 2, String(made))
  t.true(arenas.bytesAllocated >= made * 256 * 1024)
  const seen: AllocationEvent[] = []
  setArenaAllocator({ onAlloc: (event) => seen.push(event), onFree: (event) => seen.push(event) })
  const second = make()
  t.true(seen.some(({ type, size }) => type === 'malloc' && size >= 256 * 1024))
  setArenaAllocator(null)
  const now = arenas.liveAllocations
  const third = make()
  t.is(arenas.liveAllocations, now)
  for (const buffer of [...first, ...second, ...third]) buffer.dispose()
  objectMemoryPool().releaseUnused()
  t.true(arenas.liveAllocations < made, 'empty arenas go back')
  t.deepEqual(held(small), { bytes: 0, allocations: 0 })
})

test('misuse', (t) => {
  const pool = systemMemoryPool()
  for (const wrong of [undefined, null, 'obj', 'MEM', 1, {}, Symbol('mem')]) {
    throwsCode(t, () => getAllocator(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'domain')
    throwsCode(t, () => setAllocator(wrong as never, pool), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'domain')
    throwsCode(t, () => domainPool(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'domain')
  }
  for (const wrong of [undefined, null, 1, {}, { onMalloc: 1 }, []]) {
    throwsCode(t, () => setAllocator('raw', wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'allocator')
  }
  for (const wrong of [undefined, 1, {}, { onAlloc: 1 }, { onMalloc() {} }]) {
    throwsCode(t, () => setArenaAllocator(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'allocator')
  }
  const closed = pool.proxy()
  closed.close()
  for (const domain of domains) throwsCode(t, () => setAllocator(domain, closed), 'ERR_OFFHEAP_CLOSED')
})
