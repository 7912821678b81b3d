/** Memory and events of a GPU in two processes: handles go through JSON, and either process may die. */
import './support/cuda.js'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { ExecutionContext } from 'ava'
import { cpuDevice, defaultMemoryPool, type MemoryBuffer } from 'offheap'
import * as cuda from 'offheap/cuda'
import { cleanEnvironment, rejectsCode, root, throwsCode } from './support.js'
import { cudaEnvironment, isDouble, onDouble, onGpu, printed, runCuda } from './support/cuda.js'
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

const exportable = { kind: 'driver-pool', exportable: true } as const

/** The first bytes of a buffer, in hexadecimal; no slice of it is left. */
function firstBytes(buffer: MemoryBuffer, length = 2, offset = 0): string {
  using slice = buffer.slice(offset, length)
  return bytesOf(slice, cpu)
}

/** A test with a pool that other processes can open, where the GPU has such pools. */
function onPools(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  onGpu(title, async (t) => {
    if (cuda.device().hasExportableMemoryPools) await body(t)
    else {
      t.false(isDouble)
      t.throws(() => cuda.device().createMemoryManager(exportable), { code: 'ERR_OFFHEAP_NOT_SUPPORTED' })
    }
  })
}

onPools('exportable pools: another process opens slices of several buffers, as often as it likes, and closes them', async (t) => {
  await withPeer(t, async (peer) => {
    const gpu = cuda.device()
    const manager = gpu.createMemoryManager(exportable)
    t.is(manager.kind, 'driver-pool')
    using small = manager.allocateBuffer(1000)
    using large = manager.allocateBuffer(3 << 20)
    await Promise.all([cuda.fill(small, 1), cuda.fill(large, 2)])
    using slice = large.slice(123, 1 << 20)
    const handles = JSON.parse(JSON.stringify([small, slice].map(cuda.exportMemory))) as cuda.CudaMemoryHandle[]
    t.deepEqual(handles.map(({ offset, length }) => [offset, length]), [[0, 1000], [123, 1 << 20]])
    t.deepEqual(cuda.exportMemory(small), handles[0]!)
    const seen = await peer.run(
      `kept.all = [...message, ...message].map(cuda.openMemory)
       const [small, slice, again] = kept.all
       const sizes = kept.all.map(({ size }) => size)
       const bytes = (buffer) => [...new Set(buffer.copyTo(offheap.cpuDevice()).asUint8Array())]
       again.dispose()
       again.dispose()
       let code
       try { cuda.exportMemory(small) } catch (error) { code = error.code }
       return [sizes, bytes(small), bytes(slice), small.isCpu, code]`,
      handles,
    )
    t.deepEqual(seen, [[1000, 1 << 20, 1000, 1 << 20], [1], [2], false, 'ERR_OFFHEAP_NOT_SUPPORTED'])
    // What it writes is here, and only there.
    await peer.run('await cuda.fill(kept.all[1], 0xa5)')
    t.is(firstBytes(large, 2, 122), '02A5')
    t.is(firstBytes(large, 2, 122 + (1 << 20)), 'A502')
    // All closed, it opens them anew.
    const anew = await peer.run<number>(
      `for (const buffer of kept.all) buffer.dispose()
       kept.all = message.map(cuda.openMemory)
       return kept.all[0].copyTo(offheap.cpuDevice()).at(999)`,
      handles,
    )
    t.is(anew, 1)
    await peer.run('for (const buffer of kept.all) buffer.dispose()')
    await peer.end()
  })
})

onPools('exportable pools: an event says when the bytes are there', async (t) => {
  await withPeer(t, async (peer) => {
    const gpu = cuda.device()
    using stream = gpu.createStream()
    using event = gpu.createEvent({ shared: true })
    using buffer = gpu.createMemoryManager(exportable).on(stream).allocateBuffer(1 << 20)
    const filled = cuda.fill(buffer, 7, { stream })
    stream.record(event)
    const handles = [cuda.exportMemory(buffer), cuda.exportEvent(event)]
    const seen = await peer.run(
      `const [buffer, event] = [cuda.openMemory(message[0]), cuda.openEvent(message[1])]
       await event.completed()
       return buffer.copyTo(offheap.cpuDevice()).at(-1)`,
      handles,
    )
    t.is(seen, 7)
    await filled
  })
})

