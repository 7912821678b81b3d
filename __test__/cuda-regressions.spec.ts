/** What broke `offheap/cuda` once, by hostile arguments above all. */
import './support/cuda.js'
import { cpuDevice, defaultMemoryPool, domainPool, MemoryBuffer, setArenaAllocator } from 'offheap'
import * as cuda from 'offheap/cuda'
import * as shm from 'offheap/shm'
import { cleanEnvironment, collectUntil, rejectsCode, runNode, throwsCode } from './support.js'
import { cudaEnvironment, onDouble, onGpu, printed, runCuda } from './support/cuda.js'
import { bytesOf } from './support/reads-bytes.js'

const cpu = cpuDevice()
const MiB = 1 << 20
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index * 7)

// It was taken for memory that a GPU copies itself, and the CPU wrote to the GPU's address.
onGpu('shared memory is copied from and to a GPU as ordinary memory is', async (t) => {
  const gpu = cuda.device()
  using stream = gpu.createStream()
  using shared = shm.memoryManager().allocateBuffer(5 * MiB)
  using opened = shm.open(shm.exportHandle(shared))
  using there = gpu.memoryManager.allocateBuffer(5 * MiB)
  using ordinary = defaultMemoryPool().allocateBuffer(5 * MiB)
  using host = gpu.allocateHostBuffer(5 * MiB)
  const bytes = pattern(5 * MiB)
  const isThere = (buffer: MemoryBuffer, from: string): boolean => t.is(Buffer.compare(buffer.asBuffer(), bytes), 0, from)
  for (const between of [there, ordinary, host]) {
    opened.fill(0)
    await cuda.copy(shared, bytes, { stream })
    await cuda.copy(between, shared, { stream })
    shared.fill(0)
    await cuda.copy(opened, between, { stream })
    isThere(shared, between.device.toString())
  }
  {
    using registration = cuda.registerHost(shared)
    await cuda.fill(there, 0)
    await cuda.copy(there, shared)
    shared.fill(0)
    await cuda.copy(shared, there)
    isThere(opened, 'registered')
    await cuda.fill(shared, 9)
    t.is(opened.at(-1), 9)
    t.false(registration.disposed)
  }
  await rejectsCode(t, cuda.fill(shared, 1), 'ERR_OFFHEAP_NOT_SUPPORTED')
})

onGpu('copy asks the engine where JavaScript’s bytes are, not properties that shadow it', async (t) => {
  using there = cuda.device().memoryManager.allocateBuffer(64)
  await cuda.fill(there, 0xee)
  const bytes = (): Uint8Array => new Uint8Array(32).fill(7)
  const liars: Uint8Array[] = [
    Object.defineProperty(bytes(), 'byteLength', { value: 64 }),
    Object.assign(bytes(), { subarray: () => new Uint8Array(0) }),
    new (class extends Uint8Array {
      static get [Symbol.species](): never {
        throw new Error('called')
      }
    })(bytes()),
  ]
  for (const liar of liars) {
    await cuda.fill(there, 0xee)
    await cuda.copy(there, liar)
    t.is(bytesOf(there, cpu), '07'.repeat(32) + 'EE'.repeat(32))
  }
  const target = Object.assign(new Float64Array(8), { subarray: () => new Uint8Array(3) })
  await cuda.copy(target, there)
  t.is(Buffer.from(target.buffer).toString('hex').toUpperCase(), bytesOf(there, cpu))
  // Nor may a buffer's own property run when it is asked for its device.
  using ordinary = defaultMemoryPool().allocateBuffer(8)
  const shadowed = Object.defineProperty(ordinary, 'device', {
    get: () => {
      throw new Error('called')
    },
  })
  await cuda.copy(shadowed, bytes(), { length: 8 })
  t.is(ordinary.at(0), 7)
})

onGpu('a wrapped ArrayBuffer that is frozen while bytes are on their way to it is not written', async (t) => {
  using there = cuda.device().memoryManager.allocateBuffer(64)
  await cuda.fill(there, 3)
  using wrapped = MemoryBuffer.wrap(new Uint8Array(64))
  const copied = cuda.copy(wrapped, there)
  wrapped.freeze()
  await rejectsCode(t, copied, 'ERR_OFFHEAP_IMMUTABLE')
  t.is(wrapped.at(0), 0)
})

