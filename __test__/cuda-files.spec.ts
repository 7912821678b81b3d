/** Readers and writers of a GPU's memory: with and without gathering, at once and as promises. */
import './support/cuda.js'
import type { ExecutionContext } from 'ava'
import { pipeline } from 'node:stream/promises'
import { BufferReader, cpuDevice, defaultMemoryPool, FixedSizeBufferWriter, MemoryBuffer } from 'offheap'
import * as cuda from 'offheap/cuda'
import { collectUntil, rejectsCode, throwsCode } from './support.js'
import { onDouble, onGpu, printed, runCuda } from './support/cuda.js'
import { bytesOf } from './support/reads-bytes.js'

const cpu = cpuDevice()
const KiB = 1 << 10

function pattern(size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => (index * 7 + (index >> 8)) & 0xff)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex').toUpperCase()
}

/** A zeroed buffer of the GPU, and a writer of it. */
function target(size: number, bufferSize = 0): { buffer: MemoryBuffer; writer: cuda.CudaBufferWriter } {
  const buffer = cuda.device().memoryManager.allocateBuffer(size, { zeroFill: true })
  return { buffer, writer: new cuda.CudaBufferWriter(buffer, { bufferSize }) }
}

/** What a call costs the driver in copies is nobody's business here: only where the bytes are. */
function holds(t: ExecutionContext, buffer: MemoryBuffer, bytes: Uint8Array, title?: string): void {
  t.is(bytesOf(buffer, cpu), hex(bytes), title)
}

for (const [name, bufferSize] of [
  ['at once', 0],
  ['by way of 4 KiB', 4 * KiB],
] as const) {
  onGpu(`#91 a writer: 64 KiB in pieces of 1000 bytes, ${name}`, (t) => {
    const bytes = pattern(64 * KiB)
    const { buffer, writer } = target(bytes.length, bufferSize)
    t.deepEqual([writer.size, writer.tell(), writer.bufferSize, writer.numBytesBuffered, writer.closed], [bytes.length, 0, bufferSize, 0, false])
    for (let at = 0; at < bytes.length; at += 1000) {
      const piece = bytes.subarray(at, at + 1000)
      t.is(writer.write(piece), piece.length)
      t.is(writer.tell(), at + piece.length)
      t.true(writer.numBytesBuffered < Math.max(bufferSize, 1))
    }
    writer.flush()
    t.is(writer.numBytesBuffered, 0)
    holds(t, buffer, bytes)
    writer.close()
    buffer.dispose()
  })

  onGpu(`#91 writeAsync: 64 KiB in pieces of 1000 bytes, none awaited before the next, ${name}`, async (t) => {
    const bytes = pattern(64 * KiB)
    const { buffer, writer } = target(bytes.length, bufferSize)
    const writes: Promise<number>[] = []
    const piece = new Uint8Array(1000)
    for (let at = 0; at < bytes.length; at += 1000) {
      const now = bytes.subarray(at, at + 1000)
      piece.set(now)
      writes.push(writer.writeAsync(piece.subarray(0, now.length)))
      piece.fill(0xee) // the writer has its own
      t.is(writer.tell(), at + now.length)
    }
    await writer.flushAsync()
    holds(t, buffer, bytes)
    t.is((await Promise.all(writes)).reduce((sum, count) => sum + count), bytes.length)
    await writer.closeAsync()
    buffer.dispose()
  })
}

