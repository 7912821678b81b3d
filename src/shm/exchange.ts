import { ImmutableError, NotSupportedError } from '../errors.js'
import { bufferInternals, IS_MUTABLE, type MemoryBuffer } from '../memory-buffer.js'
import { native } from '../native.js'
import { checkBoolean, option, wrongType } from '../validate.js'
import { checkHandle, type SharedMemoryHandle } from './handle.js'

/** Options of {@link open}. */
export interface OpenOptions {
  /** True for an immutable buffer. What the handle says when absent: true for that of an immutable buffer. */
  readOnly?: boolean | undefined
}

/** The native id of a buffer over native memory. */
function idOf(value: unknown): number {
  if (!bufferInternals.is(value)) throw wrongType('buffer', 'a MemoryBuffer', value)
  const id = bufferInternals.nativeId(value)
  if (id === undefined) throw new NotSupportedError('a wrapped ArrayBuffer is not shared between processes: copy it by copyTo(device())')
  return id
}

/**
 * Names a buffer of shared memory, or a slice of one, for other processes of the same user. Any number of them can
 * {@link open} it, any number of times, while its memory lives here; what they have opened then lives on. The handle keeps
 * nothing alive, and names the memory of now: `resize`, `reserve` and `freeze` may move a buffer to another.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for a buffer of other memory: `copyTo(device())` first; ERR_OFFHEAP_DISPOSED when its
 * memory was revoked
 */
export function exportHandle(buffer: MemoryBuffer): SharedMemoryHandle {
  const { process, descriptor, size, key, offset, length } = native.shmExport(idOf(buffer))
  return { process, descriptor, size, key, offset, length, readOnly: !bufferInternals.isMutable(buffer) }
}

/**
 * Opens a buffer that a process of the same user, this one or another, has exported: the same bytes, in place. They are unmapped
 * with the buffer's last slice and view; no pool counts them. Nothing of the handle is believed.
 *
 * Two processes that write are in a data race, as with a SharedArrayBuffer; views are seen by the other side at once. A buffer
 * opened `readOnly` is immutable. JavaScript can write its views all the same: what it writes stays in this process, in copies
 * of the pages, which do not follow the memory any more (on macOS it reaches the memory).
 *
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a handle that is malformed, forged, or of another system; ERR_OFFHEAP_DISPOSED
 * when its memory is gone or revoked; ERR_OFFHEAP_IMMUTABLE for writing what is sealed or was exported immutable;
 * ERR_OFFHEAP_NOT_SUPPORTED across PID namespaces (containers); ERR_OFFHEAP_DEVICE_UNAVAILABLE with `reason` `permission`
 * (another user's), `descriptors`, `no-proc` or `system`; ERR_OFFHEAP_OUT_OF_MEMORY when no addresses are left
 */
export function open(handle: SharedMemoryHandle, options?: OpenOptions): MemoryBuffer {
  const { place, readOnly } = checkHandle(handle)
  const isReadOnly = option(options, 'readOnly', checkBoolean, readOnly)
  if (readOnly && !isReadOnly) throw new ImmutableError('the handle is of an immutable buffer: it opens read-only')
  return bufferInternals.create(native.shmOpen(place, isReadOnly), isReadOnly ? 0 : IS_MUTABLE, undefined, undefined)
}

/**
 * Ends all handles of the memory in which a buffer lies, for good: opening one is ERR_OFFHEAP_DISPOSED. Whoever has it open keeps
 * it. Doing so twice does nothing.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for memory that another process made, or that is not shared
 */
export function revoke(buffer: MemoryBuffer): void {
  native.shmRevoke(idOf(buffer))
}

/**
 * From now on nobody can open the memory in which a buffer lies for writing, for good: the system refuses it. Who has it open for
 * writing, as this process, still writes; `freeze()` the buffer to end that here.
 *
 * @throws ERR_OFFHEAP_NOT_SUPPORTED for memory that another process made, or that is not shared, and elsewhere than on Linux 5.1 or later; ERR_OFFHEAP_DISPOSED when it was revoked
 */
export function seal(buffer: MemoryBuffer): void {
  native.shmSeal(idOf(buffer))
}
