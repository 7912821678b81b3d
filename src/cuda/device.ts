import { Device, deviceInternals, type DeviceSeed } from '../device.js'
import { bufferInternals, IS_MUTABLE, type MemoryBuffer } from '../memory-buffer.js'
import type { AllocateOptions, MemoryPool } from '../memory-pool.js'
import { native, words } from '../native.js'
import { INTERNAL } from '../token.js'
import { checkBoolean, checkIntegerFrom, checkSize, checkString, describe, option, wrongReceiver, wrongType } from '../validate.js'
import { InvalidArgumentError } from '../errors.js'
import { type CudaEvent, eventInternals } from './event.js'
import { adoptManager, type CudaMemoryManager } from './memory-manager.js'
import type { NativeCudaProperties } from './native.js'
import { type CudaStream, streamInternals } from './stream.js'

/** Bytes of a GPU, of all processes. */
export interface CudaMemoryInfo {
  readonly free: number
  readonly total: number
}

/** Options of {@link CudaDevice.createStream}. */
export interface StreamOptions {
  /** Lower is more urgent; for what the GPU does not have it takes the nearest. 0 when absent. */
  priority?: number | undefined
  /**
   * True for a stream that does its work in order with CUDA's legacy default stream, where code of other libraries runs that names no
   * stream: each waits for what the other has. False when absent: they overlap.
   */
  blocking?: boolean | undefined
}

/** Options of {@link CudaDevice.createEvent}. */
export interface EventOptions {
  /** False for an event without a time, which costs the GPU less. True when absent, unless it is `shared`. */
  timing?: boolean | undefined
  /** True for an event that {@link exportEvent} takes; it has no time. False when absent. */
  shared?: boolean | undefined
}

/** A pool of the driver's: stream-ordered, and what was freed is kept until `trim()`. */
export interface DriverPoolOptions {
  kind: 'driver-pool'
  /** Bytes that are kept when the driver could give more back; all when absent. */
  releaseThreshold?: number | undefined
  /** Bytes to take at once. 0 when absent. */
  initialSize?: number | undefined
  /** Bytes that it may take. All of the GPU's when absent. */
  maxSize?: number | undefined
  /**
   * True for memory that {@link exportMemory} takes, where the GPU {@link CudaDevice.hasExportableMemoryPools can}. Drivers give nothing
   * back of such a pool before it ends, whatever is trimmed. False when absent.
   */
  exportable?: boolean | undefined
}

/** Our own sub-allocator: best fit, bins for small blocks, a free list for each stream. */
export interface SubAllocatorPoolOptions {
  kind: 'pool'
  /** Bytes to take at once, a multiple of 256. 0 when absent. */
  initialSize?: number | undefined
  /** Bytes that it may take, a multiple of 256. All of the GPU's when absent. */
  maxSize?: number | undefined
}

/** `cuMemAlloc` and `cuMemFree` for each block: for comparison, and for memory that other processes are to open. */
export interface PlainOptions {
  kind: 'plain'
}

/** Which manager {@link CudaDevice.createMemoryManager} makes. */
export type CudaMemoryManagerOptions = DriverPoolOptions | SubAllocatorPoolOptions | PlainOptions

/** What each kind takes. */
const optionsOf: Readonly<Record<CudaMemoryManagerOptions['kind'], readonly string[]>> = {
  'driver-pool': ['initialSize', 'maxSize', 'releaseThreshold', 'exportable'],
  pool: ['initialSize', 'maxSize'],
  plain: [],
}

/** What native code takes for a size that was not given. */
const ABSENT = -1

const checkPriority = (value: unknown, name: string): number => checkIntegerFrom(value, name, -(2 ** 31), 2 ** 31 - 1)

/** A GPU. There is one handle for each, so GPUs can be compared with `===`. */
export class CudaDevice extends Device {
  #properties: NativeCudaProperties | undefined = undefined
  /** Those that are made once, kept as long as the device: for good. */
  readonly #managers: Partial<Record<'gpu' | 'host' | 'managed', CudaMemoryManager>> = {}

  private constructor(token: typeof INTERNAL, seed: DeviceSeed) {
    super(token, seed)
  }

  static {
    deviceInternals.setClass('cuda', (seed) => new CudaDevice(INTERNAL, seed))
  }

  static #check(self: unknown): CudaDevice {
    if (typeof self === 'object' && self !== null && #properties in self) return self
    throw wrongReceiver('CudaDevice')
  }

  static #idOf(self: unknown): number {
    return deviceInternals.id(CudaDevice.#check(self))
  }

  static #propertiesOf(self: unknown): NativeCudaProperties {
    const device = CudaDevice.#check(self)
    return (device.#properties ??= native.cudaDeviceProperties(deviceInternals.id(device)))
  }

  /** What the maker calls it: `'NVIDIA H200'`. */
  get name(): string {
    return CudaDevice.#propertiesOf(this).name
  }

