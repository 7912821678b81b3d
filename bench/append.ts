/** Columns built value by value, from an empty builder to a finished column that is given back. */

import type { Contender, Work } from './work.ts'

const VALUES = 1_000_000
const BATCH = 65_536

/** Not in the types of ES2023. */
type ResizableArrayBufferConstructor = new (size: number, options: { maxByteLength: number }) => ArrayBuffer & { resize(size: number): void }

function doublesInABuilder(count: number): Contender {
  return {
    kind: 'ours',
    async load() {
      const { TypedBufferBuilder } = await import('offheap')
      return () => {
        const builder = new TypedBufferBuilder('float64')
        for (let index = 0; index < count; index += 1) builder.append(index * 0.5)
        builder.finish().dispose()
      }
    },
  }
}

/** With `nullValues`, as `vectorFromArray` and `tableFromArrays` set them, each value is compared with them first. */
function doublesInArrow(count: number, nullValues?: readonly null[]): Contender {
  return {
    kind: 'peer',
    async load() {
      const { Float64, makeBuilder } = await import('apache-arrow')
      return () => {
        const builder = makeBuilder(nullValues === undefined ? { type: new Float64() } : { type: new Float64(), nullValues: [...nullValues] })
        for (let index = 0; index < count; index += 1) builder.append(index * 0.5)
        builder.finish().toVector()
      }
    },
  }
}

function float64(count: number, label: string): Work {
  return {
    name: `append float64, ${label}`,
    what: `${count.toLocaleString('en')} values, one append each, growing from empty; finished and given back`,
    measure: 'time',
    operations: count,
    contenders: {
      offheap: doublesInABuilder(count),
      'offheap, builders of all types in use': {
        kind: 'variant',
        async load() {
          await useAllTypes()
          return doublesInABuilder(count).load()
        },
      },
      'apache-arrow builder': doublesInArrow(count),
      'apache-arrow builder, nulls allowed': doublesInArrow(count, [null]),
      'Float64Array, doubled when full': {
        kind: 'peer',
        load: async () => () => {
          let array = new Float64Array(8)
          for (let index = 0; index < count; index += 1) {
            if (index === array.length) {
              const larger = new Float64Array(2 * index)
              larger.set(array)
              array = larger
            }
            array[index] = index * 0.5
          }
        },
      },
      // The largest size must be known when it is made.
      'resizable ArrayBuffer, doubled when full': {
        kind: 'peer',
        load: async () => () => {
          const buffer = new (ArrayBuffer as unknown as ResizableArrayBufferConstructor)(64, { maxByteLength: 16 * count })
          const array = new Float64Array(buffer)
          for (let index = 0; index < count; index += 1) {
            if (index === array.length) buffer.resize(2 * buffer.byteLength)
            array[index] = index * 0.5
          }
        },
      },
      'Array.push': {
        kind: 'peer',
        load: async () => () => {
          const array: number[] = []
          for (let index = 0; index < count; index += 1) array.push(index * 0.5)
        },
      },
      'Array.push, then a flechette column': {
        kind: 'peer',
        async load() {
          const { columnFromArray, float64 } = await import('@uwdata/flechette')
          return () => {
            const array: number[] = []
            for (let index = 0; index < count; index += 1) array.push(index * 0.5)
            columnFromArray(array, float64())
          }
        },
      },
      'stores into a Float64Array that is there': {
        kind: 'limit',
        load: async () => {
          const array = new Float64Array(count)
          return () => {
            for (let index = 0; index < count; index += 1) array[index] = index * 0.5
          }
        },
      },
    },
    targets: [{ atMost: 3 }, { times: 8, than: 'apache-arrow builder' }],
  }
}

const flagsInABuilder: Contender = {
  kind: 'ours',
  async load() {
    const { TypedBufferBuilder } = await import('offheap')
    return () => {
      const builder = new TypedBufferBuilder('bool')
      for (let index = 0; index < VALUES; index += 1) builder.append((index & 1) === 1)
      builder.finish().dispose()
    }
  },
}

