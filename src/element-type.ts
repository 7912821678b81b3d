/**
 * The element types of builders and arenas, with Arrow's names.
 *
 * @module
 */

/** The type of the elements of a {@link TypedBufferBuilder}. `bool` is one bit, the least significant first. */
export type ElementType =
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'float32'
  | 'float64'
  | 'int64'
  | 'uint64'
  | 'bool'

/** The JavaScript type of one element. */
export type ElementOf<Type extends ElementType> = Type extends 'bool' ? boolean : Type extends 'int64' | 'uint64' ? bigint : number

/** What a builder can take many elements from at once. */
export type ElementsOf<Type extends ElementType> =
  | Iterable<ElementOf<Type>>
  | (Type extends 'int64' | 'uint64' ? BigInt64Array | BigUint64Array : NumberArray)

/** Any typed array of numbers. */
export type NumberArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
