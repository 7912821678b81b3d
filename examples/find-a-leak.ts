/**
 * Who holds the memory? A tracked pool knows every live block and the line that asked for it.
 *
 * The cache below forgets to dispose of what it throws out. The pool's figures say that memory is missing; the tracker
 * says which line took it, for which tenant, and what was left to the garbage collector.
 */

import assert from 'node:assert/strict'
import { defaultMemoryPool, type MemoryBuffer, type MemoryPool, withTags } from 'offheap'

class Cache {
  readonly #entries = new Map<string, MemoryBuffer>()

  constructor(
    readonly pool: MemoryPool,
    readonly capacity: number,
    readonly disposes: boolean,
  ) {}

  put(key: string, text: string): void {
    const entry = this.pool.allocateBuffer(text.length)
    entry.asBuffer().write(text, 'latin1')
    this.#entries.set(key, entry)
    if (this.#entries.size <= this.capacity) return
    const [oldest, buffer] = this.#entries.entries().next().value!
    this.#entries.delete(oldest)
    if (this.disposes) buffer.dispose() // the leak: without this, the garbage collector has to find it
  }

  clear(): void {
    for (const entry of this.#entries.values()) entry.dispose()
    this.#entries.clear()
  }
}

function use(cache: Cache): void {
  for (const tenant of ['north', 'south']) {
    withTags({ tenant }, () => {
      for (let i = 0; i < 50; i += 1) cache.put(`${tenant} ${i}`, 'x'.repeat(1000))
    })
  }
  cache.clear()
}

// Debugging costs some microseconds an allocation: a pool of its own, for what is suspected.
const leaky = defaultMemoryPool().proxy({ name: 'leaky' }).track()
use(new Cache(leaky, 10, false))
console.log(`${leaky.name}: ${leaky.bytesAllocated} bytes in ${leaky.liveAllocations} allocations`)

// At any time: what is alive now.
const [first] = leaky.allocations()
assert.ok(first !== undefined)
console.log(`the oldest: #${first.serial}, ${first.size} bytes, [${first.tags}], ${first.ageMs < 60_000 ? 'young' : 'old'}`)

// At the end: what was never disposed of, by the line that allocated it.
const report = leaky.close()
for (const { bytes, count, stack, tags } of [...(report.sites ?? []), ...(report.forgotten ?? [])]) {
  const line = stack[0]
  console.log(`${bytes} bytes in ${count} allocations [${tags}] from ${line?.function} (${line?.file?.split('/').at(-1)}:${line?.line})`)
}

const sites = [...(report.sites ?? []), ...(report.forgotten ?? [])]
assert.equal(sites.reduce((sum, { bytes }) => sum + bytes, 0), 90 * 1000)
assert.ok(sites.every(({ stack }) => stack[0]?.function.endsWith('put')))
assert.deepEqual([...new Set(sites.map(({ tags }) => tags))].sort(), ['tenant=north', 'tenant=south'])

// The same program with the line back in place.
const tight = defaultMemoryPool().proxy({ name: 'tight' }).track()
use(new Cache(tight, 10, true))
const { liveAllocations, sites: none } = tight.close()
console.log(`${tight.name}: ${liveAllocations} allocations alive at ${none?.length} places`)
assert.equal(liveAllocations, 0)
assert.deepEqual(none, [])
console.log('find-a-leak: ok')
