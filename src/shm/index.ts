/**
 * Memory shared between processes of one user: buffers that another process opens in place, by a handle that goes through JSON.
 *
 * @module
 */

export { exportHandle, open, type OpenOptions, revoke, seal } from './exchange.js'
export type { SharedMemoryHandle } from './handle.js'
export { device, memoryManager, memoryPool, type SharedMemoryOptions } from './memory.js'
