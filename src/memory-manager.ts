import { inspect } from 'node:util'
import { BufferReader } from './buffer-reader.js'
import { type Device, deviceInternals } from './device.js'
import { InvalidArgumentError } from './errors.js'
import { FixedSizeBufferWriter } from './fixed-size-buffer-writer.js'
import { bufferInternals, IS_MUTABLE, type MemoryBuffer } from './memory-buffer.js'
import type { MemoryReader, MemoryWriter } from './memory-files.js'
import { allocationArguments, type AllocateOptions, type MemoryPool, poolInternals, poolOfId } from './memory-pool.js'
import { native, words } from './native.js'
import { retried } from './out-of-memory.js'
import { INTERNAL } from './token.js'
import { checkSize, noConstructor, wrongReceiver, wrongType } from './validate.js'

/** What the rest of `src/` may do with a memory manager. */
interface ManagerInternals {
  /** The native id. */
  id(manager: MemoryManager): number
  /** The manager that an argument names: itself, or a device's default one. */
  check(value: unknown, name: string): MemoryManager
  /** The one handle of this environment for the manager that the last native call returned. */
  adopt(id: number): MemoryManager
  /** The same, for a call that names the pool: equal managers of one pool are one handle. */
  adoptFor(pool: MemoryPool, id: number): MemoryManager
  /** The manager of a pool's buffers. */
  ofPool(pool: MemoryPool): MemoryManager
  /** An argument that must be a buffer of the manager's device. */
  checkOwn(manager: MemoryManager, buffer: unknown): MemoryBuffer
  /**
   * Managers of devices of this type are from now on of a class of their own, which `make` constructs with the native id. For
   * the module of the type, once.
   */
  setClass(typeName: string, make: (id: number) => MemoryManager): void
}

/** @internal */
export let managerInternals: ManagerInternals

/**
 * Allocates, copies and views memory of one device (Arrow's `MemoryManager`). A device has a default one and may have more: on
 * the CPU one for each pool. `buffer.copyTo(manager)`, `viewOn` and `viewOrCopyTo` move bytes between them.
 *
 * Compare managers with {@link equals}. A pool's buffers all have the same object.
 */
export class MemoryManager {
  readonly #id: number
  /** The pool, where it is always the same one; keeps that pool's handle, and so this one, the only one. */
  #pool: MemoryPool | undefined = undefined

  /** For subclasses of the package's own. */
  protected constructor(token: typeof INTERNAL, id: number) {
    if (token !== INTERNAL) throw noConstructor('MemoryManager', 'defaultCpuMemoryManager(), cpuMemoryManager(pool) or buffer.memoryManager')
    this.#id = id
  }

