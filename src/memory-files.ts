/**
 * Readers and writers of memory that may be anywhere: what {@link MemoryManager.reader} and {@link MemoryManager.writer} give.
 *
 * @module
 */

import type { ByteSource } from './bytes.js'
import type { MemoryBuffer } from './memory-buffer.js'

/**
 * Reads a buffer at a position that moves, wherever it lies (Arrow's `RandomAccessFile` of `MemoryManager::GetBufferReader`).
 * Reads stop at the end: they return fewer bytes, then none. After {@link close} every member but `closed` and `close` throws
 * ERR_OFFHEAP_CLOSED; once the buffer is disposed, reads throw ERR_OFFHEAP_DISPOSED.
 */
export interface MemoryReader {
  /** Length of the buffer in bytes. */
  readonly size: number
  /** True after {@link close}. */
  readonly closed: boolean
  /** The position of the next read, in bytes. */
  tell(): number
  /** Moves to `position`. @throws ERR_OFFHEAP_OUT_OF_RANGE when it is not 0 to `size`; the position stays then */
  seek(position: number): void
  /** The next `length` bytes where they are, as a slice of the buffer, fewer at the end: no byte moves. Dispose it when done. */
  read(length: number): MemoryBuffer
  /** Copies the next bytes into `target`, which the CPU has. @returns how many; fewer than fit at the end, 0 behind it */
  readInto(target: ArrayBufferView | ArrayBufferLike): number
  /** The `length` bytes at `position` as a slice, fewer at the end. The reader's own position stays. */
  readAt(position: number, length: number): MemoryBuffer
  /** Copies the bytes at `position` into `target`. @returns how many */
  readIntoAt(position: number, target: ArrayBufferView | ArrayBufferLike): number
  /**
   * The next `length` bytes, fewer at the end, as a view of the buffer's memory. The position stays.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED where the CPU cannot read the memory
   */
  peek(length: number): Uint8Array<ArrayBuffer>
  /** Refuses later reads with ERR_OFFHEAP_CLOSED. The buffer stays. */
  close(): void
  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void
}

/**
 * Writes a buffer of fixed size at a position that moves, wherever it lies (Arrow's `WritableFile` of
 * `MemoryManager::GetBufferWriter`). What does not fit is refused as a whole. After {@link close} every member but `closed` and
 * `close` throws ERR_OFFHEAP_CLOSED.
 */
export interface MemoryWriter {
  /** Length of the buffer in bytes. */
  readonly size: number
  /** True after {@link close}. */
  readonly closed: boolean
  /** The position of the next write, in bytes. */
  tell(): number
  /** Moves to `position`. @throws ERR_OFFHEAP_OUT_OF_RANGE when it is not 0 to `size`; the position stays then */
  seek(position: number): void
  /**
   * Writes at the position and moves it. A string is written as UTF-8.
   *
   * @returns how many bytes were written: all
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when they do not fit; nothing is written then
   */
  write(bytes: string | ByteSource): number
  /** Writes at `position`. The writer's own position stays, as with `pwrite`. @returns how many bytes were written */
  writeAt(position: number, bytes: string | ByteSource): number
  /** Brings what was held back to the buffer. */
  flush(): void
  /** Flushes, and refuses later writes with ERR_OFFHEAP_CLOSED. The buffer stays. */
  close(): void
  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void
}
