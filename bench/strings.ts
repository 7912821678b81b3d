/** Columns of strings and bytes, built value by value, from an empty builder to a finished column that is given back. */

import type { BinaryBuilderOptions } from 'offheap'
import type { Body, Contender, Target, Work } from './work.ts'

const VALUES = 100_000
const MASK = 1023

/** Distinct strings of about `length` units. */
function textsOf(length: number, filler: string): string[] {
  const texts = Array.from({ length: MASK + 1 }, (_, index) => String(index * 7919).padEnd(length, filler))
  for (const text of texts) Buffer.from(text) // a rope becomes a string when it is read first
  return texts
}

/** Room for the offsets and bytes of a column, doubled when full, as a program without a library has it. */
class Arrays {
  bytes = Buffer.allocUnsafeSlow(64)
  offsets = new Int32Array(16)
  size = 0
  count = 0

  reserve(bytes: number): void {
    if (this.size + bytes > this.bytes.length) {
      const larger = Buffer.allocUnsafeSlow(2 * (this.size + bytes))
      this.bytes.copy(larger, 0, 0, this.size)
      this.bytes = larger
    }
    if (this.count + 1 >= this.offsets.length) {
      const larger = new Int32Array(2 * this.offsets.length)
      larger.set(this.offsets)
      this.offsets = larger
    }
  }

  end(written: number): void {
    this.size += written
    this.count += 1
    this.offsets[this.count] = this.size
  }
}

function ours<Value extends string | Uint8Array>(kind: 'ours' | 'variant', values: () => readonly Value[], options?: BinaryBuilderOptions): Contender {
  return {
    kind,
    async load() {
      const { BinaryBufferBuilder } = await import('offheap')
      const all = values()
      return () => {
        const builder = new BinaryBufferBuilder(options)
        for (let index = 0; index < VALUES; index += 1) builder.append(all[index & MASK]!)
        const { offsets, data } = builder.finish()
        offsets.dispose()
        data.dispose()
      }
    },
  }
}

function arrow<Value extends string | Uint8Array>(type: 'Utf8' | 'Binary', values: () => readonly Value[]): Contender {
  return {
    kind: 'peer',
    async load(): Promise<Body> {
      const { Binary, makeBuilder, Utf8 } = await import('apache-arrow')
      const all = values() as readonly (string & Uint8Array)[]
      return () => {
        const builder = makeBuilder({ type: type === 'Utf8' ? new Utf8() : new Binary() })
        for (let index = 0; index < VALUES; index += 1) builder.append(all[index & MASK]!)
        builder.finish().toVector()
      }
    },
  }
}

function flechette<Value extends string | Uint8Array>(type: 'utf8' | 'binary', values: () => readonly Value[]): Contender {
  return {
    kind: 'peer',
    async load() {
      const { binary, columnFromArray, utf8 } = await import('@uwdata/flechette')
      const all = values()
      return () => {
        const array: Value[] = []
        for (let index = 0; index < VALUES; index += 1) array.push(all[index & MASK]!)
        columnFromArray(array, type === 'utf8' ? utf8() : binary())
      }
    },
  }
}

/** Shown beside one of the works only. */
function otherWays(texts: () => string[]): Record<string, Contender> {
  return {
    'offheap, int64 offsets': ours('variant', texts, { offsets: 'int64' }),
    'offheap, a byte builder and an offset builder': {
      kind: 'variant',
      async load() {
        const { BufferBuilder, TypedBufferBuilder } = await import('offheap')
        const strings = texts()
        return () => {
          const builder = new BufferBuilder()
          const offsets = new TypedBufferBuilder('int32')
          offsets.append(0)
          for (let index = 0; index < VALUES; index += 1) {
            builder.append(strings[index & MASK]!)
            offsets.append(builder.length)
          }
          builder.finish().dispose()
          offsets.finish().dispose()
        }
      },
    },
  }
}

function text(name: string, length: number, filler: string, targets: readonly Target[]): Work {
  const texts = (): string[] => textsOf(length, filler)
  const bytes = Buffer.byteLength(textsOf(length, filler)[MASK]!)
  return {
    name: `append a string, ${name}`,
    what: `100,000 strings of about ${bytes} bytes into UTF-8 bytes and int32 offsets; finished and given back`,
    measure: 'time',
    operations: VALUES,
    contenders: {
      offheap: ours('ours', texts),
      'offheap, room reserved': ours('variant', texts, { capacity: VALUES, capacityInBytes: VALUES * (bytes + 4) }),
      ...(length > 10 ? {} : otherWays(texts)),
      'apache-arrow builder': arrow('Utf8', texts),
      'Array.push, then a flechette column': flechette('utf8', texts),
      'Buffer.write, doubled when full': {
        kind: 'peer',
        load: async () => {
          const strings = texts()
          return () => {
            const column = new Arrays()
            for (let index = 0; index < VALUES; index += 1) {
              const string = strings[index & MASK]!
              column.reserve(string.length * 3)
              column.end(column.bytes.write(string, column.size))
            }
          }
        },
      },
      'TextEncoder.encodeInto, doubled when full': {
        kind: 'peer',
        load: async () => {
          const strings = texts()
          const encoder = new TextEncoder()
          return () => {
            const column = new Arrays()
            for (let index = 0; index < VALUES; index += 1) {
              const string = strings[index & MASK]!
              column.reserve(string.length * 3)
              column.end(encoder.encodeInto(string, column.bytes.subarray(column.size)).written)
            }
          }
        },
      },
      'Buffer.write into a Buffer that is there': {
        kind: 'limit',
        load: async () => {
          const strings = texts()
          const buffer = Buffer.alloc((bytes + 4) * VALUES)
          return () => {
            let size = 0
            for (let index = 0; index < VALUES; index += 1) size += buffer.write(strings[index & MASK]!, size)
          }
        },
      },
    },
    targets,
  }
}

const bytes = (): Uint8Array[] => textsOf(100, 'abcdefgh').map((string) => new Uint8Array(Buffer.from(string)))

const binary: Work = {
  name: 'append bytes, 100 bytes',
  what: '100,000 Uint8Arrays of 100 bytes into bytes and int32 offsets; finished and given back',
  measure: 'time',
  operations: VALUES,
  contenders: {
    offheap: ours('ours', bytes),
    'apache-arrow builder': arrow('Binary', bytes),
    'Array.push, then a flechette column': flechette('binary', bytes),
    'Uint8Array.set, doubled when full': {
      kind: 'peer',
      load: async () => {
        const values = bytes()
        return () => {
          const column = new Arrays()
          for (let index = 0; index < VALUES; index += 1) {
            const value = values[index & MASK]!
            column.reserve(value.length)
            column.bytes.set(value, column.size)
            column.end(value.length)
          }
        }
      },
    },
  },
  targets: [],
}

export const works: readonly Work[] = [
  text('short', 10, 'abcdefgh', [{ atMost: 40 }]),
  text('100 bytes', 100, 'abcdefgh', [{ atMost: 100 }]),
  text('20 units with umlauts', 20, 'aäoöuüß', []),
  binary,
]
