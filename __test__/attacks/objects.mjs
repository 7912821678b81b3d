// Attacks through what copies, moves or keeps an ArrayBuffer: structured clones, decoders, transfers, shared memory,
// workers, and other addons.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, read } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { fileURLToPath } from 'node:url'
import v8 from 'node:v8'
import { MessageChannel, Worker } from 'node:worker_threads'
import { capabilities } from '../../dist/index.mjs'
import { called, collect, INPUT, KIB, OWN, turn } from './harness.mjs'

const SIZE = 64 * KIB

/** APIs that copy in the call: what comes out later is complete, whenever the buffer went. */
async function copying(attack, start, size = SIZE) {
  for await (const round of attack.rounds()) {
    const lease = round.lease(size)
    if (round.late) await turn()
    const work = start(lease)
    await round.dispose(lease)
    const bytes = await round.settle(work)
    if (bytes !== undefined) round.sent(bytes, { complete: true, length: size })
  }
}

const latin1 = (text) => Buffer.from(text, 'latin1')

/** `\0asm`, version 1, and custom sections up to `size` bytes, with nothing in them that means anything. */
function wasmModule(size) {
  const rest = size - 8 - 4
  const length = [(rest & 127) | 128, ((rest >> 7) & 127) | 128, rest >> 14]
  return Buffer.concat([Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 0, ...length, 1, 0x61]), Buffer.alloc(rest - 2, OWN)])
}

/** Node 20 copies on a transfer of memory like ours, later versions and Bun refuse, Deno moves. */
async function transferring(attack, start) {
  for await (const round of attack.rounds()) {
    const lease = round.lease(SIZE)
    if (round.late) await turn()
    const work = (async () => start(lease))()
    work.catch(() => {})
    await round.dispose(lease)
    const bytes = await round.settle(work)
    if (bytes !== undefined) round.sent(bytes, { complete: true, length: SIZE })
  }
}

/** Runs `body` with fs.reads of `SIZE` bytes to attack. */
async function withReads(attack, body) {
  const fd = openSync(attack.file('input', SIZE), 'r')
  await body(({ view }) => called((done) => read(fd, view, 0, view.length, 0, done)))
  closeSync(fd)
}

export const rows = {
  'worker postMessage': async (attack) => {
    const { port1, port2 } = new MessageChannel()
    await copying(attack, ({ view }) => {
      const message = once(port2, 'message').then(([bytes]) => bytes)
      port1.postMessage(view)
      return message
    })
    port1.close()
  },

  structuredClone: (attack) => copying(attack, async ({ view }) => structuredClone(view)),

  Blob: (attack) => copying(attack, async ({ view }) => new Uint8Array(await new Blob([view]).arrayBuffer())),

  TextDecoder: (attack) => copying(attack, async ({ view }) => latin1(new TextDecoder('latin1').decode(view))),

  StringDecoder: (attack) => copying(attack, async ({ bytes }) => latin1(new StringDecoder('latin1').write(bytes))),

  'long latin1 string': (attack) => copying(attack, async ({ bytes }) => latin1(bytes.toString('latin1')), 2048 * KIB),

  'WebAssembly.compile': async (attack) => {
    const module = wasmModule(SIZE)
    for await (const round of attack.rounds()) {
      const lease = round.lease(SIZE)
      lease.view.set(module)
      if (round.late) await turn()
      const work = WebAssembly.compile(lease.view)
      await round.dispose(lease)
      const compiled = await round.settle(work)
      if (compiled === undefined) attack.fail('a module that was copied in the call did not compile')
      else round.sent(new Uint8Array(WebAssembly.Module.customSections(compiled, 'a')[0]))
    }
  },

  // Reads through a pointer of its own, whatever becomes of the ArrayBuffer.
  'v8.Deserializer': async (attack) => {
    const bytes = new Uint8Array(8)
    const number = new Float64Array(bytes.buffer)
    for await (const round of attack.rounds()) {
      const lease = round.lease(4 * KIB)
      if (round.late) await turn()
      const deserializer = new v8.Deserializer(lease.bytes)
      await round.dispose(lease)
      await round.settle((async () => (number[0] = deserializer.readDouble()))())
      round.sent(bytes)
    }
  },

  'structuredClone with transfer': (attack) =>
    transferring(attack, async ({ view }) => new Uint8Array(structuredClone(view.buffer, { transfer: [view.buffer] }))),

  'worker postMessage with transfer': async (attack) => {
    const { port1, port2 } = new MessageChannel()
    await transferring(attack, ({ view }) => {
      port1.postMessage(view.buffer, [view.buffer])
      return once(port2, 'message').then(([bytes]) => new Uint8Array(bytes))
    })
    port1.close()
  },

  'BYOB reader': async (attack) => {
    for await (const round of attack.rounds()) {
      const lease = round.lease(SIZE)
      if (round.late) await turn()
      const stream = new ReadableStream({
        type: 'bytes',
        async pull(controller) {
          await turn()
          controller.enqueue(Buffer.alloc(SIZE, INPUT))
        },
      })
      const reader = stream.getReader({ mode: 'byob' })
      const work = reader.read(lease.view)
      work.catch(() => {})
      await round.dispose(lease)
      await round.settle(work)
    }
  },

  'worker.terminate() during 4 reads': async (attack) => {
    const program = fileURLToPath(new URL('reading-worker.mjs', import.meta.url))
    const path = attack.file('input', 1024 * KIB)
    for await (const round of attack.rounds({ most: 30 })) {
      const worker = new Worker(program, { workerData: { path, leave: round.number % 3 } })
      const [message] = await once(worker, 'message')
      if (round.moment !== 'start') await turn()
      await worker.terminate()
      round.reuse({ size: message.size, address: 0n })
      await turn()
      attack.outcome('completed')
    }
  },

  "another addon's async work": (attack) => addonRow(attack, (addon, view) => called((done) => addon.queueWork(view, 2, () => done()))),

  // As with an async function of Rust that runs on tokio: the addon holds the view, but nothing shows that it is busy.
  "another addon's own thread": (attack) =>
    addonRow(attack, async (addon, view) => {
      const thread = addon.startThread(view, 5)
      await new Promise((resolve) => setTimeout(resolve, 15))
      addon.joinThread(thread)
    }),
}

