/**
 * When dispose() gives memory back (`docs/lifetime.md`): at once where nobody can have the address, else as soon as
 * nothing is in flight. What ends views (freeze, resize) while work is in flight leaves the work its old memory.
 */
import { execFileSync } from 'node:child_process'
import { constants, mkdtempSync, openSync, promises, read, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { capabilities, defaultMemoryPool, type MemoryPool, systemMemoryPool } from 'offheap'
import { attack, checkSafe } from './attacks/suite.js'
import { collectUntil, held, runNode, runScript, throwsCode, turns } from './support.js'

const MIB = 1024 * 1024
const folder = mkdtempSync(join(tmpdir(), 'offheap-lifetime-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

let fifos = 0

/** A read that ends when we say so: from a FIFO that is empty until then. */
class SlowRead {
  readonly #fd: number

  constructor() {
    const path = join(folder, `fifo-${(fifos += 1)}`)
    execFileSync('mkfifo', [path])
    this.#fd = openSync(path, constants.O_RDWR)
  }

  /** Begins to read into a view; resolves with how many bytes came. */
  into(view: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      read(this.#fd, view, 0, view.length, null, (error, length) => (error ? reject(error) : resolve(length)))
    })
  }

  /** Lets a read end with `bytes`. */
  give(bytes: Uint8Array): void {
    writeSync(this.#fd, bytes)
  }
}

/** The loop is busy with a read of somebody else while `body` runs. */
async function whileBusy(body: () => void | Promise<void>): Promise<void> {
  const slow = new SlowRead()
  const done = slow.into(Buffer.alloc(1))
  try {
    await body()
  } finally {
    slow.give(Buffer.alloc(1))
    await done
  }
}

const empty = { bytes: 0, allocations: 0 }

/** Waits until nothing is parked; the loop is idle when it is this test's turn again. */
async function unparked(t: ExecutionContext, pool: MemoryPool): Promise<void> {
  for (let count = 0; count < 100 && pool.stats().parkedBytes > 0; count += 1) await turns(1)
  t.is(pool.stats().parkedBytes, 0)
  t.deepEqual(held(pool), empty)
}

function account(t: ExecutionContext): MemoryPool {
  return defaultMemoryPool().proxy({ name: t.title })
}

// The tests share one loop, and each must know what is in flight: one after the other, on runtimes that can be asked.
const lifetime = capabilities().gate === 'idle' ? test.serial : test.serial.skip

test.beforeEach(() => new Promise((resolve) => setTimeout(resolve, 5)))

lifetime('a buffer that was never shown is freed in the call, also while the loop is busy', async (t) => {
  const pool = account(t)
  await whileBusy(async () => {
    const buffer = pool.allocateBuffer(MIB)
    await turns(2)
    buffer.dispose()
    t.deepEqual(held(pool), empty)
    t.is(pool.stats().parkedBytes, 0)
  })
})

lifetime('an idle loop: views end and bytes are free in the call, however old the view is', async (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(MIB)
  const view = buffer.asUint8Array()
  const doubles = buffer.asFloat64Array()
  await turns(2)
  buffer.dispose()
  t.deepEqual([view.length, doubles.length, view.buffer.byteLength], [0, 0, 0])
  t.deepEqual(held(pool), empty)
  t.is(pool.stats().parkedBytes, 0)
})

lifetime('timers and listening servers are no work in flight', async (t) => {
  const { createServer } = await import('node:net')
  const server = createServer().listen(0)
  const timer = setInterval(() => {}, 1000)
  await turns(3)
  const pool = account(t)
  const buffer = pool.allocateBuffer(MIB)
  const view = buffer.asUint8Array()
  await turns(2)
  buffer.dispose()
  t.is(view.length, 0)
  t.deepEqual(held(pool), empty)
  clearInterval(timer)
  server.close()
})

lifetime('a busy loop, a view of this stretch: nobody can have it, so it is freed in the call', async (t) => {
  const pool = account(t)
  await whileBusy(() => {
    for (let count = 0; count < 1000; count += 1) {
      const buffer = pool.allocateBuffer(MIB)
      const view = buffer.asUint8Array()
      view[0] = 1
      buffer.dispose()
      t.is(view.length, 0)
    }
    t.is(pool.peakBytes, MIB)
    t.is(pool.stats().parkedBytes, 0)
  })
})

lifetime('a view of this stretch that a request was started with waits', async (t) => {
  const pool = account(t)
  const slow = new SlowRead()
  const buffer = pool.allocateBuffer(4096)
  const view = buffer.asUint8Array()
  const done = slow.into(view)
  buffer.dispose()
  t.is(view.length, 4096)
  t.is(pool.stats().parkedBytes, 4096)
  slow.give(Buffer.alloc(4096, 9))
  t.is(await done, 4096)
  t.is(view[4095], 9, 'the read is complete: the view is attached in its callback')
  await unparked(t, pool)
  t.is(view.length, 0)
})

lifetime('a busy loop, a view of an earlier stretch: the handle is dead at once, the bytes are parked until the loop is idle', async (t) => {
  const pool = defaultMemoryPool().limit(MIB)
  let view!: Uint8Array
  await whileBusy(async () => {
    const buffer = pool.allocateBuffer(MIB)
    view = buffer.asUint8Array().fill(3)
    await null
    buffer.dispose()
    t.true(buffer.disposed)
    throwsCode(t, () => buffer.asUint8Array(), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => buffer.size, 'ERR_OFFHEAP_DISPOSED')
    t.is(view.length, MIB, 'the view is left alone')
    t.is(view[MIB - 1], 3)
    const { parkedBytes, bytesAllocated, liveAllocations, available } = pool.stats()
    t.deepEqual({ parkedBytes, bytesAllocated, liveAllocations, available }, { parkedBytes: MIB, bytesAllocated: 0, liveAllocations: 0, available: MIB })
    const next = pool.allocateBuffer(MIB)
    t.not(next.address, 0n, 'parked bytes count against no limit')
    next.dispose()
    buffer.dispose()
    t.is(pool.stats().parkedBytes, MIB, 'disposing again does nothing')
    await turns(3)
    t.is(pool.stats().parkedBytes, MIB, 'it waits as long as the read does')
  })
  await unparked(t, pool)
  t.is(view.length, 0)
})

lifetime('parked memory goes by collection while the loop is never idle', async (t) => {
  const pool = account(t)
  await whileBusy(async () => {
    let views: Uint8Array[] = []
    const buffers = Array.from({ length: 10 }, () => pool.allocateBuffer(MIB))
    views = buffers.map((buffer) => buffer.asUint8Array())
    await null
    for (const buffer of buffers.splice(0)) buffer.dispose()
    t.is(pool.stats().parkedBytes, 10 * MIB)
    t.is(views.length, 10)
    views = []
    t.true(await collectUntil(() => pool.stats().parkedBytes === 0))
  })
})

lifetime('what is parked keeps no process alive', async (t) => {
  const child = await runScript(`
    const pool = offheap.defaultMemoryPool()
    const buffer = pool.allocateBuffer(4096), view = buffer.asUint8Array()
    setImmediate(() => {
      require('node:crypto').randomFill(view, () => console.log('filled'))
      buffer.dispose()
      console.log('parked', pool.stats().parkedBytes)
    })`)
  t.is(child.stdout, 'parked 4096\nfilled\n', child.stderr)
  t.is(child.code, 0)
})

// Importing node:http as an ES module loads http2 since Node 22: that alone, and a pipe to the parent, must not count as one.
lifetime('a program that imports node:http, with pipes for its output, frees at once when it is idle', async (t) => {
  const child = await runNode([
    '--input-type=module',
    '-e',
    `import http from 'node:http'
     process.stdout.write('')
     const { defaultMemoryPool } = await import('offheap')
     http.createServer().listen(0, async function () {
       await new Promise((resolve) => setTimeout(resolve, 20))
       const buffer = defaultMemoryPool().allocateBuffer(4096)
       const view = buffer.asUint8Array()
       await new Promise(setImmediate)
       buffer.dispose()
       process.stdout.write(String(view.length))
       this.close()
     })`,
  ])
  t.is(child.stdout, '0', child.stderr)
})

lifetime('an http2 stream that was open before offheap was loaded counts until its socket is closed', async (t) => {
  const child = await runNode([
    '--input-type=module',
    '-e',
    `import http2 from 'node:http2'
     import net from 'node:net'
     import { once } from 'node:events'
     const pause = () => new Promise((resolve) => setTimeout(resolve, 20))
     const server = http2.createServer().listen(0)
     await once(server, 'listening')
     const client = http2.connect('http://127.0.0.1:' + server.address().port)
     const request = client.request()
     const [stream] = await once(server, 'stream')
     stream.respond()
     await once(request, 'response')
     const { defaultMemoryPool } = await import('offheap')
     await pause()
     const lengths = []
     for (const open of [true, false]) {
       const buffer = defaultMemoryPool().allocateBuffer(4096)
       const view = buffer.asUint8Array()
       await pause()
       buffer.dispose()
       lengths.push(view.length)
       if (open) {
         client.destroy()
         server.close()
         await pause()
         lengths.push(view.length)
       }
     }
     console.log(lengths.join())`,
  ])
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number]
  const published = major > 24 || (major === 24 && minor >= 9) || (major === 22 && minor >= 23)
  t.is(child.stdout.trim(), published ? '4096,0,0' : '4096,4096,4096', child.stderr)
})

lifetime('the memory of a parked slice and of its parent go when both are through', async (t) => {
  const pool = account(t)
  const slow = new SlowRead()
  const parent = pool.allocateBuffer(4096)
  const slice = parent.sliceMutable(1024, 1024)
  const view = slice.asUint8Array()
  const done = slow.into(view)
  slice.dispose()
  t.deepEqual(held(pool), { bytes: 4096, allocations: 1 }, 'the parent is in use')
  parent.dispose()
  t.deepEqual(held(pool), empty)
  t.is(pool.stats().parkedBytes, 4096, 'of the slice the whole block is left')
  slow.give(Buffer.alloc(1024, 5))
  await done
  await unparked(t, pool)
})

lifetime('a parent that outlives its parked slice gets the late bytes, which are its own', async (t) => {
  const pool = account(t)
  const slow = new SlowRead()
  const parent = pool.allocateBuffer(4096)
  parent.fill(1)
  const slice = parent.sliceMutable(1024, 1024)
  const done = slow.into(slice.asUint8Array())
  slice.dispose()
  slow.give(Buffer.alloc(1024, 5))
  await done
  await turns(3)
  t.deepEqual([1023, 1024, 2047, 2048].map((at) => parent.at(at)), [1, 5, 5, 1])
  parent.dispose()
  await unparked(t, pool)
})

lifetime('freeze() during a read: what is frozen is what it was, the read gets the old memory', async (t) => {
  const pool = account(t)
  const slow = new SlowRead()
  const buffer = pool.allocateBuffer(4096)
  const view = buffer.asUint8Array().fill(1)
  const done = slow.into(view)
  const before = buffer.address
  buffer.freeze()
  t.not(buffer.address, before)
  const after = buffer.asUint8Array()
  slow.give(Buffer.alloc(4096, 9))
  await done
  t.true(after.every((byte) => byte === 1), 'a late write reached the frozen bytes')
  view.fill(8)
  t.is(buffer.at(0), 1)
  await turns(3)
  t.is(view.length, 0, 'the old view ends when the read has')
  buffer.dispose()
  await unparked(t, pool)
})

for (const [what, size, change] of [
  ['growing', 64 * 1024, { shrinkToFit: true }],
  ['shrinking', 512, { shrinkToFit: true }],
] as const) {
  lifetime(`resize() during a read, ${what}: the old view writes into its old memory, not into the new`, async (t) => {
    const pool = systemMemoryPool().proxy({ name: t.title })
    const slow = new SlowRead()
    const buffer = pool.allocateResizableBuffer(4096)
    const view = buffer.asUint8Array().fill(1)
    const done = slow.into(view)
    buffer.resize(size, change)
    const after = buffer.asUint8Array(0, Math.min(size, 4096))
    t.true(after.every((byte) => byte === 1), 'the bytes are kept')
    t.is(pool.bytesAllocated, size)
    const others = Array.from({ length: 8 }, () => pool.allocateBuffer(4096).fill(0xee))
    slow.give(Buffer.alloc(4096, 9))
    await done
    t.true(after.every((byte) => byte === 1), 'a late write reached the new memory')
    for (const other of others) {
      t.true(other.equals(Buffer.alloc(4096, 0xee)), 'a late write reached memory of others')
      other.dispose()
    }
    await turns(3)
    t.is(view.length, 0)
    buffer.dispose()
    await unparked(t, pool)
  })
}

lifetime('reserve() during a read moves the buffer away from it', async (t) => {
  const pool = account(t)
  const slow = new SlowRead()
  const buffer = pool.allocateResizableBuffer(100)
  const done = slow.into(buffer.asUint8Array().fill(1))
  buffer.reserve(100_000)
  slow.give(Buffer.alloc(100, 9))
  await done
  t.is(buffer.at(0), 1)
  buffer.dispose()
  await unparked(t, pool)
})

lifetime('a resize in place during a read keeps the memory: the read lands in the buffer, and a later move leaves it behind', async (t) => {
  const pool = account(t)
  const [first, second] = [new SlowRead(), new SlowRead()]
  const buffer = pool.allocateResizableBuffer(4096)
  const view = buffer.asUint8Array().fill(1)
  const [one, two] = [first.into(view.subarray(0, 10)), second.into(view.subarray(10, 20))]
  buffer.resize(2048, { shrinkToFit: false })
  first.give(Buffer.alloc(10, 9))
  await one
  t.deepEqual([buffer.at(0), buffer.at(10)], [9, 1])
  buffer.resize(100_000)
  second.give(Buffer.alloc(10, 7))
  await two
  t.deepEqual([buffer.at(0), buffer.at(10)], [9, 1], 'a late write reached the new memory')
  buffer.dispose()
  await unparked(t, pool)
})

lifetime('readFrom() and writeTo() hold the buffer: dispose() meanwhile is ERR_OFFHEAP_BUSY', async (t) => {
  const pool = account(t)
  const path = join(folder, 'file')
  writeFileSync(path, Buffer.alloc(MIB, 7))
  const file = await promises.open(path, 'r+')
  const buffer = pool.allocateBuffer(MIB)
  const reading = buffer.readFrom(file, { position: 0 })
  throwsCode(t, () => buffer.dispose(), 'ERR_OFFHEAP_BUSY')
  throwsCode(t, () => buffer.freeze(), 'ERR_OFFHEAP_BUSY')
  t.is(await reading, MIB)
  const writing = buffer.writeTo(file, { position: MIB })
  throwsCode(t, () => buffer.dispose(), 'ERR_OFFHEAP_BUSY')
  t.is(await writing, MIB)
  t.is(buffer.at(-1), 7)
  await file.close()
  await t.throwsAsync(buffer.readFrom(file), { code: 'EBADF' })
  buffer.dispose()
  await unparked(t, pool)
})

test.serial('pins nest: dispose, freeze, resize and reserve are ERR_OFFHEAP_BUSY until the last is gone', (t) => {
  const pool = account(t)
  const buffer = pool.allocateResizableBuffer(100)
  const pins = [buffer.pin(), buffer.pin()]
  const busy = () => {
    throwsCode(t, () => buffer.dispose(), 'ERR_OFFHEAP_BUSY', 'pin')
    throwsCode(t, () => buffer.freeze(), 'ERR_OFFHEAP_BUSY')
    throwsCode(t, () => buffer.resize(50), 'ERR_OFFHEAP_BUSY')
    throwsCode(t, () => buffer.reserve(5000), 'ERR_OFFHEAP_BUSY')
  }
  busy()
  t.is(buffer.fill(1).at(0), 1, 'everything else works')
  pins[0]!.dispose()
  busy()
  pins[0]!.dispose()
  busy()
  t.deepEqual([pins[0]!.disposed, pins[1]!.disposed], [true, false])
  pins[1]![Symbol.dispose]()
  buffer.resize(50)
  buffer.dispose()
  throwsCode(t, () => buffer.pin(), 'ERR_OFFHEAP_DISPOSED')
  t.deepEqual(held(pool), empty)
})

test.serial("a pin holds its own handle only: slices and parents can be disposed of, and the memory stays for the pinned one", (t) => {
  const pool = account(t)
  const parent = pool.allocateBuffer(100)
  const slice = parent.slice(10, 10)
  {
    using _pin = slice.pin()
    parent.dispose()
    t.is(pool.bytesAllocated, 100)
    throwsCode(t, () => slice.dispose(), 'ERR_OFFHEAP_BUSY')
  }
  slice.dispose()
  t.deepEqual(held(pool), empty)
})

test.serial('a pinned buffer that is forgotten with its pin is collected like any other', async (t) => {
  const pool = account(t)
  ;(() => {
    const buffer = pool.allocateBuffer(100)
    buffer.asUint8Array()
    buffer.pin()
  })()
  t.true(await collectUntil(() => pool.bytesAllocated === 0))
})

test.serial('fs.read, FileHandle.read, zlib and crypto in flight while dispose() is called, 100 rounds: no crash, no foreign byte', async (t) => {
  const run = await attack('fs.read, FileHandle.read, zlib and crypto together', 'guarded', {}, 100)
  checkSafe(t, run)
  t.is(run.result?.disposals, 400)
})