  /** The same in every process and after every start: 32 hexadecimal digits in groups, as `nvidia-smi` has them after `GPU-`. */
  get uuid(): string {
    return CudaDevice.#propertiesOf(this).uuid
  }

  /** Where it is plugged in: `'0000:3b:00.0'`. */
  get pciBusId(): string {
    return CudaDevice.#propertiesOf(this).pciBusId
  }

  /** `[major, minor]`. */
  get computeCapability(): readonly [number, number] {
    const { computeMajor, computeMinor } = CudaDevice.#propertiesOf(this)
    return [computeMajor, computeMinor]
  }

  /** How many multiprocessors it has. */
  get multiprocessors(): number {
    return CudaDevice.#propertiesOf(this).multiprocessors
  }

  /** Bytes of memory that it has. */
  get totalBytes(): number {
    return CudaDevice.#propertiesOf(this).totalBytes
  }

  /** True for a GPU that has no memory of its own, but uses the CPU's. */
  get isIntegrated(): boolean {
    return CudaDevice.#propertiesOf(this).integrated
  }

  /** True when the driver has pools of its memory: managers of the kind `driver-pool` work. */
  get hasMemoryPools(): boolean {
    return CudaDevice.#propertiesOf(this).memoryPools
  }

  /** True when these can be `exportable`: on Linux, where the driver shares them by file descriptors. */
  get hasExportableMemoryPools(): boolean {
    return CudaDevice.#propertiesOf(this).exportableMemoryPools
  }

  /** True when {@link managedMemoryManager} works. */
  get hasManagedMemory(): boolean {
    return CudaDevice.#propertiesOf(this).managedMemory
  }

  /** True when the CPU may use managed memory while the GPU does. Where it is false, it must wait for the GPU. */
  get hasConcurrentManagedAccess(): boolean {
    return CudaDevice.#propertiesOf(this).concurrentManagedAccess
  }

