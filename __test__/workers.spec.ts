/** Buffers, pools and tickets across worker threads: same bytes, same limit, nothing left behind. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { capabilities, defaultMemoryPool, MemoryBuffer, MemoryPool, revokeShared, type Ticket } from 'offheap'
import { collectUntil, held, root, runNode, runScript, throwsCode } from './support.js'
import { join } from 'node:path'

/** A worker that runs JavaScript with `offheap`, `parentPort`, `workerData` and `reply`. */
function startWorker(script: string, workerData?: unknown): Worker {
  const library = JSON.stringify(join(root, 'dist', 'index.js'))
  return new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
     const offheap = require(${library})
     const reply = (value) => parentPort.postMessage(value)
     ${script}`,
    { eval: true, workerData },
  )
}

async function answer<T>(worker: Worker): Promise<T> {
  const [message] = (await once(worker, 'message')) as [T]
  return message
}

/** Runs a script in a worker to the worker's end; its first reply. */
async function inWorker<T>(script: string, workerData?: unknown): Promise<T> {
  const worker = startWorker(script, workerData)
  const ended = once(worker, 'exit')
  const message = await answer<T>(worker)
  await ended
  return message
}

function account(t: ExecutionContext): MemoryPool {
  return defaultMemoryPool().proxy({ name: t.title })
}

test.serial('a ticket opens the same bytes in a worker, both ways, without a copy', async (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(4096)
  buffer.fill(1)
  const ticket = buffer.share()
  const seen = await inWorker<{ first: number; address: bigint; mutable: boolean; size: number }>(
    `const buffer = offheap.MemoryBuffer.fromShared(workerData)
     const view = buffer.asUint8Array()
     const first = view[0]
     view[1] = 42
     reply({ first, address: buffer.address, mutable: buffer.isMutable, size: buffer.size })
     buffer.dispose()`,
    ticket,
  )
  t.deepEqual(seen, { first: 1, address: buffer.address, mutable: true, size: 4096 })
  t.is(buffer.at(1), 42)
  t.true(revokeShared(ticket))
  buffer.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test.serial('a ticket is plain data: it survives JSON, and opens any number of times', (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(64)
  const ticket = JSON.parse(JSON.stringify(structuredClone(buffer.share()))) as Ticket
  t.regex(ticket.secret, /^[0-9a-f]{32}$/)
  const opened = [MemoryBuffer.fromShared(ticket), MemoryBuffer.fromShared(ticket), MemoryBuffer.fromShared(ticket)]
  for (const each of opened) {
    t.is(each.address, buffer.address)
    t.is(each.pool, pool)
  }
  t.is(pool.bytesAllocated, 64, 'the bytes are counted once')
  for (const each of [...opened, buffer]) each.dispose()
  t.is(pool.bytesAllocated, 64, 'the ticket holds them')
  t.true(revokeShared(ticket))
  t.is(pool.bytesAllocated, 0)
})

test.serial('slices and immutable buffers stay what they are behind a ticket', (t) => {
  const pool = account(t)
  const whole = pool.allocateBuffer(256)
  whole.fill(3)
  const slice = whole.slice(64, 32)
  const ticket = slice.share()
  const opened = MemoryBuffer.fromShared(ticket)
  t.is(opened.size, 32)
  t.is(opened.address, whole.address + 64n)
  t.false(opened.isMutable)
  throwsCode(t, () => opened.fill(1), 'ERR_OFFHEAP_IMMUTABLE')
  revokeShared(ticket)
  for (const each of [whole, slice, opened]) each.dispose()
  t.is(pool.bytesAllocated, 0)
})

test.serial('a wrong secret, a wrong id, a revoked and a malformed ticket open nothing', (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(64)
  const ticket = buffer.share()
  const flipped = (ticket.secret[0] === '0' ? '1' : '0') + ticket.secret.slice(1)
  for (const wrong of [
    { ...ticket, secret: flipped },
    { ...ticket, secret: '' },
    { ...ticket, secret: `${ticket.secret}0` },
    { ...ticket, secret: `+${ticket.secret.slice(1)}` },
    { ...ticket, secret: 'z'.repeat(32) },
    { ...ticket, id: ticket.id + 1_000_000 },
    { ...ticket, id: 0 },
  ]) {
    throwsCode(t, () => MemoryBuffer.fromShared(wrong), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    t.false(revokeShared(wrong), 'nor can it be revoked')
  }
  for (const malformed of [undefined, null, 1, 'x', {}, { id: 1 }, { secret: ticket.secret }, { id: 1.5, secret: ticket.secret }]) {
    throwsCode(t, () => MemoryBuffer.fromShared(malformed as Ticket), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => MemoryPool.fromShared(malformed as Ticket), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => revokeShared(malformed as Ticket), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  const opened = MemoryBuffer.fromShared(ticket)
  t.true(revokeShared(ticket))
  t.false(revokeShared(ticket), 'the second time there is none')
  throwsCode(t, () => MemoryBuffer.fromShared(ticket), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.is(opened.fill(9).at(0), 9, 'what was opened stays')
  opened.dispose()
  buffer.dispose()
  t.is(pool.bytesAllocated, 0)
})

test.serial("a buffer's ticket opens no pool, and a pool's no buffer", (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(64)
  const [bufferTicket, poolTicket] = [buffer.share(), pool.share()]
  throwsCode(t, () => MemoryPool.fromShared(bufferTicket), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => MemoryBuffer.fromShared(poolTicket), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.is(MemoryPool.fromShared(poolTicket), pool)
  revokeShared(bufferTicket)
  revokeShared(poolTicket)
  buffer.dispose()
})

test.serial('tickets that were never revoked show in the report of close()', (t) => {
  const pool = account(t)
  const before = pool.proxy().close().sharedTickets
  const buffer = pool.allocateBuffer(64)
  const ticket = buffer.share()
  buffer.dispose()
  const report = pool.close()
  t.is(report.liveBytes, 64)
  t.true(report.sharedTickets >= before + 1)
  revokeShared(ticket)
  t.is(pool.bytesAllocated, 0)
})

test.serial('memory of a wrapped ArrayBuffer has no ticket', (t) => {
  throwsCode(t, () => MemoryBuffer.wrap(new ArrayBuffer(8)).share(), 'ERR_OFFHEAP_NOT_SUPPORTED')
})

test.serial('a ticket opens in a worker although its maker disposed of the buffer, and the last handle frees it there', async (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(1 << 20)
  buffer.fill(5)
  const ticket = buffer.share()
  const worker = startWorker(
    `parentPort.once('message', () => {
       const buffer = offheap.MemoryBuffer.fromShared(workerData)
       const view = buffer.asUint8Array()
       reply('open')
       parentPort.once('message', () => {
         const bytes = [view[0], view[view.length - 1]]
         buffer.dispose()
         reply([...bytes, view.length])
       })
     })`,
    ticket,
  )
  worker.postMessage('open')
  t.is(await answer(worker), 'open')
  buffer.dispose()
  revokeShared(ticket)
  t.is(pool.bytesAllocated, 1 << 20, 'the worker holds it')
  const ended = once(worker, 'exit')
  const bytes = answer(worker)
  worker.postMessage('dispose')
  t.deepEqual(await bytes, [5, 5, 0])
  await ended
  t.is(pool.bytesAllocated, 0)
})

test.serial('four workers on one limit of 1 MB, 50 rounds: never over, all freed at the end', async (t) => {
  const LIMIT = 1_000_000
  const pool = defaultMemoryPool().limit(LIMIT, { name: 'shared limit' })
  const ticket = pool.share()
  const script = `
    const pool = offheap.MemoryPool.fromShared(workerData.ticket)
    let seed = workerData.seed
    const random = () => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32)
    let refused = 0, over = 0, made = 0
    for (let round = 0; round < 50; round += 1) {
      const held = []
      for (let count = 0; count < 200; count += 1) {
        try {
          held.push(pool.allocateBuffer(Math.floor(random() * 20_000)))
          made += 1
        } catch (error) {
          if (error.code !== 'ERR_OFFHEAP_OUT_OF_MEMORY' || error.limit !== ${LIMIT}) throw error
          refused += 1
          held.splice(Math.floor(random() * held.length), 1)[0]?.dispose()
        }
        if (pool.bytesAllocated > ${LIMIT}) over += 1
        if (count % 20 === 0 && held.length > 0) held[0].asUint8Array()[0] = 1
      }
      for (const buffer of held) buffer.dispose()
    }
    reply({ refused, over, made })`
  const results = await Promise.all(
    [1, 2, 3, 4].map((seed) => inWorker<{ refused: number; over: number; made: number }>(script, { ticket, seed })),
  )
  for (const { refused, over, made } of results) {
    t.is(over, 0)
    t.true(made > 0)
    t.true(refused > 0, 'the limit was never reached: this was no test')
  }
  t.true(pool.peakBytes <= LIMIT)
  t.true(pool.peakBytes > LIMIT / 2)
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  t.is(pool.stats().parkedBytes, 0)
  const all = pool.allocateBuffer(LIMIT)
  throwsCode(t, () => pool.allocateBuffer(1), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  all.dispose()
  revokeShared(ticket)
})

test.serial('setDefaultMemoryPool holds for all workers, those that were started before too', async (t) => {
  const child = await runScript(`
    const { Worker } = require('node:worker_threads')
    const worker = new Worker(\`
      const offheap = require('offheap'); const { parentPort } = require('node:worker_threads')
      parentPort.on('message', () => {
        const buffer = offheap.defaultMemoryPool().allocateBuffer(100)
        parentPort.postMessage(offheap.defaultMemoryPool().name)
        buffer.dispose(); parentPort.close()
      })\`, { eval: true })
    worker.once('online', () => {
      offheap.setDefaultMemoryPool(offheap.systemMemoryPool().limit(1000, { name: 'of all' }))
      worker.postMessage('go')
      worker.on('message', (name) => console.log(name, offheap.defaultMemoryPool().peakBytes))
    })`)
  t.is(child.stdout.trim(), 'of all 100', child.stderr)
})

