/** What nobody disposes of is freed by the collector, and what user code moved away is freed by its new owner. */
import { closeSync, openSync, read } from 'node:fs'
import test from 'ava'
import { Arena, BinaryBufferBuilder, BufferBuilder, capabilities, defaultMemoryPool, MemoryBuffer, TypedBufferBuilder } from 'offheap'
import { collectUntil, held, runScript, throwsCode, turns } from './support.js'

const pool = defaultMemoryPool().proxy({ name: 'garbage' })
const empty = { bytes: 0, allocations: 0 }
const gone = () => pool.bytesAllocated === 0 && pool.liveAllocations === 0 && pool.stats().parkedBytes === 0

test.serial.afterEach.always(async (t) => {
  t.true(await collectUntil(gone), `${pool.bytesAllocated} bytes are left, ${pool.stats().parkedBytes} parked`)
})

/** Runs `make` in a frame of its own, so that nothing of it stays on the stack. */
const forget = (make: () => void): void => make()

const forgotten: Record<string, () => void> = {
  'a handle without a view': () => pool.allocateBuffer(1000),
  'a handle with a view': () => pool.allocateBuffer(1000).asUint8Array().fill(1),
  'a handle with many views': () => {
    const buffer = pool.allocateBuffer(1000)
    for (let count = 0; count < 100; count += 1) buffer.asFloat64Array(count, 10)
  },
  'a slice of a forgotten buffer': () => pool.allocateBuffer(1000).slice(10, 20).asUint8Array(),
  'a slice of a slice, shown': () => pool.allocateBuffer(1000).sliceMutable(8, 800).slice(8).asUint8Array(),
  'an immutable copy': () => MemoryBuffer.from('x'.repeat(1000), { pool }),
  'a resizable buffer that moved, with its ended view': () => {
    const buffer = pool.allocateResizableBuffer(1000)
    buffer.asUint8Array()
    buffer.resize(100_000)
    buffer.asUint8Array()
  },
  'a byte builder': () => new BufferBuilder({ pool }).append('x'.repeat(1000)),
  'a builder of strings': () => new BinaryBufferBuilder({ pool }).append('x'.repeat(1000)),
  'a typed builder': () => new TypedBufferBuilder('float64', { pool, capacity: 100 }).append(1),
  'a finished builder and its buffer': () => {
    const builder = new TypedBufferBuilder('int32', { pool })
    builder.append(1)
    builder.finish()
  },
  'an arena': () => new Arena({ pool, chunkSize: 4096 }).alloc(100),
}

for (const [what, make] of Object.entries(forgotten)) {
  test.serial(`forgotten, ${what}: freed by the collector`, async (t) => {
    for (let count = 0; count < 50; count += 1) forget(make)
    t.true(await collectUntil(gone))
    t.deepEqual(held(pool), empty)
  })
}

test.serial('a view keeps the memory of a forgotten handle, byte for byte, until it goes too', async (t) => {
  let view: Uint8Array | undefined
  forget(() => {
    view = pool.allocateBuffer(1000).asUint8Array().fill(7)
  })
  t.false(await collectUntil(gone, 10))
  t.is(pool.bytesAllocated, 1000)
  t.true(view!.every((byte) => byte === 7))
  view = undefined
  t.true(await collectUntil(gone))
})

test.serial('a slice keeps the memory of a forgotten parent', async (t) => {
  let slice!: MemoryBuffer
  forget(() => {
    slice = pool.allocateBuffer(1000).fill(7).slice(500)
  })
  await collectUntil(gone, 5)
  t.is(pool.bytesAllocated, 1000)
  t.is(slice.at(0), 7)
  slice.dispose()
  t.true(await collectUntil(gone))
})

