/**
 * Memory that the CPU cannot reach, of test devices: `npm run test:features` builds a library that has them, and whoever reads
 * their memory there crashes. The tables of `support/reads-bytes.ts` are what the specs of real devices run, too.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import {
  Arena,
  BinaryBufferBuilder,
  BufferBuilder,
  BufferOutputStream,
  cpuDevice,
  cpuMemoryManager,
  defaultCpuMemoryManager,
  defaultMemoryPool,
  Device,
  MemoryBuffer,
  MemoryManager,
  type MemoryPool,
  revokeShared,
  setAllocator,
  setDefaultMemoryPool,
  TypedBufferBuilder,
} from 'offheap'
import { held, rejectsCode, root, throwsCode } from './support.js'
import { actsOf, bytesOf, readsBytes, readsNoBytes } from './support/reads-bytes.js'
import { deviceInternals, hasTestDevices, INTERNAL, managerInternals, testDevice } from './support/test-devices.js'

// One after the other: pools of the process are looked at.
const onDevices = hasTestDevices ? test.serial : test.skip
const cpu = cpuDevice()

test('test devices are in no library but that of npm run test:features', (t) => {
  t.is(hasTestDevices, (process.env['OFFHEAP_TEST_LIBRARY'] ?? '').includes('test-devices'))
})

/** A pool of a device's memory, of its own figures. */
function devicePool(device: Device): MemoryPool {
  return device.memoryManager.pool!.proxy({ name: 'of the device' })
}

function isOn(t: ExecutionContext, buffer: MemoryBuffer, manager: MemoryManager): void {
  t.false(buffer.isCpu)
  t.is(buffer.memoryManager, manager)
  t.is(buffer.device, manager.device)
  t.false(buffer.device.isCpu)
}

/** Ways to a mutable buffer of 100 bytes that the CPU cannot reach. */
const ways: Record<string, () => MemoryBuffer> = {
  'of a pool': () => devicePool(testDevice(0)).allocateBuffer(100),
  'of a manager': () => testDevice(0).memoryManager.allocateBuffer(100),
  'a copy': () => MemoryBuffer.from(new Uint8Array(100)).copyTo(testDevice(0)),
  'a view': () => defaultMemoryPool().allocateBuffer(100, { zeroFill: true }).viewOn(testDevice(1)),
  'a slice': () => devicePool(testDevice(2)).allocateBuffer(200).sliceMutable(40, 100),
  'a slice of a view': () => defaultMemoryPool().allocateBuffer(200, { zeroFill: true }).viewOn(testDevice(1)).sliceMutable(64, 100),
  'from a ticket': () => {
    const ticket = testDevice(0).memoryManager.allocateBuffer(100).share()
    try {
      return MemoryBuffer.fromShared(ticket)
    } finally {
      revokeShared(ticket)
    }
  },
}

for (const [way, make] of Object.entries(ways)) {
  onDevices(`#129 a device's buffer, ${way}: what reads bytes refuses it, and leaves it as it was`, async (t) => {
    for (const { title, act } of actsOf(readsBytes)) {
      const buffer = make()
      const seen = (): unknown => ({ address: buffer.address, size: buffer.size, isMutable: buffer.isMutable, pool: held(defaultMemoryPool()) })
      const before = seen()
      const error = await rejectsCode(t, (async () => act(buffer))(), 'ERR_OFFHEAP_NOT_SUPPORTED')
      t.regex(error.message, /^the memory is on ext_dev:\d, which the CPU cannot read or write: copy it by copyTo\(defaultCpuMemoryManager\(\)\)$/, title)
      t.deepEqual(seen(), before, title)
      buffer.dispose()
    }
  })
  onDevices(`#129 a device's buffer, ${way}: what needs no bytes works`, (t) => {
    for (const { title, act } of actsOf(readsNoBytes)) {
      const buffer = make()
      t.notThrows(() => act(buffer), title)
      buffer.dispose()
    }
  })
}