test.serial('loading first in a worker that exits, then allocating in the main thread: 5 processes', async (t) => {
  const child = await runNode([join(root, 'scripts', 'worker-load.mjs'), '5'])
  t.is(child.code, 0, child.stderr)
  t.regex(child.stdout, /5 of 5 rounds clean/)
})

/** What workers do when they are terminated. */
const busy = {
  'allocating and disposing': `for (;;) { const b = pool.allocateBuffer(70_000); b.asUint8Array()[0] = 1; b.dispose() }`,
  'with views alive': `const all = []; for (;;) { if (all.length < 50) { const b = pool.allocateBuffer(70_000); all.push(b.asFloat64Array(), b) } }`,
  'building': `for (;;) { const b = new offheap.TypedBufferBuilder('float64', { pool }); for (let i = 0; i < 20_000; i += 1) b.append(i); b.finish().dispose() }`,
  'sharing': `for (;;) { const b = pool.allocateBuffer(100); const t = b.share(); offheap.MemoryBuffer.fromShared(t).dispose(); offheap.revokeShared(t); b.dispose() }`,
  'with reads in flight': `const fs = require('node:fs'); const fd = fs.openSync(process.execPath, 'r'); const start = () => { const b = pool.allocateBuffer(1 << 20); fs.read(fd, b.asUint8Array(), 0, 1 << 20, 0, start); b.dispose() }; for (let i = 0; i < 4; i += 1) start()`,
}

