import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import {
  cpuDevice,
  cpuMemoryManager,
  defaultCpuMemoryManager,
  defaultMemoryPool,
  Device,
  DeviceUnavailableError,
  isOffheapError,
  MemoryBuffer,
  MemoryManager,
  type MemoryPool,
  revokeShared,
  setDefaultMemoryPool,
} from 'offheap'
import { reflectedNames } from './sweeps/names.js'
import { collectUntil, detachedArrayBuffer, eachBackend, eachPool, held, runScript, throwsCode, withPool } from './support.js'
import { actsOf, elsewhere, readsBytes, readsNoBytes } from './support/reads-bytes.js'

const initial = defaultMemoryPool()
const cpu = cpuDevice()

/** What is no manager and no device; `from` does things that a foreign object may. */
const noDestinations: readonly unknown[] = [
  undefined,
  null,
  5,
  Number.NaN,
  'cpu',
  {},
  [],
  Symbol('cpu'),
  () => cpu,
  new Proxy({}, {}),
  Object.create(MemoryManager.prototype as object),
  Object.create(Device.prototype as object),
  { device: cpu, isCpu: true, pool: initial },
  initial,
]

function isCpuDevice(t: ExecutionContext, device: Device): void {
  t.is(device, cpu)
  t.true(device.isCpu)
  t.is(device.typeName, 'cpu')
  t.is(device.deviceType, 1)
  t.is(device.deviceId, -1)
}

test('#14 #134 the CPU is a device: one, with -1 for a number', (t) => {
  isCpuDevice(t, cpuDevice())
  t.is(String(cpu), 'cpu')
  t.is(inspect(cpu), 'Device { cpu }')
  t.is(inspect({ nested: [cpu] }), '{ nested: [ Device { cpu } ] }')
  t.is(Object.prototype.toString.call(cpu), '[object Device]')
  t.true(cpu.equals(cpuDevice()))
  t.true(cpu.equals(defaultCpuMemoryManager().device))
  for (const value of noDestinations) t.false(cpu.equals(value))
})

test('#14 #134 managers are equal when they manage the same memory', (t) => {
  const pool = initial.proxy({ name: 'another' })
  const managers = [defaultCpuMemoryManager(), cpuMemoryManager(pool), cpuMemoryManager(initial.limit(100))]
  for (const [i, a] of managers.entries()) {
    t.true(a.isCpu)
    isCpuDevice(t, a.device)
    for (const [j, b] of managers.entries()) t.is(a.equals(b), i === j, `${i} ${j}`)
    for (const value of noDestinations) t.false(a.equals(value))
  }
  t.is(defaultCpuMemoryManager(), defaultCpuMemoryManager())
  t.is(cpu.memoryManager, defaultCpuMemoryManager())
  t.is(cpu.memoryManagerOf(pool), cpuMemoryManager(pool))
  t.is(inspect(cpuMemoryManager(pool)), 'MemoryManager { cpu, pool another }')
  t.is(Object.prototype.toString.call(managers[0]), '[object MemoryManager]')
})

test.serial('the default manager allocates from what is the default pool at the moment', (t) => {
  const manager = defaultCpuMemoryManager()
  t.is(manager.pool, initial)
  t.true(manager.equals(cpuMemoryManager(initial)))
  const pool = initial.proxy({ name: 'redirected' })
  setDefaultMemoryPool(pool)
  try {
    t.is(manager.pool, pool)
    t.false(manager.equals(cpuMemoryManager(initial)))
    const buffer = manager.allocateBuffer(100)
    t.is(buffer.pool, pool)
    t.is(buffer.memoryManager, cpuMemoryManager(pool))
    const copy = buffer.copyTo(cpu)
    t.is(copy.pool, pool)
    setDefaultMemoryPool(initial)
    // What is alive stays what it was.
    t.is(copy.memoryManager, cpuMemoryManager(pool))
    copy.dispose()
    buffer.dispose()
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  } finally {
    setDefaultMemoryPool(initial)
  }
})

