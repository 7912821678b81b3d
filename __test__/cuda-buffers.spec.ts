/** Memory of GPUs as buffers: on every kind of manager, over the pools that count and limit it, never read by the CPU. */
import './support/cuda.js'
import { inspect } from 'node:util'
import type { ExecutionContext } from 'ava'
import { cpuDevice, defaultCpuMemoryManager, defaultMemoryPool, Device, MemoryBuffer, MemoryManager } from 'offheap'
import * as cuda from 'offheap/cuda'
import { collectUntil, held, rejectsCode, throwsCode } from './support.js'
import { isDouble, onDouble, onGpu } from './support/cuda.js'
import { actsOf, bytesOf, readsBytes, readsNoBytes } from './support/reads-bytes.js'

const cpu = cpuDevice()
const MiB = 1 << 20

/** Managers of the GPU's own memory. */
const managers: Record<string, () => cuda.CudaMemoryManager> = {
  'the default one': () => cuda.device().memoryManager,
  'a pool of the driver’s': () => cuda.device().createMemoryManager({ kind: 'driver-pool', releaseThreshold: 0 }),
  'our pool': () => cuda.device().createMemoryManager({ kind: 'pool', maxSize: 64 * MiB }),
  'plain memory': () => cuda.device().createMemoryManager({ kind: 'plain' }),
  'on a stream': () => cuda.device().memoryManager.on(cuda.device().createStream()),
}

/** Bytes that differ from place to place. */
function pattern(size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => (index * 7 + (index >> 8)) & 0xff)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex').toUpperCase()
}

/** One test for each kind of manager; what it allocates must be gone at its end. */
function eachManager(title: string, body: (t: ExecutionContext, manager: cuda.CudaMemoryManager, name: string) => void | Promise<void>): void {
  for (const [name, make] of Object.entries(managers)) {
    onGpu(`${title} (${name})`, async (t) => {
      const manager = make()
      const before = held(manager.pool!)
      await body(t, manager, name)
      t.deepEqual(held(manager.pool!), before, 'something is left in the pool')
    })
  }
}