test.serial('terminating workers in the middle of calls, 30 rounds: the process lives and all they held is freed', async (t) => {
  const pool = account(t)
  const ticket = pool.share()
  const before = pool.proxy().close().sharedTickets
  const kinds = Object.values(busy)
  for (let round = 0; round < 30; round += 1) {
    const worker = startWorker(
      `const pool = offheap.MemoryPool.fromShared(workerData)
       reply('started')
       setTimeout(() => { ${kinds[round % kinds.length]} }, 0)
       setInterval(() => {}, 1000)`,
      ticket,
    )
    await answer(worker)
    await new Promise((resolve) => setTimeout(resolve, round % 7))
    await worker.terminate()
  }
  // A worker that was terminated between share() and revokeShared() leaves its ticket, and its tickets only.
  const left = pool.proxy().close().sharedTickets - before
  t.true(await collectUntil(() => pool.bytesAllocated <= left * 100))
  t.true(pool.bytesAllocated <= left * 100, `${pool.bytesAllocated} bytes are left, with ${left} tickets`)
  t.is(pool.stats().parkedBytes, 0)
  const buffer = pool.allocateBuffer(1 << 20)
  buffer.asUint8Array().fill(1)
  buffer.dispose()
  revokeShared(ticket)
})

test.serial('buffers that are alive when a worker exits by itself are freed with it: with view, without, slices, builders', async (t) => {
  const pool = account(t)
  const ticket = pool.share()
  const bytes = await inWorker<number>(
    `const pool = offheap.MemoryPool.fromShared(workerData)
     globalThis.kept = []
     for (let i = 0; i < 10; i += 1) {
       const shown = pool.allocateBuffer(10_000)
       shown.asUint8Array().fill(1)
       const builder = new offheap.BufferBuilder({ pool })
       builder.append('x'.repeat(1000))
       globalThis.kept.push(shown, pool.allocateBuffer(10_000), shown.slice(10), builder, new offheap.Arena({ pool, chunkSize: 4096 }))
     }
     reply(pool.bytesAllocated)`,
    ticket,
  )
  t.true(bytes >= 200_000)
  t.true(await collectUntil(() => pool.bytesAllocated === 0))
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  revokeShared(ticket)
})

