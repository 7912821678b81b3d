import { type Device, deviceInternals } from '../device.js'
import { managerInternals, type MemoryManager } from '../memory-manager.js'
import { type MemoryPool, poolInternals } from '../memory-pool.js'
import { native } from '../native.js'
import { checkBoolean, checkString, option } from '../validate.js'

/** How a pool makes shared memory. */
export interface SharedMemoryOptions {
  /**
   * What the memory is called in listings of the system (`/proc/<pid>/maps` on Linux; elsewhere names are random): at most
   * 200 bytes. Handles do not say it. '' when absent.
   */
  label?: string | undefined
  /**
   * True to take all pages when a buffer is made, so that running out of them is an error then. Else a page is taken when it
   * is first written, and a system without any left ends a process, as for ordinary memory.
   */
  reserve?: boolean | undefined
}

/** Shared memory as a device: `typeName` is `'shm'`, and `isCpu` is true. */
export function device(): Device {
  return deviceInternals.adopt(native.shmDevice())
}

/**
 * A pool of shared memory: the one that all share when `options` is absent, else a new one. It counts, and `limit`, `proxy`,
 * `track` and the rest work on it as on every pool; buffers and builders take it as their `pool`.
 *
 * Each block is memory of its own, so it costs a file descriptor, a mapping, some microseconds and whole pages (its size and 64
 * bytes more, rounded up): for few large blocks, not many small ones.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a label that is too long
 */
export function memoryPool(options?: SharedMemoryOptions): MemoryPool {
  const label = option(options, 'label', checkString, '')
  const reserve = option(options, 'reserve', checkBoolean, false)
  return poolInternals.adopt(options === undefined ? native.shmDefaultPool() : native.shmPool(label, reserve))
}

/**
 * The manager of {@link memoryPool}`(options)`. For that of another pool of shared memory, one with a limit say, ask
 * `device().memoryManagerOf(pool)`.
 */
export function memoryManager(options?: SharedMemoryOptions): MemoryManager {
  const pool = memoryPool(options)
  const id = deviceInternals.id(device())
  return managerInternals.adoptFor(pool, options === undefined ? native.deviceDefaultManager(id) : native.deviceManager(id, poolInternals.id(pool)))
}
