/**
 * One way in for everything that reads bytes: `MemoryBuffer`, ArrayBuffer, SharedArrayBuffer, or any view of one, from
 * any realm. Lengths and offsets come from the engine, not from properties that a caller could have overridden.
 *
 * @module
 */

import { types } from 'node:util'
import { DisposedError } from './errors.js'
import { bufferInternals, type MemoryBuffer } from './memory-buffer.js'
import type { Bytes } from './native.js'
import { wrongType } from './validate.js'

/** Bytes that offheap reads from: a buffer, an ArrayBuffer or SharedArrayBuffer, or any view of one. */
export type ByteSource = MemoryBuffer | ArrayBufferView | ArrayBufferLike

/** Bytes that offheap writes to: a buffer that is not immutable, an ArrayBuffer, or any view of one. */
export type ByteTarget = ByteSource

/** A range of an ArrayBuffer that belongs to someone else. */
export interface Region {
  readonly buffer: ArrayBuffer
  readonly offset: number
  readonly length: number
}

type Getter = (this: unknown) => unknown

function getter(prototype: object, key: PropertyKey): Getter {
  return Object.getOwnPropertyDescriptor(prototype, key)?.get as Getter
}

const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object
const typedArrayGetters = {
  buffer: getter(typedArrayPrototype, 'buffer'),
  byteOffset: getter(typedArrayPrototype, 'byteOffset'),
  byteLength: getter(typedArrayPrototype, 'byteLength'),
}
const dataViewGetters = {
  buffer: getter(DataView.prototype, 'buffer'),
  byteOffset: getter(DataView.prototype, 'byteOffset'),
  byteLength: getter(DataView.prototype, 'byteLength'),
}
const arrayBufferByteLength = getter(ArrayBuffer.prototype, 'byteLength')
const sharedArrayBufferByteLength = getter(SharedArrayBuffer.prototype, 'byteLength')
const typedArrayTag = getter(typedArrayPrototype, Symbol.toStringTag)
const typedArrayLength = getter(typedArrayPrototype, 'length')

/** The class name of a typed array, whatever realm it comes from; `undefined` for anything else. */
export function typedArrayName(value: unknown): string | undefined {
  return Reflect.apply(typedArrayTag, value, []) as string | undefined
}

/** The number of elements of a typed array. */
export function typedArrayElements(array: ArrayBufferView): number {
  return Reflect.apply(typedArrayLength, array, []) as number
}

/** Where the bytes of an ArrayBuffer or view lie; `undefined` for any other value. */
export function regionOf(value: unknown): Region | undefined {
  if (types.isAnyArrayBuffer(value)) {
    const byteLength = types.isSharedArrayBuffer(value) ? sharedArrayBufferByteLength : arrayBufferByteLength
    return { buffer: value as ArrayBuffer, offset: 0, length: Reflect.apply(byteLength, value, []) as number }
  }
  if (!ArrayBuffer.isView(value)) return undefined
  const getters = types.isDataView(value) ? dataViewGetters : typedArrayGetters
  try {
    return {
      buffer: Reflect.apply(getters.buffer, value, []) as ArrayBuffer,
      offset: Reflect.apply(getters.byteOffset, value, []) as number,
      length: Reflect.apply(getters.byteLength, value, []) as number,
    }
  } catch {
    throw detached() // a DataView says so by throwing
  }
}

/** The bytes of a region as they are now; `ERR_OFFHEAP_DISPOSED` when they were detached, transferred or shrunk away. */
export function regionBytes(region: Region): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(region.buffer, region.offset, region.length)
  } catch {
    throw detached()
  }
}

function detached(): DisposedError {
  return new DisposedError('the ArrayBuffer was detached, transferred or shrunk: its bytes are gone')
}

/** The bytes of an ArrayBuffer or view; `undefined` for any other value. */
export function javaScriptBytes(value: unknown): Uint8Array | undefined {
  // The common case costs no allocation. An empty array may be a detached one, which only the long way finds out.
  if (types.isUint8Array(value) && typedArrayElements(value) > 0) return value
  const region = regionOf(value)
  return region === undefined ? undefined : regionBytes(region)
}

/** Something that {@link toBytes} takes; not yet its bytes, which code of the caller's may detach. */
export function checkByteSource(value: unknown, name: string): ByteSource {
  if (bufferInternals.is(value) || types.isAnyArrayBuffer(value) || ArrayBuffer.isView(value)) return value
  throw wrongType(name, 'a MemoryBuffer, an ArrayBuffer or a view of one', value)
}

/** Bytes for native code. */
export function toBytes(value: unknown, name: string): Bytes {
  if (bufferInternals.is(value)) return bufferInternals.bytes(value)
  const bytes = javaScriptBytes(value)
  if (bytes === undefined) throw wrongType(name, 'a MemoryBuffer, an ArrayBuffer or a view of one', value)
  return bytes
}

/** Bytes for native code, where text is welcome too: a string is encoded as UTF-8. */
export function toBytesOrText(value: unknown, name: string): Bytes {
  if (typeof value === 'string') return Buffer.from(value, 'utf8')
  if (bufferInternals.is(value)) return bufferInternals.bytes(value)
  const bytes = javaScriptBytes(value)
  if (bytes === undefined) throw wrongType(name, 'a string, a MemoryBuffer, an ArrayBuffer or a view of one', value)
  return bytes
}

/** How many bytes {@link toBytesOrText} would give. */
export function lengthOfBytesOrText(value: unknown, name: string): number {
  if (typeof value === 'string') return Buffer.byteLength(value, 'utf8')
  if (bufferInternals.is(value)) return bufferInternals.size(value)
  return typedArrayElements(toBytesOrText(value, name) as Uint8Array)
}