onGpu('a copy of a GPU’s whose sides overlap is refused: the driver does not say what it would do', async (t) => {
  const gpu = cuda.device()
  for (const buffer of [gpu.memoryManager.allocateBuffer(64), gpu.allocateHostBuffer(64)]) {
    await cuda.copy(buffer, pattern(64))
    const before = bytesOf(buffer, cpu)
    for (const [targetOffset, sourceOffset] of [[8, 0], [0, 8], [0, 0]] as const) {
      await rejectsCode(t, cuda.copy(buffer, buffer, { targetOffset, sourceOffset, length: 56 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', /overlaps/)
    }
    using slice = buffer.slice(20)
    await rejectsCode(t, cuda.copy(buffer, slice), 'ERR_OFFHEAP_INVALID_ARGUMENT', /overlaps/)
    t.is(bytesOf(buffer, cpu), before)
    await cuda.copy(buffer, buffer, { targetOffset: 32, length: 32 })
    t.is(bytesOf(buffer, cpu), before.slice(0, 64).repeat(2))
    buffer.dispose()
  }
  // What goes by way of the CPU is moved as `memmove` does.
  using ordinary = defaultMemoryPool().allocateBuffer(64)
  ordinary.asUint8Array().set(pattern(64))
  await cuda.copy(ordinary, ordinary, { targetOffset: 8, length: 56 })
  t.true(ordinary.slice(8).equals(pattern(64).subarray(0, 56)))
})

onGpu('a pool of the driver’s keeps to maxSize, whatever the driver knows of it', async (t) => {
  const gpu = cuda.device()
  const manager = gpu.createMemoryManager({ kind: 'driver-pool', maxSize: 64 * MiB })
  using stream = gpu.createStream()
  const refused = (request: () => MemoryBuffer, allocated: number): void => {
    const error = throwsCode(t, request, 'ERR_OFFHEAP_OUT_OF_MEMORY') as unknown as Record<string, unknown>
    t.deepEqual([error['limit'], error['allocated']], [64 * MiB, allocated])
  }
  refused(() => manager.allocateBuffer(64 * MiB + 1), 0)
  {
    using half = manager.allocateBuffer(32 * MiB)
    refused(() => manager.on(stream).allocateBuffer(32 * MiB + 1), 32 * MiB)
    t.is(half.size, 32 * MiB)
  }
  for (let round = 0; round < 3; round += 1) manager.allocateBuffer(64 * MiB).dispose()
  throwsCode(t, () => gpu.createMemoryManager({ kind: 'driver-pool', initialSize: 2, maxSize: 1 }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  // 0 would be no limit at all to the driver.
  throwsCode(t, () => gpu.createMemoryManager({ kind: 'driver-pool', maxSize: 0 }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})

onGpu('registerHost: memory that cannot be locked is refused with a reason, and nobody constructs a registration', async (t) => {
  throwsCode(t, () => Reflect.construct(cuda.HostRegistration, []), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  const gpu = cuda.device()
  using empty = defaultMemoryPool().allocateBuffer(0)
  throwsCode(t, () => cuda.registerHost(empty), 'ERR_OFFHEAP_INVALID_ARGUMENT', /empty/)
  using host = gpu.allocateHostBuffer(64)
  throwsCode(t, () => cuda.registerHost(host), 'ERR_OFFHEAP_NOT_SUPPORTED')
  if (gpu.hasManagedMemory && gpu.hasConcurrentManagedAccess) {
    using managed = gpu.managedMemoryManager.allocateBuffer(64)
    throwsCode(t, () => cuda.registerHost(managed), 'ERR_OFFHEAP_NOT_SUPPORTED')
  }
  using wrapped = MemoryBuffer.wrap(new Uint8Array(8))
  throwsCode(t, () => cuda.registerHost(wrapped), 'ERR_OFFHEAP_NOT_SUPPORTED')
  await rejectsCode(t, cuda.fill(wrapped, 1), 'ERR_OFFHEAP_NOT_SUPPORTED')
})

// It was taken, and from then on every allocation of the process failed.
onGpu('arenas of control blocks are not made of memory that the CPU cannot reach', (t) => {
  const pool = cuda.device().memoryManager.pool!
  throwsCode(t, () => setArenaAllocator(pool), 'ERR_OFFHEAP_NOT_SUPPORTED', /which the CPU cannot read or write/)
  for (let block = 0; block < 1000; block += 1) domainPool('object').allocateBuffer(512).fill(1)
})

onGpu('onOutOfMemory: a callback that adds callbacks does not go on for ever, and ended ones let the managers go', async (t) => {
  const gpu = cuda.device()
  using stream = gpu.createStream()
  let calls = 0
  const ends: (() => void)[] = []
  const forget = (): WeakRef<cuda.CudaMemoryManager> => {
    const manager = gpu.createMemoryManager({ kind: 'driver-pool' })
    const more = (): boolean => {
      calls += 1
      if (calls < 1000) ends.push(manager.onOutOfMemory(more))
      return false
    }
    ends.push(manager.onOutOfMemory(more), manager.on(stream).onOutOfMemory(() => false))
    throwsCode(t, () => manager.allocateBuffer(2 * gpu.totalBytes), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.is(calls, 1)
    for (const end of ends) end()
    ends.length = 0
    return new WeakRef(manager)
  }
  const manager = forget()
  t.true(await collectUntil(() => manager.deref() === undefined))
})

onDouble('allocateBufferAsync collects garbage, and exposes the collector to nobody', async (t) => {
  const script = `
    const cuda = require('offheap/cuda')
    const { Worker } = require('node:worker_threads')
    const manager = cuda.device().createMemoryManager({ kind: 'driver-pool', maxSize: 1 << 20 })
    const forget = () => void manager.allocateBuffer(1 << 20)
    forget()
    manager.allocateBufferAsync(1 << 20).then(async ({ size }) => {
      const inWorker = await new Promise((resolve) => {
        new Worker("require('node:worker_threads').parentPort.postMessage(typeof gc)", { eval: true }).on('message', resolve)
      })
      console.log(JSON.stringify([size, typeof gc, inWorker, require('node:vm').runInNewContext('typeof gc')]))
    })`
  const found = printed<unknown[]>(t, await runNode(['-e', script], { env: cleanEnvironment(cudaEnvironment) }))
  t.deepEqual(found, [1 << 20, 'undefined', 'undefined', 'undefined'])
})

// It was out of memory, which callers answer by freeing and trying again.
onDouble('a driver that has failed is not out of memory, to our pools either', async (t) => {
  const script = `
    const gpu = cuda.device()
    const codes = []
    for (const make of [() => gpu.allocateHostBuffer(64), () => gpu.createMemoryManager({ kind: 'pool' }).allocateBuffer(64), () => gpu.createMemoryManager({ kind: 'pool', initialSize: 1 << 20 })]) {
      try { make() } catch (error) { codes.push([error.code, error.reason, /700/.test(error.message)]) }
    }
    console.log(JSON.stringify(codes))`
  const found = printed<unknown[]>(t, await runCuda(script, { OFFHEAP_CUDA_DOUBLE_FAIL: 'cuMemHostAlloc:700,cuMemAlloc:700' }))
  t.deepEqual(found, Array.from({ length: 3 }, () => ['ERR_OFFHEAP_DEVICE_UNAVAILABLE', 'driver-error', true]))
})

// Native code had opened it, and it stayed open.
onGpu('an event of another process is opened, however its handle spells the GPU', async (t) => {
  const gpu = cuda.device()
  using event = gpu.createEvent({ shared: true })
  gpu.defaultStream.record(event)
  const handle = cuda.exportEvent(event)
  const spelled = [handle.device, handle.device.toUpperCase(), handle.device.replaceAll('-', '')].map((device) => ({ device, handle: handle.handle }))
  const script = `
    const events = ${JSON.stringify(spelled)}.map((handle) => cuda.openEvent(handle))
    await Promise.all(events.map((event) => event.completed()))
    console.log(JSON.stringify(events.map((event) => event.device === cuda.device())))`
  await gpu.defaultStream.synchronize()
  t.deepEqual(printed<boolean[]>(t, await runCuda(script)), [true, true, true])
})

onDouble('workers that end with copies under way leave nothing behind', async (t) => {
  const script = `
    const { Worker } = require('node:worker_threads')
    const program = \`
      const offheap = require('offheap'), cuda = require('offheap/cuda')
      const { parentPort, workerData } = require('node:worker_threads')
      const gpu = cuda.device(), stream = gpu.createStream()
      const there = gpu.memoryManager.on(stream).allocateBuffer(1 << 20)
      const host = gpu.allocateHostBuffer(1 << 20), ordinary = offheap.defaultMemoryPool().allocateBuffer(1 << 20)
      globalThis.kept = cuda.registerHost(ordinary)
      for (let round = 0; round < 4; round += 1) {
        cuda.copy(there, host, { stream }), cuda.copy(ordinary, there, { stream }), cuda.copy(new Uint8Array(1 << 20), there, { stream })
        stream.record().completed(), stream.synchronize(), gpu.synchronize()
      }
      parentPort.postMessage('begun')
      if (workerData === 'exit') process.exit()
      if (workerData === 'throw') throw new Error('on purpose')
      setInterval(() => {}, 1000)\`
    const end = (how) => new Promise((resolve) => {
      const worker = new Worker(program, { eval: true, workerData: how })
      worker.on('message', () => how === 'terminate' && worker.terminate())
      worker.on('error', () => {})
      worker.on('exit', resolve)
    })
    const codes = await Promise.all(['terminate', 'exit', 'throw', 'terminate', 'exit', 'throw'].map(end))
    const gpu = cuda.device()
    await gpu.synchronize()
    const bytes = () => [gpu.memoryManager.stats().requested.current, gpu.hostMemoryManager.stats().requested.current, offheap.defaultMemoryPool().bytesAllocated]
    for (let turn = 0; turn < 500 && bytes().some((left) => left > 0); turn += 1) await new Promise((resolve) => setTimeout(resolve, 10))
    console.log(JSON.stringify([codes, bytes()]))`
  const found = printed<unknown>(t, await runCuda(script, { OFFHEAP_CUDA_DOUBLE_STREAM_SPEED: '100000000' }))
  t.deepEqual(found, [[1, 0, 1, 1, 0, 1], [0, 0, 0]])
})
