/**
 * The built-in methods that touch a builder's private window, as they were when offheap was loaded. A method that was
 * replaced later (instrumentation, a polyfill) would be handed the window itself as `this`, and could keep it.
 *
 * @module
 */

/** `method` as a function that takes its `this` as first argument, and looks nothing up when it is called. */
const uncurry = Function.prototype.bind.bind(Function.prototype.call as never) as unknown as (
  method: unknown,
) => (...args: never[]) => unknown

/** A typed array, as far as copying and filling go. */
type Elements = Uint8Array | Int32Array | Float64Array

/** `target.set(source, at)`. */
export const setElements = uncurry(Uint8Array.prototype.set) as (target: Elements, source: Elements, at: number) => void

/** `target.fill(value, start, end)`. */
export const fillElements = uncurry(Uint8Array.prototype.fill) as (target: Elements, value: number, start: number, end: number) => void

/** `target.utf8Write(text, at)`: how many bytes were written. */
export const writeUtf8 = uncurry(
  (Buffer.prototype as unknown as { utf8Write?: unknown }).utf8Write ?? Buffer.prototype.write,
) as (target: Buffer, text: string, at: number) => number

const ByteArray = Uint8Array

/** The bytes of an ArrayBuffer from `offset` on. Unlike `subarray` it asks no constructor. */
export function bytesOf(arrayBuffer: ArrayBuffer, offset: number, length: number): Uint8Array {
  return new ByteArray(arrayBuffer, offset, length)
}
