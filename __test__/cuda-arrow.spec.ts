/** Memory of a GPU as structs of Arrow's C Device interface and of DLPack: whoever takes one waits for what wrote it. */
import './support/cuda.js'
import { cpuDevice, defaultMemoryPool, type MemoryBuffer } from 'offheap'
import * as arrow from 'offheap/arrow'
import * as cuda from 'offheap/cuda'
import { collectUntil, throwsCode } from './support.js'
import { isDouble, onDouble, onGpu, printed, runCuda } from './support/cuda.js'
import { bytesOf } from './support/reads-bytes.js'
import { foreignTensor } from './support/tensors.js'

const MiB = 1 << 20
const cpu = cpuDevice()
const gpu = cuda.device

/** The hexadecimal digits of the first and the last byte, as they are when all work before is done that orders what is asked for. */
const ends = (buffer: MemoryBuffer): string => bytesOf(buffer.slice(0, 1), cpu) + bytesOf(buffer.slice(buffer.size - 1), cpu)

onGpu('an array has the event of its memory, and who imports it waits: in the call, or on his stream', async (t) => {
  using writes = gpu().createStream()
  using reads = gpu().createStream()
  for (const stream of [undefined, reads]) {
    using there = gpu().memoryManager.on(writes).allocateBuffer(4 * MiB)
    const filled = cuda.fill(there, 7)
    using written = writes.record()
    using handle = arrow.toArrowDevice(there, 'g')
    const { buffer, length } = arrow.fromArrowDevice(handle, { stream })
    t.is(length, MiB / 2)
    t.is(buffer.address, there.address)
    t.is(buffer.device, there.device)
    // Nobody has waited but the stream.
    if (isDouble) t.is(written.isComplete, stream === undefined)
    t.is(ends(buffer), '0707')
    // Without a word a copy is in the order of the stream that imported, and of the memory that was.
    using back = gpu().allocateHostBuffer(4 * MiB)
    await cuda.copy(back, buffer)
    t.deepEqual([back.at(0), back.at(-1)], [7, 7])
    await filled
    buffer.dispose()
  }
})

onGpu('an event and a stream of the exporter say when the bytes are there', async (t) => {
  using work = gpu().createStream()
  using reads = gpu().createStream()
  for (const say of ['event', 'stream'] as const) {
    for (const make of [toArray, toTensor]) {
      for (const stream of [undefined, reads]) {
        using there = gpu().memoryManager.allocateBuffer(2 * MiB)
        const filled = [cuda.fill(there, 1), cuda.fill(there, 9, { stream: work })]
        const event = say === 'event' ? work.record() : undefined
        const buffer = make(there, event === undefined ? { stream: work } : { event }, { stream })
        event?.dispose()
        using back = gpu().allocateHostBuffer(2 * MiB)
        await cuda.copy(back, buffer)
        t.deepEqual([back.at(0), back.at(-1)], [9, 9], `${say}, ${make.name}`)
        buffer.dispose()
        await Promise.all(filled)
      }
    }
  }
})

function toArray(buffer: MemoryBuffer, when: arrow.ProducerOptions, who: arrow.ConsumerOptions): MemoryBuffer {
  return arrow.fromArrowDevice(arrow.toArrowDevice(buffer, 'C', when), who).buffer
}

function toTensor(buffer: MemoryBuffer, when: arrow.ProducerOptions, who: arrow.ConsumerOptions): MemoryBuffer {
  return arrow.fromDlpack(arrow.toDlpack(buffer, 'uint8', when), who).buffer
}

