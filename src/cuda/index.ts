/**
 * GPU memory on NVIDIA's driver, which is looked for when it is first needed.
 *
 * @module
 */

export { type CudaAvailable, type CudaStatus, type CudaUnavailable, isAvailable, status, type UnavailableReason } from './status.js'
