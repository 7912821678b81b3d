/** Streams, events, and copies that the event loop does not wait for. */
import './support/cuda.js'
import { inspect } from 'node:util'
import { cpuDevice, defaultMemoryPool, MemoryBuffer } from 'offheap'
import * as cuda from 'offheap/cuda'
import { collectUntil, rejectsCode, throwsCode, turns } from './support.js'
import { onDouble, onGpu, printed, runCuda } from './support/cuda.js'
import { bytesOf } from './support/reads-bytes.js'

const cpu = cpuDevice()
const MiB = 1 << 20

onGpu('#82 #83 streams: made, used, disposed', async (t) => {
  const gpu = cuda.device()
  const stream = gpu.createStream()
  t.is(stream.device, gpu)
  t.is(inspect(stream), 'CudaStream { cuda:0 }')
  await stream.synchronize()
  t.true(stream.isComplete)
  stream.dispose()
  stream.dispose()
  t.true(stream.disposed)
  t.is(inspect(stream), 'CudaStream { cuda:0, disposed }')
  throwsCode(t, () => stream.isComplete, 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => stream.record(), 'ERR_OFFHEAP_DISPOSED')
  await rejectsCode(t, stream.synchronize(), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => gpu.memoryManager.on(stream), 'ERR_OFFHEAP_DISPOSED')
  using urgent = gpu.createStream({ priority: -5 })
  await urgent.synchronize()
  await gpu.defaultStream.synchronize()
  await gpu.synchronize()
  for (const wrong of [null, 1, { priority: 0.5 }, { priority: '1' }, { priority: 2 ** 31 }]) throwsCode(t, () => gpu.createStream(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => Reflect.construct(cuda.CudaStream, []), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => Reflect.construct(cuda.CudaEvent, []), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})

onGpu('#82 #83 streams: a priority, and whether they wait for the legacy default stream', async (t) => {
  const gpu = cuda.device()
  using usual = gpu.createStream()
  using urgent = gpu.createStream({ priority: -(2 ** 31) })
  using blocking = gpu.createStream({ blocking: true, priority: 2 ** 31 - 1 })
  t.deepEqual([usual.blocking, urgent.blocking, blocking.blocking], [false, false, true])
  t.is(usual.priority, 0)
  t.true(urgent.priority <= 0 && urgent.priority > -(2 ** 31), 'the nearest that there is')
  t.true(blocking.priority >= 0 && blocking.priority < 2 ** 31 - 1)
  const legacy = gpu.legacyStream
  t.true(legacy.blocking)
  await legacy.synchronize()
  // Nothing but the streams' own order: no event, nothing awaited.
  using there = gpu.memoryManager.on(blocking).allocateBuffer(4 * MiB)
  using back = gpu.allocateHostBuffer(4 * MiB)
  await blocking.synchronize()
  for (const value of [1, 2, 3]) {
    const filled = cuda.fill(there, value, { stream: blocking })
    await cuda.copy(back, there, { stream: legacy })
    t.deepEqual([back.at(0), back.at(-1)], [value, value])
    await filled
  }
  for (const wrong of [1, 'yes', null]) throwsCode(t, () => gpu.createStream({ blocking: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  blocking.dispose()
  throwsCode(t, () => blocking.priority, 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => blocking.blocking, 'ERR_OFFHEAP_DISPOSED')
  legacy.dispose()
  await gpu.legacyStream.synchronize()
})

onDouble('the legacy default stream waits for a blocking stream that is slow, and for no other', async (t) => {
  const result = await runCuda(
    `const gpu = cuda.device()
     const said = []
     for (const blocking of [true, false]) {
       const stream = gpu.createStream({ blocking })
       const there = gpu.memoryManager.on(stream).allocateBuffer(2 ** 22)
       await stream.synchronize()
       const filled = cuda.fill(there, 1, { stream })
       await gpu.legacyStream.synchronize()
       said.push(stream.isComplete)
       await filled
     }
     console.log(JSON.stringify(said))`,
    { OFFHEAP_CUDA_DOUBLE_STREAM_SPEED: String(2 ** 24) },
  )
  t.deepEqual(printed(t, result), [true, false])
})

onGpu('#80 #81 events: recorded, awaited, timed; one stream waits for another', async (t) => {
  const gpu = cuda.device()
  using first = gpu.createStream()
  using second = gpu.createStream()
  using fresh = gpu.createEvent()
  t.true(fresh.isComplete, 'never recorded')
  await fresh.completed()
  using there = gpu.memoryManager.on(first).allocateBuffer(4 * MiB)
  using back = gpu.allocateHostBuffer(4 * MiB)
  using start = first.record()
  const filled = cuda.fill(there, 9, { stream: first })
  using end = first.record()
  t.is(first.record(fresh), fresh)
  second.waitEvent(end)
  await cuda.copy(back, there, { stream: second })
  t.true(end.isComplete)
  t.deepEqual([back.at(0), back.at(-1)], [9, 9])
  await filled
  await end.completed()
  t.true(end.elapsedMs(start) >= 0)
  using untimed = gpu.createEvent({ timing: false })
  first.record(untimed)
  await untimed.completed()
  throwsCode(t, () => untimed.elapsedMs(start), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => gpu.createEvent({ shared: true, timing: true }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  for (const wrong of [null, {}, first]) {
    throwsCode(t, () => second.waitEvent(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => end.elapsedMs(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  start.dispose()
  throwsCode(t, () => end.elapsedMs(start), 'ERR_OFFHEAP_DISPOSED')
  await rejectsCode(t, start.completed(), 'ERR_OFFHEAP_DISPOSED')
  t.is(inspect(start), 'CudaEvent { cuda:0, disposed }')
})

onGpu('#79 #86 #142 copy: in every direction, whole and in part', async (t) => {
  const gpu = cuda.device()
  using stream = gpu.createStream()
  const bytes = Uint8Array.from({ length: 5 * MiB + 3 }, (_, index) => index * 31)
  const sides: Record<string, () => MemoryBuffer> = {
    gpu: () => gpu.memoryManager.on(stream).allocateBuffer(bytes.length),
    'page-locked': () => gpu.allocateHostBuffer(bytes.length),
    ordinary: () => defaultMemoryPool().allocateBuffer(bytes.length),
    wrapped: () => MemoryBuffer.wrap(new Uint8Array(bytes.length)),
  }
  for (const [from, makeSource] of Object.entries(sides)) {
    for (const [to, makeTarget] of Object.entries(sides)) {
      using source = makeSource()
      using target = makeTarget()
      await cuda.copy(source, bytes, { stream })
      await cuda.copy(target, source, { stream })
      await cuda.copy(target, source, { stream, targetOffset: 1, sourceOffset: 1000, length: 4 * MiB + 1 })
      const found = new Uint8Array(bytes.length)
      await cuda.copy(found, target, { stream })
      const expected = Uint8Array.from(bytes)
      expected.set(bytes.subarray(1000, 1000 + 4 * MiB + 1), 1)
      t.is(Buffer.compare(found, expected), 0, `${from} to ${to}`)
    }
  }
  using there = gpu.memoryManager.allocateBuffer(100)
  await cuda.copy(there, bytes, { length: 100 })
  await cuda.copy(there, bytes, { length: 0, sourceOffset: bytes.length, targetOffset: 100 })
  t.is(bytesOf(there, cpu), Buffer.from(bytes.subarray(0, 100)).toString('hex').toUpperCase())
  for (const options of [{ length: 101 }, { targetOffset: 1, length: 100 }, { sourceOffset: bytes.length, length: 1 }, { targetOffset: -1 }, { sourceOffset: -1, length: 1 }]) {
    await rejectsCode(t, cuda.copy(there, bytes, options), 'ERR_OFFHEAP_OUT_OF_RANGE')
  }
  await rejectsCode(t, cuda.copy(there.slice(0), bytes, { length: 1 }), 'ERR_OFFHEAP_IMMUTABLE')
  await rejectsCode(t, cuda.copy(1 as never, bytes), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  await rejectsCode(t, cuda.copy(there, 'text' as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  await rejectsCode(t, cuda.copy(there, bytes, { stream: {} as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  there.dispose()
  await rejectsCode(t, cuda.copy(there, bytes, { length: 1 }), 'ERR_OFFHEAP_DISPOSED')
})

onGpu('fill: all, a part, nothing', async (t) => {
  const gpu = cuda.device()
  using there = gpu.memoryManager.allocateBuffer(100)
  await cuda.fill(there, 1)
  await cuda.fill(there, 255, { offset: 10, length: 5 })
  await cuda.fill(there, 3, { offset: 100 })
  t.is(bytesOf(there, cpu), `${'01'.repeat(10)}${'FF'.repeat(5)}${'01'.repeat(85)}`)
  for (const byte of [-1, 256, 0.5]) await rejectsCode(t, cuda.fill(there, byte), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  await rejectsCode(t, cuda.fill(there, 1, { offset: 1, length: 100 }), 'ERR_OFFHEAP_OUT_OF_RANGE')
  await rejectsCode(t, cuda.fill(there.slice(1), 1), 'ERR_OFFHEAP_IMMUTABLE')
})

onGpu('work of one stream is done in the order in which it was asked for, also through memory that is not page-locked', async (t) => {
  const gpu = cuda.device()
  using stream = gpu.createStream()
  const pool = defaultMemoryPool()
  using source = pool.allocateBuffer(9 * MiB)
  using target = pool.allocateBuffer(9 * MiB)
  using there = gpu.memoryManager.on(stream).allocateBuffer(9 * MiB)
  using other = gpu.memoryManager.on(stream).allocateBuffer(9 * MiB)
  source.fill(5)
  // None is awaited before the next.
  await Promise.all([
    cuda.fill(there, 1, { stream }),
    cuda.copy(there, source, { stream }),
    cuda.copy(other, there, { stream }),
    cuda.fill(there, 2, { stream }),
    cuda.copy(target, other, { stream }),
  ])
  t.is(Buffer.compare(target.asBuffer(), source.asBuffer()), 0)
  t.is(bytesOf(there.slice(0, 3), cpu), '020202')
})

onGpu('both sides live until a copy is done, whatever is disposed', async (t) => {
  const gpu = cuda.device()
  const stream = gpu.createStream()
  const manager = gpu.memoryManager.on(stream)
  const source = gpu.allocateHostBuffer(8 * MiB)
  source.fill(0x5a)
  const [middle, target] = [manager.allocateBuffer(8 * MiB), defaultMemoryPool().allocateBuffer(8 * MiB)]
  const kept = target.slice(0)
  const copies = [cuda.copy(middle, source, { stream }), cuda.copy(target, middle, { stream })]
  for (const buffer of [source, middle, target]) buffer.dispose()
  stream.dispose()
  await Promise.all(copies)
  t.deepEqual([kept.at(0), kept.at(-1)], [0x5a, 0x5a])
  kept.dispose()
  // What a copy has kept is let go on another thread.
  t.true(await collectUntil(() => manager.pool!.liveAllocations === 0))
})

onGpu('registered memory: copied by the GPU until the registration is disposed', async (t) => {
  const gpu = cuda.device()
  const buffer = defaultMemoryPool().allocateBuffer(2 * MiB)
  buffer.fill(3)
  const registration = cuda.registerHost(buffer)
  t.false(registration.disposed)
  using there = gpu.memoryManager.allocateBuffer(2 * MiB)
  await cuda.copy(there, buffer)
  t.is(bytesOf(there.slice(2 * MiB - 2), cpu), '0303')
  registration.dispose()
  registration.dispose()
  t.true(registration.disposed)
  buffer.dispose()
  throwsCode(t, () => cuda.registerHost(there), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => cuda.registerHost(MemoryBuffer.wrap(new Uint8Array(8))), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => cuda.registerHost({} as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})

for (const [what, from] of [
  ['page-locked memory', 'gpu.allocateHostBuffer(size)'],
  ['ordinary memory', 'offheap.defaultMemoryPool().allocateBuffer(size)'],
] as const) {
  onDouble(`1 GiB of ${what} is copied on a slow stream: timers go on, and either side may be disposed`, async (t) => {
    const result = await runCuda(slowCopy(from), { OFFHEAP_CUDA_DOUBLE_STREAM_SPEED: String(2 ** 30) })
    const { ratio, ticks, took } = printed<{ ratio: number; ticks: number; took: number }>(t, result)
    t.true(ratio <= 0.1, `a timer was late by ${(ratio * 100).toFixed(1)} % of the ${took.toFixed()} ms of the copy`)
    t.true(ticks > 10)
    t.log(`lag ${(ratio * 100).toFixed(2)} % of ${took.toFixed()} ms`)
  })
}

/** A program that copies 1 GiB while a timer runs. */
function slowCopy(from: string): string {
  return `
    const gpu = cuda.device()
    const size = 2 ** 30
    const stream = gpu.createStream()
    const source = ${from}
    const target = gpu.memoryManager.on(stream).allocateBuffer(size)
    await stream.synchronize()
    let lag = 0
    let ticks = 0
    let last = performance.now()
    const timer = setInterval(() => {
      const now = performance.now()
      lag = Math.max(lag, now - last)
      last = now
      ticks += 1
    }, 1)
    const start = performance.now()
    last = start
    const copied = cuda.copy(target, source, { stream })
    source.dispose()
    target.dispose()
    await copied
    const took = performance.now() - start
    clearInterval(timer)
    console.log(JSON.stringify({ ratio: lag / took, ticks, took }))`
}

onDouble('a process ends with copies in flight, and the driver is called no more', async (t) => {
  const { mkdtempSync, readFileSync, rmSync } = await import('node:fs')
  const { join } = await import('node:path')
  const { tmpdir } = await import('node:os')
  const folder = mkdtempSync(join(tmpdir(), 'offheap-cuda-exit-'))
  const log = join(folder, 'log')
  const result = await runCuda(
    `const gpu = cuda.device()
     const stream = gpu.createStream()
     const [source, target] = [gpu.allocateHostBuffer(2 ** 26), gpu.memoryManager.on(stream).allocateBuffer(2 ** 26)]
     void cuda.copy(target, source, { stream })
     globalThis.kept = [stream.record(), cuda.device().createMemoryManager({ kind: 'pool' }).allocateBuffer(100)]
     console.log('1')
     process.exit(0)`,
    { OFFHEAP_CUDA_DOUBLE_STREAM_SPEED: String(2 ** 26), OFFHEAP_CUDA_DOUBLE_LOG: log },
  )
  t.is(printed(t, result), 1)
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n')
  const exit = lines.findIndex((line) => /(^|\s)exit blocks=/.test(line))
  t.true(exit > 0, lines.slice(-5).join('\n'))
  t.deepEqual(lines.slice(exit + 1), [], 'a call after the exit')
  t.regex(lines[exit]!, /violations=0/)
  rmSync(folder, { recursive: true })
})

onGpu('workers: buffers and streams of their own; one that ends with a copy in flight leaves nothing', async (t) => {
  const result = await runCuda(`
    const { Worker, isMainThread } = require('node:worker_threads')
    const run = (body) => new Promise((resolve, reject) => {
      const worker = new Worker("const offheap = require('offheap'); const cuda = require('offheap/cuda'); const { parentPort } = require('node:worker_threads'); (async () => {" + body + "})()", { eval: true })
      let message
      worker.on('message', (value) => (message = value)).on('error', reject).on('exit', () => resolve(message))
    })
    const pool = cuda.device().memoryManager.pool
    const made = await run(\`
      const gpu = cuda.device()
      const stream = gpu.createStream()
      const there = gpu.memoryManager.on(stream).allocateBuffer(2 ** 22)
      await cuda.fill(there, 7, { stream })
      parentPort.postMessage(there.share())\`)
    const there = offheap.MemoryBuffer.fromShared(made)
    const first = there.copyTo(offheap.cpuDevice()).at(-1)
    offheap.revokeShared(made)
    there.dispose()
    await run(\`
      const gpu = cuda.device()
      const stream = gpu.createStream()
      const [source, target] = [gpu.allocateHostBuffer(2 ** 24), gpu.memoryManager.on(stream).allocateBuffer(2 ** 24)]
      void cuda.copy(target, source, { stream })
      parentPort.postMessage(1)
      process.exit(0)\`)
    await cuda.device().synchronize()
    // Whoever uses a GPU next lets go what the worker had left.
    await cuda.device().defaultStream.synchronize()
    console.log(JSON.stringify([first, pool.liveAllocations]))`)
  t.deepEqual(printed(t, result), [7, 0])
})

onGpu('promises that are pending keep the process alive; one that nobody awaits does no harm', async (t) => {
  const result = await runCuda(`
    const gpu = cuda.device()
    cuda.fill(gpu.memoryManager.allocateBuffer(2 ** 20), 1).then(() => console.log('"done"'))`)
  t.is(printed(t, result), 'done')
})

onDouble('what the driver says of the work rejects its promise', async (t) => {
  const result = await runCuda(
    `const gpu = cuda.device()
     const there = gpu.memoryManager.allocateBuffer(100)
     const outcome = await cuda.fill(there, 1).then(() => 'done', (error) => [error.code, error.message])
     console.log(JSON.stringify(outcome))`,
    { OFFHEAP_CUDA_DOUBLE_FAIL: 'cuMemsetD8Async:700' },
  )
  const [code, message] = printed<[string, string]>(t, result)
  t.regex(code, /^ERR_OFFHEAP_/)
  t.regex(message, /700/)
  await turns()
})

for (const [what, code] of [
  ['fails', 719],
  ['is destroyed', 709],
] as const) {
  onDouble(`a context that ${what} while work is pending: the driver calls nobody, and every promise rejects`, async (t) => {
    const result = await runCuda(
      `const gpu = cuda.device()
       const stream = gpu.createStream()
       const size = 2 ** 20
       const there = gpu.memoryManager.on(stream).allocateBuffer(size)
       const locked = gpu.allocateHostBuffer(size)
       const plain = offheap.defaultMemoryPool().allocateBuffer(size)
       const registered = offheap.defaultMemoryPool().allocateBuffer(size)
       const registration = cuda.registerHost(registered)
       const reader = new cuda.CudaBufferReader(there)
       const writer = new cuda.CudaBufferWriter(there, { bufferSize: 100 })
       const work = {
         fill: cuda.fill(there, 1, { stream }),
         copy: cuda.copy(there, locked, { stream }),
         staged: cuda.copy(plain, there, { stream }),
         registered: cuda.copy(there, registered, { stream }),
         javascript: cuda.copy(new Uint8Array(10), there, { stream, length: 10 }),
         read: reader.readIntoAsync(new Uint8Array(100)),
         write: writer.writeAsync(new Uint8Array(1000)),
         synchronize: stream.synchronize(),
         event: stream.record().completed(),
       }
       const said = {}
       for (const [name, promise] of Object.entries(work)) said[name] = await promise.then(() => 'done', (error) => [error.code, error.reason, /cuStreamQuery/.test(error.message)])
       console.log(JSON.stringify(said))
       process.exit(0)`,
      // The work takes eleven days: nothing ends it but the error.
      { OFFHEAP_CUDA_DOUBLE_STREAM_SPEED: '1', OFFHEAP_CUDA_DOUBLE_FAIL: `cuStreamQuery:${code}` },
    )
    const said = printed<Record<string, unknown>>(t, result)
    const names = ['fill', 'copy', 'staged', 'registered', 'javascript', 'read', 'write', 'synchronize', 'event']
    t.deepEqual(said, Object.fromEntries(names.map((name) => [name, ['ERR_OFFHEAP_DEVICE_UNAVAILABLE', 'driver-error', true]])))
  })
}

onDouble('work that is slow is left alone', async (t) => {
  const result = await runCuda(
    `const gpu = cuda.device()
     const stream = gpu.createStream()
     const there = gpu.memoryManager.on(stream).allocateBuffer(2 ** 22)
     await stream.synchronize()
     // Half a second: the watch looks more than once, and nothing is wrong.
     await cuda.fill(there, 1, { stream })
     console.log(JSON.stringify(there.slice(2 ** 22 - 2).copyTo(offheap.cpuDevice()).toHex()))`,
    { OFFHEAP_CUDA_DOUBLE_STREAM_SPEED: String(2 ** 23) },
  )
  t.is(printed(t, result), '0101')
})

onGpu('methods and getters refuse whatever is not of their class', async (t) => {
  const gpu = cuda.device()
  using stream = gpu.createStream()
  const others: unknown[] = [undefined, null, {}, 1, Object.create(cuda.CudaStream.prototype), Object.create(cuda.CudaDevice.prototype), stream, gpu, cuda]
  const skipped = new Set<PropertyKey>(['constructor', Symbol.toStringTag, Symbol.for('nodejs.util.inspect.custom')])
  for (const Class of [cuda.CudaDevice, cuda.CudaMemoryManager, cuda.CudaStream, cuda.CudaEvent, cuda.HostRegistration, cuda.CudaBufferReader, cuda.CudaBufferWriter]) {
    for (const key of Reflect.ownKeys(Class.prototype).filter((key) => !skipped.has(key))) {
      const { value, get } = Object.getOwnPropertyDescriptor(Class.prototype, key)!
      const member = (value ?? get) as (this: unknown) => unknown
      for (const other of others) {
        if ((other === stream || other === gpu) && other instanceof Class) continue
        const title = `${Class.name}#${String(key)}`
        const outcome = await (async () => Reflect.apply(member, other, [1]))().then(
          () => 'nothing',
          (error: { code?: string }) => error.code,
        )
        t.is(outcome, 'ERR_OFFHEAP_INVALID_ARGUMENT', title)
      }
    }
  }
})
