/**
 * Buffers of any device as structs that other native libraries of the process take, and theirs as buffers, without a copy: Arrow's C
 * Device interface, and DLPack.
 *
 * @module
 */

export { ArrowDeviceHandle, type ArrowDeviceOptions, fromArrowDevice, type ImportedArray, toArrowDevice, unsafeFromArrowDevice } from './device-array.js'
export {
  ArrowDeviceStreamHandle,
  ArrowDeviceStreamReader,
  fromArrowDeviceStream,
  toArrowDeviceStream,
  unsafeFromArrowDeviceStream,
} from './device-stream.js'
export { DlpackHandle, type DlpackOptions, type ForeignTensorOptions, fromDlpack, type ImportedTensor, type TensorElementType, toDlpack, unsafeFromDlpack } from './dlpack.js'
export type { ConsumerOptions, ProducerOptions } from './moments.js'