  static {
    const byKey = new Map<number, WeakRef<MemoryManager>>()
    let ofPools = new WeakMap<MemoryPool, MemoryManager>()
    const classes = new Map<string, (id: number) => MemoryManager>()
    const make = (id: number): MemoryManager => {
      const makes = classes.size === 0 ? undefined : classes.get(deviceInternals.adopt(native.managerDevice(id)).typeName)
      return makes === undefined ? new MemoryManager(INTERNAL, id) : makes(id)
    }
    const forgotten = new FinalizationRegistry<{ id: number; key: number }>(({ id, key }) => {
      if (byKey.get(key)?.deref() === undefined) byKey.delete(key)
      native.managerDrop(id)
    })
    const adopt = (id: number): MemoryManager => {
      const key = words[0]!
      const known = byKey.get(key)?.deref()
      if (known !== undefined) {
        native.managerDrop(id)
        return known
      }
      const manager = make(id)
      byKey.set(key, new WeakRef(manager))
      forgotten.register(manager, { id, key })
      return manager
    }
    const adoptFor = (pool: MemoryPool, id: number): MemoryManager => {
      const manager = adopt(id)
      const known = ofPools.get(pool)
      if (known !== undefined && native.managerEquals(known.#id, manager.#id)) return known
      manager.#pool = pool
      ofPools.set(pool, manager)
      return manager
    }
    managerInternals = {
      id: (manager) => manager.#id,
      check(value, name) {
        if (MemoryManager.#isManager(value)) return value
        if (deviceInternals.is(value)) return adopt(native.deviceDefaultManager(deviceInternals.id(value)))
        throw wrongType(name, 'a MemoryManager or a Device', value)
      },
      adopt,
      adoptFor,
      setClass(typeName, make) {
        classes.set(typeName, make)
        // Handles of before stay what they are; nobody gets one from here any more.
        byKey.clear()
        ofPools = new WeakMap()
      },
      checkOwn(manager, buffer) {
        if (!bufferInternals.is(buffer)) throw wrongType('buffer', 'a MemoryBuffer', buffer)
        const device = deviceInternals.adopt(native.managerDevice(manager.#id))
        const where = buffer.device
        if (device.equals(where)) return buffer
        throw new InvalidArgumentError(`buffer must be memory of ${device.toString()}, got memory of ${where.toString()}: use its own manager`)
      },
      ofPool: (pool) => ofPools.get(pool) ?? adoptFor(pool, native.managerOfPool(poolInternals.id(pool))),
    }
  }

  static #isManager(value: unknown): value is MemoryManager {
    return typeof value === 'object' && value !== null && #id in value
  }

  static #idOf(self: unknown): number {
    if (!MemoryManager.#isManager(self)) throw wrongReceiver('MemoryManager')
    return self.#id
  }

  /** The device whose memory this is. */
  get device(): Device {
    return deviceInternals.adopt(native.managerDevice(MemoryManager.#idOf(this)))
  }

  /** True when the CPU may read and write the memory. */
  get isCpu(): boolean {
    return native.managerIsCpu(MemoryManager.#idOf(this))
  }

  /**
   * The pool that allocations come from; `undefined` for a manager that allocates nothing. Of
   * {@link defaultCpuMemoryManager} it is what is the default pool at the moment.
   */
  get pool(): MemoryPool | undefined {
    const id = MemoryManager.#idOf(this)
    return this.#pool ?? poolOfId(native.managerPool(id))
  }

  /**
   * A mutable buffer of `size` bytes of this memory, whose content is whatever that held (all zero with `zeroFill`). Where
   * `isCpu` is false nothing of offheap reads it: `copyTo` a manager of the CPU first.
   *
   * @param size - in bytes
   * @throws ERR_OFFHEAP_OUT_OF_MEMORY over a limit or when the device refuses; ERR_OFFHEAP_NOT_SUPPORTED for a manager that
   * allocates nothing
   */
  allocateBuffer(size: number, options?: AllocateOptions): MemoryBuffer {
    const id = MemoryManager.#idOf(this)
    const bytes = checkSize(size, 'size')
    const { alignment, flags } = allocationArguments(options, 0)
    return retried('manager', id, () => bufferInternals.create(native.managerAllocate(id, bytes, alignment, flags), IS_MUTABLE, undefined, undefined))
  }

  /**
   * A reader of `buffer`, which is memory of this manager's device, at its start. Of the CPU's it is a {@link BufferReader}, of a
   * GPU's a `CudaBufferReader`.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for memory of another device; ERR_OFFHEAP_NOT_SUPPORTED where nothing reads the device
   */
  reader(buffer: MemoryBuffer): MemoryReader {
    MemoryManager.#idOf(this)
    return new BufferReader(managerInternals.checkOwn(this, buffer))
  }

  /**
   * A writer of `buffer`, which is memory of this manager's device, at its start. Of the CPU's it is a
   * {@link FixedSizeBufferWriter}, of a GPU's a `CudaBufferWriter`.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for memory of another device; ERR_OFFHEAP_IMMUTABLE; ERR_OFFHEAP_NOT_SUPPORTED where
   * nothing writes the device
   */
  writer(buffer: MemoryBuffer): MemoryWriter {
    MemoryManager.#idOf(this)
    return new FixedSizeBufferWriter(managerInternals.checkOwn(this, buffer))
  }

  /** True when both manage the same device's memory from the same pool; false for what is none. */
  equals(other: unknown): boolean {
    const id = MemoryManager.#idOf(this)
    return MemoryManager.#isManager(other) && native.managerEquals(id, other.#id)
  }

  /** `'MemoryManager'` */
  get [Symbol.toStringTag](): string {
    return 'MemoryManager'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!MemoryManager.#isManager(this)) return 'MemoryManager {}'
    const device = deviceInternals.adopt(native.managerDevice(this.#id))
    const pool = poolOfId(native.managerPool(this.#id))
    return `MemoryManager { ${native.deviceLocation(deviceInternals.id(device))}${pool === undefined ? '' : `, pool ${pool.name}`} }`
  }
}

/** The CPU's manager over what is the default pool at each call. */
export function defaultCpuMemoryManager(): MemoryManager {
  return managerInternals.adopt(native.managerDefaultCpu())
}

/**
 * The CPU's manager over `pool`, the same object for the same pool.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a pool of a device's memory
 */
export function cpuMemoryManager(pool: MemoryPool): MemoryManager {
  return managerInternals.adoptFor(pool, native.managerCpu(poolInternals.id(poolInternals.check(pool, 'pool'))))
}
