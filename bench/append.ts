/** Columns built value by value, from an empty builder to a finished column that is given back. */

import type { Contender, Work } from './work.ts'

const VALUES = 1_000_000
const BATCH = 65_536
const STRINGS = 200_000

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
      'Array.push': {
        kind: 'peer',
        load: async () => () => {
          const array: number[] = []
          for (let index = 0; index < count; index += 1) array.push(index * 0.5)
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

/** Distinct ASCII strings of about `length` units. */
function stringsOf(length: number): string[] {
  return Array.from({ length: 1024 }, (_, index) => String(index * 7919).padEnd(length, 'abcdefgh'))
}

function text(name: string, length: number, atMost: number): Work {
  return {
    name: `append a string, ${name}`,
    what: `200,000 ASCII strings of ${length} bytes into UTF-8 bytes and int32 offsets; finished and given back`,
    measure: 'time',
    operations: STRINGS,
    contenders: {
      offheap: {
        kind: 'ours',
        async load() {
          const { BufferBuilder, TypedBufferBuilder } = await import('offheap')
          const strings = stringsOf(length)
          return () => {
            const bytes = new BufferBuilder()
            const offsets = new TypedBufferBuilder('int32')
            offsets.append(0)
            for (let index = 0; index < STRINGS; index += 1) {
              bytes.append(strings[index & 1023]!)
              offsets.append(bytes.length)
            }
            bytes.finish().dispose()
            offsets.finish().dispose()
          }
        },
      },
      'apache-arrow builder': {
        kind: 'peer',
        async load() {
          const { makeBuilder, Utf8 } = await import('apache-arrow')
          const strings = stringsOf(length)
          return () => {
            const builder = makeBuilder({ type: new Utf8() })
            for (let index = 0; index < STRINGS; index += 1) builder.append(strings[index & 1023]!)
            builder.finish().toVector()
          }
        },
      },
      'Buffer.write, doubled when full': {
        kind: 'peer',
        load: async () => {
          const strings = stringsOf(length)
          return () => {
            let bytes = Buffer.allocUnsafeSlow(64)
            let offsets = new Int32Array(16)
            let size = 0
            for (let index = 0; index < STRINGS; index += 1) {
              const string = strings[index & 1023]!
              if (size + string.length * 3 > bytes.length) {
                const larger = Buffer.allocUnsafeSlow(2 * (size + string.length * 3))
                bytes.copy(larger, 0, 0, size)
                bytes = larger
              }
              if (index + 1 >= offsets.length) {
                const larger = new Int32Array(2 * offsets.length)
                larger.set(offsets)
                offsets = larger
              }
              size += bytes.write(string, size)
              offsets[index + 1] = size
            }
          }
        },
      },
    },
    targets: [{ atMost }],
  }
}

export const works: readonly Work[] = [
  float64(BATCH, '64 Ki values'),
  float64(VALUES, '1,000,000 values'),
  bool,
  text('short', 10, 40),
  text('100 bytes', 100, 100),
]