test.serial('a forgotten handle whose view a read still fills is not freed under it', async (t) => {
  const fd = openSync('/dev/zero', 'r')
  for (let round = 0; round < 20; round += 1) {
    const reads: Promise<void>[] = []
    forget(() => {
      for (let count = 0; count < 4; count += 1) {
        const view = pool.allocateBuffer(256 * 1024).asUint8Array().fill(1)
        reads.push(new Promise((resolve) => void read(fd, view, 0, view.length, 0, () => resolve())))
      }
    })
    globalThis.gc!()
    const others = Array.from({ length: 8 }, () => pool.allocateBuffer(256 * 1024).fill(0xee))
    await Promise.all(reads)
    for (const other of others) {
      t.true(other.equals(Buffer.alloc(other.size, 0xee)))
      other.dispose()
    }
  }
  closeSync(fd)
})

test.serial('20,000 forgotten buffers of 64 KiB with turns in between: memory is bounded on the way, and all of it freed', async (t) => {
  pool.resetPeak()
  for (let made = 0; made < 20_000; made += 100) {
    forget(() => {
      for (let count = 0; count < 100; count += 1) pool.allocateBuffer(65_536).asUint8Array()[0] = 1
    })
    await turns(1)
  }
  t.true(pool.peakBytes < 1_000_000_000, `${pool.peakBytes} of 1,310,720,000 bytes were alive at once`)
  t.true(await collectUntil(gone))
  t.deepEqual(held(pool), empty)
})

test.serial('a forgotten pool is let go when its last buffer is', async (t) => {
  let ran = false
  const registry = new FinalizationRegistry(() => (ran = true))
  let buffer!: MemoryBuffer
  forget(() => {
    const limit = pool.limit(10_000)
    registry.register(limit, 1)
    buffer = limit.allocateBuffer(100)
  })
  t.is(buffer.pool?.limitBytes, 10_000)
  buffer.dispose()
  buffer = undefined as unknown as MemoryBuffer
  t.true(await collectUntil(() => ran))
})

test.serial('collecting handles that were disposed frees nothing of others', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    forget(() => {
      for (let count = 0; count < 1000; count += 1) pool.allocateBuffer(64).dispose()
    })
    const kept = Array.from({ length: 1000 }, (_, index) => pool.allocateBuffer(64).fill(index & 255))
    for (let count = 0; count < 3; count += 1) {
      globalThis.gc!()
      await turns(2)
    }
    t.true(kept.every((buffer, index) => buffer.at(63) === (index & 255)))
    for (const buffer of kept) buffer.dispose()
  }
})

const transfer = (ArrayBuffer.prototype as { transfer?: (length?: number) => ArrayBuffer }).transfer
const withTransfer = transfer === undefined ? test.serial.skip : test.serial
const moved = (arrayBuffer: ArrayBuffer, length?: number): ArrayBuffer => Reflect.apply(transfer!, arrayBuffer, length === undefined ? [] : [length]) as ArrayBuffer

withTransfer('an ArrayBuffer that was moved keeps its bytes after dispose(), and frees them when it is collected', async (t) => {
  let copy: ArrayBuffer | undefined
  forget(() => {
    const buffer = pool.allocateBuffer(1000)
    const view = buffer.asUint8Array().fill(7)
    copy = moved(view.buffer)
    throwsCode(t, () => buffer.asUint8Array(), 'ERR_OFFHEAP_DISPOSED', 'transferred')
    t.is(buffer.at(0), 7, 'native code still has the memory')
    buffer.dispose()
    t.is(view.length, 0)
  })
  await collectUntil(gone, 5)
  t.is(pool.bytesAllocated, 1000)
  t.true(new Uint8Array(copy!).every((byte) => byte === 7))
  copy = undefined
  t.true(await collectUntil(gone))
})

withTransfer('an ArrayBuffer that was moved and cut to another length frees its memory with the handle', async (t) => {
  const buffer = pool.allocateBuffer(1000)
  const view = buffer.asUint8Array().fill(7)
  const cut = moved(view.buffer, 10)
  t.deepEqual([...new Uint8Array(cut)], Array.from({ length: 10 }, () => 7))
  await turns(2)
  t.is(buffer.at(999), 7)
  buffer.dispose()
  t.true(await collectUntil(gone))
  t.is(new Uint8Array(cut)[9], 7)
})

