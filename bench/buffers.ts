/** Pooled buffers: allocated, shown, touched, disposed. The peers are left to the collector: they have no dispose. */

import type { Contender, Target, Work } from './work.ts'

const PAGE = 4096

function touch(bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; offset += PAGE) bytes[offset] = 1
}

function peer(make: (size: number) => Uint8Array, size: number, operations: number): Contender {
  return {
    kind: 'peer',
    load: async () => () => {
      for (let index = 0; index < operations; index += 1) touch(make(size))
    },
  }
}

function shown(size: number, label: string, operations: number, targets: readonly Target[]): Work {
  return {
    name: `buffer ${label}, shown`,
    what: `allocate ${label}, view, write one byte a page, dispose; ${operations} a turn of the event loop`,
    measure: 'time',
    operations,
    contenders: {
      offheap: {
        kind: 'ours',
        async load() {
          const { defaultMemoryPool } = await import('offheap')
          const pool = defaultMemoryPool()
          return () => {
            for (let index = 0; index < operations; index += 1) {
              const buffer = pool.allocateBuffer(size)
              touch(buffer.asUint8Array())
              buffer.dispose()
            }
          }
        },
      },
      'offheap, under a limit': {
        kind: 'variant',
        async load() {
          const { defaultMemoryPool } = await import('offheap')
          const pool = defaultMemoryPool().limit(64 * 2 ** 20)
          return () => {
            for (let index = 0; index < operations; index += 1) {
              const buffer = pool.allocateBuffer(size)
              touch(buffer.asUint8Array())
              buffer.dispose()
            }
          }
        },
      },
      'Buffer.allocUnsafeSlow': peer((bytes) => Buffer.allocUnsafeSlow(bytes), size, operations),
      'new Uint8Array': peer((bytes) => new Uint8Array(bytes), size, operations),
    },
    targets,
  }
}

const unseen: Work = {
  name: 'buffer 64 KiB, never shown',
  what: 'allocate 64 KiB, dispose; 1,000 a turn of the event loop',
  measure: 'time',
  operations: 1000,
  contenders: {
    offheap: {
      kind: 'ours',
      async load() {
        const { defaultMemoryPool } = await import('offheap')
        const pool = defaultMemoryPool()
        return () => {
          for (let index = 0; index < 1000; index += 1) pool.allocateBuffer(65_536).dispose()
        }
      },
    },
    'offheap, under a limit': {
      kind: 'variant',
      async load() {
        const { defaultMemoryPool } = await import('offheap')
        const pool = defaultMemoryPool().limit(2 ** 20)
        return () => {
          for (let index = 0; index < 1000; index += 1) pool.allocateBuffer(65_536).dispose()
        }
      },
    },
  },
  targets: [{ atMost: 350 }],
}

const slices: Work = {
  name: 'slice and dispose',
  what: 'slice 128 bytes of a buffer, dispose the slice; 1,000 a turn of the event loop',
  measure: 'time',
  operations: 1000,
  contenders: {
    offheap: {
      kind: 'ours',
      async load() {
        const { defaultMemoryPool } = await import('offheap')
        const whole = defaultMemoryPool().allocateBuffer(4096)
        return () => {
          for (let index = 0; index < 1000; index += 1) whole.slice(64, 128).dispose()
        }
      },
    },
    'Uint8Array.subarray': {
      kind: 'limit',
      load: async () => {
        const whole = new Uint8Array(4096)
        let sum = 0
        return () => {
          for (let index = 0; index < 1000; index += 1) sum += whole.subarray(64, 192).length
          if (sum < 0) throw new Error('negative')
        }
      },
    },
  },
  targets: [{ atMost: 350 }],
}

export const works: readonly Work[] = [
  shown(4096, '4 KiB', 1000, []),
  shown(65_536, '64 KiB', 200, [{ atMost: 2000 }]),
  shown(2 ** 20, '1 MiB', 32, [{ times: 3, than: 'Buffer.allocUnsafeSlow' }]),
  shown(2 ** 24, '16 MiB', 4, [{ times: 30, than: 'Buffer.allocUnsafeSlow' }]),
  unseen,
  slices,
]