onGpu('#92 a writer, edge cases: nothing, a new size, more than fits, exactly what fits, close', (t) => {
  const bytes = pattern(1000)
  const { buffer, writer } = target(bytes.length, 8)
  t.is(writer.write(''), 0)
  t.is(writer.write(bytes.subarray(0, 2)), 2)
  t.is(writer.numBytesBuffered, 2)
  holds(t, buffer.slice(0, 2), new Uint8Array(2), 'not there yet')
  writer.setBufferSize(10)
  t.deepEqual([writer.bufferSize, writer.numBytesBuffered, writer.tell()], [10, 0, 2], 'a new size flushes')
  holds(t, buffer.slice(0, 2), bytes.subarray(0, 2))
  writer.write(bytes.subarray(2, 8))
  t.is(writer.numBytesBuffered, 6)
  writer.write(bytes.subarray(8, 14))
  t.is(writer.numBytesBuffered, 6, 'what did not fit beside it has flushed it')
  holds(t, buffer.slice(0, 8), bytes.subarray(0, 8))
  writer.write(bytes.subarray(14, 18))
  t.is(writer.numBytesBuffered, 0, 'full')
  writer.write(bytes.subarray(18, 19))
  writer.write(bytes.subarray(19, 40))
  t.deepEqual([writer.numBytesBuffered, writer.tell()], [0, 40], 'more than the buffer goes at once, behind what had gathered')
  writer.write(bytes.subarray(40, 50))
  t.is(writer.numBytesBuffered, 0, 'exactly what fits')
  holds(t, buffer.slice(0, 50), bytes.subarray(0, 50))
  writer.write(bytes.subarray(50, 55))
  writer.seek(500)
  t.deepEqual([writer.numBytesBuffered, writer.tell()], [0, 500])
  writer.seek(55)
  writer.setBufferSize(0)
  writer.write(bytes.subarray(55, 900))
  holds(t, buffer.slice(0, 900), bytes.subarray(0, 900))
  writer.setBufferSize(4 * KiB)
  writer.write(bytes.subarray(900, 1000))
  t.is(writer.tell(), 1000)
  t.is(writer.write(new Uint8Array(0)), 0)
  const host = cuda.device().hostMemoryManager.pool!
  const before = host.liveAllocations
  writer.close()
  t.is(host.liveAllocations, before - 1, 'the memory where it gathered')
  holds(t, buffer, bytes, 'close flushes')
  buffer.dispose()
})

