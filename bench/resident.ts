/** How far memory grows in a loop that never lets the event loop turn, and how much stays when all was freed. */

import type { MemoryBuffer, MemoryPool } from 'offheap'
import type { Body, Contender, Work } from './work.ts'

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

const FREED = 512 * 2 ** 20

/** Fills 512 MiB of a pool and disposes of all buffers but `live` of each 1024. */
function freed(kind: Contender['kind'], name: string, size: number, live: number): Contender {
  return {
    kind,
    async load(): Promise<Body> {
      const offheap = await import('offheap')
      const pools: Record<string, () => MemoryPool> = {
        mimalloc: offheap.mimallocMemoryPool,
        jemalloc: offheap.jemallocMemoryPool,
        system: offheap.systemMemoryPool,
        mapped: offheap.mappedMemoryPool,
      }
      const pool = pools[name]!()
      const buffers: (MemoryBuffer | undefined)[] = Array.from({ length: FREED / size })
      const fill = (bytes: number): void => {
        for (let index = 0; index < buffers.length; index += 1) buffers[index] = pool.allocateBuffer(bytes).fill(1)
      }
      const dispose = (left: number): void => {
        for (let index = 0; index < buffers.length; index += 1) {
          if (index % 1024 < left) continue
          buffers[index]!.dispose()
          buffers[index] = undefined
        }
      }
      // What the handles take of JavaScript's own memory is there before the start.
      fill(64)
      dispose(0)
      return () => {
        fill(size)
        dispose(live)
      }
    },
  }
}

/** The same bytes of JavaScript's own buffers, all let go. */
function letGo(size: number): Contender {
  return {
    kind: 'peer',
    load: async () => () => {
      const buffers = Array.from({ length: FREED / size }, () => Buffer.allocUnsafeSlow(size))
      for (const buffer of buffers) touch(buffer)
    },
  }
}

function stays(size: number, shown: string, live = 0): Work {
  const alive = live === 0 ? '' : `, ${live} of 1024 alive`
  return {
    name: `512 MiB freed, ${shown}${alive}`,
    what: `write and dispose ${FREED / size} buffers${alive}; nothing is called then: RSS over the start after 2.5 s`,
    measure: 'later',
    operations: 1,
    contenders: {
      offheap: freed('ours', 'mimalloc', size, live),
      'offheap, jemalloc': freed('variant', 'jemalloc', size, live),
      'offheap, system': freed('variant', 'system', size, live),
      'offheap, mapped': freed('variant', 'mapped', size, live),
      'Buffer.allocUnsafeSlow, let go': letGo(size),
    },
    targets: [{ atMost: 40 }],
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
  stays(4096, '4 KiB'),
  stays(4096, '4 KiB', 1),
  stays(65_536, '64 KiB'),
  stays(4 * 2 ** 20, '4 MiB'),
]