const bool: Work = {
  name: 'append bool',
  what: '1,000,000 values packed into bits, one append each, growing from empty; finished and given back',
  measure: 'time',
  operations: VALUES,
  contenders: {
    offheap: flagsInABuilder,
    'offheap, builders of all types in use': {
      kind: 'variant',
      async load() {
        await useAllTypes()
        return flagsInABuilder.load()
      },
    },
    'apache-arrow builder': {
      kind: 'peer',
      async load() {
        const { Bool, makeBuilder } = await import('apache-arrow')
        return () => {
          const builder = makeBuilder({ type: new Bool() })
          for (let index = 0; index < VALUES; index += 1) builder.append((index & 1) === 1)
          builder.finish().toVector()
        }
      },
    },
    'Array.push': {
      kind: 'peer',
      load: async () => () => {
        const array: boolean[] = []
        for (let index = 0; index < VALUES; index += 1) array.push((index & 1) === 1)
      },
    },
    'Array.push, then a flechette column': {
      kind: 'peer',
      async load() {
        const { bool, columnFromArray } = await import('@uwdata/flechette')
        return () => {
          const array: boolean[] = []
          for (let index = 0; index < VALUES; index += 1) array.push((index & 1) === 1)
          columnFromArray(array, bool())
        }
      },
    },
    'bits set in a Uint8Array that is there': {
      kind: 'limit',
      load: async () => {
        const bits = new Uint8Array(VALUES / 8)
        return () => {
          bits.fill(0)
          for (let index = 0; index < VALUES; index += 1) if ((index & 1) === 1) bits[index >>> 3]! |= 1 << (index & 7)
        }
      },
    },
  },
  targets: [{ atMost: 3 }, { times: 3, than: 'apache-arrow builder' }],
}

/** Appends to a builder of every type, so that `append` has seen them all. */
async function useAllTypes(): Promise<void> {
  const { TypedBufferBuilder } = await import('offheap')
  const numbers = ['int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'float32', 'float64'] as const
  for (let round = 0; round < 20; round += 1) {
    for (const type of numbers) {
      const builder = new TypedBufferBuilder(type)
      for (let index = 0; index < 10_000; index += 1) builder.append(index & 127)
      builder.dispose()
    }
    for (const type of ['int64', 'uint64'] as const) {
      const builder = new TypedBufferBuilder(type)
      for (let index = 0; index < 10_000; index += 1) builder.append(5n)
      builder.dispose()
    }
    const builder = new TypedBufferBuilder('bool')
    for (let index = 0; index < 10_000; index += 1) builder.append((index & 1) === 0)
    builder.dispose()
  }
}

const MIB = 2 ** 20
const LARGEST = 256 * MIB

/** Doubles from 1 MiB on and fills what is new. */
function doubling(grow: (bytes: number) => Uint8Array): void {
  let filled = 0
  for (let size = MIB; size <= LARGEST; size *= 2) {
    grow(size).fill(7, filled, size)
    filled = size
  }
}

const growth: Work = {
  name: 'grow 1 MiB to 256 MiB',
  what: 'by doubling, all bytes filled; given back, or left to the collector',
  measure: 'time',
  operations: 1,
  contenders: {
    'offheap builder': {
      kind: 'ours',
      async load() {
        const { BufferBuilder } = await import('offheap')
        return () => {
          const builder = new BufferBuilder({ capacity: MIB })
          for (let size = MIB; size <= LARGEST; size *= 2) builder.appendCopies(7, size - builder.length)
          builder.finish().dispose()
        }
      },
    },
    'offheap resizable buffer': {
      kind: 'variant',
      async load() {
        const { defaultMemoryPool } = await import('offheap')
        return () => {
          const buffer = defaultMemoryPool().allocateResizableBuffer(0)
          doubling((bytes) => {
            buffer.resize(bytes)
            return buffer.asUint8Array()
          })
          buffer.dispose()
        }
      },
    },
    'Uint8Array, doubled and copied': {
      kind: 'peer',
      load: async () => () => {
        let array = new Uint8Array(0)
        doubling((bytes) => {
          const larger = new Uint8Array(bytes)
          larger.set(array)
          return (array = larger)
        })
      },
    },
    'Buffer.allocUnsafeSlow, doubled and copied': {
      kind: 'peer',
      load: async () => () => {
        let buffer = Buffer.allocUnsafeSlow(0)
        doubling((bytes) => {
          const larger = Buffer.allocUnsafeSlow(bytes)
          buffer.copy(larger)
          return (buffer = larger)
        })
      },
    },
    // The largest size must be known when it is made.
    'resizable ArrayBuffer': {
      kind: 'peer',
      load: async () => () => {
        const buffer = new (ArrayBuffer as unknown as ResizableArrayBufferConstructor)(0, { maxByteLength: LARGEST })
        doubling((bytes) => {
          buffer.resize(bytes)
          return new Uint8Array(buffer)
        })
      },
    },
    'fills of a Uint8Array that is there': {
      kind: 'limit',
      load: async () => {
        const array = new Uint8Array(LARGEST)
        return () => doubling(() => array)
      },
    },
  },
  targets: [{ times: 1, than: 'Uint8Array, doubled and copied' }],
}

export const works: readonly Work[] = [
  float64(BATCH, '64 Ki values'),
  float64(VALUES, '1,000,000 values'),
  bool,
  growth,
]
