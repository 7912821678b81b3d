/**
 * GPU memory: buffers, pools, streams and copies that do not block, on NVIDIA's driver, which is looked for when it is first
 * needed. Without one every call says why.
 *
 * @module
 */

export { type ByteRange, CudaBufferReader } from './buffer-reader.js'
export { CudaBufferWriter, type CudaWriterOptions } from './buffer-writer.js'
export { copy, type CopyOptions, fill, type FillOptions } from './copy.js'
export {
  CudaDevice,
  type CudaMemoryInfo,
  type CudaMemoryManagerOptions,
  device,
  devices,
  type DriverPoolOptions,
  type EventOptions,
  type PlainOptions,
  type StreamOptions,
  type SubAllocatorPoolOptions,
} from './device.js'
export { CudaEvent } from './event.js'
export { type CudaEventHandle, type CudaMemoryHandle, exportEvent, exportMemory, openEvent, openMemory } from './exchange.js'
export { HostRegistration, registerHost } from './host-registration.js'
export {
  type CudaCounter,
  type CudaMemoryKind,
  CudaMemoryManager,
  type CudaMemoryShortage,
  type CudaMemoryStats,
  type OutOfMemoryCallback,
} from './memory-manager.js'
export { type CudaAvailable, type CudaStatus, type CudaUnavailable, isAvailable, status, type UnavailableReason } from './status.js'
export { CudaStream } from './stream.js'