for (const name of ['MemoryBuffer#slice', 'MemoryBuffer#sliceMutable', 'MemoryBuffer#subarray'] as const) {
  onDevices(`${name.slice(13)} of a device's buffer stays there: Arrow’s mutable slice does not`, (t) => {
    const manager = testDevice(0).memoryManager
    using buffer = manager.allocateBuffer(100)
    using slice = name.endsWith('slice') ? buffer.slice(10, 50) : name.endsWith('subarray') ? buffer.subarray(10, 60) : buffer.sliceMutable(10, 50)
    using inner = slice.slice(5)
    for (const [part, parent, offset] of [[slice, buffer, 10n], [inner, slice, 15n]] as const) {
      isOn(t, part, buffer.memoryManager)
      t.is(part.parent, parent)
      t.is(part.address, buffer.address + offset)
      t.is(part.pool, manager.pool)
    }
    t.is(slice.isMutable, name.endsWith('sliceMutable'))
    throwsCode(t, () => slice.slice(51), 'ERR_OFFHEAP_OUT_OF_RANGE')
    throwsCode(t, () => buffer.sliceMutable(0, 101), 'ERR_OFFHEAP_OUT_OF_RANGE')
  })
}

onDevices('#14 #134 test devices: one handle for each, by number', (t) => {
  const [copying, viewing] = [testDevice(0), testDevice(1)]
  t.is(testDevice(0), copying)
  t.not(viewing, copying)
  t.false(copying.equals(viewing) || copying.equals(cpu) || cpu.equals(copying))
  t.true(copying.equals(testDevice(0)))
  t.deepEqual([copying.typeName, copying.deviceType, viewing.deviceId, copying.isCpu, String(viewing)], ['test', 12, 1, false, 'test:1'])
  t.is(inspect(viewing), 'Device { test:1 }')
  const pool = devicePool(copying)
  t.is(copying.memoryManagerOf(pool), copying.memoryManagerOf(pool))
  t.is(copying.memoryManagerOf(pool).pool, pool)
  t.false(copying.memoryManagerOf(pool).equals(copying.memoryManager))
  t.is(inspect(copying.memoryManagerOf(pool)), 'MemoryManager { test:0, pool of the device }')
  for (const act of [() => viewing.memoryManagerOf(pool), () => cpu.memoryManagerOf(pool), () => cpuMemoryManager(pool), () => copying.memoryManagerOf(defaultMemoryPool())]) {
    throwsCode(t, act, 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  }
  const error = throwsCode(t, () => testDevice(9), 'ERR_OFFHEAP_DEVICE_UNAVAILABLE', 'there is no test device 9')
  t.is((error as unknown as { reason: string }).reason, 'no-device')
})

onDevices('#15 #136 a copy is made by whoever can', (t) => {
  const [copying, viewing, nothing, other] = [0, 1, 2, 3].map(testDevice) as [Device, Device, Device, Device]
  using source = MemoryBuffer.from('some data')
  const isCopy = (copy: MemoryBuffer, device: Device): MemoryBuffer => {
    t.not(copy.address, source.address)
    t.is(copy.device, device)
    t.is(copy.isCpu, device === cpu)
    t.is(copy.parent, undefined)
    t.true(copy.isMutable)
    t.is(bytesOf(copy, cpu), source.toHex())
    return copy
  }
  const there = isCopy(source.copyTo(copying), copying)
  isCopy(there.copyTo(cpu), cpu)
  isCopy(there.copyTo(defaultCpuMemoryManager()), cpu)
  // From device to device: over a copy, and over a view.
  isCopy(there.copyTo(other), other)
  isCopy(source.viewOn(viewing).copyTo(copying), copying)
  isCopy(MemoryBuffer.wrap(Buffer.from('some data')).copyTo(copying), copying)
  // Nobody can.
  throwsCode(t, () => source.copyTo(nothing), 'ERR_OFFHEAP_NOT_SUPPORTED', 'copying memory of cpu on ext_dev:2 is not supported')
  const unreachable = nothing.memoryManager.allocateBuffer(9)
  throwsCode(t, () => unreachable.copyTo(cpu), 'ERR_OFFHEAP_NOT_SUPPORTED', 'copying memory of ext_dev:2 on cpu')
  throwsCode(t, () => unreachable.copyTo(copying), 'ERR_OFFHEAP_NOT_SUPPORTED')
  // A slice, and nothing at all.
  const pool = devicePool(copying)
  const manager = copying.memoryManagerOf(pool)
  t.is(bytesOf(there.slice(5, 4).copyTo(manager), cpu), Buffer.from('data').toString('hex').toUpperCase())
  t.is(pool.totalBytesAllocated, 4)
  t.is(there.slice(9).copyTo(cpu).copyTo(other).size, 0)
})

onDevices('#16 a view moves nothing, and keeps the memory', (t) => {
  const [copying, viewing, nothing] = [0, 1, 2].map(testDevice) as [Device, Device, Device]
  const pool = defaultMemoryPool().proxy()
  const source = MemoryBuffer.from('some data', { pool })
  const part = source.slice(5, 4)
  const view = part.viewOn(viewing)
  part.dispose()
  t.false(view.isCpu)
  t.is(view.device, viewing)
  t.false(view.isMutable)
  const back = view.viewOn(cpu)
  t.is(back.address, source.address + 5n)
  t.true(back.isCpu)
  t.is(back.device, cpu)
  t.is(back.parent, view)
  source.dispose()
  view.dispose()
  t.is(back.toString(), 'data')
  t.is(pool.liveAllocations, 1)
  throwsCode(t, () => back.viewOn(copying), 'ERR_OFFHEAP_NOT_SUPPORTED', 'viewing memory of cpu on ext_dev:0 is not supported')
  const copy = back.viewOrCopyTo(copying)
  t.is(copy.parent, undefined)
  t.is(copy.device, copying)
  t.false(copy.isMutable, 'as the buffer')
  t.is(bytesOf(copy, cpu), back.toHex())
  throwsCode(t, () => back.viewOrCopyTo(nothing), 'ERR_OFFHEAP_NOT_SUPPORTED')
  const wrapped = MemoryBuffer.wrap(Buffer.from('data'))
  throwsCode(t, () => wrapped.viewOn(viewing), 'ERR_OFFHEAP_NOT_SUPPORTED', 'a wrapped ArrayBuffer')
  t.true(wrapped.viewOrCopyTo(copying).isMutable)
  back.dispose()
  t.is(pool.liveAllocations, 0)
})

onDevices('running out of memory is never a reason to do something else', (t) => {
  const device = testDevice(0)
  const limit = device.memoryManager.pool!.limit(8, { name: 'small' })
  const small = device.memoryManagerOf(limit)
  using source = MemoryBuffer.from('some data')
  for (const how of ['copyTo', 'viewOrCopyTo'] as const) throwsCode(t, () => source[how](small), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'small'")
  throwsCode(t, () => small.allocateBuffer(9), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'small'")
  throwsCode(t, () => limit.allocateBuffer(9), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'small'")
  t.is(limit.numAllocations, 0)
  t.is(small.allocateBuffer(8).size, 8)
})

onDevices('pools of a device count, limit, track and log as all do, and serve nobody who reads bytes', (t) => {
  const base = testDevice(0).memoryManager.pool!
  const pools: Record<string, MemoryPool> = {
    proxy: base.proxy(),
    limit: base.limit(1e6),
    track: base.track({ stackDepth: 4 }),
    log: base.log(() => {}),
    scoped: base.scopedStatistics(),
    hook: base.hook({ onMalloc() {}, onFree() {} }),
    failing: base.failing({ after: 1000 }),
  }
  for (const [name, pool] of Object.entries(pools)) {
    const start = held(pool)
    const buffer = pool.allocateBuffer(1000, { alignment: 512, zeroFill: true })
    t.is(buffer.address % 512n, 0n, name)
    t.is(buffer.pool, pool)
    t.is(pool.bytesAllocated, start.bytes + 1000)
    isOn(t, buffer, buffer.memoryManager)
    t.is(buffer.memoryManager.pool, pool)
    t.is(buffer.memoryManager, testDevice(0).memoryManagerOf(pool))
    t.is(bytesOf(buffer, cpu), '00'.repeat(1000))
    if (name === 'track') t.is(buffer.allocationSite!.size, 1000)
    buffer.dispose()
    t.deepEqual(held(pool), start)

    const before = pool.numAllocations
    for (const act of [
      () => pool.allocateResizableBuffer(10),
      () => pool.allocateBitmap(10),
      () => pool.allocateBitmap(0),
      () => pool.allocateEmptyBitmap(10),
      () => MemoryBuffer.from('text', { pool }),
      () => MemoryBuffer.concat([new Uint8Array(3)], { pool }),
      () => MemoryBuffer.from('text').copySlice(0, 3, { pool }),
      () => MemoryBuffer.from('text').slice(1).ensureAlignment(64, { pool }),
      () => new BufferBuilder({ pool }).append('text'),
      () => new BufferBuilder({ pool }).finish(),
      () => new TypedBufferBuilder('int8', { pool }).append(1),
      () => new TypedBufferBuilder('bool', { pool, capacity: 10 }),
      () => new BinaryBufferBuilder({ pool }).append('text'),
      () => new BufferOutputStream({ pool, capacity: 10 }),
      () => new Arena({ pool }).alloc(10),
      () => new Arena({ pool }).float64(2e6),
      () => setDefaultMemoryPool(pool),
      () => setAllocator('mem', pool),
      () => setAllocator('object', pool),
    ]) {
      const error = throwsCode(t, act, 'ERR_OFFHEAP_NOT_SUPPORTED', 'ext_dev:0')
      t.regex(error.message, /pool '.*' has memory of ext_dev:0/, String(act))
    }
    t.is(pool.numAllocations, before, name)
  }
  throwsCode(t, () => base.debug().allocateBuffer(10), 'ERR_OFFHEAP_NOT_SUPPORTED')
  pools['hook']!.unhook()
  pools['log']!.unhook()
})

onDevices('inspect says where a buffer is, and reads nothing', (t) => {
  using buffer = testDevice(0).memoryManager.allocateBuffer(100)
  t.is(inspect(buffer), `MemoryBuffer { 100 bytes of ${buffer.capacity} at 0x${buffer.address.toString(16)} on ext_dev:0, mutable }`)
  t.regex(inspect(buffer.slice(1)), /99 bytes of 99 at 0x[0-9a-f]+ on ext_dev:0, immutable }/)
})

onDevices('a ticket of a device’s buffer opens it there', async (t) => {
  const device = testDevice(0)
  const pool = devicePool(device)
  const buffer = MemoryBuffer.from('some data').copyTo(device.memoryManagerOf(pool))
  const viewed = MemoryBuffer.from('some data').viewOn(testDevice(1))
  const tickets = [buffer.share(), buffer.slice(5).share(), viewed.share()]
  // Node 20 does not run what `--import` names in workers.
  const substitute = pathToFileURL(join(root, 'scripts', 'substitute-library.mjs')).href
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
     import(workerData.substitute).then(() => {
       const { MemoryBuffer, cpuDevice } = require('offheap')
       parentPort.postMessage(workerData.tickets.map((ticket) => {
         const buffer = MemoryBuffer.fromShared(ticket)
         const copy = buffer.viewOrCopyTo(cpuDevice())
         return [String(buffer.device), buffer.isCpu, buffer.isMutable, copy.toString(), buffer.dispose()]
       }))
     })`,
    { eval: true, workerData: { tickets, substitute } },
  )
  t.deepEqual(await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)), [
    ['test:0', false, true, 'some data', undefined],
    ['test:0', false, false, 'data', undefined],
    ['test:1', false, false, 'some data', undefined],
  ])
  for (const ticket of tickets) revokeShared(ticket)
  buffer.dispose()
  t.is(pool.liveAllocations, 1, 'the slice that nobody disposed')
})

onDevices('freezing a device’s buffer leaves it there', (t) => {
  using buffer = testDevice(0).memoryManager.allocateBuffer(100).freeze()
  t.false(buffer.isMutable)
  isOn(t, buffer, buffer.memoryManager)
  throwsCode(t, () => buffer.toHex(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => buffer.sliceMutable(0), 'ERR_OFFHEAP_IMMUTABLE')
})

onDevices('modules of a kind of device have classes of their own', (t) => {
  const before = testDevice(0)
  class TestDevice extends (Device as unknown as new (...args: unknown[]) => Device) {
    get tests(): boolean {
      return true
    }
  }
  class TestManager extends (MemoryManager as unknown as new (...args: unknown[]) => MemoryManager) {}
  deviceInternals.setClass('test', (seed) => new TestDevice(INTERNAL, seed))
  managerInternals.setClass('test', (id) => new TestManager(INTERNAL, id))
  const device = testDevice(0) as TestDevice
  t.true(device instanceof TestDevice && device instanceof Device && device.tests)
  t.is(testDevice(0), device)
  t.true(before.equals(device) && device.equals(before))
  const manager = device.memoryManager
  t.true(manager instanceof TestManager)
  t.is(manager.device, device)
  using buffer = manager.allocateBuffer(10)
  t.is(buffer.device, device)
  t.true(buffer.memoryManager instanceof TestManager)
  t.is(buffer.viewOn(before).device, device)
  t.is(cpuDevice(), cpu)
  t.false(defaultCpuMemoryManager() instanceof TestManager)
})