onGpu('#14 #78 #137 devices: what there is to know, one handle for each', (t) => {
  const gpu = cuda.device(0)
  t.is(cuda.device(), gpu)
  t.is(cuda.devices()[0], gpu)
  t.true(gpu instanceof Device)
  t.deepEqual([gpu.typeName, gpu.deviceType, gpu.deviceId, gpu.isCpu, String(gpu)], ['cuda', 2, 0, false, 'cuda:0'])
  t.regex(gpu.name, /\w/)
  t.regex(gpu.uuid, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  t.regex(gpu.pciBusId, /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.0$/i)
  t.true(gpu.computeCapability[0] >= 5 && gpu.multiprocessors > 0 && gpu.totalBytes >= MiB)
  const { free, total } = gpu.memoryInfo()
  t.true(free > 0 && free <= total && total <= gpu.totalBytes)
  t.true(gpu.equals(cuda.device(0)) && !gpu.equals(cpu) && !cpu.equals(gpu))
  t.is(inspect(gpu), 'Device { cuda:0 }')
  for (const ordinal of [99, 2 ** 31, 2 ** 53 - 1]) throwsCode(t, () => cuda.device(ordinal), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  for (const wrong of [-1, 0.5, Number.NaN, '0', {}]) throwsCode(t, () => cuda.device(wrong as number), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  const other = cuda.devices()[1]
  if (other !== undefined) {
    t.false(other.equals(gpu))
    t.not(other.uuid, gpu.uuid)
    t.is(typeof gpu.canAccess(other), 'boolean')
  }
})

onGpu('#14 #134 managers of a GPU: the same for the same memory', (t) => {
  const gpu = cuda.device()
  const manager = gpu.memoryManager
  t.is(gpu.memoryManager, manager)
  t.true(manager instanceof cuda.CudaMemoryManager && manager instanceof MemoryManager)
  t.is(manager.device, gpu)
  t.false(manager.isCpu)
  t.is(manager.kind, 'driver-pool')
  t.false(manager.equals(defaultCpuMemoryManager()))
  for (const kind of ['pool', 'plain', 'driver-pool'] as const) {
    const own = gpu.createMemoryManager({ kind })
    t.is(own.kind, kind)
    t.false(own.equals(manager) || own.equals(gpu.createMemoryManager({ kind })))
    t.is(own.device, gpu)
    t.is(gpu.memoryManagerOf(own.pool!), own)
  }
  t.is(gpu.hostMemoryManager.kind, 'host')
  if (gpu.hasManagedMemory) t.is(gpu.managedMemoryManager.kind, 'managed')
  throwsCode(t, () => gpu.memoryManagerOf(defaultMemoryPool()), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  for (const wrong of [undefined, null, 1, {}, { kind: 'best' }, { kind: 'toString' }, { kind: 'plain', maxSize: 1 }, { kind: 'pool', releaseThreshold: 1 }, { kind: 'pool', maxSize: -1 }, { kind: 'pool', maxSize: 512, initialSize: 1024 }, { kind: 'pool', maxSize: 100 }]) {
    throwsCode(t, () => gpu.createMemoryManager(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

for (const size of [0, 1, 1000, 3 * MiB + 1]) {
  eachManager(`#15 #79 #136 #140 #142 #147 copyTo a GPU and back: ${size} bytes`, (t, manager) => {
    const bytes = pattern(size)
    using source = MemoryBuffer.from(bytes)
    using there = source.copyTo(manager)
    t.deepEqual([there.size, there.isCpu, there.isMutable, there.device, there.memoryManager.equals(manager)], [size, false, true, manager.device, true])
    if (size > 0) t.not(there.address, source.address)
    using twice = there.copyTo(manager)
    if (size > 0) t.not(twice.address, there.address)
    for (const buffer of [there, twice]) {
      using back = buffer.copyTo(cpu)
      t.true(back.equals(bytes))
    }
  })
}

eachManager('#32 #87 #140 slices of a GPU’s buffer are copied as slices', (t, manager) => {
  const bytes = pattern(1000)
  using whole = MemoryBuffer.from(bytes).copyTo(manager)
  using slice = whole.slice(3, 990)
  using inner = slice.slice(8, 970)
  using mutable = whole.sliceMutable(100, 50)
  t.is(inner.address, whole.address + 11n)
  t.deepEqual([slice.isCpu, inner.isCpu, mutable.isCpu, mutable.isMutable, slice.isMutable], [false, false, false, true, false])
  t.is(bytesOf(inner, cpu), hex(bytes.subarray(11, 981)))
  t.is(bytesOf(mutable, cpu), hex(bytes.subarray(100, 150)))
  t.is(slice.parent, whole)
  t.is(slice.device, manager.device)
  throwsCode(t, () => slice.slice(991), 'ERR_OFFHEAP_OUT_OF_RANGE')
})

eachManager('#85 #139 allocateBuffer: counted, aligned, zeroed when asked', (t, manager) => {
  const pool = manager.pool!
  const before = held(pool)
  const buffer = manager.allocateBuffer(128, { zeroFill: true })
  t.deepEqual(held(pool), { bytes: before.bytes + 128, allocations: before.allocations + 1 })
  t.is(buffer.address % 256n, 0n)
  t.is(buffer.pool, pool)
  t.is(bytesOf(buffer, cpu), '00'.repeat(128))
  buffer.dispose()
  t.deepEqual(held(pool), before)
  using aligned = manager.allocateBuffer(1, { alignment: 4096 })
  t.is(aligned.address % 4096n, 0n)
  using none = manager.allocateBuffer(0)
  t.is(none.size, 0)
})

eachManager('#129 #146 a GPU’s buffer: what reads bytes refuses it, and leaves it as it was', async (t, manager) => {
  for (const { title, act } of actsOf(readsBytes)) {
    const buffer = manager.allocateBuffer(100)
    const seen = (): unknown => ({ address: buffer.address, size: buffer.size, isMutable: buffer.isMutable })
    const before = seen()
    const error = await rejectsCode(t, (async () => act(buffer))(), 'ERR_OFFHEAP_NOT_SUPPORTED')
    t.regex(error.message, /^the memory is on cuda:0, which the CPU cannot read or write/, title)
    t.deepEqual(seen(), before, title)
    buffer.dispose()
  }
})

eachManager('#129 a GPU’s buffer: what needs no bytes works', (t, manager) => {
  for (const { title, act } of actsOf(readsNoBytes)) {
    const buffer = manager.allocateBuffer(100)
    t.notThrows(() => act(buffer), title)
    buffer.dispose()
  }
})

eachManager('limits, accounts, trackers, logs and failures work on GPU memory', (t, manager) => {
  const gpu = manager.gpu
  const limited = manager.pool!.limit(1000, { name: 'a request' })
  const own = gpu.memoryManagerOf(limited)
  {
    using buffer = own.allocateBuffer(900)
    t.is(buffer.memoryManager, own)
    const error = throwsCode(t, () => own.allocateBuffer(101), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'a request'") as unknown as Record<string, unknown>
    t.deepEqual([error['requested'], error['limit'], error['allocated']], [101, 1000, 900])
    throwsCode(t, () => MemoryBuffer.from(new Uint8Array(101)).copyTo(own), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'a request'")
  }
  t.is(limited.bytesAllocated, 0)

  const tracked = manager.pool!.track({ stackDepth: 4 })
  {
    using buffer = gpu.memoryManagerOf(tracked).allocateBuffer(500)
    t.is(buffer.allocationSite!.size, 500)
  }
  const lines: unknown[] = []
  const logged = manager.pool!.log((line: unknown) => void lines.push(line))
  gpu.memoryManagerOf(logged).allocateBuffer(300).dispose()
  t.is(lines.length, 2)
  const failing = manager.pool!.failing({ after: 1 })
  gpu.memoryManagerOf(failing).allocateBuffer(10).dispose()
  throwsCode(t, () => gpu.memoryManagerOf(failing).allocateBuffer(10), 'ERR_OFFHEAP_OUT_OF_MEMORY')
})

onGpu('stats tell bytes requested, allocated and reserved; trim gives back what nobody uses', async (t) => {
  const gpu = cuda.device()
  for (const kind of ['driver-pool', 'pool'] as const) {
    const manager = gpu.createMemoryManager({ kind })
    const buffers = [manager.allocateBuffer(1000), manager.allocateBuffer(3 * MiB)]
    const { requested, allocated, reserved } = manager.stats()
    t.deepEqual(requested, { current: 1000 + 3 * MiB, peak: 1000 + 3 * MiB, total: 1000 + 3 * MiB }, kind)
    t.true(allocated.current! >= requested.current! && reserved.current! >= allocated.current!, kind)
    for (const buffer of buffers) buffer.dispose()
    await gpu.synchronize()
    const after = manager.stats()
    t.is(after.requested.current, 0)
    t.is(after.requested.peak, 1000 + 3 * MiB)
    t.is(after.reserved.current, reserved.current, 'what was freed is kept')
    manager.trim()
    t.is(manager.stats().reserved.current, 0, kind)
    manager.resetPeaks()
    t.is(manager.stats().requested.peak, 0)
    for (const wrong of [-1, 0.5, '1']) throwsCode(t, () => manager.trim(wrong as number), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

onGpu('#89 #138 #143 page-locked memory: a real ArrayBuffer, which the GPU copies from', (t) => {
  const gpu = cuda.device()
  using host = gpu.allocateHostBuffer(1000)
  t.true(host.isCpu && host.isMutable)
  t.is(host.device.deviceType, 3)
  const view = host.asUint8Array()
  t.true(view.buffer instanceof ArrayBuffer)
  view.set(pattern(1000))
  using there = host.copyTo(gpu)
  t.is(bytesOf(there, cpu), hex(pattern(1000)))
  using back = there.copyTo(gpu.hostMemoryManager)
  t.true(back.equals(pattern(1000)))
  host.dispose()
  t.is(view.byteLength, 0, 'the view is detached')
})

onGpu('#16 #90 page-locked memory is viewed on the GPU, and back', (t) => {
  const gpu = cuda.device()
  using host = gpu.allocateHostBuffer(1000)
  host.asUint8Array().set(pattern(1000))
  using view = host.viewOn(gpu)
  t.deepEqual([view.isCpu, view.device, view.size], [false, gpu, 1000])
  throwsCode(t, () => view.at(0), 'ERR_OFFHEAP_NOT_SUPPORTED')
  using slice = view.slice(100, 50)
  t.is(bytesOf(slice, cpu), hex(pattern(1000).subarray(100, 150)))
  using back = view.viewOn(gpu.hostMemoryManager)
  t.deepEqual([back.isCpu, back.address], [true, host.address])
  using ordinary = defaultMemoryPool().allocateBuffer(10)
  throwsCode(t, () => ordinary.viewOn(gpu), 'ERR_OFFHEAP_NOT_SUPPORTED')
})

onGpu('managed memory is read by both', (t) => {
  const gpu = cuda.device()
  if (!gpu.hasManagedMemory) {
    throwsCode(t, () => gpu.managedMemoryManager, 'ERR_OFFHEAP_NOT_SUPPORTED')
    return
  }
  using managed = gpu.managedMemoryManager.allocateBuffer(4096)
  t.is(managed.device.deviceType, 13)
  t.true(managed.isCpu)
  managed.fill(7)
  using there = managed.copyTo(gpu)
  t.is(bytesOf(there, cpu), '07'.repeat(4096))
})

onGpu('#84 contexts: GPUs do not disturb each other, and every thread has the one it needs', async (t) => {
  const gpus = cuda.devices()
  const bytes = pattern(3000)
  using source = MemoryBuffer.from(bytes)
  // By turns, so that each call finds another GPU's context than its own, where there is one.
  const made = gpus.map((gpu) => source.copyTo(gpu))
  const streams = gpus.map((gpu) => gpu.createStream())
  const events = streams.map((stream) => stream.record())
  const more = gpus.map((gpu, index) => gpu.memoryManager.on(streams[index]!).allocateBuffer(3000))
  await Promise.all(more.map((buffer, index) => cuda.copy(buffer, made[index]!, { stream: streams[index]! })))
  for (const [index, gpu] of gpus.entries()) {
    t.is(made[index]!.device, gpu)
    t.is(more[index]!.device, gpu)
    t.is(events[index]!.device, gpu)
    t.true(events[index]!.isComplete)
    t.is(bytesOf(more[index]!, cpu), hex(bytes))
  }
  if (gpus.length > 1) {
    throwsCode(t, () => streams[0]!.record(events[1]), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => gpus[0]!.memoryManager.on(streams[1]!), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  // A device has one address for a buffer, however often it is asked.
  t.is(made[0]!.slice(0).address, made[0]!.address)
  for (const each of [...made, ...more, ...streams, ...events]) each.dispose()
})

onGpu('#141 memory of another library: used in place, its owner kept; addresses that are none of this GPU’s are refused', async (t) => {
  const gpu = cuda.device()
  const library = gpu.createMemoryManager({ kind: 'plain' })
  const theirs = MemoryBuffer.from(pattern(1000)).copyTo(library)
  const { address } = theirs
  const counted = held(gpu.memoryManager.pool!)
  let owner: object | undefined = {}
  const watched = new WeakRef(owner)
  const buffer = gpu.unsafeForeign(address, 1000, owner)
  owner = undefined
  t.deepEqual([buffer.size, buffer.address, buffer.isCpu, buffer.isMutable, buffer.device], [1000, address, false, true, gpu])
  t.true(buffer.memoryManager.equals(gpu.memoryManager))
  t.deepEqual(held(gpu.memoryManager.pool!), counted, 'nobody counts it')
  t.is(bytesOf(buffer, cpu), hex(pattern(1000)))
  await cuda.fill(buffer, 5, { offset: 10, length: 2 })
  t.is(bytesOf(theirs.slice(9, 4), cpu), hex(Uint8Array.of(pattern(1000)[9]!, 5, 5, pattern(1000)[12]!)))
  throwsCode(t, () => buffer.at(0), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => buffer.share(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  const slice = buffer.slice(100, 10)
  buffer.dispose()
  t.false(await collectUntil(() => watched.deref() === undefined, 3))
  t.is(bytesOf(slice, cpu), hex(pattern(1000).subarray(100, 110)))
  slice.dispose()
  t.true(await collectUntil(() => watched.deref() === undefined))

  using inner = gpu.unsafeForeign(Number(address) + 10, 0, undefined)
  t.is(inner.size, 0)
  const next = 2n ** 47n - 8192n
  using plain = defaultMemoryPool().allocateBuffer(10)
  for (const [where, size] of [
    [0n, 1],
    [next, 1],
    [-1n, 1],
    [2n ** 64n - 1n, 2],
    [2n ** 64n, 1],
    [plain.address, 10],
    [-1, 1],
    [0.5, 1],
    ['1', 1],
    [undefined, 1],
    [address, -1],
    [address, 2 ** 53],
  ] as const) {
    throwsCode(t, () => gpu.unsafeForeign(where as bigint, size, undefined), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  throwsCode(t, () => gpu.unsafeForeign(address, 2 ** 50, undefined), 'ERR_OFFHEAP_OUT_OF_RANGE')
  const other = cuda.devices()[1]
  if (other !== undefined) throwsCode(t, () => other.unsafeForeign(address, 10, undefined), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  theirs.dispose()
  throwsCode(t, () => gpu.unsafeForeign(address, 1000, undefined), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'this GPU')
})

onGpu('memory of another GPU is copied', (t) => {
  const other = cuda.devices()[1]
  if (other === undefined) {
    t.pass('there is one GPU')
    return
  }
  using first = MemoryBuffer.from(pattern(5000)).copyTo(cuda.device(0))
  using second = first.copyTo(other)
  t.is(second.device, other)
  t.is(bytesOf(second, cpu), hex(pattern(5000)))
})

onGpu('a buffer that was forgotten goes back', async (t) => {
  const manager = cuda.device().createMemoryManager({ kind: 'driver-pool' })
  const pool = manager.pool!
  ;(() => void manager.allocateBuffer(1000))()
  t.true(await collectUntil(() => pool.liveAllocations === 0))
})

onDouble('when memory runs out: cached memory goes back, callbacks run, and the error has the figures', (t) => {
  t.true(isDouble)
  const gpu = cuda.device()
  const manager = gpu.createMemoryManager({ kind: 'driver-pool', maxSize: 64 * MiB })
  const spare: MemoryBuffer[] = [manager.allocateBuffer(40 * MiB)]
  const seen: unknown[] = []
  const end = manager.onOutOfMemory(({ requested, attempt }) => {
    seen.push([requested, attempt])
    const buffer = spare.pop()
    buffer?.dispose()
    return buffer !== undefined
  })
  using big = manager.allocateBuffer(40 * MiB)
  t.is(big.size, 40 * MiB)
  t.deepEqual(seen, [[40 * MiB, 0]])
  const error = throwsCode(t, () => manager.allocateBuffer(40 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY') as unknown as Record<string, unknown>
  t.is(error['requested'], 40 * MiB)
  t.deepEqual(seen.slice(1), [[40 * MiB, 0]])
  end()
  throwsCode(t, () => manager.allocateBuffer(40 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.is(seen.length, 2)
  const stop = manager.onOutOfMemory(() => true)
  throwsCode(t, () => manager.allocateBuffer(40 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  stop()
  const fail = manager.onOutOfMemory(() => {
    throw new RangeError('mine')
  })
  t.throws(() => manager.allocateBuffer(40 * MiB), { instanceOf: RangeError, message: 'mine' })
  fail()
  throwsCode(t, () => manager.onOutOfMemory(1 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})

onDouble('when memory runs out: copies, pools and limits over the manager’s ask its callbacks, too', async (t) => {
  const gpu = cuda.device()
  const manager = gpu.createMemoryManager({ kind: 'driver-pool', maxSize: 64 * MiB })
  using source = defaultMemoryPool().allocateBuffer(40 * MiB)
  source.fill(7)
  const limited = manager.pool!.limit(50 * MiB, { name: 'a request' })
  using stream = gpu.createStream()
  const requests: Record<string, () => MemoryBuffer> = {
    'manager.allocateBuffer': () => manager.allocateBuffer(40 * MiB),
    'pool.allocateBuffer': () => manager.pool!.allocateBuffer(40 * MiB),
    'pool.allocateBuffer with options': () => manager.pool!.allocateBuffer(40 * MiB, { alignment: 4096, zeroFill: true }),
    'a limit’s': () => limited.allocateBuffer(40 * MiB),
    'the manager of a limit': () => gpu.memoryManagerOf(limited).allocateBuffer(40 * MiB),
    'on a stream': () => manager.on(stream).allocateBuffer(40 * MiB),
    'the pool of a stream': () => manager.on(stream).pool!.allocateBuffer(40 * MiB),
    copyTo: () => source.copyTo(manager),
    'copyTo a limit’s manager': () => source.copyTo(gpu.memoryManagerOf(limited)),
    'copyTo of JavaScript’s bytes': () => MemoryBuffer.wrap(source.asUint8Array()).copyTo(manager),
    viewOrCopyTo: () => source.viewOrCopyTo(manager),
    'viewOrCopyTo of JavaScript’s bytes': () => MemoryBuffer.wrap(source.asUint8Array()).viewOrCopyTo(manager),
  }
  for (const [title, request] of Object.entries(requests)) {
    throwsCode(
      t,
      () => {
        using kept = manager.allocateBuffer(40 * MiB)
        return [kept, request()]
      },
      'ERR_OFFHEAP_OUT_OF_MEMORY',
    )
    const spare = [manager.allocateBuffer(40 * MiB)]
    const seen: unknown[] = []
    const end = manager.onOutOfMemory(({ requested, attempt, error }) => {
      seen.push([requested >= 40 * MiB, attempt, error.code])
      // What it asks for itself is refused at once.
      throwsCode(t, () => manager.allocateBuffer(40 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY')
      spare.pop()?.dispose()
      return true
    })
    {
      using made = request()
      t.is(made.size, 40 * MiB, title)
      t.deepEqual(seen, [[true, 0, 'ERR_OFFHEAP_OUT_OF_MEMORY']], title)
      using end = made.slice(made.size - 2)
      if (/[cC]opyTo/.test(title)) t.is(bytesOf(end, cpu), '0707', title)
    }
    end()
    end()
    // What was freed in the order of the other stream is gone for this one when that has come there.
    await gpu.synchronize()
  }
  // A limit of its own counts: room under it is room, too.
  {
    const spare = [limited.allocateBuffer(30 * MiB)]
    const end = manager.onOutOfMemory(() => spare.splice(0).map((buffer) => buffer.dispose()).length > 0)
    using made = limited.allocateBuffer(30 * MiB)
    t.is(made.size, 30 * MiB)
    const error = throwsCode(t, () => limited.allocateBuffer(30 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'a request'") as unknown as Record<string, unknown>
    t.deepEqual([error['requested'], error['limit'], error['allocated']], [30 * MiB, 50 * MiB, 30 * MiB])
    end()
  }
  // Who makes room may dispose of what was to be copied.
  {
    using full = manager.allocateBuffer(40 * MiB)
    const gone = defaultMemoryPool().allocateBuffer(40 * MiB)
    let asked = 0
    const end = manager.onOutOfMemory(() => {
      asked += 1
      gone.dispose()
      return true
    })
    throwsCode(t, () => gone.copyTo(manager), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => gone.viewOrCopyTo(manager), 'ERR_OFFHEAP_DISPOSED')
    t.is(asked, 1)
    // One that always says so is believed 16 times.
    asked = 0
    throwsCode(t, () => manager.pool!.allocateBuffer(40 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.is(asked, 16)
    // Other memory has other callbacks, and none.
    using other = defaultMemoryPool().limit(10)
    throwsCode(t, () => other.allocateBuffer(11), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => gpu.createMemoryManager({ kind: 'pool', maxSize: MiB }).pool!.allocateBuffer(2 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.is(asked, 16)
    end()
    t.is(full.size, 40 * MiB)
  }
  t.is(manager.pool!.liveAllocations, 0)
})

onDouble('allocateBufferAsync collects what was forgotten before it gives up', async (t) => {
  const manager = cuda.device().createMemoryManager({ kind: 'driver-pool', maxSize: 64 * MiB })
  const forget = (): void => void manager.allocateBuffer(40 * MiB)
  forget()
  throwsCode(t, () => manager.allocateBuffer(40 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  using buffer = await manager.allocateBufferAsync(40 * MiB)
  t.is(buffer.size, 40 * MiB)
  await rejectsCode(t, manager.allocateBufferAsync(40 * MiB), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  await rejectsCode(t, manager.allocateBufferAsync(-1), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})
