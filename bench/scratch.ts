/** Small scratch buffers: made, written to once, forgotten. */

import type { Body, Contender, Work } from './work.ts'

const ARRAYS = 4096

function loop(make: (size: number) => Uint8Array, size: number): Body {
  return () => {
    let sum = 0
    for (let index = 0; index < ARRAYS; index += 1) {
      const array = make(size)
      array[0] = index
      sum += array.length
    }
    if (sum !== ARRAYS * size) throw new Error('wrong sizes')
  }
}

function peer(make: (size: number) => Uint8Array, size: number): Contender {
  return { kind: 'peer', load: async () => loop(make, size) }
}

function scratch(size: number, label: string): Work {
  return {
    name: `scratch array, ${label}`,
    what: `${ARRAYS.toLocaleString('en')} arrays of ${label}, one byte of each written; the arena is reset, the others are left to the collector`,
    measure: 'time',
    operations: ARRAYS,
    contenders: {
      'offheap Arena': {
        kind: 'ours',
        async load() {
          const { Arena } = await import('offheap')
          const arena = new Arena()
          return () => {
            let sum = 0
            for (let index = 0; index < ARRAYS; index += 1) {
              const array = arena.alloc(size)
              array[0] = index
              sum += array.length
            }
            arena.reset()
            if (sum !== ARRAYS * size) throw new Error('wrong sizes')
          }
        },
      },
      'Buffer.allocUnsafe': peer((bytes) => Buffer.allocUnsafe(bytes), size),
      'new Uint8Array': peer((bytes) => new Uint8Array(bytes), size),
      'new Uint8Array(buffer, offset, length)': {
        kind: 'limit',
        load: async () => {
          const buffer = new ArrayBuffer(2 ** 20)
          let offset = 0
          return loop((bytes) => {
            offset = (offset + bytes) & (2 ** 20 - 1)
            return new Uint8Array(buffer, offset, bytes)
          }, size)
        },
      },
    },
    targets: [{ atMost: 25 }],
  }
}

export const works: readonly Work[] = [scratch(256, '256 B'), scratch(4096, '4 KiB')]
