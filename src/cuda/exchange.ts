/**
 * Memory and events of a GPU in other processes of the same user.
 *
 * @module
 */

import { InvalidArgumentError } from '../errors.js'
import { bufferInternals, IS_MUTABLE, type MemoryBuffer } from '../memory-buffer.js'
import { native } from '../native.js'
import { checkSize, checkString, isObject, property, wrongType } from '../validate.js'
import { type CudaDevice, devices } from './device.js'
import { type CudaEvent, eventInternals } from './event.js'

/** Where another process finds memory of a GPU. It goes through JSON. */
export interface CudaMemoryHandle {
  /** The GPU, by what is the same in all processes. */
  readonly device: string
  /**
   * The allocation: the driver's own handle, in hexadecimal; for memory of an exportable pool, where this process can be asked for it, and
   * what proves that it gave the handle.
   */
  readonly handle: string
  /** Where the buffer begins in the allocation, in bytes. */
  readonly offset: number
  /** Bytes. */
  readonly length: number
}

/** Where another process finds an event. It goes through JSON. */
export interface CudaEventHandle {
  /** The GPU, by what is the same in all processes. */
  readonly device: string
  /** The driver's handle, in hexadecimal. */
  readonly handle: string
}

function checkHandle(handle: unknown): { device: string; handle: string } {
  if (!isObject(handle)) throw wrongType('handle', 'an object', handle)
  return {
    device: checkString(property(handle, 'device', 'handle.device'), 'handle.device'),
    handle: checkString(property(handle, 'handle', 'handle.handle'), 'handle.handle'),
  }
}

/**
 * A handle by which another process of the same user opens `buffer`. The memory must come from a manager of the kind `plain`
 * or `pool`, or of the kind `driver-pool` that is `exportable`. This process must keep the buffer until the other has closed it: CUDA does not.
 *
 * Memory of an exportable pool may be opened when its allocation had its turn in its stream, so this waits for what was queued there before.
 * That its bytes are there is for an {@link exportEvent event} to say, of memory of every kind.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for memory of any other manager, and for what was opened here
 */
export function exportMemory(buffer: MemoryBuffer): CudaMemoryHandle {
  if (!bufferInternals.is(buffer)) throw wrongType('buffer', 'a MemoryBuffer', buffer)
  bufferInternals.size(buffer)
  const id = bufferInternals.bytesAnywhere(buffer)
  if (typeof id !== 'number') throw wrongType('buffer', 'a buffer of a GPU', buffer)
  return native.cudaExportMemory(id)
}

/**
 * The memory that another process exported, as a mutable buffer that no pool counts. `dispose()` closes it.
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a handle that is malformed, forged or of this process, and for a stale one of memory of a `plain` or
 * `pool` manager; ERR_OFFHEAP_OUT_OF_RANGE for one of more than the allocation. Of an exportable pool's memory, which its maker is asked for:
 * ERR_OFFHEAP_DISPOSED when that freed it or ended, ERR_OFFHEAP_NOT_SUPPORTED when the processes are in different PID or network namespaces,
 * ERR_OFFHEAP_DEVICE_UNAVAILABLE when it does not answer, or the system does not let them talk
 */
export function openMemory(handle: CudaMemoryHandle): MemoryBuffer {
  const checked = checkHandle(handle)
  const offset = checkSize(property(handle, 'offset', 'handle.offset'), 'handle.offset')
  const length = checkSize(property(handle, 'length', 'handle.length'), 'handle.length')
  return bufferInternals.create(native.cudaOpenMemory({ ...checked, offset, length }), IS_MUTABLE, undefined, undefined)
}

/**
 * A handle by which another process of the same user opens an event.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for an event that was not made with `{ shared: true }`
 */
export function exportEvent(event: CudaEvent): CudaEventHandle {
  return native.cudaExportEvent(eventInternals.id(eventInternals.check(event, 'event')))
}

/** The event that another process exported. @throws ERR_OFFHEAP_INVALID_ARGUMENT for a handle that is malformed or stale */
export function openEvent(handle: CudaEventHandle): CudaEvent {
  const checked = checkHandle(handle)
  // First: without a driver there is no GPU to look for.
  const id = native.cudaOpenEvent(checked)
  try {
    return eventInternals.adopt(id, byUuid(checked.device))
  } catch (error) {
    native.cudaEventDrop(id)
    throw error
  }
}

/** The GPU with a UUID, however that is spelled: native code reads digits alone. */
function byUuid(uuid: string): CudaDevice {
  const digitsOf = (text: string): string => text.replaceAll('-', '').toLowerCase()
  const digits = digitsOf(uuid)
  const found = devices().find((device) => digitsOf(device.uuid) === digits)
  if (found === undefined) throw new InvalidArgumentError(`handle.device: this process sees no GPU ${uuid}`)
  return found
}