test.serial('an ArrayBuffer that was transferred by structuredClone: copied, refused or moved, and never read stale', async (t) => {
  const buffer = pool.allocateBuffer(1000)
  const view = buffer.asUint8Array().fill(7)
  let clone: ArrayBuffer | undefined
  try {
    clone = structuredClone(view.buffer, { transfer: [view.buffer] })
  } catch (error) {
    t.is((error as Error).name, 'DataCloneError')
  }
  t.is(view.length === 1000 ? view[0] : 7, 7)
  buffer.dispose()
  if (clone !== undefined) t.true(new Uint8Array(clone).every((byte) => byte === 7))
  clone = undefined
  t.true(await collectUntil(gone))
})

test.serial('OFFHEAP_SAFE_DISPOSE=1: what was shown is freed by collection only, and then all of it', async (t) => {
  const child = await runScript(
    `const pool = offheap.defaultMemoryPool().proxy()
     async function main() {
       let views = []
       for (let i = 0; i < 100; i += 1) { const b = pool.allocateBuffer(10_000); views.push(b.asUint8Array().fill(1)); b.dispose() }
       pool.allocateBuffer(10_000).dispose()
       const before = [pool.bytesAllocated, pool.stats().parkedBytes, views.every((v) => v[9_999] === 1)]
       views = []
       for (let i = 0; i < 50 && pool.stats().parkedBytes > 0; i += 1) { gc(); await new Promise((r) => setImmediate(r)) }
       console.log(JSON.stringify([...before, pool.stats().parkedBytes, offheap.capabilities().gate, offheap.capabilities().safeDispose]))
     }
     main()`,
    { OFFHEAP_SAFE_DISPOSE: '1' },
  )
  t.deepEqual(JSON.parse(child.stdout || 'null'), [0, 1_000_000, true, 0, 'collect', true], child.stderr)
})

test.serial('where views are copies, dispose() never waits, and work in flight keeps its own memory', async (t) => {
  const child = await runScript(
    `const fs = require('node:fs')
     const pool = offheap.defaultMemoryPool().proxy()
     async function main() {
       const fd = fs.openSync('/dev/zero', 'r')
       const results = []
       for (let i = 0; i < 50; i += 1) {
         const buffer = pool.allocateBuffer(65_536).fill(1)
         const view = buffer.asUint8Array()
         results.push(new Promise((resolve) => fs.read(fd, view, 0, 65_536, 0, (error, n) => resolve(error ?? n))))
         buffer.dispose()
         const other = pool.allocateBuffer(65_536).fill(0xee)
         await results.at(-1)
         if (!other.equals(Buffer.alloc(65_536, 0xee))) throw new Error('a foreign byte changed')
         other.dispose()
       }
       const buffer = pool.allocateBuffer(8)
       const view = buffer.asUint8Array().fill(5)
       const before = buffer.at(0)
       buffer.flush()
       const flushed = buffer.at(0)
       buffer.fill(6); buffer.refresh()
       console.log(JSON.stringify([offheap.capabilities().externalBuffers, pool.stats().parkedBytes, before === 5, flushed, view[0], (await Promise.all(results)).every((n) => n === 65_536)]))
       buffer.dispose()
       if (pool.bytesAllocated !== 0) throw new Error('bytes are left')
     }
     main()`,
    { OFFHEAP_NO_EXTERNAL_BUFFERS: '1' },
  )
  t.is(child.code, 0, child.stderr)
  t.deepEqual(JSON.parse(child.stdout), [false, 0, false, 5, 6, true])
})

test('this runtime is one of those that docs/lifetime.md describes', (t) => {
  const { gate, externalBuffers, sharedBuffers, maxViewBytes, safeDispose } = capabilities()
  t.is(gate, 'idle')
  t.true(externalBuffers)
  t.false(safeDispose)
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number]
  t.is(sharedBuffers, major > 26 || (major === 26 && minor >= 9) || (major === 24 && minor >= 21) || (major === 22 && minor >= 23))
  t.is(maxViewBytes, major < 22 ? 2 ** 32 : Number.MAX_SAFE_INTEGER)
})