  /** Bytes that are free and that there are, of all processes. */
  memoryInfo(): CudaMemoryInfo {
    native.cudaMemoryInfo(CudaDevice.#idOf(this))
    return { free: words[0]!, total: words[1]! }
  }

  /** True when this GPU can use the memory of `peer` directly. */
  canAccess(peer: CudaDevice): boolean {
    const id = CudaDevice.#idOf(this)
    if (!deviceInternals.is(peer) || !(peer instanceof CudaDevice)) throw wrongType('peer', 'a CudaDevice', peer)
    return native.cudaCanAccessPeer(id, deviceInternals.id(peer))
  }

  /** Resolves when all work that is queued for the GPU by this process is done. */
  async synchronize(): Promise<void> {
    await native.cudaSynchronizeDevice(CudaDevice.#idOf(this))
  }

  static #managerOf(self: unknown, kind: 'host' | 'managed'): CudaMemoryManager {
    const device = CudaDevice.#check(self)
    return (device.#managers[kind] ??= adoptManager(native.cudaManagerOf(deviceInternals.id(device), kind)))
  }

  /** The default manager: a pool of the driver's of our own; where the driver has none, of the kind `plain`. */
  override get memoryManager(): CudaMemoryManager {
    const device = CudaDevice.#check(this)
    return (device.#managers.gpu ??= adoptManager(native.deviceDefaultManager(deviceInternals.id(device))))
  }

  override memoryManagerOf(pool: MemoryPool): CudaMemoryManager {
    return super.memoryManagerOf(pool) as CudaMemoryManager
  }

  /** Page-locked memory of the CPU from a pool of ours, which the GPU copies from and to without the CPU. */
  get hostMemoryManager(): CudaMemoryManager {
    return CudaDevice.#managerOf(this, 'host')
  }

  /** Memory that both the CPU and the GPU use, and that moves between them by itself. @throws ERR_OFFHEAP_NOT_SUPPORTED where there is none */
  get managedMemoryManager(): CudaMemoryManager {
    return CudaDevice.#managerOf(this, 'managed')
  }

  /**
   * A new manager, with memory of its own. It lives as long as a handle, a pool or a buffer of it.
   *
   * @throws ERR_OFFHEAP_OUT_OF_MEMORY when `initialSize` is not there; ERR_OFFHEAP_NOT_SUPPORTED for a pool of the driver's
   * where it has none, or none that is `exportable`
   */
  createMemoryManager(options: CudaMemoryManagerOptions): CudaMemoryManager {
    const id = CudaDevice.#idOf(this)
    if (options === undefined) throw wrongType('options', 'an object', options)
    const kind = option(options, 'kind', checkString, undefined)
    const allowed = kind === undefined || !Object.hasOwn(optionsOf, kind) ? undefined : optionsOf[kind as keyof typeof optionsOf]
    if (allowed === undefined) throw new InvalidArgumentError(`kind must be 'driver-pool', 'pool' or 'plain', got ${describe(kind)}`)
    const given = <Value>(name: string, check: (value: unknown, name: string) => Value): Value | undefined => {
      const value = option(options, name, check, undefined)
      if (value !== undefined && !allowed.includes(name)) throw new InvalidArgumentError(`${name} is no option of a manager of the kind '${kind}'`)
      return value
    }
    const size = (name: string): number => given(name, checkSize) ?? ABSENT
    const [initialSize, maxSize, releaseThreshold] = [size('initialSize'), size('maxSize'), size('releaseThreshold')]
    const exportable = given('exportable', checkBoolean) ?? false
    return adoptManager(native.cudaManagerCreate(id, kind!, initialSize, maxSize, releaseThreshold, exportable))
  }

  /**
   * A mutable buffer of page-locked memory of the CPU: its views are ArrayBuffers over it, the GPU copies from and to it
   * without the CPU. It comes from {@link hostMemoryManager}, and is cached by the CPU as other memory is.
   */
  allocateHostBuffer(size: number, options?: AllocateOptions): MemoryBuffer {
    return CudaDevice.#check(this).hostMemoryManager.allocateBuffer(size, options)
  }

  /**
   * A mutable buffer over `size` bytes of this GPU's memory at `address` that some other library owns (pyarrow's `foreign_buffer`), used in
   * the order of {@link defaultStream}. No pool counts it. **The caller is trusted**: the driver is asked only whether the range lies in an
   * allocation of this GPU's. `owner` is kept until the last handle is gone, so keep one until copies of the memory are done. Where the other library
   * has DLPack or Arrow's C Device interface, `fromDlpack` and `fromArrowDevice` (`offheap/arrow`) are safer.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT when that is no memory of this GPU's: freed, the CPU's, another GPU's; ERR_OFFHEAP_OUT_OF_RANGE
   * for a range that leaves its allocation
   */
  unsafeForeign(address: bigint | number, size: number, owner: unknown): MemoryBuffer {
    const id = CudaDevice.#idOf(this)
    const start = typeof address === 'bigint' ? address : BigInt(checkSize(address, 'address'))
    const buffer = bufferInternals.create(native.cudaForeign(id, start, checkSize(size, 'size')), IS_MUTABLE, undefined, undefined)
    bufferInternals.keepOwner(buffer, owner)
    return buffer
  }

  /** The stream of {@link memoryManager}: the one in whose order its buffers are used and go back. */
  get defaultStream(): CudaStream {
    const device = CudaDevice.#check(this)
    return streamInternals.adopt(native.cudaStreamDefault(deviceInternals.id(device)), device)
  }

  /**
   * CUDA's legacy default stream, where code of other libraries runs that names none. What is queued there waits for all work of
   * streams that are `blocking`, and they for it; other streams do not.
   */
  get legacyStream(): CudaStream {
    const device = CudaDevice.#check(this)
    return streamInternals.adopt(native.cudaStreamLegacy(deviceInternals.id(device)), device)
  }

  /** A new queue of work, which neither waits for CUDA's legacy default stream nor holds it up, unless it is `blocking`. */
  createStream(options?: StreamOptions): CudaStream {
    const device = CudaDevice.#check(this)
    const priority = option(options, 'priority', checkPriority, 0)
    const blocking = option(options, 'blocking', checkBoolean, false)
    return streamInternals.adopt(native.cudaStreamCreate(deviceInternals.id(device), priority, blocking), device)
  }

  /** An event that was not recorded yet: {@link CudaStream.record} does. @throws ERR_OFFHEAP_INVALID_ARGUMENT for one that is shared and has a time */
  createEvent(options?: EventOptions): CudaEvent {
    const device = CudaDevice.#check(this)
    const shared = option(options, 'shared', checkBoolean, false)
    const timing = option(options, 'timing', checkBoolean, !shared)
    if (shared && timing) throw new InvalidArgumentError('timing must be false for an event that is shared')
    return eventInternals.adopt(native.cudaEventCreate(deviceInternals.id(device), timing, shared), device)
  }

  /** `'CudaDevice'` */
  override get [Symbol.toStringTag](): string {
    return 'CudaDevice'
  }
}

/** The GPU with a number, as the driver counts. @throws ERR_OFFHEAP_INVALID_ARGUMENT for a number that no GPU has; ERR_OFFHEAP_DEVICE_UNAVAILABLE where there is none at all */
export function device(ordinal = 0): CudaDevice {
  return deviceInternals.adopt(native.cudaDevice(checkSize(ordinal, 'ordinal'))) as CudaDevice
}

/** All GPUs that this process may see; none where there is no driver, for which {@link status} has the reason. */
export function devices(): CudaDevice[] {
  return Array.from({ length: native.cudaDeviceCount() }, (_, ordinal) => device(ordinal))
}
