/**
 * The native functions of this subpath. They are among all others' in {@link native}, so that what follows calls (trackers,
 * observers) follows these, too.
 *
 * @module
 */

/** Which of a buffer's bytes go, and as what. */
export interface NativeArrayLayout {
  format: string
  offset: number
  length: number
}

/** An array that native code took. */
export interface NativeImportedArray {
  buffer: number
  format: string
  length: number
  bitOffset: number
}

/** How a buffer is a tensor. */
export interface NativeTensorLayout {
  format: string
  shape: number[]
  strides: number[] | undefined
  offset: number
  copied: boolean
  legacy: boolean
}

/** A tensor that native code took. */
export interface NativeImportedTensor {
  buffer: number
  code: number
  bits: number
  shape: number[]
  readOnly: boolean
  isCopied: boolean
}

/**
 * - What is exported is an object that releases the struct when it is forgotten.
 * - `event` and `stream` are ids of `offheap/cuda`, 0 for none. Exports: when the bytes are there; without both, after what the
 *   buffer's own stream has. Imports: who waits; without one the caller.
 */
export interface NativeArrow {
  arrowExport(buffer: number, layout: { format: string; offset: number; length: number }, event: number, stream: number): object
  /** Sets `words` 0 and 1 to the addresses of the array and its schema. */
  arrowAddresses(array: object): void
  arrowIsConsumed(array: object): boolean
  arrowRelease(array: object): void
  arrowReceive(array: object, stream: number): NativeImportedArray
  arrowImport(array: bigint, schema: bigint, stream: number): NativeImportedArray
  /** All elements of each buffer. */
  arrowStreamExport(buffers: number[], format: string, event: number, stream: number): object
  /** Sets `words[0]` to the address of the stream. */
  arrowStreamAddress(stream: object): void
  arrowStreamIsConsumed(stream: object): boolean
  arrowStreamRelease(stream: object): void
  arrowStreamImport(stream: bigint): object
  arrowStreamFormat(stream: object): string
  /** Nothing at the end; `order` is the stream of work that waits. */
  arrowStreamNext(stream: object, order: number): NativeImportedArray | null | undefined
  arrowStreamDrop(stream: object): void
  dlpackExport(buffer: number, layout: NativeTensorLayout, event: number, stream: number): object
  dlpackTake(tensor: object, stream: number): bigint
  dlpackTakeFor(tensor: object, stream: bigint): bigint
  dlpackIsConsumed(tensor: object): boolean
  dlpackRelease(tensor: object): void
  dlpackReceive(tensor: object, stream: number): NativeImportedTensor
  dlpackImport(tensor: bigint, legacy: boolean, stream: number): NativeImportedTensor
}
