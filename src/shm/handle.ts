import { InvalidArgumentError } from '../errors.js'
import type { NativeSharedMemoryHandle } from '../native.js'
import { checkBoolean, checkIntegerFrom, checkSize, checkString, isObject, property, wrongType } from '../validate.js'

/**
 * Where another process finds a buffer of shared memory: a plain object of numbers and one string, made for JSON,
 * `process.send` and `postMessage`. It keeps nothing alive. It is as good as the memory: whoever has it and runs as the same
 * user can open it, until the memory's last buffer is gone, its process ends, or it is revoked.
 */
export interface SharedMemoryHandle {
  /** The process that made the memory. */
  readonly process: number
  /** That process's descriptor of the memory (Linux), else 0. */
  readonly descriptor: number
  /** Bytes of the memory. */
  readonly size: number
  /** Hexadecimal digits, 128 bits of which are random: they prove that the maker of the memory made the handle. */
  readonly key: string
  /** Where the buffer's first byte is in the memory. */
  readonly offset: number
  /** Bytes of the buffer. */
  readonly length: number
  /** True when the buffer was immutable: it is opened read-only then. */
  readonly readOnly: boolean
}

/** The largest number of 32 bits. */
const MOST = 2 ** 32 - 1

const FIELDS: ReadonlySet<PropertyKey> = new Set<keyof SharedMemoryHandle>(['process', 'descriptor', 'size', 'key', 'offset', 'length', 'readOnly'])

function ownKeys(value: object): PropertyKey[] {
  try {
    return Reflect.ownKeys(value)
  } catch (cause) {
    throw new InvalidArgumentError('handle could not be read', { cause })
  }
}

/** A handle from wherever, read once. What its key opens is for native code to find out. */
export function checkHandle(value: unknown): { place: NativeSharedMemoryHandle; readOnly: boolean } {
  if (!isObject(value)) throw wrongType('handle', 'a handle made by exportHandle()', value)
  for (const key of ownKeys(value)) {
    if (!FIELDS.has(key)) throw new InvalidArgumentError(`handle has a property that handles do not have: ${String(key).slice(0, 40)}`)
  }
  const field = <Value>(name: keyof SharedMemoryHandle, check: (given: unknown, name: string) => Value): Value =>
    check(property(value, name, `handle.${name}`), `handle.${name}`)
  const number = (given: unknown, name: string): number => checkIntegerFrom(given, name, 0, MOST)
  const place = {
    process: field('process', number),
    descriptor: field('descriptor', number),
    size: field('size', checkSize),
    key: field('key', checkString),
    offset: field('offset', checkSize),
    length: field('length', checkSize),
  }
  const readOnly = field('readOnly', checkBoolean)
  if (place.offset + place.length > place.size) {
    throw new InvalidArgumentError(`handle names ${place.length} bytes from ${place.offset}, but its memory has ${place.size}`)
  }
  return { place, readOnly }
}