test.serial("a worker's parked memory is freed when the worker is terminated", async (t) => {
  const pool = account(t)
  const ticket = pool.share()
  const worker = startWorker(
    `const pool = offheap.MemoryPool.fromShared(workerData)
     const { pbkdf2 } = require('node:crypto')
     const buffer = pool.allocateBuffer(1 << 20)
     const view = buffer.asUint8Array()
     setImmediate(() => {
       pbkdf2('x', 'y', 20_000, 32, 'sha512', () => {})
       buffer.dispose()
       reply([view.length, pool.stats().parkedBytes])
       setInterval(() => {}, 1000)
     })`,
    ticket,
  )
  const seen = await answer<number[]>(worker)
  if (capabilities().gate === 'idle') t.deepEqual(seen, [1 << 20, 1 << 20])
  await worker.terminate()
  t.is(pool.stats().parkedBytes, 0)
  t.is(pool.bytesAllocated, 0)
  revokeShared(ticket)
})

test.serial('messages: views arrive as copies, and a buffer that is posted by mistake arrives as an empty object', async (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(16)
  const view = buffer.asUint8Array().fill(6)
  const worker = startWorker(`parentPort.once('message', ({ view, buffer }) => { view[0] = 1; reply([view, Object.keys(buffer).length, buffer instanceof offheap.MemoryBuffer]) })`)
  const reply = answer<[Uint8Array, number, boolean]>(worker)
  worker.postMessage({ view, buffer })
  buffer.dispose()
  const [copy, keys, isBuffer] = await reply
  t.deepEqual([...copy], [1, ...Array.from({ length: 15 }, () => 6)])
  t.is(keys, 0)
  t.false(isBuffer)
  await worker.terminate()
  t.is(pool.bytesAllocated, 0)
})

test.serial('a SharedArrayBuffer over native memory is one memory for all, and lives until it is collected', async (t) => {
  const pool = account(t)
  const buffer = pool.allocateBuffer(4096)
  buffer.fill(0)
  if (!capabilities().sharedBuffers) {
    throwsCode(t, () => buffer.asSharedArrayBuffer(), 'ERR_OFFHEAP_NOT_SUPPORTED')
    buffer.dispose()
    return
  }
  const seen = await inWorker<number>(`const words = new Int32Array(workerData); Atomics.add(words, 0, 7); reply(Atomics.load(words, 0))`, buffer.asSharedArrayBuffer())
  t.is(seen, 7)
  t.is(buffer.asInt32Array()[0], 7)
  buffer.dispose()
  t.true(await collectUntil(() => pool.bytesAllocated === 0))
})
