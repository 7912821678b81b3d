/**
 * The native functions of this subpath. They are among all others' in {@link native}, so that what follows calls (trackers,
 * observers) follows these, too.
 *
 * @module
 */

/** What native code found out about the driver. Absent texts are '', absent numbers -1. */
export interface NativeCudaStatus {
  available: boolean
  reason: string
  message: string
  library: string
  searched: string[]
  symbol: string
  driverCode: number
  driverVersion: number
}

/** What does not change about a GPU. */
export interface NativeCudaProperties {
  name: string
  uuid: string
  pciBusId: string
  computeMajor: number
  computeMinor: number
  multiprocessors: number
  totalBytes: number
  integrated: boolean
  memoryPools: boolean
  exportableMemoryPools: boolean
  managedMemory: boolean
  concurrentManagedAccess: boolean
}

/** Where another process finds device memory. */
export interface NativeCudaMemoryHandle {
  device: string
  handle: string
  offset: number
  length: number
}

/** Where another process finds an event. */
export interface NativeCudaEventHandle {
  device: string
  handle: string
}

/**
 * - Devices, managers and buffers have the ids that they have in the rest of the addon; streams and events have their own.
 *   Ids are positive; 0 means none.
 * - Every function but `cudaStatus` and `cudaDeviceCount` throws ERR_OFFHEAP_DEVICE_UNAVAILABLE where there is no driver.
 * - A promise is settled when the GPU has done the work; until then both sides' memory, the stream and the event are kept.
 */
export interface NativeCuda {
  cudaStatus(): NativeCudaStatus
  cudaDeviceCount(): number
  cudaDevice(ordinal: number): number
  cudaDeviceProperties(device: number): NativeCudaProperties
  /** Sets `words` 0 and 1 to the free and all bytes. */
  cudaMemoryInfo(device: number): void
  cudaCanAccessPeer(device: number, peer: number): boolean
  cudaSynchronizeDevice(device: number): Promise<void>
  cudaForeign(device: number, address: bigint, size: number): number

  cudaManagerCreate(device: number, kind: string, initialSize: number, maxSize: number, releaseThreshold: number, exportable: boolean): number
  cudaManagerOf(device: number, kind: string): number
  cudaManagerKind(manager: number): string
  cudaManagerOn(manager: number, stream: number): number
  /** The number of the GPU. */
  cudaManagerOrdinal(manager: number): number
  /** Sets `words` 0-8: requested, allocated and reserved bytes, each now, at its peak and in total; -1 for what is not known. */
  cudaManagerStats(manager: number): void
  /** What stands for the memory that a pool leads to, the same for all pools and streams of it; 0 for none of a GPU's. */
  cudaMemoryOfPool(pool: number): number
  cudaMemoryOfManager(manager: number): number
  cudaManagerResetPeaks(manager: number): void
  cudaManagerTrim(manager: number, keepBytes: number): void

  cudaStreamCreate(device: number, priority: number, blocking: boolean): number
  /** That of the GPU's default manager. */
  cudaStreamDefault(device: number): number
  /** CUDA's legacy default stream. */
  cudaStreamLegacy(device: number): number
  cudaStreamPriority(stream: number): number
  cudaStreamIsBlocking(stream: number): boolean
  cudaStreamDrop(stream: number): void
  cudaStreamIsComplete(stream: number): boolean
  cudaStreamSynchronize(stream: number): Promise<void>
  cudaStreamWaitEvent(stream: number, event: number): void

  cudaEventCreate(device: number, timing: boolean, shared: boolean): number
  cudaEventDrop(event: number): void
  cudaEventRecord(event: number, stream: number): void
  cudaEventIsComplete(event: number): boolean
  cudaEventCompleted(event: number): Promise<void>
  cudaEventElapsedMs(event: number, since: number): number

  /** In the order of the stream; 0 for that of the memory. */
  cudaCopy(target: number, targetOffset: number, source: number, sourceOffset: number, length: number, stream: number): Promise<void>
  cudaFill(target: number, offset: number, length: number, byte: number, stream: number): Promise<void>

  /** Copies bytes of a buffer anywhere until `target` is full, and waits for it. */
  cudaRead(buffer: number, position: number, target: Uint8Array): void
  /** Copies the first `length` bytes of `source`, which the CPU has, to a buffer anywhere, and waits for it. */
  cudaWrite(buffer: number, position: number, source: number | Uint8Array, length: number): void

  cudaRegisterHost(buffer: number): number
  cudaUnregisterHost(registration: number): void

  cudaExportMemory(buffer: number): NativeCudaMemoryHandle
  cudaOpenMemory(handle: NativeCudaMemoryHandle): number
  cudaExportEvent(event: number): NativeCudaEventHandle
  cudaOpenEvent(handle: NativeCudaEventHandle): number
}