eachPool('#17 #135 a buffer knows its manager, that its pool, and its device', (t, pool) => {
  using buffer = pool.allocateBuffer(100)
  const manager = buffer.memoryManager
  t.is(manager.pool, pool)
  t.is(manager, cpuMemoryManager(pool))
  t.is(manager, buffer.memoryManager)
  t.true(manager.isCpu)
  t.is(manager.equals(defaultCpuMemoryManager()), pool === initial)
  for (const make of [
    () => buffer.slice(1),
    () => buffer.sliceMutable(1, 2),
    () => buffer.subarray(-5),
    () => pool.allocateResizableBuffer(5),
    () => pool.allocateBitmap(5),
    () => manager.allocateBuffer(5),
    () => MemoryBuffer.from('text', { pool }),
    () => buffer.ensureAlignment(1),
    () => buffer.copySlice(0, 5, { pool }),
    () => buffer.copyTo(manager),
    () => buffer.viewOn(manager),
    () => buffer.viewOrCopyTo(manager),
  ]) {
    using other = make()
    t.is(other.memoryManager, manager, String(make))
    t.is(other.pool, pool)
    isCpuDevice(t, other.device)
    t.true(other.isCpu)
  }
})

test('#17 the buffer and the manager keep their pool', async (t) => {
  const make = (): [MemoryBuffer, MemoryManager] => {
    const pool = initial.proxy({ name: 'nobody else has it' })
    return [pool.allocateBuffer(100), cpuMemoryManager(pool.proxy({ name: 'nor this' }))]
  }
  const [buffer, manager] = make()
  await collectUntil(() => false, 3)
  t.is(buffer.memoryManager.pool!.name, 'nobody else has it')
  t.is(buffer.memoryManager, buffer.memoryManager)
  t.is(manager.pool!.name, 'nor this')
  t.is(cpuMemoryManager(manager.pool!), manager)
  buffer.dispose()
})

eachBackend('#17 managers that nobody has any more are let go with their pools', async (t, under) => {
  const pools: WeakRef<object>[] = []
  const round = (): void => {
    const pool = under.limit(1000)
    using buffer = pool.allocateBuffer(10)
    t.is(buffer.memoryManager.pool, pool)
    pools.push(new WeakRef(pool), new WeakRef(buffer.memoryManager))
  }
  for (let rounds = 0; rounds < 20; rounds += 1) round()
  t.true(await collectUntil(() => pools.every((reference) => reference.deref() === undefined)))
  t.is(under.bytesAllocated, 0)
})

eachPool('#15 #136 copyTo copies, also to where the buffer is', (t, pool) => {
  using buffer = MemoryBuffer.from('some data', { pool })
  for (const destination of [cpu, defaultCpuMemoryManager(), cpuMemoryManager(pool), buffer.memoryManager, buffer.device]) {
    const before = held(pool)
    const copy = buffer.copyTo(destination)
    t.not(copy.address, buffer.address)
    t.is(copy.toString(), 'some data')
    t.deepEqual({ size: copy.size, capacity: copy.capacity, parent: copy.parent }, { size: 9, capacity: 64, parent: undefined })
    t.true(copy.isMutable)
    t.false(copy.isResizable)
    copy.fill(0x78)
    t.is(buffer.toString(), 'some data')
    t.deepEqual(new Uint8Array(MemoryBuffer.unsafeForeign(copy.address, 64, copy).asUint8Array(9)), new Uint8Array(55), 'the padding is zero')
    copy.dispose()
    t.deepEqual(held(pool), before)
  }
})

withPool('#15 a slice is copied as a slice', (t, pool) => {
  const manager = cpuMemoryManager(pool)
  using buffer = MemoryBuffer.from('some data')
  using slice = buffer.slice(5, 4)
  using copy = slice.copyTo(manager)
  t.is(copy.toString(), 'data')
  t.deepEqual(held(pool), { bytes: 4, allocations: 1 })
  using nothing = buffer.slice(9, 0)
  using none = nothing.copyTo(manager)
  t.is(none.size, 0)
  t.deepEqual(held(pool), { bytes: 4, allocations: 2 })
})

