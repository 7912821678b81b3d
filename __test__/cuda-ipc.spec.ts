/** Memory and events of a GPU in two processes: handles go through JSON, and either process may die. */
import './support/cuda.js'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { ExecutionContext } from 'ava'
import { cpuDevice, defaultMemoryPool } from 'offheap'
import * as cuda from 'offheap/cuda'
import { cleanEnvironment, rejectsCode, root, throwsCode } from './support.js'
import { cudaEnvironment, onGpu } from './support/cuda.js'
import { bytesOf } from './support/reads-bytes.js'

const cpu = cpuDevice()

/** A process that answers messages, each by the value of an expression of `message`. */
class Peer {
  readonly #child: ChildProcess

  constructor() {
    const program = `
      const offheap = require('offheap'), cuda = require('offheap/cuda')
      const kept = {}
      process.on('message', async (message) => {
        try {
          const body = new (Object.getPrototypeOf(async function () {}).constructor)('offheap', 'cuda', 'kept', 'message', message.body)
          process.send({ value: await body(offheap, cuda, kept, message.argument) })
        } catch (error) {
          process.send({ error: error.code + ': ' + error.message })
        }
      })
      process.send('ready')`
    this.#child = spawn(process.execPath, ['--expose-gc', '-e', program], {
      cwd: root,
      env: cleanEnvironment(cudaEnvironment),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
  }

