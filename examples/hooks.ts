/**
 * PEP 445's third use case: hooks over every allocator. Each domain gets an observer over the allocator that it has, what
 * happens meanwhile is counted, and then the allocators are as they were.
 *
 * `raw` serves what may be needed on any thread, `mem` buffers (its allocator is the default pool), `object` the control
 * blocks of buffers. docs/domains.md has the rest.
 */

import assert from 'node:assert/strict'
import { type AllocatorDomain, defaultMemoryPool, domainPool, getAllocator, type MemoryPool, setAllocator, setArenaAllocator } from 'offheap'

class Counter {
  mallocs = 0
  reallocs = 0
  frees = 0
  bytes = 0

  onMalloc({ failed, size }: { failed: boolean; size: number }): void {
    if (failed) return
    this.mallocs += 1
    this.bytes += size
  }

  onRealloc({ failed, size, oldSize = 0 }: { failed: boolean; size: number; oldSize?: number }): void {
    if (failed) return
    this.reallocs += 1
    this.bytes += size - oldSize
  }

  onFree({ size }: { size: number }): void {
    this.frees += 1
    this.bytes -= size
  }
}

const domains: readonly AllocatorDomain[] = ['raw', 'mem', 'object']
const counters = new Map<AllocatorDomain, Counter>()
const before = new Map<AllocatorDomain, MemoryPool>()
for (const domain of domains) {
  const counter = new Counter()
  counters.set(domain, counter)
  before.set(domain, getAllocator(domain))
  setAllocator(domain, counter) // over the allocator that is there, which it calls
}
let arenas = 0
setArenaAllocator({ onAlloc: () => (arenas += 1) })

// The default pool is `mem`: a buffer is a block of it, and a control block of `object`.
const buffer = defaultMemoryPool().allocateResizableBuffer(1000)
buffer.resize(2000)
buffer.dispose()

// Blocks of each domain, by hand. More than one arena (256 KiB) has room for.
for (const domain of domains) {
  const pool = domainPool(domain)
  const blocks = Array.from({ length: 2000 }, () => pool.allocateBuffer(200))
  for (const block of blocks) block.dispose()
}

for (const domain of domains) {
  // A hook may be taken off while its blocks live: they go back to the allocator that made them.
  setAllocator(domain, before.get(domain)!)
  const { mallocs, reallocs, frees, bytes } = counters.get(domain)!
  console.log(`${domain.padEnd(6)} ${mallocs} mallocs, ${reallocs} reallocs, ${frees} frees, ${bytes} bytes alive`)
  assert.equal(getAllocator(domain), before.get(domain))
  assert.equal(mallocs, frees)
  assert.equal(bytes, 0)
}
setArenaAllocator(null)
console.log(`arenas ${arenas}`)

assert.equal(counters.get('raw')!.mallocs, 2000)
assert.deepEqual([counters.get('mem')!.mallocs, counters.get('mem')!.reallocs], [2001, 1])
assert.ok(counters.get('object')!.mallocs >= 2000)
assert.ok(arenas >= 2)
console.log('hooks: ok')