withPool('#15 a copy that cannot be had is an error with the figures, and leaves all as it was', (t, pool) => {
  using buffer = MemoryBuffer.from('some data', { pool })
  const before = pool.stats()
  const small = pool.limit(8, { name: 'small' })
  throwsCode(t, () => buffer.copyTo(cpuMemoryManager(small)), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'small'")
  t.deepEqual(held(small), { bytes: 0, allocations: 0 })
  t.deepEqual({ ...pool.stats(), cachedBytes: 0 }, { ...before, cachedBytes: 0 })
  small.close()
  using tiny = buffer.slice(0, 1)
  throwsCode(t, () => tiny.copyTo(cpuMemoryManager(small)), 'ERR_OFFHEAP_CLOSED')
  t.is(buffer.toString(), 'some data')
})

withPool('#16 a view moves nothing, is a handle of its own, and keeps the memory', (t, pool) => {
  const other = cpuMemoryManager(initial.proxy({ name: 'of the view' }))
  for (const destination of [cpu, cpuMemoryManager(pool), other]) {
    for (const how of ['viewOn', 'viewOrCopyTo'] as const) {
      const buffer = pool.allocateBuffer(100).fill(1)
      const before = pool.numAllocations
      const view = buffer[how](destination)
      t.is(pool.numAllocations, before)
      t.deepEqual([view.address, view.size, view.pool], [buffer.address, 100, pool])
      t.is(view.parent, buffer)
      t.is(view.memoryManager, destination === cpu ? defaultCpuMemoryManager() : (destination as MemoryManager))
      t.true(view.isMutable)
      view.fill(2, 50)
      t.is(buffer.at(99), 2)
      const slice = view.slice(40, 20)
      t.is(slice.memoryManager, view.memoryManager)
      const array = view.asUint8Array()
      view.dispose()
      t.is(array.length, 0, 'its views end')
      t.is(buffer.asUint8Array().length, 100, 'those of the buffer do not')
      const again = slice[how](destination)
      buffer.dispose()
      slice.dispose()
      t.is(again.toHex(), '01'.repeat(10) + '02'.repeat(10))
      t.is(pool.liveAllocations, 1)
      again.dispose()
      t.is(pool.liveAllocations, 0)
    }
  }
})

withPool('#16 a view is as mutable as the buffer, and a buffer with a view cannot move', (t, pool) => {
  using immutable = MemoryBuffer.from('some data', { pool })
  for (const how of ['viewOn', 'viewOrCopyTo'] as const) {
    using view = immutable[how](cpu)
    t.false(view.isMutable)
    throwsCode(t, () => view.fill(1), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => view.sliceMutable(0), 'ERR_OFFHEAP_IMMUTABLE')
  }
  using resizable = pool.allocateResizableBuffer(10)
  using view = resizable.viewOn(cpu)
  t.false(view.isResizable)
  throwsCode(t, () => view.resize(5), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => resizable.resize(100_000), 'ERR_OFFHEAP_BUSY')
  view.dispose()
  resizable.resize(100_000)
  // A view that is frozen leaves the buffer mutable.
  using another = resizable.viewOn(cpu).freeze()
  t.false(another.isMutable)
  resizable.fill(1)
  t.is(another.at(0), 1)
})

withPool('#33 #34 readers and writers of what a manager made', (t, pool) => {
  using buffer = cpuMemoryManager(pool).allocateBuffer(16, { zeroFill: true })
  const writer = buffer.getWriter()
  writer.write('hello')
  writer.writeAt(8, 'wor')
  t.is(writer.tell(), 5)
  throwsCode(t, () => writer.writeAt(14, 'xyz'), 'ERR_OFFHEAP_OUT_OF_RANGE')
  using copy = buffer.copyTo(cpu)
  using view = copy.viewOn(cpuMemoryManager(pool))
  const reader = view.getReader()
  using start = reader.readAt(0, 5)
  t.is(start.toString(), 'hello')
  t.is(start.memoryManager, view.memoryManager)
  using rest = reader.readAt(8, 100)
  t.is(rest.toHex(), '776F720000000000')
  using frozen = buffer.viewOn(cpu).freeze()
  throwsCode(t, () => frozen.getWriter(), 'ERR_OFFHEAP_IMMUTABLE')
  using last = reader.readAt(15, 1)
  t.is(last.parent, view)
})

eachPool('a manager allocates as its pool does', (t, pool) => {
  const manager = cpuMemoryManager(pool)
  for (const size of [0, 1, 100, 4096, 2 ** 21]) {
    for (const alignment of [64, 4096]) {
      const before = pool.bytesAllocated
      using buffer = manager.allocateBuffer(size, { alignment, zeroFill: true })
      t.is(pool.bytesAllocated - before, size)
      t.is(buffer.address % BigInt(alignment), 0n)
      t.true(buffer.isMutable && !buffer.isResizable)
      t.true(buffer.asUint8Array().every((byte) => byte === 0))
    }
  }
  using buffer = manager.allocateBuffer(10)
  t.deepEqual({ capacity: buffer.capacity, parent: buffer.parent }, { capacity: 64, parent: undefined })
  t.deepEqual(new Uint8Array(MemoryBuffer.unsafeForeign(buffer.address, 64, buffer).asUint8Array(10)), new Uint8Array(54))
  throwsCode(t, () => cpuMemoryManager(pool.limit(99)).allocateBuffer(100), 'ERR_OFFHEAP_OUT_OF_MEMORY')
})

withPool('a wrapped ArrayBuffer is copied, and viewed as what it is', (t, pool) => {
  const bytes = Uint8Array.of(1, 2, 3, 4)
  const wrapped = MemoryBuffer.wrap(bytes).sliceMutable(1)
  t.is(wrapped.memoryManager, defaultCpuMemoryManager())
  t.is(wrapped.device, cpu)
  const manager = cpuMemoryManager(pool)
  using copy = wrapped.copyTo(manager)
  t.is(copy.pool, pool)
  t.true(copy.isMutable)
  t.is(copy.fill(9).toHex(), '090909')
  t.deepEqual([...bytes], [1, 2, 3, 4])
  for (const how of ['viewOn', 'viewOrCopyTo'] as const) {
    const view = wrapped[how](manager)
    t.is(view.memoryManager, manager)
    t.is(view.slice(1).memoryManager, manager)
    t.is(view.parent, wrapped)
    t.is(view.pool, undefined)
    view.fill(7, 2)
    t.is(bytes[3], 7)
    view.dispose()
    t.is(wrapped.toHex(), '020307')
    const frozen = MemoryBuffer.wrap(bytes.slice()).freeze()
    t.false(frozen[how](manager).isMutable)
    bytes[3] = 4
  }
  const gone = detachedArrayBuffer()
  const lost = MemoryBuffer.wrap(new ArrayBuffer(16))
  structuredClone(lost.arrayBuffer, { transfer: [lost.arrayBuffer] })
  t.is(gone.byteLength, 0)
  for (const act of [() => lost.copyTo(manager), () => lost.viewOn(manager), () => lost.viewOrCopyTo(manager)]) {
    throwsCode(t, act, 'ERR_OFFHEAP_DISPOSED')
  }
  t.deepEqual(held(pool), { bytes: 3, allocations: 1 })
})

test('foreign memory is of the default manager; its views keep the owner and cannot be shared', async (t) => {
  const pool = initial.proxy()
  const make = (): MemoryBuffer => {
    const owner = pool.allocateBuffer(100).fill(5)
    const foreign = MemoryBuffer.unsafeForeign(owner.address, 100, owner)
    t.is(foreign.memoryManager, defaultCpuMemoryManager())
    return foreign.slice(10).viewOn(cpuMemoryManager(pool)).slice(10)
  }
  const view = make()
  await collectUntil(() => pool.liveAllocations === 0, 5)
  t.is(pool.liveAllocations, 1)
  t.is(view.memoryManager, cpuMemoryManager(pool))
  t.is(view.toHex(), '05'.repeat(80))
  throwsCode(t, () => view.share(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  view.dispose()
  t.true(await collectUntil(() => pool.liveAllocations === 0))
})

test('a ticket keeps the manager', async (t) => {
  const pool = initial.proxy({ name: 'shared' })
  const manager = cpuMemoryManager(pool)
  using buffer = MemoryBuffer.from('some data')
  using view = buffer.viewOn(manager)
  const tickets = [view.share(), buffer.share()]
  using opened = MemoryBuffer.fromShared(tickets[0]!)
  t.is(opened.memoryManager, manager)
  const worker = new Worker(
    `const { MemoryBuffer, cpuMemoryManager } = require('offheap')
     const { parentPort, workerData } = require('node:worker_threads')
     const answers = workerData.map((ticket) => {
       const buffer = MemoryBuffer.fromShared(ticket)
       const { memoryManager, device } = buffer
       const copy = buffer.copyTo(memoryManager)
       const answer = [memoryManager.pool.name, String(device), memoryManager === buffer.memoryManager, copy.pool === memoryManager.pool, copy.toString()]
       copy.dispose()
       buffer.dispose()
       return answer
     })
     parentPort.postMessage(answers)`,
    { eval: true, workerData: tickets },
  )
  const answers = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  t.deepEqual(answers, [
    ['shared', 'cpu', true, true, 'some data'],
    [initial.name, 'cpu', true, true, 'some data'],
  ])
  for (const ticket of tickets) t.true(revokeShared(ticket))
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('V8 feels the weight of copies and views that are forgotten: they are collected without a call of gc()', async (t) => {
  // In a process of its own, which nobody else makes collect. 400 x 16 MiB, of which no page but those of copies is touched.
  const { stdout, stderr, code } = await runScript(`
    const { cpuDevice, cpuMemoryManager, systemMemoryPool } = offheap
    const pool = systemMemoryPool().proxy()
    const manager = cpuMemoryManager(pool)
    const viewing = cpuMemoryManager(systemMemoryPool())
    const small = pool.allocateBuffer(2 ** 20)
    let rounds = 0
    function round() {
      rounds += 1
      if (rounds % 2 === 0) manager.allocateBuffer(16 * 2 ** 20).viewOn(viewing)
      else for (let copies = 0; copies < 16; copies += 1) small.copyTo(manager)
      if (rounds < 400) setImmediate(round)
      else console.log(pool.peakBytes / 2 ** 20)
    }
    round()
  `)
  t.is(code, 0, stderr)
  t.true(Number(stdout) < 3200, `${stdout} MiB were alive at once`)
})

test('#136 misuse: destinations', (t) => {
  using buffer = MemoryBuffer.from('some data')
  const wrapped = MemoryBuffer.wrap(new Uint8Array(3))
  for (const value of noDestinations) {
    for (const source of [buffer, wrapped]) {
      for (const how of ['copyTo', 'viewOn', 'viewOrCopyTo'] as const) {
        const error = throwsCode(t, () => source[how](value as Device), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'destination must be a MemoryManager or a Device')
        t.true(error instanceof TypeError)
      }
    }
  }
})

test('misuse: receivers, pools, sizes, constructors', (t) => {
  const manager = cpuMemoryManager(initial)
  for (const [holder, names] of [
    [cpu, ['typeName', 'deviceType', 'deviceId', 'isCpu', 'memoryManager']],
    [manager, ['device', 'isCpu', 'pool']],
  ] as const) {
    const prototype = Object.getPrototypeOf(holder) as object
    for (const name of names) {
      const { get } = Object.getOwnPropertyDescriptor(prototype, name)!
      for (const receiver of [...noDestinations, MemoryBuffer.prototype]) {
        throwsCode(t, () => Reflect.apply(get as () => unknown, receiver, []), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'receiver')
      }
    }
  }
  const methods: readonly [(...args: never[]) => unknown, unknown[]][] = [
    [cpu.memoryManagerOf, [initial]],
    [cpu.equals, [cpu]],
    [cpu.toString, []],
    [manager.allocateBuffer, [10]],
    [manager.equals, [manager]],
    [MemoryBuffer.prototype.copyTo, [cpu]],
    [MemoryBuffer.prototype.viewOn, [cpu]],
    [MemoryBuffer.prototype.viewOrCopyTo, [cpu]],
  ]
  for (const [method, args] of methods) {
    for (const receiver of [undefined, null, 5, {}, initial, Object.create(Object.getPrototypeOf(manager) as object)]) {
      throwsCode(t, () => Reflect.apply(method, receiver, args), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'receiver')
    }
  }
  for (const get of ['device', 'memoryManager', 'isCpu'] as const) {
    const getter = Object.getOwnPropertyDescriptor(MemoryBuffer.prototype, get)!.get as () => unknown
    throwsCode(t, () => Reflect.apply(getter, {}, []), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'receiver')
  }
  for (const value of noDestinations.filter((value) => value !== initial)) {
    throwsCode(t, () => cpuMemoryManager(value as MemoryPool), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool must be a MemoryPool')
    throwsCode(t, () => cpu.memoryManagerOf(value as MemoryPool), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool must be a MemoryPool')
  }
  for (const size of [-1, 0.5, Number.NaN, 2 ** 53, '5', null, undefined, {}]) {
    throwsCode(t, () => manager.allocateBuffer(size as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'size')
  }
  throwsCode(t, () => manager.allocateBuffer(10, { alignment: 48 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  throwsCode(t, () => manager.allocateBuffer(10, { zeroFill: 1 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'zeroFill')
  throwsCode(t, () => manager.allocateBuffer(10, null as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  throwsCode(t, () => manager.allocateBuffer(2 ** 52), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  for (const Class of [Device, MemoryManager]) {
    throwsCode(t, () => Reflect.construct(Class, []), 'ERR_OFFHEAP_INVALID_ARGUMENT', `${Class.name} cannot be constructed`)
    t.is(inspect(Object.create(Class.prototype as object)), `${Class.name} {}`)
  }
})

test('misuse: a disposed buffer has no manager and cannot be copied', (t) => {
  for (const buffer of [initial.allocateBuffer(10), MemoryBuffer.wrap(new Uint8Array(10))]) {
    buffer.dispose()
    for (const act of [
      () => buffer.isCpu,
      () => buffer.device,
      () => buffer.memoryManager,
      () => buffer.copyTo(cpu),
      () => buffer.viewOn(cpu),
      () => buffer.viewOrCopyTo(cpu),
      // The receiver first: that is what the caller can do something about.
      () => buffer.copyTo(5 as never),
    ]) {
      throwsCode(t, act, 'ERR_OFFHEAP_DISPOSED')
    }
  }
})

test('a device that is not there is an error of its own, with the reason in a word', (t) => {
  const error = new DeviceUnavailableError('no library libcuda.so.1 was found', 'no-library')
  t.is(error.code, 'ERR_OFFHEAP_DEVICE_UNAVAILABLE')
  t.is(error.reason, 'no-library')
  t.is(error.name, 'DeviceUnavailableError')
  t.true(isOffheapError(error))
})

for (const { title, act } of actsOf(readsBytes)) {
  test(`#129 reads or writes bytes: ${title} works on the CPU`, async (t) => {
    using buffer = initial.allocateBuffer(100, { zeroFill: true })
    try {
      const result = await act(buffer)
      for (const made of [result].flat()) if (made instanceof MemoryBuffer && made !== buffer) made.dispose()
      if (typeof result === 'object' && result !== null && 'dispose' in result && result !== buffer) (result as { dispose(): void }).dispose()
    } catch (error) {
      // Node 20 has no SharedArrayBuffers over native memory.
      t.is((error as { code?: string }).code, 'ERR_OFFHEAP_NOT_SUPPORTED')
      t.regex((error as Error).message, /SharedArrayBuffers/)
    }
    t.pass()
  })
}

for (const { title, act } of actsOf(readsNoBytes)) {
  test(`#129 needs no bytes: ${title} works on the CPU`, (t) => {
    const buffer = initial.allocateBuffer(100)
    t.notThrows(() => act(buffer))
    buffer.dispose()
  })
}

test('#129 every method of buffers is known to read bytes or not: a new one must be added to a table of reads-bytes.ts', (t) => {
  const known = [...Object.keys(readsBytes), ...Object.keys(readsNoBytes), ...elsewhere.flatMap(([, names]) => names)].filter((name) => /MemoryBuffer/.test(name))
  t.deepEqual(known.toSorted(), [...reflectedNames()].filter((name) => /\bMemoryBuffer\b/.test(name)).toSorted())
})
