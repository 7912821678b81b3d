import { inspect } from 'node:util'
import { type MemoryManager, managerInternals } from './memory-manager.js'
import { type MemoryPool, poolInternals } from './memory-pool.js'
import { native, words } from './native.js'
import { INTERNAL } from './token.js'
import { noConstructor, wrongReceiver } from './validate.js'

/** What native code said of a device. */
export interface DeviceSeed {
  readonly id: number
  readonly deviceType: number
  readonly deviceId: number
  readonly isCpu: boolean
}

/** What the rest of `src/` may do with a device. */
interface DeviceInternals {
  is(value: unknown): value is Device
  /** The native id. */
  id(device: Device): number
  /** The one handle of this environment for the device that the last native call returned. */
  adopt(id: number): Device
  /** Devices of this type are from now on of a class of their own, which `make` constructs. For the module of the type, once. */
  setClass(typeName: string, make: (seed: DeviceSeed) => Device): void
}

/** @internal */
export let deviceInternals: DeviceInternals

/**
 * Something with memory of its own: the CPU, a GPU, what processes share (Arrow's `Device`). What can be done with its memory
 * is a {@link MemoryManager}'s matter; a device has a default one, and may have more.
 *
 * There is one handle for each device and environment, so devices can be compared with `===`.
 */
export class Device {
  readonly #id: number
  readonly #deviceType: number
  readonly #deviceId: number
  readonly #isCpu: boolean

  /** For subclasses of the package's own. */
  protected constructor(token: typeof INTERNAL, seed: DeviceSeed) {
    if (token !== INTERNAL) throw noConstructor('Device', 'cpuDevice(), buffer.device or manager.device')
    this.#id = seed.id
    this.#deviceType = seed.deviceType
    this.#deviceId = seed.deviceId
    this.#isCpu = seed.isCpu
  }

  static {
    // Kept for good: there are few, and each is there as long as the process.
    let known: Device[] = []
    const classes = new Map<string, (seed: DeviceSeed) => Device>()
    deviceInternals = {
      is: (value): value is Device => Device.#isDevice(value),
      id: (device) => device.#id,
      adopt(id) {
        const deviceType = words[0]!
        const deviceId = words[1]!
        const isCpu = words[2] === 1
        for (const device of known) {
          if (device.#deviceType === deviceType && device.#deviceId === deviceId && native.deviceEquals(device.#id, id)) {
            native.deviceDrop(id)
            return device
          }
        }
        const make = classes.size === 0 ? undefined : classes.get(native.deviceTypeName(id))
        const seed = { id, deviceType, deviceId, isCpu }
        const device = make === undefined ? new Device(INTERNAL, seed) : make(seed)
        known.push(device)
        return device
      },
      setClass(typeName, make) {
        classes.set(typeName, make)
        // Handles of before stay what they are; nobody gets one from here any more.
        known = known.filter((device) => native.deviceTypeName(device.#id) !== typeName)
      },
    }
  }

  static #isDevice(value: unknown): value is Device {
    return typeof value === 'object' && value !== null && #id in value
  }

  static #check(self: unknown): Device {
    if (!Device.#isDevice(self)) throw wrongReceiver('Device')
    return self
  }

  /** The kind of device: `'cpu'`, `'cuda'`, … */
  get typeName(): string {
    return native.deviceTypeName(Device.#check(this).#id)
  }

  /** The kind of its memory, in the codes of Arrow's C Device interface and DLPack: 1 is the CPU, 2 a CUDA GPU. */
  get deviceType(): number {
    return Device.#check(this).#deviceType
  }

  /** Which device of its kind; -1 where there is only one. */
  get deviceId(): number {
    return Device.#check(this).#deviceId
  }

  /** True when the CPU may read and write its memory. */
  get isCpu(): boolean {
    return Device.#check(this).#isCpu
  }

  /** The manager for whoever names no other: where `copyTo(device)` copies to. @throws ERR_OFFHEAP_DEVICE_UNAVAILABLE when the device went away */
  get memoryManager(): MemoryManager {
    return managerInternals.adopt(native.deviceDefaultManager(Device.#check(this).#id))
  }

  /** The manager whose memory comes from `pool`. @throws ERR_OFFHEAP_INVALID_ARGUMENT for a pool of another device */
  memoryManagerOf(pool: MemoryPool): MemoryManager {
    const id = Device.#check(this).#id
    const poolId = poolInternals.id(poolInternals.check(pool, 'pool'))
    return managerInternals.adoptFor(pool, native.deviceManager(id, poolId))
  }

  /** True when both are the same device; false for what is none. */
  equals(other: unknown): boolean {
    const id = Device.#check(this).#id
    return Device.#isDevice(other) && native.deviceEquals(id, other.#id)
  }

  /** Where its memory lies, as messages say it: `cpu`, `cuda:0`. */
  toString(): string {
    return native.deviceLocation(Device.#check(this).#id)
  }

  /** `'Device'` */
  get [Symbol.toStringTag](): string {
    return 'Device'
  }

  /** @internal */
  [inspect.custom](): string {
    return Device.#isDevice(this) ? `Device { ${native.deviceLocation(this.#id)} }` : 'Device {}'
  }
}

/** The CPU. */
export function cpuDevice(): Device {
  return deviceInternals.adopt(native.deviceCpu())
}
