/**
 * offheap: memory you control, outside the JavaScript heap.
 *
 * @packageDocumentation
 */

export { Arena, type ArenaOptions } from './arena.js'
export { type BinaryBuffers, BinaryBufferBuilder, type BinaryBuilderOptions, type OffsetType } from './binary-buffer-builder.js'
export { BufferBuilder } from './buffer-builder.js'
export { BufferOutputStream, type ResetOptions } from './buffer-output-stream.js'
export { BufferReader } from './buffer-reader.js'
export type { BuilderOptions, FinishOptions } from './builder-block.js'
export type { ByteSource, ByteTarget } from './bytes.js'
export type { AllocatorDomain } from './domain-name.js'
export {
  type ArenaObserver,
  domainPool,
  getAllocator,
  objectMemoryPool,
  setAllocator,
  setArenaAllocator,
  setupDebugHooks,
} from './domains.js'
export type { ElementOf, ElementsOf, ElementType, NumberArray } from './element-type.js'
export type { DebugOptions, OnCorruption } from './debugging.js'
export { cpuDevice, Device } from './device.js'
export {
  BusyError,
  ClosedError,
  CorruptionError,
  type CorruptionKind,
  type CorruptionOrigin,
  type CorruptionReport,
  DeviceUnavailableError,
  DisposedError,
  type ErrorCode,
  ImmutableError,
  InternalError,
  InvalidArgumentError,
  InvalidArgumentRangeError,
  isOffheapError,
  NotSupportedError,
  type OffheapError,
  type OutOfMemoryDetails,
  OutOfMemoryError,
  OutOfRangeError,
} from './errors.js'
export type { FailingCounts, FailingOptions, PoolFailingOptions } from './failing.js'
export type { FileTransferOptions } from './file-transfer.js'
export { FixedSizeBufferWriter } from './fixed-size-buffer-writer.js'
export type { StackFrame } from './frames.js'
export { jemallocPeakReset, jemallocSetDecayMs, jemallocStat, jemallocStatsPrint, jemallocStatsString } from './jemalloc.js'
export type { LogOptions, LogSink } from './log.js'
export { MemoryBuffer, type ResizeOptions } from './memory-buffer.js'
export type { MemoryReader, MemoryWriter } from './memory-files.js'
export { cpuMemoryManager, defaultCpuMemoryManager, MemoryManager } from './memory-manager.js'
export {
  type BackendOverview,
  type HeapOverview,
  memoryOverview,
  type MemoryOverview,
  type MemoryOverviewPart,
  printMemoryOverview,
} from './memory-overview.js'
export {
  type AccountOptions,
  type AllocateOptions,
  type BackendPoolOptions,
  defaultMemoryPool,
  jemallocMemoryPool,
  type LeakReport,
  MemoryPool,
  type MemoryPoolStats,
  mappedMemoryPool,
  mimallocMemoryPool,
  type PoolOptions,
  type ScopeCounter,
  type ScopeCounters,
  setDefaultMemoryPool,
  supportedMemoryBackends,
  systemMemoryPool,
  totalAllocatedBytes,
} from './memory-pool.js'
export { MockOutputStream } from './mock-output-stream.js'
export { type Capabilities, capabilities } from './native.js'
export type { AllocationEvent, AllocationObserver } from './observers.js'
export { Pin } from './pin.js'
export type { ReadableOptions } from './streams.js'
export {
  type FailurePoint,
  sweepOutOfMemory,
  type SweepLeak,
  type SweepOptions,
  type SweepReport,
  type SweepWrongError,
} from './sweep.js'
export { revokeShared, type Ticket } from './ticket.js'
export { type AllocationInfo, type AllocationSite, type Tags, type TrackOptions, withTags } from './tracking.js'
export type { TrimOptions, TrimPolicy } from './trimming.js'
export { TypedBufferBuilder } from './typed-buffer-builder.js'