  async start(): Promise<this> {
    await once(this.#child, 'message')
    return this
  }

  async run<Value>(body: string, argument?: unknown): Promise<Value> {
    this.#child.send({ body, argument: argument as object })
    const [answer] = (await once(this.#child, 'message')) as [{ value: Value; error?: string }]
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer.value
  }

  async end(signal?: NodeJS.Signals): Promise<void> {
    const gone = once(this.#child, 'exit')
    if (signal === undefined) this.#child.disconnect()
    else this.#child.kill(signal)
    await gone
  }
}

async function withPeer(t: ExecutionContext, body: (peer: Peer) => Promise<void>): Promise<void> {
  const peer = await new Peer().start()
  let ended = false
  const end = peer.end.bind(peer)
  peer.end = async (signal) => {
    ended = true
    await end(signal)
  }
  try {
    await body(peer)
  } finally {
    if (!ended) await peer.end('SIGKILL')
  }
  t.pass()
}

for (const size of [1, 1000, 3 << 20]) {
  onGpu(`#88 #145 another process opens memory by a handle that went through JSON: ${size} bytes`, async (t) => {
    await withPeer(t, async (peer) => {
      const gpu = cuda.device()
      const manager = gpu.createMemoryManager({ kind: 'plain' })
      using whole = manager.allocateBuffer(size + 20)
      await cuda.fill(whole, 0)
      using part = whole.sliceMutable(10, size)
      await cuda.fill(part, 0x5a)
      const handle = JSON.parse(JSON.stringify(cuda.exportMemory(part))) as cuda.CudaMemoryHandle
      t.deepEqual([handle.length, handle.device], [size, gpu.uuid])
      const seen = await peer.run<[number, boolean, string, boolean]>(
        `kept.buffer = cuda.openMemory(message)
         const copy = kept.buffer.copyTo(offheap.cpuDevice())
         return [kept.buffer.size, kept.buffer.isCpu, String(kept.buffer.device), copy.asUint8Array().every((byte) => byte === 0x5a)]`,
        handle,
      )
      t.deepEqual(seen, [size, false, 'cuda:0', true])
      // What it writes is here.
      await peer.run('await cuda.fill(kept.buffer, 0xa5); await cuda.device().synchronize(); kept.buffer.dispose()')
      t.is(bytesOf(whole.slice(9, 2), cpu), '00A5')
      t.is(bytesOf(whole.slice(size + 9, 2), cpu), 'A500')
      await peer.end()
    })
  })
}

onGpu('#81 an event of one process is waited for in another', async (t) => {
  await withPeer(t, async (peer) => {
    const gpu = cuda.device()
    using stream = gpu.createStream()
    using event = gpu.createEvent({ shared: true })
    using buffer = gpu.createMemoryManager({ kind: 'plain' }).allocateBuffer(1 << 20)
    const filled = cuda.fill(buffer, 7, { stream })
    stream.record(event)
    const handles = JSON.parse(JSON.stringify([cuda.exportMemory(buffer), cuda.exportEvent(event)])) as [cuda.CudaMemoryHandle, cuda.CudaEventHandle]
    const seen = await peer.run(
      `const [buffer, event] = [cuda.openMemory(message[0]), cuda.openEvent(message[1])]
       await event.completed()
       const stream = cuda.device().createStream()
       stream.waitEvent(event)
       const target = cuda.device().allocateHostBuffer(buffer.size)
       await cuda.copy(target, buffer, { stream })
       return [event.isComplete, target.at(0), target.at(-1)]`,
      handles,
    )
    t.deepEqual(seen, [true, 7, 7])
    await filled
    throwsCode(t, () => cuda.exportEvent(gpu.createEvent()), 'ERR_OFFHEAP_NOT_SUPPORTED')
  })
})

onGpu('the maker is killed: who has the memory open goes on, and lets it go', async (t) => {
  await withPeer(t, async (peer) => {
    const handle = await peer.run<cuda.CudaMemoryHandle>(
      `kept.buffer = cuda.device().createMemoryManager({ kind: 'plain' }).allocateBuffer(1 << 20)
       await cuda.fill(kept.buffer, 3)
       return cuda.exportMemory(kept.buffer)`,
    )
    using opened = cuda.openMemory(handle)
    t.is(bytesOf(opened.slice(0, 2), cpu), '0303')
    await peer.end('SIGKILL')
    using slice = opened.slice(5)
    opened.dispose()
    t.is(slice.size, (1 << 20) - 5)
    slice.dispose()
    // The GPU works as before.
    using other = cuda.device().memoryManager.allocateBuffer(100)
    await cuda.fill(other, 1)
    t.is(bytesOf(other.slice(99), cpu), '01')
  })
})

onGpu('who has the memory open is killed: its maker has it as before', async (t) => {
  await withPeer(t, async (peer) => {
    const manager = cuda.device().createMemoryManager({ kind: 'plain' })
    const buffer = manager.allocateBuffer(1 << 20)
    await cuda.fill(buffer, 9)
    await peer.run('kept.buffer = cuda.openMemory(message); return kept.buffer.size', cuda.exportMemory(buffer))
    await peer.end('SIGKILL')
    using slice = buffer.slice(0, 2)
    t.is(bytesOf(slice, cpu), '0909')
    slice.dispose()
    buffer.dispose()
    t.is(manager.pool!.liveAllocations, 0)
  })
})

onGpu('handles that are none are refused, and so is memory that has none', async (t) => {
  const gpu = cuda.device()
  using buffer = gpu.createMemoryManager({ kind: 'plain' }).allocateBuffer(1000)
  const handle = cuda.exportMemory(buffer)
  const cut = handle.handle.slice(2)
  for (const wrong of [null, 1, 'text', {}, { ...handle, device: 7 }, { ...handle, handle: cut }, { ...handle, handle: `zz${cut}` }, { ...handle, device: 'f'.repeat(32) }, { ...handle, length: -1 }, { ...handle, offset: 0.5 }, { ...handle, handle: '00'.repeat(64) }]) {
    throwsCode(t, () => cuda.openMemory(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  throwsCode(t, () => cuda.openMemory(handle), 'ERR_OFFHEAP_INVALID_ARGUMENT') // of this process
  for (const wrong of [null, {}, { device: handle.device, handle: cut }, { device: handle.device, handle: '00'.repeat(64) }]) {
    throwsCode(t, () => cuda.openEvent(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  await withPeer(t, async (peer) => {
    await t.throwsAsync(peer.run('cuda.openMemory(message)', { ...handle, length: 2 ** 40 }), { message: /^ERR_OFFHEAP_OUT_OF_RANGE/ })
    await t.throwsAsync(peer.run('cuda.openMemory(message)', { ...handle, offset: 2 ** 53 - 1, length: 2 ** 53 - 1 }), { message: /^ERR_OFFHEAP_OUT_OF_RANGE/ })
  })
  using pooled = gpu.memoryManager.allocateBuffer(100)
  throwsCode(t, () => cuda.exportMemory(pooled), 'ERR_OFFHEAP_NOT_SUPPORTED')
  using ordinary = defaultMemoryPool().allocateBuffer(100)
  throwsCode(t, () => cuda.exportMemory(ordinary), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => cuda.exportMemory({} as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => cuda.exportEvent({} as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  await rejectsCode(t, cuda.copy(pooled, buffer, { length: 101 }), 'ERR_OFFHEAP_OUT_OF_RANGE')
})
