/** How far memory grows in a loop that never lets the event loop turn. */

import type { Contender, Work } from './work.ts'

const BUFFERS = 100_000
const SIZE = 65_536
const PAGE = 4096

function touch(bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; offset += PAGE) bytes[offset] = 1
}

function peer(make: () => Uint8Array): Contender {
  return {
    kind: 'peer',
    load: async () => () => {
      for (let index = 0; index < BUFFERS; index += 1) touch(make())
    },
  }
}

export const works: readonly Work[] = [
  {
    name: '100,000 x 64 KiB, one loop',
    what: 'allocate, view, write one byte a page, dispose, 100,000 times in one synchronous loop: peak RSS over the start',
    measure: 'peak',
    operations: BUFFERS,
    contenders: {
      offheap: {
        kind: 'ours',
        async load() {
          const { defaultMemoryPool } = await import('offheap')
          const pool = defaultMemoryPool()
          return () => {
            for (let index = 0; index < BUFFERS; index += 1) {
              const buffer = pool.allocateBuffer(SIZE)
              touch(buffer.asUint8Array())
              buffer.dispose()
            }
          }
        },
      },
      'Buffer.allocUnsafeSlow': peer(() => Buffer.allocUnsafeSlow(SIZE)),
      'new Uint8Array': peer(() => new Uint8Array(SIZE)),
    },
    targets: [{ atMost: 64e6 / 2 ** 20 }],
  },
]
