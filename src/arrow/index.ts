/**
 * Buffers of any device as structs that other native libraries of the process take, and theirs as buffers, without a copy: Arrow's C
 * Device interface, and DLPack.
 *
 * @module
 */

export { ArrowDeviceHandle, type ArrowDeviceOptions, fromArrowDevice, type ImportedArray, toArrowDevice, unsafeFromArrowDevice } from './device-array.js'
export { DlpackHandle, type DlpackOptions, fromDlpack, type ImportedTensor, type TensorElementType, toDlpack, unsafeFromDlpack } from './dlpack.js'
