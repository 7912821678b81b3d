/** Readers and writers that a memory manager gives: of the CPU's memory and of memory that processes share. */
import test from 'ava'
import { BufferReader, cpuDevice, cpuMemoryManager, defaultCpuMemoryManager, defaultMemoryPool, FixedSizeBufferWriter, MemoryBuffer, MemoryManager } from 'offheap'
import * as shm from 'offheap/shm'
import { throwsCode } from './support.js'
import { hasTestDevices, testDevice } from './support/test-devices.js'

const managers: Record<string, () => MemoryManager> = {
  'the CPU’s default one': defaultCpuMemoryManager,
  'one of a pool of the CPU’s': () => cpuMemoryManager(defaultMemoryPool().proxy()),
  'that of shared memory': () => shm.device().memoryManager,
}

for (const [name, make] of Object.entries(managers)) {
  test(`#34 a manager’s reader and writer (${name})`, (t) => {
    const manager = make()
    using buffer = manager.allocateBuffer(20, { zeroFill: true })
    using writer = manager.writer(buffer)
    t.true(writer instanceof FixedSizeBufferWriter)
    t.is(writer.write('some data'), 9)
    t.is(writer.writeAt(15, Buffer.from('12345')), 5)
    t.is(writer.tell(), 9)
    throwsCode(t, () => writer.writeAt(16, '12345'), 'ERR_OFFHEAP_OUT_OF_RANGE')
    writer.flush()
    using reader = manager.reader(buffer)
    t.true(reader instanceof BufferReader)
    using slice = reader.read(9)
    t.deepEqual([slice.toString(), slice.device, slice.memoryManager.equals(manager)], ['some data', manager.device, true])
    const end = new Uint8Array(10)
    t.is(reader.readIntoAt(15, end), 5)
    t.is(Buffer.from(end.subarray(0, 5)).toString(), '12345')
    writer.close()
    reader.close()
    throwsCode(t, () => writer.write('x'), 'ERR_OFFHEAP_CLOSED')
    throwsCode(t, () => reader.read(1), 'ERR_OFFHEAP_CLOSED')
    throwsCode(t, () => manager.writer(buffer.slice(0)), 'ERR_OFFHEAP_IMMUTABLE')
    for (const wrong of [undefined, null, {}, new Uint8Array(1), manager]) {
      throwsCode(t, () => manager.reader(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
      throwsCode(t, () => manager.writer(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    }
    buffer.dispose()
    throwsCode(t, () => manager.reader(buffer), 'ERR_OFFHEAP_DISPOSED')
  })
}

test('a manager reads and writes memory of its own device only; a wrapped ArrayBuffer is the CPU’s', (t) => {
  using shared = shm.device().memoryManager.allocateBuffer(10)
  using plain = defaultMemoryPool().allocateBuffer(10)
  for (const act of [() => defaultCpuMemoryManager().reader(shared), () => defaultCpuMemoryManager().writer(shared)]) throwsCode(t, act, 'ERR_OFFHEAP_INVALID_ARGUMENT', 'shm')
  for (const act of [() => shm.device().memoryManager.reader(plain), () => shm.device().memoryManager.writer(plain)]) throwsCode(t, act, 'ERR_OFFHEAP_INVALID_ARGUMENT', 'shm')
  using wrapped = MemoryBuffer.wrap(new Uint8Array(4))
  cpuDevice().memoryManager.writer(wrapped).write('1234')
  t.is(cpuDevice().memoryManager.reader(wrapped).read(4).toString(), '1234')
  for (const receiver of [undefined, null, {}, cpuDevice()]) {
    throwsCode(t, () => MemoryManager.prototype.reader.call(receiver as never, plain), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => MemoryManager.prototype.writer.call(receiver as never, plain), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

const onDevices = hasTestDevices ? test : test.skip

onDevices('a device that nothing reads has no readers and writers', (t) => {
  const device = testDevice(0)
  using there = device.memoryManager.allocateBuffer(10)
  throwsCode(t, () => device.memoryManager.reader(there), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => device.memoryManager.writer(there), 'ERR_OFFHEAP_NOT_SUPPORTED')
})