onGpu('#92 #144 a writer refuses what does not fit, and whatever it is told after its end', async (t) => {
  const { buffer, writer } = target(100, 16)
  writer.write('0123456789')
  for (const [title, act] of Object.entries<() => unknown>({
    write: () => writer.write(new Uint8Array(91)),
    writeAt: () => writer.writeAt(95, new Uint8Array(6)),
    'writeAt behind': () => writer.writeAt(101, ''),
    'writeAt before': () => writer.writeAt(-1, 'x'),
    seek: () => writer.seek(101),
    'seek before': () => writer.seek(-1),
  })) {
    throwsCode(t, act, 'ERR_OFFHEAP_OUT_OF_RANGE')
    t.deepEqual([writer.tell(), writer.numBytesBuffered], [10, 10], title)
  }
  await rejectsCode(t, writer.writeAsync(new Uint8Array(91)), 'ERR_OFFHEAP_OUT_OF_RANGE')
  for (const wrong of [undefined, null, 1, {}, [1]]) {
    throwsCode(t, () => writer.write(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    await rejectsCode(t, writer.writeAsync(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  for (const wrong of [-1, 0.5, '8', 2 ** 53]) throwsCode(t, () => writer.setBufferSize(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.deepEqual([writer.tell(), writer.numBytesBuffered], [10, 10])
  using there = cuda.device().memoryManager.allocateBuffer(4)
  throwsCode(t, () => writer.write(there), 'ERR_OFFHEAP_NOT_SUPPORTED')

  writer.close()
  writer.close()
  await writer.closeAsync()
  t.true(writer.closed)
  for (const act of [
    () => writer.write('x'),
    () => writer.writeAt(0, 'x'),
    () => writer.seek(0),
    () => writer.tell(),
    () => writer.flush(),
    () => writer.size,
    () => writer.bufferSize,
    () => writer.numBytesBuffered,
    () => writer.setBufferSize(1),
    () => writer.asWritable(),
  ]) {
    throwsCode(t, act, 'ERR_OFFHEAP_CLOSED')
  }
  await rejectsCode(t, writer.writeAsync('x'), 'ERR_OFFHEAP_CLOSED')
  await rejectsCode(t, writer.flushAsync(), 'ERR_OFFHEAP_CLOSED')
  holds(t, buffer.slice(0, 10), Buffer.from('0123456789'))

  const late = new cuda.CudaBufferWriter(buffer, { bufferSize: 8 })
  late.write('gone')
  buffer.dispose()
  throwsCode(t, () => late.flush(), 'ERR_OFFHEAP_DISPOSED')
  t.is(late.numBytesBuffered, 4)
  throwsCode(t, () => late.close(), 'ERR_OFFHEAP_DISPOSED')
  t.true(late.closed, 'closed all the same')
  throwsCode(t, () => new cuda.CudaBufferWriter(buffer), 'ERR_OFFHEAP_DISPOSED')
})

onGpu('#93 a reader: positions, slices that stay on the GPU, copies that stop at the end', async (t) => {
  const bytes = pattern(1000)
  using buffer = MemoryBuffer.from(bytes).copyTo(cuda.device())
  const reader = new cuda.CudaBufferReader(buffer)
  t.deepEqual([reader.size, reader.tell(), reader.closed], [1000, 0, false])
  const part = new Uint8Array(950)
  t.is(reader.readInto(part), 950)
  t.is(hex(part), hex(bytes.subarray(0, 950)))
  t.is(reader.tell(), 950)
  const rest = new Uint8Array(100).fill(0xaa)
  t.is(reader.readInto(rest), 50, 'as many as are left')
  t.deepEqual([hex(rest.subarray(0, 50)), rest[50]], [hex(bytes.subarray(950)), 0xaa])
  t.is(reader.readInto(rest), 0)
  reader.seek(925)
  using last = reader.read(100)
  t.deepEqual([last.size, last.isCpu, last.isMutable, last.address, last.parent, reader.tell()], [75, false, false, buffer.address + 925n, buffer, 1000])
  holds(t, last, bytes.subarray(925))
  t.is(reader.read(10).size, 0)

  reader.seek(10)
  using some = reader.readAt(980, 100)
  t.is(some.size, 20)
  t.is(reader.readIntoAt(990, rest), 10)
  t.is(hex(rest.subarray(0, 10)), hex(bytes.subarray(990)))
  t.is(reader.tell(), 10, 'reads at a position leave the reader’s own')
  t.is(reader.readIntoAt(1000, rest), 0)
  t.is(reader.readAt(1000, 1).size, 0)

  // As promises, into bytes and into buffers, several under way.
  using locked = cuda.device().allocateHostBuffer(100)
  using plain = defaultMemoryPool().allocateBuffer(100)
  const array = new ArrayBuffer(100)
  const reads = [reader.readIntoAsync(locked), reader.readIntoAsync(plain), reader.readIntoAsync(array)]
  t.is(reader.tell(), 310)
  t.deepEqual(await Promise.all(reads), [100, 100, 100])
  t.deepEqual([locked.toHex(), plain.toHex(), hex(new Uint8Array(array))], [hex(bytes.subarray(10, 110)), hex(bytes.subarray(110, 210)), hex(bytes.subarray(210, 310))])
  t.is(await reader.readIntoAtAsync(950, plain), 50)
  t.is(plain.slice(0, 50).toHex(), hex(bytes.subarray(950)))
  t.is(reader.tell(), 310)

  // A reader of a part.
  const stream = reader.getStream(900, 1000)
  t.is(stream.size, 100)
  holds(t, stream.read(1000), bytes.subarray(900))
  throwsCode(t, () => stream.seek(101), 'ERR_OFFHEAP_OUT_OF_RANGE')
  reader.close()
  t.true(stream.closed)
})

onGpu('#93 #144 a reader refuses what is out of range, what is no target, and whatever it is told after its end', async (t) => {
  const buffer = MemoryBuffer.from(pattern(100)).copyTo(cuda.device())
  const reader = new cuda.CudaBufferReader(buffer)
  reader.seek(7)
  const eight = new Uint8Array(8)
  for (const act of [() => reader.seek(101), () => reader.seek(-1), () => reader.readAt(101, 0), () => reader.readAt(-1, 1), () => reader.readIntoAt(101, eight), () => reader.getStream(101, 0)]) {
    throwsCode(t, act, 'ERR_OFFHEAP_OUT_OF_RANGE')
  }
  await rejectsCode(t, reader.readIntoAtAsync(101, eight), 'ERR_OFFHEAP_OUT_OF_RANGE')
  for (const wrong of [undefined, null, 1, 'text', {}, [1]]) {
    throwsCode(t, () => reader.readInto(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    await rejectsCode(t, reader.readIntoAsync(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  for (const wrong of [-1, 0.5, '1', undefined]) throwsCode(t, () => reader.read(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => reader.peek(1), 'ERR_OFFHEAP_NOT_SUPPORTED', 'cuda:0')
  using immutable = MemoryBuffer.from(new Uint8Array(8)).freeze()
  await rejectsCode(t, reader.readIntoAsync(immutable), 'ERR_OFFHEAP_IMMUTABLE')
  t.is(reader.tell(), 7)

  const early = reader.readIntoAsync(eight)
  reader.close()
  reader.close()
  t.is(await early, 8, 'what is under way goes on')
  for (const act of [
    () => reader.read(1),
    () => reader.readInto(eight),
    () => reader.readAt(0, 1),
    () => reader.readIntoAt(0, eight),
    () => reader.peek(1),
    () => reader.seek(0),
    () => reader.tell(),
    () => reader.size,
    () => reader.willNeed([]),
    () => reader.getStream(0, 1),
    () => reader.asReadable(),
  ]) {
    throwsCode(t, act, 'ERR_OFFHEAP_CLOSED')
  }
  await rejectsCode(t, reader.readIntoAsync(eight), 'ERR_OFFHEAP_CLOSED')
  await rejectsCode(t, reader.readIntoAtAsync(0, eight), 'ERR_OFFHEAP_CLOSED')

  const late = new cuda.CudaBufferReader(buffer)
  buffer.dispose()
  throwsCode(t, () => late.read(1), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => late.readInto(eight), 'ERR_OFFHEAP_DISPOSED')
  await rejectsCode(t, late.readIntoAsync(eight), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => new cuda.CudaBufferReader(buffer), 'ERR_OFFHEAP_DISPOSED')
  for (const wrong of [undefined, null, 1, eight, MemoryBuffer.from('text'), cuda.device().allocateHostBuffer(1)]) {
    throwsCode(t, () => new cuda.CudaBufferReader(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => new cuda.CudaBufferWriter(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

onGpu('#94 a reader’s willNeed: ranges are checked, and nothing moves', (t) => {
  using buffer = MemoryBuffer.from(pattern(100)).copyTo(cuda.device())
  using reader = new cuda.CudaBufferReader(buffer)
  reader.seek(5)
  reader.willNeed([])
  reader.willNeed([
    { offset: 0, length: 100 },
    { offset: 99, length: 1000 },
    { offset: 100, length: 0 },
  ])
  t.is(reader.tell(), 5)
  for (const ranges of [[{ offset: 101, length: 0 }], [{ offset: 0, length: 1 }, { offset: -1, length: 1 }]]) throwsCode(t, () => reader.willNeed(ranges), 'ERR_OFFHEAP_OUT_OF_RANGE')
  for (const wrong of [undefined, null, 1, {}, [1], [null], [{}], [{ offset: 0 }], [{ offset: 0, length: -1 }], [{ offset: 0.5, length: 1 }]]) {
    throwsCode(t, () => reader.willNeed(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

onGpu('#144 a writer and a reader of the same buffer: writeAt, seek, nothing at all', (t) => {
  const gpu = cuda.device()
  for (const bufferSize of [0, 10, 1000]) {
    using buffer = gpu.memoryManager.allocateBuffer(1000, { zeroFill: true })
    const bytes = pattern(1000)
    const writer = gpu.memoryManager.writer(buffer, { bufferSize })
    writer.write(bytes.subarray(0, 100))
    t.is(writer.writeAt(50, new Uint8Array(25).fill(9)), 25)
    t.is(writer.tell(), 100, 'as with pwrite')
    t.is(writer.writeAt(1000, ''), 0)
    writer.seek(75)
    writer.write(bytes.subarray(75, 200))
    writer.close()
    const expected = new Uint8Array(1000)
    expected.set(bytes.subarray(0, 200))
    expected.fill(9, 50, 75)
    const reader = gpu.memoryManager.reader(buffer)
    const found = new Uint8Array(1000)
    t.is(reader.readInto(found), 1000)
    t.is(hex(found), hex(expected), String(bufferSize))
    t.is(reader.readInto(new Uint8Array(0)), 0)
  }
  using empty = gpu.memoryManager.allocateBuffer(0)
  using writer = gpu.memoryManager.writer(empty)
  t.deepEqual([writer.size, writer.write(''), writer.tell()], [0, 0, 0])
  throwsCode(t, () => writer.write('x'), 'ERR_OFFHEAP_OUT_OF_RANGE')
  using reader = gpu.memoryManager.reader(empty)
  t.deepEqual([reader.size, reader.read(1).size, reader.readInto(new Uint8Array(1))], [0, 0, 0])
})

onGpu('#144 a manager gives readers and writers of its own kind of memory', (t) => {
  const gpu = cuda.device()
  for (const kind of ['driver-pool', 'pool', 'plain'] as const) {
    const manager = gpu.createMemoryManager({ kind })
    using buffer = manager.allocateBuffer(10, { zeroFill: true })
    using writer = manager.writer(buffer)
    using reader = gpu.memoryManager.reader(buffer)
    t.true(writer instanceof cuda.CudaBufferWriter && reader instanceof cuda.CudaBufferReader)
    writer.write('some data')
    using slice = reader.read(4)
    holds(t, slice, Buffer.from('some'))
  }
  using host = gpu.allocateHostBuffer(10)
  using writer = gpu.hostMemoryManager.writer(host)
  t.true(writer instanceof FixedSizeBufferWriter && gpu.hostMemoryManager.reader(host) instanceof BufferReader)
  writer.write('some data')
  t.is(host.slice(0, 9).toString(), 'some data')
  throwsCode(t, () => gpu.hostMemoryManager.writer(host, { bufferSize: 8 }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => gpu.memoryManager.reader(host), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'cuda:0')
  using there = gpu.memoryManager.allocateBuffer(10)
  for (const manager of [gpu.hostMemoryManager, cpu.memoryManager]) {
    throwsCode(t, () => manager.reader(there), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => manager.writer(there), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  throwsCode(t, () => gpu.memoryManager.writer(there.slice(0)), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => there.getReader(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  for (const wrong of [undefined, null, {}, 1]) {
    throwsCode(t, () => gpu.memoryManager.reader(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => gpu.memoryManager.writer(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  for (const options of [null, 1, { bufferSize: -1 }, { bufferSize: '8' }]) throwsCode(t, () => gpu.memoryManager.writer(there, options as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  if (!gpu.hasManagedMemory) return
  using managed = gpu.managedMemoryManager.allocateBuffer(10)
  using gathering = gpu.managedMemoryManager.writer(managed, { bufferSize: 4 })
  gathering.write('123456')
  gathering.write('789')
  gathering.flush()
  using reads = gpu.managedMemoryManager.reader(managed)
  const found = new Uint8Array(9)
  reads.readInto(found)
  t.is(Buffer.from(found).toString(), '123456789')
})

onGpu('a writer takes other GPUs’ memory and JavaScript’s, in the order in which it was given', async (t) => {
  const gpu = cuda.device()
  const { buffer, writer } = target(64, 16)
  using there = MemoryBuffer.from('-on the GPU-').copyTo(gpu)
  const bytes = Buffer.from('bytes')
  const writes = [writer.writeAsync('text'), writer.writeAsync(there), writer.writeAsync(bytes), writer.writeAsync(MemoryBuffer.from('a buffer that is longer than 16'))]
  t.is(writer.tell(), 4 + 12 + 5 + 31)
  writer.write('.')
  await Promise.all(writes)
  await writer.closeAsync()
  holds(t, buffer.slice(0, 53), Buffer.from('text-on the GPU-bytesa buffer that is longer than 16.'))
  {
    await using last = new cuda.CudaBufferWriter(buffer, { bufferSize: 16 })
    last.write('TEXT')
  }
  holds(t, buffer.slice(0, 5), Buffer.from('TEXT-'))
  buffer.dispose()
})

onGpu('Node streams from a GPU’s memory and to it', async (t) => {
  const gpu = cuda.device()
  const bytes = pattern(300 * KiB)
  using source = MemoryBuffer.from(bytes).copyTo(gpu)
  const { buffer, writer } = target(bytes.length, 64 * KiB)
  const reader = new cuda.CudaBufferReader(source)
  reader.seek(1)
  await pipeline(reader.asReadable({ chunkSize: 7001 }), writer.asWritable())
  t.true(writer.closed && !reader.closed)
  t.is(reader.tell(), bytes.length)
  holds(t, buffer.slice(0, bytes.length - 1), bytes.subarray(1))
  const small = target(10)
  const error = await t.throwsAsync(pipeline(new cuda.CudaBufferReader(source).asReadable(), small.writer.asWritable()))
  t.is((error as { code?: string }).code, 'ERR_OFFHEAP_OUT_OF_RANGE')
  for (const options of [1, { chunkSize: 0 }, { chunkSize: 2 ** 31 }]) throwsCode(t, () => reader.asReadable(options as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  for (const gone of [buffer, small.buffer]) gone.dispose()
})

onGpu('readers and writers leave nothing behind', async (t) => {
  const gpu = cuda.device()
  const manager = gpu.createMemoryManager({ kind: 'driver-pool' })
  const host = gpu.hostMemoryManager.pool!
  const before = host.liveAllocations
  const buffer = manager.allocateBuffer(100 * KiB)
  const writer = manager.writer(buffer, { bufferSize: 4 * KiB })
  const reader = manager.reader(buffer)
  const work: Promise<unknown>[] = []
  for (let round = 0; round < 20; round += 1) work.push((writer as cuda.CudaBufferWriter).writeAsync(pattern(5000)), (reader as cuda.CudaBufferReader).readIntoAsync(new Uint8Array(999)))
  const closed = (writer as cuda.CudaBufferWriter).closeAsync()
  buffer.dispose()
  await Promise.all([...work, closed])
  t.true(await collectUntil(() => manager.pool!.liveAllocations === 0 && host.liveAllocations === before))
})

onDouble('a copy that the driver refuses: the reader’s position stays, a flush can be tried again, a close closes', async (t) => {
  const result = await runCuda(
    `const gpu = cuda.device()
     const buffer = gpu.memoryManager.allocateBuffer(100)
     const reader = new cuda.CudaBufferReader(buffer)
     const writer = new cuda.CudaBufferWriter(buffer, { bufferSize: 8 })
     const said = []
     const refused = (act) => { try { act(); said.push('done') } catch (error) { said.push(error.code) } }
     refused(() => reader.readInto(new Uint8Array(10)))
     said.push(reader.tell())
     writer.write('1234')
     refused(() => writer.flush())
     said.push(writer.numBytesBuffered, writer.tell())
     refused(() => writer.flush())
     said.push(writer.numBytesBuffered)
     writer.write('5678')
     const again = new cuda.CudaBufferWriter(buffer, { bufferSize: 8 })
     again.write('x')
     refused(() => again.close())
     said.push(again.closed)
     await again.closeAsync()
     const late = new cuda.CudaBufferWriter(buffer, { bufferSize: 8 })
     late.write('x')
     said.push(await late.flushAsync().then(() => 'done', (error) => error.code), late.tell(), late.numBytesBuffered)
     console.log(JSON.stringify(said))`,
    { OFFHEAP_CUDA_DOUBLE_FAIL: 'cuMemcpyDtoHAsync:719:0:1,cuMemcpyHtoDAsync:719:0:1,cuMemcpyHtoDAsync:719:1' },
  )
  const code = 'ERR_OFFHEAP_DEVICE_UNAVAILABLE'
  t.deepEqual(printed(t, result), [code, 0, code, 4, 4, 'done', 0, code, true, code, 1, 0])
})
