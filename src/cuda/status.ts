import { native } from '../native.js'

/** Why there is no GPU to work with. */
export type UnavailableReason =
  /** No libcuda was found. */
  | 'no-library'
  /** A libcuda without a function that is needed. */
  | 'missing-symbol'
  /** The toolkit's stub of libcuda stands before the driver's on the library path. */
  | 'stub-library'
  /** A driver, but no GPU that this process may see. */
  | 'no-device'
  /** A driver older than CUDA 12.2. */
  | 'driver-too-old'
  /** The driver says something else: see `driverCode`. */
  | 'driver-error'

/** The driver is there, and at least one GPU. */
export interface CudaAvailable {
  readonly available: true
  /** The library that was loaded. */
  readonly library: string
  /** The newest CUDA that the driver knows: `'12.8'`. */
  readonly driverVersion: string
}

/** There is no GPU to work with. */
export interface CudaUnavailable {
  readonly available: false
  /** Why, in a word for programs. */
  readonly reason: UnavailableReason
  /** The same for people, with what can be done. */
  readonly message: string
  /** The library that was loaded; absent when none was. */
  readonly library?: string
  /** The names that were tried, where none was found. */
  readonly searched?: readonly string[]
  /** The function that is missing, for `missing-symbol`. */
  readonly symbol?: string
  /** The driver's own code, where it said no. */
  readonly driverCode?: number
  /** The newest CUDA that the driver knows, where it could be asked. */
  readonly driverVersion?: string
}

/** What there is. */
export type CudaStatus = CudaAvailable | CudaUnavailable

/** CUDA counts a version as 1000 × major + 10 × minor. */
function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`
}

/**
 * Whether there is a GPU to work with, and if not, why. Looks for the driver the first time (about a millisecond where there
 * is none) and never throws; the answer stays the same as long as the process.
 */
export function status(): CudaStatus {
  const found = native.cudaStatus()
  const { available, reason, message, library } = found
  if (available) return { available, library, driverVersion: versionText(found.driverVersion) }
  return {
    available,
    reason: reason as UnavailableReason,
    message,
    ...(library === '' ? {} : { library }),
    ...(found.searched.length === 0 ? {} : { searched: found.searched }),
    ...(found.symbol === '' ? {} : { symbol: found.symbol }),
    ...(found.driverCode < 0 ? {} : { driverCode: found.driverCode }),
    ...(found.driverVersion < 0 ? {} : { driverVersion: versionText(found.driverVersion) }),
  }
}

/** `status().available`. */
export function isAvailable(): boolean {
  return native.cudaStatus().available
}