onPools('exportable pools: the maker frees the memory, and is killed: handles are stale, what is open goes on', async (t) => {
  await withPeer(t, async (peer) => {
    const make = `kept.manager ??= cuda.device().createMemoryManager({ kind: 'driver-pool', exportable: true })
       const buffer = (kept.buffer = kept.manager.allocateBuffer(1 << 20))
       await cuda.fill(buffer, 3)
       return cuda.exportMemory(buffer)`
    const first = await peer.run<cuda.CudaMemoryHandle>(make)
    using once = cuda.openMemory(first)
    t.is(firstBytes(once), '0303')
    once.dispose()
    await peer.run('kept.buffer.dispose()')
    throwsCode(t, () => cuda.openMemory(first), 'ERR_OFFHEAP_DISPOSED')
    const second = await peer.run<cuda.CudaMemoryHandle>(make)
    // Another allocation, perhaps at the same address.
    throwsCode(t, () => cuda.openMemory(first), 'ERR_OFFHEAP_DISPOSED')
    // A maker that is busy with JavaScript answers all the same.
    const busy = peer.run('const end = Date.now() + 200; while (Date.now() < end); return "done"')
    using opened = cuda.openMemory(second)
    t.is(firstBytes(opened), '0303')
    t.is(await busy, 'done')
    await peer.end('SIGKILL')
    using slice = opened.slice(5)
    opened.dispose()
    t.is(slice.size, (1 << 20) - 5)
    slice.dispose()
    throwsCode(t, () => cuda.openMemory(second), 'ERR_OFFHEAP_DISPOSED')
    using other = cuda.device().memoryManager.allocateBuffer(100)
    await cuda.fill(other, 1)
    t.is(firstBytes(other, 1, 99), '01')
  })
})

onPools('exportable pools: who has the memory open is killed: its maker has it as before', async (t) => {
  await withPeer(t, async (peer) => {
    const manager = cuda.device().createMemoryManager(exportable)
    const buffer = manager.allocateBuffer(1 << 20)
    await cuda.fill(buffer, 9)
    const handle = cuda.exportMemory(buffer)
    await peer.run('kept.buffer = cuda.openMemory(message); return kept.buffer.size', handle)
    await peer.end('SIGKILL')
    t.is(firstBytes(buffer), '0909')
    await withPeer(t, async (next) => {
      t.is(await next.run('return cuda.openMemory(message).slice(7).size', handle), (1 << 20) - 7)
    })
    buffer.dispose()
    t.is(manager.pool!.liveAllocations, 0)
  })
})

onPools('exportable pools: handles that are none are refused', async (t) => {
  await withPeer(t, async (peer) => {
    const handle = await peer.run<cuda.CudaMemoryHandle>(
      `kept.buffer = cuda.device().createMemoryManager({ kind: 'driver-pool', exportable: true }).allocateBuffer(1000)
       return cuda.exportMemory(kept.buffer)`,
    )
    const text = handle.handle
    const [prefix, number, secret, ...maker] = text.split(':')
    const forged = secret!.replace(/./, (digit) => (digit === '0' ? '1' : '0'))
    const invalid = ['', prefix!, `${prefix}:`, text.slice(0, -1), text.slice(1), `${text}0`, text.replace('-shm', '-shn')]
    invalid.push([prefix, number, forged, ...maker].join(':'), [prefix, Number.MAX_SAFE_INTEGER, secret, ...maker].join(':'), [prefix, '', secret, ...maker].join(':'))
    for (const wrong of invalid) throwsCode(t, () => cuda.openMemory({ ...handle, handle: wrong }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    const second = cuda.devices()[1]
    for (const device of ['f'.repeat(32), ...(second === undefined ? [] : [second.uuid])]) {
      throwsCode(t, () => cuda.openMemory({ ...handle, device }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    }
    for (const range of [{ length: 4097 }, { offset: 4096 }, { length: 2 ** 40 }, { offset: 2 ** 53 - 1, length: 2 ** 53 - 1 }]) {
      throwsCode(t, () => cuda.openMemory({ ...handle, ...range }), 'ERR_OFFHEAP_OUT_OF_RANGE')
    }
    using own = cuda.device().createMemoryManager(exportable).allocateBuffer(1)
    throwsCode(t, () => cuda.openMemory(cuda.exportMemory(own)), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    using opened = cuda.openMemory(handle)
    t.is(opened.size, 1000)
    await peer.run('globalThis.ended = true')
  })
  const gpu = cuda.device()
  for (const wrong of [1, 'yes', null]) {
    throwsCode(t, () => gpu.createMemoryManager({ kind: 'driver-pool', exportable: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  throwsCode(t, () => gpu.createMemoryManager({ kind: 'plain', exportable: true } as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  using usual = gpu.createMemoryManager({ kind: 'driver-pool', exportable: false }).allocateBuffer(1)
  throwsCode(t, () => cuda.exportMemory(usual), 'ERR_OFFHEAP_NOT_SUPPORTED')
})

onDouble('exportable pools: where the driver cannot share them there is no such manager', async (t) => {
  const script = `const gpu = cuda.device()
    let code
    try { gpu.createMemoryManager({ kind: 'driver-pool', exportable: true }) } catch (error) { code = error.code }
    console.log(JSON.stringify([gpu.hasMemoryPools, gpu.hasExportableMemoryPools, code]))`
  t.deepEqual(printed(t, await runCuda(script, { OFFHEAP_CUDA_DOUBLE_POOL_HANDLES: '0' })), [true, false, 'ERR_OFFHEAP_NOT_SUPPORTED'])
})
