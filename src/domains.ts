/**
 * Allocator domains: whose allocator can be looked at, replaced and observed while threads allocate (PEP 445).
 *
 * @module
 */

import { checkDebugOptions, debugAll, type DebugOptions } from './debugging.js'
import { type AllocatorDomain, checkDomain } from './domain-name.js'
import { type MemoryPool, poolInternals } from './memory-pool.js'
import { native } from './native.js'
import { type AllocationEvent, type AllocationObserver, checkObserver, observe, observeArenas } from './observers.js'
import { isObject, property, wrongType } from './validate.js'

/** Functions that are told of the arenas of the `object` domain. At least one. */
export interface ArenaObserver {
  /** An arena was allocated. */
  onAlloc?: ((event: AllocationEvent) => void) | undefined
  /** An arena was freed. */
  onFree?: ((event: AllocationEvent) => void) | undefined
}

/** Pools that this environment installed: what watches their calls must not end when nobody else has them. */
const installed = new Map<AllocatorDomain, MemoryPool>()

/** The pool that serves a domain now. */
export function getAllocator(domain: AllocatorDomain): MemoryPool {
  return poolInternals.adopt(native.domainAllocator(checkDomain(domain, 'domain')))
}

/**
 * Replaces the allocator of a domain for the whole process, all workers included, or puts an observer over the one that
 * it has. Blocks that exist go back to the allocator that made them. The allocator of `mem` is the default pool: setting
 * either sets both.
 *
 * ```ts
 * const before = getAllocator('mem')
 * const pool = setAllocator('mem', { onMalloc: (event) => console.log(event.size) })
 * // …
 * setAllocator('mem', before)
 * ```
 *
 * @returns the pool that is installed now
 * @throws ERR_OFFHEAP_CLOSED for a pool that was closed
 */
export function setAllocator(domain: AllocatorDomain, allocator: MemoryPool | AllocationObserver): MemoryPool {
  const name = checkDomain(domain, 'domain')
  let pool: MemoryPool
  if (poolInternals.is(allocator)) {
    pool = poolInternals.adopt(native.domainSetAllocator(name, poolInternals.id(allocator)))
  } else {
    const observer = checkObserver(allocator, 'allocator')
    pool = poolInternals.adopt(observe(observer, (kinds) => native.domainObserve(name, kinds)))
  }
  installed.set(name, pool)
  return pool
}

/**
 * A pool that allocates from a domain: from whichever allocator it has at each request. Its buffers have no padding.
 * {@link getAllocator} gives the allocator itself, which stays the same when the domain gets another one.
 */
export function domainPool(domain: AllocatorDomain): MemoryPool {
  return poolInternals.adopt(native.domainPool(checkDomain(domain, 'domain')))
}

/**
 * The pool of small objects: blocks of up to 512 bytes from arenas of 256 KiB, as in CPython; larger ones come from the
 * `mem` domain. Its buffers have no padding.
 */
export function objectMemoryPool(): MemoryPool {
  return poolInternals.adopt(native.poolObject())
}

/**
 * Puts debug hooks over the allocators of all three domains, as `pool.debug()` does over one pool: for the whole process. A
 * domain that has them already is left as it is, so the second call does nothing. Blocks that exist go back to the
 * allocators that made them. `OFFHEAP_DEBUG_MEMORY_POOL=abort|trap|warn|throw` does the same from the start.
 */
export function setupDebugHooks(options?: DebugOptions): void {
  for (const domain of debugAll(checkDebugOptions(options))) installed.set(domain, getAllocator(domain))
}

/**
 * Replaces what makes the arenas of the `object` domain, for the whole process: a pool; an observer of what makes them
 * now; or `null` for the system, as at first. Each arena goes back to the allocator that made it.
 */
export function setArenaAllocator(allocator: MemoryPool | ArenaObserver | null): void {
  if (allocator === null) native.arenasFrom(0)
  else if (poolInternals.is(allocator)) native.arenasFrom(poolInternals.id(allocator))
  else {
    if (!isObject(allocator)) throw wrongType('allocator', 'a MemoryPool, an object with onAlloc or onFree, or null', allocator)
    const onMalloc = property(allocator, 'onAlloc', 'allocator.onAlloc') as AllocationObserver['onMalloc']
    const onFree = property(allocator, 'onFree', 'allocator.onFree') as AllocationObserver['onFree']
    observeArenas(checkObserver({ onMalloc, onFree }, 'allocator', 'onAlloc or onFree', allocator))
  }
}