onGpu('a stream of arrays: each has its event', async (t) => {
  using work = gpu().createStream()
  using reads = gpu().createStream()
  for (const stream of [undefined, reads]) {
    const buffers = [1, 2, 3].map(() => gpu().memoryManager.allocateBuffer(MiB))
    const filled = buffers.map((buffer, index) => cuda.fill(buffer, index + 1, { stream: work }))
    using handle = arrow.toArrowDeviceStream(buffers, 'C', { stream: work })
    for (const buffer of buffers) buffer.dispose()
    using reader = arrow.fromArrowDeviceStream(handle)
    for (const expected of ['0101', '0202', '0303']) {
      const { buffer, length } = reader.next({ stream })!
      t.is(length, MiB)
      t.is(ends(buffer), expected)
      buffer.dispose()
    }
    t.is(reader.next({ stream }), undefined)
    await Promise.all(filled)
  }
  using there = gpu().memoryManager.allocateBuffer(64)
  using here = defaultMemoryPool().allocateBuffer(64)
  throwsCode(t, () => arrow.toArrowDeviceStream([there, here], 'C'), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => arrow.toArrowDeviceStream([here], 'C', { stream: work }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})

onGpu('a tensor by its address: the producer makes the stream wait that it is told', async (t) => {
  using work = gpu().createStream()
  using reads = gpu().createStream()
  const takes: Record<string, (handle: arrow.DlpackHandle) => arrow.ImportedTensor> = {
    'nobody named: the call waits': (handle) => arrow.unsafeFromDlpack(handle.take()),
    'a stream of ours': (handle) => arrow.unsafeFromDlpack(handle.take({ stream: reads }), { stream: reads }),
    'the legacy default stream': (handle) => arrow.unsafeFromDlpack(handle.unsafeTake(1n)),
  }
  for (const [name, take] of Object.entries(takes)) {
    using there = gpu().memoryManager.allocateBuffer(2 * MiB)
    const filled = cuda.fill(there, 5, { stream: work })
    const handle = arrow.toDlpack(there, 'float32', { stream: work, shape: [512, 1024] })
    const { buffer, shape, type, readOnly } = take(handle)
    t.deepEqual([shape, type, readOnly], [[512, 1024], 'float32', true], name)
    t.is(ends(buffer), '0505', name)
    t.true(handle.consumed)
    buffer.dispose()
    await filled
  }
  using there = gpu().memoryManager.allocateBuffer(64)
  arrow.unsafeFromDlpack(arrow.toDlpack(there, 'int8').unsafeTake(-1n)).buffer.dispose()
  arrow.unsafeFromDlpack(arrow.toDlpack(there, 'int8').unsafeTake(2n)).buffer.dispose()
  using handle = arrow.toDlpack(there, 'int8')
  for (const wrong of [0n, -2n, -(2n ** 64n) - 1n, 2n ** 64n + 1n, 1, undefined]) throwsCode(t, () => handle.unsafeTake(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.false(handle.consumed)
})

onGpu('a copy for the consumer begins after the writes, and is his', async (t) => {
  using work = gpu().createStream()
  using there = gpu().memoryManager.allocateBuffer(2 * MiB)
  const filled = cuda.fill(there, 3, { stream: work })
  for (const legacy of [false, true]) {
    const { buffer, readOnly, copied } = arrow.unsafeFromDlpack(arrow.toDlpack(there, 'int64', { copy: true, legacy, stream: work }).take(), { legacy })
    t.deepEqual([readOnly, copied, buffer.isMutable], [legacy, !legacy, !legacy])
    t.not(buffer.address, there.address)
    t.is(ends(buffer), '0303')
    buffer.dispose()
  }
  await filled
})

onGpu('page-locked and managed memory: what the CPU reaches is waited for in the call', async (t) => {
  using work = gpu().createStream()
  using source = gpu().memoryManager.allocateBuffer(MiB)
  await cuda.fill(source, 6)
  const kinds: [string, number, () => MemoryBuffer][] = [['cuda_host', 3, () => gpu().allocateHostBuffer(MiB)]]
  if (gpu().managedMemoryManager.isCpu) kinds.push(['cuda_managed', 13, () => gpu().managedMemoryManager.allocateBuffer(MiB)])
  for (const [name, code, make] of kinds) {
    for (const [how, take] of Object.entries({ toArray, toTensor })) {
      for (const stream of [undefined, work]) {
        using buffer = make()
        const copied = cuda.copy(buffer, source, { stream: work })
        const found = take(buffer, { stream: work }, { stream })
        t.is(found.device.typeName, name, how)
        t.is(found.address, buffer.address)
        t.deepEqual([found.at(0), found.at(-1)], [6, 6], `${name}, ${how}`)
        found.dispose()
        await copied
      }
    }
    // As another library gives it.
    using buffer = make()
    buffer.fill(8)
    using struct = foreignTensor({ data: buffer.address, shape: [2, 3], type: [0, 32], device: [code, 0], byteOffset: 8 })
    const found = arrow.unsafeFromDlpack(struct.address)
    t.is(found.buffer.device.typeName, name)
    t.is(found.buffer.address, buffer.address + 8n)
    t.deepEqual([found.type, found.shape, found.buffer.at(0)], ['int32', [2, 3], 8])
    found.buffer.dispose()
  }
  using struct = foreignTensor({ data: source.address, shape: [4], type: [1, 8], device: [2, 0], byteOffset: 1 })
  for (const stream of [undefined, work]) {
    const { buffer } = arrow.unsafeFromDlpack(struct.address, { stream })
    t.is(buffer.address, source.address + 1n)
    t.is(bytesOf(buffer, cpu), '06060606')
    t.throws(() => buffer.at(0), { code: 'ERR_OFFHEAP_NOT_SUPPORTED' })
    buffer.dispose()
  }
})

onGpu('events and streams that cannot be are refused, and nothing is consumed', (t) => {
  using stream = gpu().createStream()
  using event = stream.record()
  using there = gpu().memoryManager.allocateBuffer(64)
  using here = defaultMemoryPool().allocateBuffer(64)
  const code = 'ERR_OFFHEAP_INVALID_ARGUMENT'
  for (const options of [{ event }, { stream }]) {
    throwsCode(t, () => arrow.toArrowDevice(here, 'g', options), code)
    throwsCode(t, () => arrow.toDlpack(here, 'int8', options), code)
  }
  for (const options of [{ event, stream }, { event: stream }, { stream: event }, { event: null }, { stream: 0 }] as never[]) {
    throwsCode(t, () => arrow.toArrowDevice(there, 'g', options), code)
    throwsCode(t, () => arrow.toDlpack(there, 'int8', options), code)
  }
  const array = arrow.toArrowDevice(here, 'g')
  const tensor = arrow.toDlpack(here, 'int8')
  throwsCode(t, () => arrow.fromArrowDevice(array, { stream }), code)
  throwsCode(t, () => arrow.fromDlpack(tensor, { stream }), code)
  throwsCode(t, () => tensor.take({ stream }), code)
  throwsCode(t, () => tensor.unsafeTake(1n), code)
  for (const wrong of [{ stream: event }, { stream: null }, null, 1] as never[]) {
    throwsCode(t, () => arrow.fromArrowDevice(array, wrong), code)
    throwsCode(t, () => arrow.fromDlpack(tensor, wrong), code)
    throwsCode(t, () => tensor.take(wrong), code)
    throwsCode(t, () => arrow.unsafeFromDlpack(8n, wrong), code)
    throwsCode(t, () => arrow.unsafeFromArrowDevice(8n, 8n, wrong), code)
  }
  t.false(array.consumed || tensor.consumed)
  arrow.fromArrowDevice(array).buffer.dispose()
  arrow.fromDlpack(tensor).buffer.dispose()

  const dead = { event: stream.record(), stream: gpu().createStream() }
  dead.event.dispose()
  dead.stream.dispose()
  for (const options of [{ event: dead.event }, { stream: dead.stream }]) {
    throwsCode(t, () => arrow.toArrowDevice(there, 'g', options), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => arrow.toDlpack(there, 'int8', options), 'ERR_OFFHEAP_DISPOSED')
  }
  const alive = arrow.toArrowDevice(there, 'g')
  throwsCode(t, () => arrow.fromArrowDevice(alive, { stream: dead.stream }), 'ERR_OFFHEAP_DISPOSED')
  t.false(alive.consumed)
  alive.dispose()

  const [, second] = cuda.devices()
  if (second === undefined) return
  using others = second.createStream()
  using theirs = others.record()
  for (const options of [{ event: theirs }, { stream: others }]) {
    throwsCode(t, () => arrow.toArrowDevice(there, 'g', options), code)
    throwsCode(t, () => arrow.toDlpack(there, 'int8', options), code)
  }
  using mine = arrow.toArrowDevice(there, 'g')
  using tensors = arrow.toDlpack(there, 'int8')
  throwsCode(t, () => arrow.fromArrowDevice(mine, { stream: others }), code)
  throwsCode(t, () => arrow.fromDlpack(tensors, { stream: others }), code)
  throwsCode(t, () => tensors.take({ stream: others }), code)
  t.false(mine.consumed || tensors.consumed)
  // By addresses it is too late: what is refused is released.
  throwsCode(t, () => arrow.unsafeFromArrowDevice(mine.arrayAddress, mine.schemaAddress, { stream: others }), code)
  t.true(mine.consumed)
})

onGpu('what a handle keeps goes with it: taken, disposed, forgotten, or refused by its consumer', async (t) => {
  const manager = gpu().createMemoryManager({ kind: 'plain' })
  const pool = manager.pool!
  const exports = (): [arrow.ArrowDeviceHandle, arrow.DlpackHandle] => {
    const there = manager.allocateBuffer(4096)
    void cuda.fill(there, 1)
    const handles: [arrow.ArrowDeviceHandle, arrow.DlpackHandle] = [arrow.toArrowDevice(there, 'g'), arrow.toDlpack(there, 'float64')]
    there.dispose()
    return handles
  }
  const [array, tensor] = exports()
  t.is(pool.bytesAllocated, 4096)
  array.dispose()
  t.is(pool.bytesAllocated, 4096)
  tensor.dispose()
  t.true(await collectUntil(() => pool.bytesAllocated === 0))

  // A consumer that fails before it took over: the struct can be taken back.
  const [first, second] = exports()
  const address = second.take()
  t.throws(() => arrow.unsafeFromArrowDevice(first.arrayAddress, 8n + 1n), { code: 'ERR_OFFHEAP_INVALID_ARGUMENT' })
  t.true(first.consumed)
  arrow.unsafeFromDlpack(address).buffer.dispose()
  t.true(await collectUntil(() => pool.bytesAllocated === 0))

  for (let i = 0; i < 20; i += 1) exports()
  t.true(await collectUntil(() => pool.bytesAllocated === 0))
})

onDouble('no event, stream or byte is left, whatever was not taken', async (t) => {
  const { mkdtempSync, readFileSync, rmSync } = await import('node:fs')
  const { join } = await import('node:path')
  const { tmpdir } = await import('node:os')
  const folder = mkdtempSync(join(tmpdir(), 'offheap-cuda-arrow-'))
  const log = join(folder, 'log')
  const result = await runCuda(
    `const arrow = require('offheap/arrow')
     const stream = cuda.device().createStream()
     const there = cuda.device().memoryManager.on(stream).allocateBuffer(1000)
     const filled = cuda.fill(there, 1)
     const kept = [arrow.toArrowDevice(there, 'C'), arrow.toDlpack(there, 'uint8')]
     there.dispose()
     const event = stream.record()
     for (let i = 0; i < 10; i += 1) {
       const other = cuda.device().memoryManager.allocateBuffer(64)
       arrow.fromArrowDevice(arrow.toArrowDevice(other, 'C', { event }), { stream }).buffer.dispose()
     }
     await filled
     globalThis.kept = kept
     console.log(JSON.stringify(kept.map(({ consumed }) => consumed)))`,
    { OFFHEAP_CUDA_DOUBLE_LOG: log },
  )
  t.deepEqual(printed(t, result), [false, false])
  const exit = readFileSync(log, 'utf8').split('\n').find((line) => /(^|\s)exit blocks=/.test(line))
  t.regex(exit!, /violations=0/)
  rmSync(folder, { recursive: true })
})

onDouble('what the driver says of waiting is thrown, with nothing consumed', async (t) => {
  const result = await runCuda(
    `const arrow = require('offheap/arrow')
     const there = cuda.device().memoryManager.allocateBuffer(1000)
     const stream = cuda.device().createStream()
     const handle = arrow.toDlpack(there, 'uint8')
     const code = (act) => { try { act(); return 'done' } catch (error) { return error.code } }
     const first = [code(() => handle.take({ stream })), handle.consumed]
     const array = arrow.toArrowDevice(there, 'C')
     const second = [code(() => arrow.fromArrowDevice(array, { stream })), array.consumed]
     console.log(JSON.stringify([first, second, code(() => handle.take({ stream }))]))`,
    { OFFHEAP_CUDA_DOUBLE_FAIL: 'cuStreamWaitEvent:999:0:2' },
  )
  const [first, second, third] = printed<[[string, boolean], [string, boolean], string]>(t, result)
  t.regex(first[0], /^ERR_OFFHEAP_/)
  t.false(first[1])
  // To import is to take.
  t.regex(second[0], /^ERR_OFFHEAP_/)
  t.true(second[1])
  t.is(third, 'done')
})