if (ArrayBuffer.prototype.transfer !== undefined) {
  rows['ab.transfer(), then dispose'] = async (attack) => {
    for await (const round of attack.rounds()) {
      const lease = round.lease(SIZE)
      if (round.late) await turn()
      const moved = new Uint8Array(lease.view.buffer.transfer())
      await round.dispose(lease)
      collect()
      await turn()
      attack.outcome('completed')
      round.sent(moved, { complete: true, length: SIZE })
    }
  }
  rows['ab.transfer(n) during fs.read, then dispose'] = (attack) =>
    withReads(attack, async (start) => {
      for await (const round of attack.rounds({ threads: true })) {
        const lease = round.lease(SIZE)
        if (round.late) await turn()
        const work = start(lease)
        lease.view.buffer.transfer(round.number % 2 === 0 ? 10 : SIZE * 2)
        await round.dispose(lease)
        collect()
        await round.settle(work)
      }
    })
  // The view stays attached while the read is in flight, so the program can still move it, and forget what it got.
  rows['dispose during fs.read, then ab.transfer()'] = (attack) =>
    withReads(attack, async (start) => {
      for await (const round of attack.rounds({ threads: true })) {
        const leases = Array.from({ length: 4 }, () => round.lease(SIZE))
        if (round.late) await turn()
        const work = leases.map(start)
        for (const { buffer } of leases) buffer.dispose()
        for (const { view } of leases) if (view.length > 0) view.buffer.transfer(round.number % 2 === 0 ? 10 : SIZE)
        for (let count = 0; count < 3; count += 1) {
          collect()
          await turn()
        }
        await round.dispose(...leases)
        await Promise.all(work.map((one) => round.settle(one)))
      }
    })
}

if (capabilities().sharedBuffers) {
  rows['SharedArrayBuffer and Atomics.wait'] = async (attack) => {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads')
       parentPort.on('message', (shared) => {
         const words = new Int32Array(shared)
         parentPort.postMessage('waiting')
         Atomics.wait(words, 0, ${OWN * 0x01010101}, 20)
         for (let i = 1; i < words.length; i += 1) Atomics.add(words, i, 1)
         parentPort.postMessage(Atomics.load(words, 1))
       })`,
      { eval: true },
    )
    for await (const round of attack.rounds()) {
      const lease = round.lease(4 * KIB)
      const shared = lease.buffer.asSharedArrayBuffer()
      if (round.late) await turn()
      worker.postMessage(shared)
      await once(worker, 'message')
      await round.dispose(lease)
      const [word] = await once(worker, 'message')
      attack.outcome(word === OWN * 0x01010101 + 1 ? 'completed' : 'wrong word')
      if (word !== OWN * 0x01010101 + 1) attack.fail(`the worker found ${word}`)
    }
    await worker.terminate()
  }
}

/** An addon of four functions in C: works on a view in the thread pool, or in a thread of its own. */
async function addonRow(attack, start) {
  const library = join(attack.folder, 'late-writer.node')
  const source = fileURLToPath(new URL('late-writer.c', import.meta.url))
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-pthread', '-o', library, source, ...(process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : [])])
  const addon = createRequire(import.meta.url)(library)
  for await (const round of attack.rounds()) {
    const leases = [round.lease(SIZE), round.lease(SIZE)]
    if (round.late) await turn()
    const work = leases.map(({ view }) => start(addon, view))
    await round.dispose(...leases)
    for (const one of work) await round.settle(one)
  }
}
