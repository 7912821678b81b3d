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

/** Works without a driver. */
export interface NativeCuda {
  cudaStatus(): NativeCudaStatus
  cudaDeviceCount(): number
}
