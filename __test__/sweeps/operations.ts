/**
 * A sweep of each public operation. A new one is one line: `on` with a kind of object and the call where it asks for
 * memory, `calm` where it does not, or its name in `exempt` under the reason why it is neither.
 */
import { devNull } from 'node:os'
import { open, stat } from 'node:fs/promises'
import { finished } from 'node:stream/promises'
import type { Readable, Writable } from 'node:stream'
import { inspect } from 'node:util'
import * as offheap from 'offheap'
import * as arrow from 'offheap/arrow'
import * as shm from 'offheap/shm'
import { Arena, BinaryBufferBuilder, BufferBuilder, BufferOutputStream, BufferReader, FixedSizeBufferWriter, MemoryBuffer, MemoryPool, MockOutputStream, TypedBufferBuilder } from 'offheap'
import { backends, root } from '../fixtures.js'
import { calm, type Dress, type Operation, type Operations, on } from './harness.js'
import * as kinds from './kinds.js'
import { pattern } from './kinds.js'

const { arena, bools, buffer, buffers, builder, emptyBuilder, emptyInt32s, emptyStrings, immutable, int32s, int64s, output, pinned, pool, reader, resizable, roomyBools, roomyBuilder, roomyInt32s, roomyStrings, shown, strings, wrapped, writer } = kinds

const has = (backend: string): boolean => backends.includes(backend)

/** What a pool made by the operation is worth: its memory fails, too, and comes from the pool under it. */
function use(made: MemoryPool): MemoryBuffer {
  return MemoryBuffer.from(pattern(70), { pool: made })
}

/** The two buffers of a column. */
function both(builder: BinaryBufferBuilder, shrinkToFit = true): MemoryBuffer[] {
  const { offsets, data } = builder.finish({ shrinkToFit })
  return [offsets, data]
}

/** What is done with a buffer of shared memory, which is gone in the end. */
function sharing(act: (buffer: MemoryBuffer) => unknown): Operation {
  return on(pool, () => {
    using buffer = shm.memoryManager().allocateBuffer(100, { zeroFill: true })
    return act(buffer)
  })
}

/** What is done with a buffer's bytes as a struct for another library, which is released in the end. */
function exported<Result>(buffer: MemoryBuffer, act: (handle: arrow.ArrowDeviceHandle) => Result): Result {
  using handle = arrow.toArrowDevice(buffer, 'C')
  return act(handle)
}

function tensor<Result>(buffer: MemoryBuffer, act: (handle: arrow.DlpackHandle) => Result): Result {
  using handle = arrow.toDlpack(buffer, 'uint8')
  return act(handle)
}

function streamed<Result>(buffer: MemoryBuffer, act: (handle: arrow.ArrowDeviceStreamHandle) => Result): Result {
  using handle = arrow.toArrowDeviceStream([buffer], 'C')
  return act(handle)
}

function received<Result>(buffer: MemoryBuffer, act: (reader: arrow.ArrowDeviceStreamReader) => Result): Result {
  using from = arrow.fromArrowDeviceStream(arrow.toArrowDeviceStream([buffer], 'C'))
  return act(from)
}

/** Runs `body`, and whatever comes of it `end`. */
async function finallyDo<Result>(body: () => Result, end: () => unknown): Promise<Awaited<Result>> {
  try {
    return await body()
  } finally {
    await end()
  }
}

/** Runs `body` while a request is in flight that may use any memory that was shown. */
async function busily<Result>(body: () => Result): Promise<Awaited<Result>> {
  const inFlight = stat(root)
  return finallyDo(body, () => inFlight)
}

async function withFile<Result>(path: string, flags: string, body: (file: Awaited<ReturnType<typeof open>>) => Promise<Result>): Promise<Result> {
  const file = await open(path, flags)
  return finallyDo(() => body(file), () => file.close())
}

/** Writes into a stream to its end. */
async function writeAll(stream: Writable, bytes: Uint8Array): Promise<void> {
  stream.end(bytes)
  await finished(stream)
}

async function readAll(stream: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Buffer))
  return Buffer.concat(chunks).toString('hex')
}

/** Installs an allocator in a domain for as long as `body` runs. */
function installed<Result>(domain: offheap.AllocatorDomain, allocator: MemoryPool | offheap.AllocationObserver, body: () => Result): Result {
  const before = offheap.getAllocator(domain)
  offheap.setAllocator(domain, allocator)
  try {
    return body()
  } finally {
    offheap.setAllocator(domain, before)
  }
}

function hooked(under: MemoryPool, body: (pool: MemoryPool) => unknown): unknown {
  const pool = under.hook({ onMalloc() {}, onFree() {} })
  try {
    return body(pool)
  } finally {
    pool.unhook()
  }
}

const arenaArrays = (type: 'int8' | 'uint8' | 'int16' | 'uint16' | 'int32' | 'uint32' | 'int64' | 'uint64' | 'float32' | 'float64', bytes: number) => [
  on(arena, ({ arena }) => arena[type](1000 / bytes)), // the chunk is full
  on(arena, ({ arena }) => arena[type](4000 / bytes)), // larger than a chunk
  calm(arena, ({ arena }) => arena[type](400 / bytes)),
]

/** Runs `body` in a scope of its own. */
function scoped<Result>(under: MemoryPool, body: (pool: MemoryPool) => Result): Result {
  const pool = under.scopedStatistics()
  pool.pushCounters()
  try {
    return body(pool)
  } finally {
    pool.popCounters()
  }
}

/** A calm getter. */
const reads = <Subject>(kind: Parameters<typeof calm<Subject>>[0], read: (subject: Subject) => unknown) => calm(kind, (subject) => inspect(read(subject)) !== '')

const views = (show: (buffer: MemoryBuffer) => unknown) => [calm(resizable, show), calm(wrapped, show)]

export const operations: Operations = {
  // Functions of the package.
  domainPool: [on(pool, () => use(offheap.domainPool('object'))), on(pool, () => use(offheap.domainPool('mem')))],
  getAllocator: [on(pool, () => use(offheap.getAllocator('object'))), on(pool, () => use(offheap.getAllocator('mem')))],
  setAllocator: [
    on(pool, (pool) => installed('object', { onMalloc() {}, onFree() {} }, () => use(pool))),
    on(pool, (pool) => installed('object', offheap.systemMemoryPool(), () => use(pool))),
    on(pool, (pool) => installed('raw', pool, () => use(offheap.domainPool('raw')))),
    on(pool, (pool) => installed('mem', pool.proxy(), () => MemoryBuffer.from('the default pool'))),
  ],
  setArenaAllocator: calm(pool, () => {
    offheap.setArenaAllocator({ onAlloc() {} })
    offheap.setArenaAllocator(null)
  }),
  objectMemoryPool: [on(pool, () => use(offheap.objectMemoryPool())), on(pool, () => offheap.objectMemoryPool().allocateBuffer(5000).fill(1))],
  defaultMemoryPool: on(pool, () => use(offheap.defaultMemoryPool())),
  setDefaultMemoryPool: on(pool, (pool) => {
    const before = offheap.defaultMemoryPool()
    offheap.setDefaultMemoryPool(pool.proxy())
    try {
      return MemoryBuffer.from('the default pool')
    } finally {
      offheap.setDefaultMemoryPool(before)
    }
  }),
  // The backends' own pools do not fail; the control blocks do.
  systemMemoryPool: on(pool, () => use(offheap.systemMemoryPool())),
  mimallocMemoryPool: has('mimalloc') ? on(pool, () => use(offheap.mimallocMemoryPool())) : [],
  mappedMemoryPool: on(pool, () => use(offheap.mappedMemoryPool())),
  jemallocMemoryPool: has('jemalloc') ? on(pool, () => use(offheap.jemallocMemoryPool())) : [],
  supportedMemoryBackends: calm(pool, () => offheap.supportedMemoryBackends().length),
  totalAllocatedBytes: calm(buffer, () => offheap.totalAllocatedBytes() >= 100),
  capabilities: calm(pool, () => offheap.capabilities()),
  isOffheapError: calm(pool, () => offheap.isOffheapError(new offheap.BusyError('busy'))),
  memoryOverview: calm(pool, () => offheap.memoryOverview()),
  printMemoryOverview: calm(pool, () => offheap.printMemoryOverview({ write: () => true } as never)),
  revokeShared: calm(buffer, (buffer) => offheap.revokeShared(buffer.share())),
  withTags: on(pool, (pool) => offheap.withTags({ of: 'the sweep' }, () => use(pool))),

  // offheap/arrow
  'arrow.toArrowDevice': calm(buffer, (buffer) => exported(buffer, () => undefined)),
  'arrow.fromArrowDevice': on(buffer, (buffer) => arrow.fromArrowDevice(arrow.toArrowDevice(buffer, 'C')).buffer),
  'arrow.unsafeFromArrowDevice': on(buffer, (buffer) => {
    const handle = arrow.toArrowDevice(buffer, 'C')
    return arrow.unsafeFromArrowDevice(handle.arrayAddress, handle.schemaAddress).buffer
  }),
  'arrow.toDlpack': calm(buffer, (buffer) => tensor(buffer, () => undefined)),
  'arrow.fromDlpack': on(buffer, (buffer) => arrow.fromDlpack(arrow.toDlpack(buffer, 'uint8')).buffer),
  'arrow.unsafeFromDlpack': on(buffer, (buffer) => arrow.unsafeFromDlpack(arrow.toDlpack(buffer, 'uint8').take()).buffer),
  'arrow.toArrowDeviceStream': calm(buffer, (buffer) => streamed(buffer, () => undefined)),
  'arrow.fromArrowDeviceStream': calm(buffer, (buffer) => received(buffer, () => undefined)),
  'arrow.unsafeFromArrowDeviceStream': calm(buffer, (buffer) => streamed(buffer, (handle) => arrow.unsafeFromArrowDeviceStream(handle.streamAddress).dispose())),
  'arrow.ArrowDeviceStreamHandle#streamAddress': calm(buffer, (buffer) => streamed(buffer, (handle) => handle.streamAddress > 0n)),
  'arrow.ArrowDeviceStreamHandle#consumed': calm(buffer, (buffer) => streamed(buffer, (handle) => handle.consumed)),
  'arrow.ArrowDeviceStreamHandle#dispose': calm(buffer, (buffer) => streamed(buffer, (handle) => handle.dispose())),
  'arrow.ArrowDeviceStreamHandle#[Symbol.dispose]': calm(buffer, (buffer) => streamed(buffer, (handle) => handle[Symbol.dispose]())),
  'arrow.ArrowDeviceStreamHandle#[Symbol.toStringTag]': calm(buffer, (buffer) => streamed(buffer, (handle) => handle[Symbol.toStringTag])),
  'arrow.ArrowDeviceStreamReader#format': calm(buffer, (buffer) => received(buffer, (from) => from.format)),
  'arrow.ArrowDeviceStreamReader#next': on(buffer, (buffer) => received(buffer, (from) => from.next()!.buffer)),
  'arrow.ArrowDeviceStreamReader#[Symbol.iterator]': on(buffer, (buffer) => received(buffer, ([first]) => first!.buffer)),
  'arrow.ArrowDeviceStreamReader#dispose': calm(buffer, (buffer) => received(buffer, (from) => from.dispose())),
  'arrow.ArrowDeviceStreamReader#[Symbol.dispose]': calm(buffer, (buffer) => received(buffer, (from) => from[Symbol.dispose]())),
  'arrow.ArrowDeviceStreamReader#[Symbol.toStringTag]': calm(buffer, (buffer) => received(buffer, (from) => from[Symbol.toStringTag])),
  'arrow.ArrowDeviceHandle#arrayAddress': calm(buffer, (buffer) => exported(buffer, (handle) => handle.arrayAddress > 0n)),
  'arrow.ArrowDeviceHandle#schemaAddress': calm(buffer, (buffer) => exported(buffer, (handle) => handle.schemaAddress > 0n)),
  'arrow.ArrowDeviceHandle#consumed': calm(buffer, (buffer) => exported(buffer, (handle) => handle.consumed)),
  'arrow.ArrowDeviceHandle#dispose': calm(buffer, (buffer) => exported(buffer, (handle) => handle.dispose())),
  'arrow.ArrowDeviceHandle#[Symbol.dispose]': calm(buffer, (buffer) => exported(buffer, (handle) => handle[Symbol.dispose]())),
  'arrow.DlpackHandle#take': on(buffer, (buffer) => tensor(buffer, (handle) => arrow.unsafeFromDlpack(handle.take()).buffer)),
  'arrow.ArrowDeviceHandle#[Symbol.toStringTag]': calm(buffer, (buffer) => exported(buffer, (handle) => handle[Symbol.toStringTag])),
  'arrow.DlpackHandle#[Symbol.toStringTag]': calm(buffer, (buffer) => tensor(buffer, (handle) => handle[Symbol.toStringTag])),
  'arrow.DlpackHandle#consumed': calm(buffer, (buffer) => tensor(buffer, (handle) => handle.consumed)),
  'arrow.DlpackHandle#dispose': calm(buffer, (buffer) => tensor(buffer, (handle) => handle.dispose())),
  'arrow.DlpackHandle#[Symbol.dispose]': calm(buffer, (buffer) => tensor(buffer, (handle) => handle[Symbol.dispose]())),

  // offheap/shm: its memory is not the pool's, but the control blocks of its buffers fail.
  'shm.device': calm(pool, () => shm.device()),
  'shm.memoryPool': [calm(pool, () => shm.memoryPool()), calm(pool, () => shm.memoryPool({ label: 'sweep' }))],
  'shm.memoryManager': [on(pool, () => shm.memoryManager().allocateBuffer(100).fill(1)), calm(pool, () => shm.memoryManager({}))],
  'shm.exportHandle': sharing((buffer) => shm.exportHandle(buffer).length),
  'shm.open': [sharing((buffer) => shm.open(shm.exportHandle(buffer))), sharing((buffer) => shm.open(shm.exportHandle(buffer), { readOnly: true }))],
  'shm.seal': sharing((buffer) => process.platform === 'linux' && shm.seal(buffer)),
  'shm.revoke': sharing((buffer) => shm.revoke(buffer)),

  // MemoryPool
  'MemoryPool.fromShared': on(pool, (pool) => {
    const ticket = pool.share()
    try {
      return use(MemoryPool.fromShared(ticket))
    } finally {
      offheap.revokeShared(ticket)
    }
  }),
  'MemoryPool#backendName': reads(pool, (pool) => pool.backendName),
  'MemoryPool#name': reads(pool, (pool) => pool.name),
  'MemoryPool#bytesAllocated': reads(pool, (pool) => pool.bytesAllocated),
  'MemoryPool#peakBytes': reads(pool, (pool) => pool.peakBytes),
  'MemoryPool#maxMemory': reads(pool, (pool) => pool.maxMemory),
  'MemoryPool#totalBytesAllocated': reads(pool, (pool) => pool.totalBytesAllocated),
  'MemoryPool#numAllocations': reads(pool, (pool) => pool.numAllocations),
  'MemoryPool#liveAllocations': reads(pool, (pool) => pool.liveAllocations),
  'MemoryPool#limitBytes': reads(pool, (pool) => pool.limitBytes),
  'MemoryPool#available': reads(pool, (pool) => pool.available),
  'MemoryPool#closed': reads(pool, (pool) => pool.closed),
  'MemoryPool#[Symbol.toStringTag]': reads(pool, (pool) => pool[Symbol.toStringTag]),
  'MemoryPool#[inspect.custom]': reads(pool, (pool) => pool),
  'MemoryPool#stats': calm(pool, (pool) => pool.stats()),
  'MemoryPool#resetPeak': calm(pool, (pool) => pool.resetPeak()),
  'MemoryPool#releaseUnused': calm(pool, (pool) => pool.releaseUnused()),
  'MemoryPool#trim': calm(pool, (pool) => pool.trim()),
  'MemoryPool#trimPolicy': calm(pool, (pool) => pool.trimPolicy),
  'MemoryPool#allocateBuffer': [
    on(pool, (pool) => pool.allocateBuffer(100).fill(1)),
    on(pool, (pool) => pool.allocateBuffer(0)),
    on(pool, (pool) => pool.allocateBuffer(10_000, { alignment: 4096, zeroFill: true })),
  ],
  'MemoryPool#allocateResizableBuffer': [
    on(pool, (pool) => pool.allocateResizableBuffer(100).fill(1)),
    on(pool, (pool) => pool.allocateResizableBuffer(100, { alignment: 4096, zeroFill: true })),
  ],
  'MemoryPool#allocateBitmap': on(pool, (pool) => pool.allocateBitmap(100).fill(1)),
  'MemoryPool#allocateEmptyBitmap': on(pool, (pool) => pool.allocateEmptyBitmap(100)),
  'MemoryPool#limit': [
    on(pool, (pool) => use(pool.limit(10_000))),
    // The limit has no room for the rounded size, but for the size.
    on(pool, (pool) => {
      const limited = pool.limit(100)
      const builder = new BufferBuilder({ pool: limited })
      return finallyDo(
        () => {
          builder.append(pattern(100))
          return builder.finish()
        },
        () => builder.dispose(),
      )
    }),
  ],
  'MemoryPool#proxy': on(pool, (pool) => use(pool.proxy({ name: 'sweep' }))),
  'MemoryPool#hook': on(pool, (pool) => hooked(pool, use)),
  'MemoryPool#unhook': on(pool, (pool) => {
    const observed = pool.hook({ onMalloc() {} })
    observed.unhook()
    return use(observed)
  }),
  'MemoryPool#droppedEvents': calm(pool, (pool) => hooked(pool, ({ droppedEvents }) => droppedEvents)),
  'MemoryPool#failing': on(pool, (pool) => use(pool.failing({ after: 100 }))),
  'MemoryPool#failingCounts': on(pool, (pool) => {
    const failing = pool.failing({ after: 100 })
    const made = use(failing)
    const { failures } = failing.failingCounts!
    return [made, failures]
  }),
  'MemoryPool#disarm': on(pool, (pool) => {
    const failing = pool.failing()
    failing.disarm()
    return use(failing)
  }),
  'MemoryPool#rearm': on(pool, (pool) => {
    const failing = pool.failing()
    failing.rearm({ after: 100 })
    return use(failing)
  }),
  'MemoryPool#track': [on(pool, (pool) => use(pool.track({ stackDepth: 3 }))), on(pool, (pool) => use(pool.track({ stackDepth: 0, nativeStackDepth: 2 })))],
  'MemoryPool#allocations': calm(buffer, (_, pool) => pool.allocations().length > 0),
  'MemoryPool#debug': on(pool, (pool) => use(pool.debug({ onError: 'throw', quarantine: 0 }))),
  'MemoryPool#checkIntegrity': calm(buffer, (_, pool) => pool.debug({ onError: 'throw' }).checkIntegrity()),
  'MemoryPool#log': [
    on(pool, (pool) => use(pool.log(devNull, { format: 'json' }))),
    on(pool, (pool) => {
      const logged = pool.log(() => {})
      return finallyDo(() => use(logged), () => logged.unhook())
    }),
  ],
  'MemoryPool#scopedStatistics': on(pool, (pool) => use(pool.scopedStatistics())),
  'MemoryPool#pushCounters': on(pool, (pool) => scoped(pool, use)),
  'MemoryPool#popCounters': calm(pool, (pool) => scoped(pool, () => undefined)),
  'MemoryPool#counters': calm(pool, (pool) => scoped(pool, (scoped) => scoped.counters().bytes.total)),
  'MemoryPool#share': on(pool, (pool) => {
    const ticket = pool.share()
    try {
      return use(pool)
    } finally {
      offheap.revokeShared(ticket)
    }
  }),
  'MemoryPool#close': [
    calm(pool, (pool) => pool.proxy().close()),
    on(pool, (pool) => {
      const account = pool.proxy()
      const made = use(account)
      return [made, account.close().liveAllocations]
    }),
  ],
  'MemoryPool#[Symbol.dispose]': calm(pool, (pool) => pool.proxy()[Symbol.dispose]()),

  // Devices and memory managers
  cpuDevice: calm(pool, () => offheap.cpuDevice()),
  cpuMemoryManager: on(pool, (pool) => offheap.cpuMemoryManager(pool).allocateBuffer(100).fill(1)),
  defaultCpuMemoryManager: on(pool, () => offheap.defaultCpuMemoryManager().allocateBuffer(100).fill(1)),
  'Device#typeName': reads(pool, () => offheap.cpuDevice().typeName),
  'Device#deviceType': reads(pool, () => offheap.cpuDevice().deviceType),
  'Device#deviceId': reads(pool, () => offheap.cpuDevice().deviceId),
  'Device#isCpu': reads(pool, () => offheap.cpuDevice().isCpu),
  'Device#memoryManager': on(pool, () => offheap.cpuDevice().memoryManager.allocateBuffer(100).fill(1)),
  'Device#memoryManagerOf': on(pool, (pool) => offheap.cpuDevice().memoryManagerOf(pool).allocateBuffer(100).fill(1)),
  'Device#equals': calm(buffer, ({ device }) => device.equals(offheap.cpuDevice())),
  'Device#toString': calm(buffer, ({ device }) => device.toString()),
  'Device#[Symbol.toStringTag]': reads(buffer, ({ device }) => device[Symbol.toStringTag]),
  'Device#[inspect.custom]': reads(buffer, ({ device }) => device),
  'MemoryManager#device': reads(buffer, ({ memoryManager }) => memoryManager.device),
  'MemoryManager#isCpu': reads(buffer, ({ memoryManager }) => memoryManager.isCpu),
  'MemoryManager#pool': on(buffer, ({ memoryManager }) => use(memoryManager.pool!)),
  'MemoryManager#allocateBuffer': [
    on(pool, (pool) => offheap.cpuMemoryManager(pool).allocateBuffer(0)),
    on(pool, (pool) => offheap.cpuMemoryManager(pool).allocateBuffer(10_000, { alignment: 4096, zeroFill: true })),
  ],
  'MemoryManager#reader': calm(buffer, (buffer) => buffer.memoryManager.reader(buffer)),
  'MemoryManager#writer': calm(buffer, (buffer) => buffer.memoryManager.writer(buffer)),
  'MemoryManager#equals': calm(buffer, ({ memoryManager }, pool) => memoryManager.equals(offheap.cpuMemoryManager(pool))),
  'MemoryManager#[Symbol.toStringTag]': reads(buffer, ({ memoryManager }) => memoryManager[Symbol.toStringTag]),
  'MemoryManager#[inspect.custom]': reads(buffer, ({ memoryManager }) => memoryManager),

  // MemoryBuffer
  'MemoryBuffer.from': [
    on(pool, (pool) => MemoryBuffer.from('some text', { pool })),
    on(pool, () => MemoryBuffer.from('text of the default pool')),
    on(pool, (pool) => MemoryBuffer.from([1, 2, 3], { pool })),
    on(pool, (pool) => MemoryBuffer.from('', { pool })),
    on(buffer, (buffer, pool) => MemoryBuffer.from(buffer, { pool })),
  ],
  'MemoryBuffer.wrap': calm(pool, () => MemoryBuffer.wrap(new Uint8Array(8))),
  'MemoryBuffer.unsafeForeign': on(buffer, (buffer) => {
    const foreign = MemoryBuffer.unsafeForeign(buffer.address, buffer.size, buffer)
    return [foreign.slice(0, 10), foreign]
  }),
  'MemoryBuffer.concat': [
    on(buffers, (both, pool) => MemoryBuffer.concat([...both, pattern(3)], { pool })),
    on(buffers, (both) => MemoryBuffer.concat(both)),
    on(pool, (pool) => MemoryBuffer.concat([], { pool })),
  ],
  'MemoryBuffer.fromShared': calm(buffer, (buffer) => {
    const ticket = buffer.share()
    try {
      return MemoryBuffer.fromShared(ticket)
    } finally {
      offheap.revokeShared(ticket)
    }
  }),
  'MemoryBuffer#size': reads(buffer, (buffer) => buffer.size),
  'MemoryBuffer#capacity': reads(buffer, (buffer) => buffer.capacity),
  'MemoryBuffer#address': reads(buffer, (buffer) => buffer.address),
  'MemoryBuffer#alignment': reads(buffer, (buffer) => buffer.alignment),
  'MemoryBuffer#isCpu': reads(buffer, (buffer) => buffer.isCpu),
  'MemoryBuffer#isMutable': reads(buffer, (buffer) => buffer.isMutable),
  'MemoryBuffer#isResizable': reads(buffer, (buffer) => buffer.isResizable),
  'MemoryBuffer#disposed': reads(buffer, (buffer) => buffer.disposed),
  'MemoryBuffer#parent': reads(buffer, (buffer) => buffer.parent),
  'MemoryBuffer#pool': reads(buffer, (buffer) => buffer.pool),
  'MemoryBuffer#device': reads(buffer, (buffer) => buffer.device),
  'MemoryBuffer#memoryManager': reads(buffer, (buffer) => buffer.memoryManager),
  'MemoryBuffer#allocationSite': reads(buffer, (buffer) => buffer.allocationSite!.size),
  'MemoryBuffer#arrayBuffer': calm(resizable, (buffer) => buffer.arrayBuffer),
  'MemoryBuffer#[Symbol.toStringTag]': reads(buffer, (buffer) => buffer[Symbol.toStringTag]),
  'MemoryBuffer#[inspect.custom]': reads(buffer, (buffer) => buffer),
  'MemoryBuffer#slice': [calm(buffer, (buffer) => buffer.slice(3, 10)), calm(wrapped, (buffer) => buffer.slice(3, 10))],
  'MemoryBuffer#sliceMutable': calm(buffer, (buffer) => buffer.sliceMutable(3, 10)),
  'MemoryBuffer#subarray': calm(buffer, (buffer) => buffer.subarray(-10)),
  'MemoryBuffer#copySlice': [
    on(buffer, (buffer, pool) => buffer.copySlice(3, 50, { pool })),
    on(buffer, (buffer) => buffer.copySlice(0)),
    on(immutable, (buffer, pool) => buffer.copySlice(10, 0, { pool })),
    on(wrapped, (buffer, pool) => buffer.copySlice(10, 20, { pool })),
  ],
  'MemoryBuffer#copyTo': [
    on(buffer, (buffer, pool) => buffer.copyTo(offheap.cpuMemoryManager(pool))),
    on(immutable, (buffer) => buffer.copyTo(offheap.cpuDevice())),
    on(wrapped, (buffer, pool) => buffer.copyTo(offheap.cpuMemoryManager(pool))),
  ],
  'MemoryBuffer#viewOn': [
    calm(buffer, (buffer) => buffer.viewOn(offheap.cpuDevice())),
    calm(immutable, (buffer) => buffer.viewOn(offheap.cpuMemoryManager(offheap.systemMemoryPool()))),
    calm(wrapped, (buffer) => buffer.viewOn(offheap.cpuDevice())),
  ],
  'MemoryBuffer#viewOrCopyTo': [calm(buffer, (buffer) => buffer.viewOrCopyTo(offheap.cpuDevice())), calm(wrapped, (buffer) => buffer.viewOrCopyTo(offheap.cpuDevice()))],
  'MemoryBuffer#freeze': [
    calm(resizable, (buffer) => void buffer.freeze()),
    // A view in use goes on writing: the bytes move away from it.
    (offheap.capabilities().externalBuffers ? on : calm)(shown, ({ buffer }) => busily(() => void buffer.freeze())),
  ],
  'MemoryBuffer#resize': [
    on(resizable, (buffer) => buffer.resize(5000)),
    on(resizable, (buffer) => buffer.resize(10)),
    calm(resizable, (buffer) => buffer.resize(0)),
    on(shown, ({ buffer }) => buffer.resize(5000)),
    on(shown, ({ buffer }) => buffer.resize(10)),
    on(shown, ({ buffer }) => busily(() => buffer.resize(5000))),
    calm(resizable, (buffer) => buffer.resize(10, { shrinkToFit: false })),
  ],
  'MemoryBuffer#reserve': [
    on(resizable, (buffer) => buffer.reserve(5000)),
    on(shown, ({ buffer }) => buffer.reserve(5000)),
    on(shown, ({ buffer }) => busily(() => buffer.reserve(5000))),
  ],
  'MemoryBuffer#asUint8Array': views((buffer) => buffer.asUint8Array()),
  'MemoryBuffer#asUint8ClampedArray': views((buffer) => buffer.asUint8ClampedArray()),
  'MemoryBuffer#asInt8Array': views((buffer) => buffer.asInt8Array()),
  'MemoryBuffer#asInt16Array': views((buffer) => buffer.asInt16Array()),
  'MemoryBuffer#asUint16Array': views((buffer) => buffer.asUint16Array()),
  'MemoryBuffer#asInt32Array': views((buffer) => buffer.asInt32Array()),
  'MemoryBuffer#asUint32Array': views((buffer) => buffer.asUint32Array()),
  'MemoryBuffer#asBigInt64Array': views((buffer) => buffer.asBigInt64Array(0, 12)),
  'MemoryBuffer#asBigUint64Array': views((buffer) => buffer.asBigUint64Array(0, 12)),
  'MemoryBuffer#asFloat32Array': views((buffer) => buffer.asFloat32Array()),
  'MemoryBuffer#asFloat64Array': views((buffer) => buffer.asFloat64Array(0, 12)),
  'MemoryBuffer#asDataView': views((buffer) => buffer.asDataView()),
  'MemoryBuffer#asBuffer': views((buffer) => buffer.asBuffer()),
  'MemoryBuffer#asSharedArrayBuffer': offheap.capabilities().sharedBuffers ? calm(buffer, (buffer) => buffer.asSharedArrayBuffer().byteLength) : [],
  'MemoryBuffer#flush': calm(shown, ({ buffer }) => buffer.flush()),
  'MemoryBuffer#refresh': calm(shown, ({ buffer }) => buffer.refresh()),
  'MemoryBuffer#equals': [calm(buffers, ([a, b]) => a!.equals(b!)), calm(buffers, ([a, b]) => a!.equals(b!, 10))],
  'MemoryBuffer#compare': calm(buffers, ([a, b]) => a!.compare(b!)),
  'MemoryBuffer#toHex': calm(buffer, (buffer) => buffer.toHex()),
  'MemoryBuffer#toString': calm(buffer, (buffer) => buffer.toString('latin1')),
  'MemoryBuffer#at': calm(buffer, (buffer) => buffer.at(-1)),
  'MemoryBuffer#fill': calm(buffer, (buffer) => void buffer.fill(3, 10, 20)),
  'MemoryBuffer#zeroPadding': calm(buffer, (buffer) => buffer.zeroPadding()),
  'MemoryBuffer#checkAlignment': calm(buffer, (buffer) => buffer.checkAlignment(64)),
  'MemoryBuffer#ensureAlignment': [
    calm(buffer, (buffer, pool) => buffer.ensureAlignment(64, { pool })),
    on(buffer, (buffer, pool) => {
      const slice = buffer.slice(1, 50)
      try {
        return slice.ensureAlignment(64, { pool })
      } finally {
        slice.dispose()
      }
    }),
    on(wrapped, (buffer, pool) => buffer.ensureAlignment(64, { pool })),
    on(wrapped, (buffer) => buffer.ensureAlignment(4096)),
  ],
  'MemoryBuffer#readFrom': calm(buffer, (buffer) => withFile(`${root}/package.json`, 'r', (file) => buffer.readFrom(file, { position: 0, length: 20, offset: 5 }))),
  'MemoryBuffer#writeTo': calm(buffer, (buffer) => withFile(devNull, 'w', (file) => buffer.writeTo(file))),
  'MemoryBuffer#getReader': calm(buffer, (buffer) => buffer.getReader()),
  'MemoryBuffer#getWriter': calm(buffer, (buffer) => buffer.getWriter()),
  'MemoryBuffer#pin': calm(buffer, (buffer) => buffer.pin()),
  'MemoryBuffer#share': calm(buffer, (buffer) => buffer.share()),
  'MemoryBuffer#dispose': [calm(buffer, (buffer) => buffer.dispose()), calm(shown, ({ buffer }) => buffer.dispose())],
  'MemoryBuffer#[Symbol.dispose]': calm(buffer, (buffer) => buffer[Symbol.dispose]()),

  // Pin
  'Pin#disposed': reads(pinned, ({ pin }) => pin.disposed),
  'Pin#dispose': calm(pinned, ({ pin }) => pin.dispose()),
  'Pin#[Symbol.dispose]': calm(pinned, ({ pin }) => pin[Symbol.dispose]()),
  'Pin#[Symbol.toStringTag]': reads(pinned, ({ pin }) => pin[Symbol.toStringTag]),

  // BufferBuilder
  'new BufferBuilder': [
    on(pool, (pool) => new BufferBuilder({ pool, capacity: 100 })),
    on(pool, () => new BufferBuilder({ capacity: 64, alignment: 4096 })),
    calm(pool, (pool) => new BufferBuilder({ pool })),
  ],
  'BufferBuilder#length': reads(builder, (builder) => builder.length),
  'BufferBuilder#capacity': reads(builder, (builder) => builder.capacity),
  'BufferBuilder#disposed': reads(builder, (builder) => builder.disposed),
  'BufferBuilder#[Symbol.toStringTag]': reads(builder, (builder) => builder[Symbol.toStringTag]),
  'BufferBuilder#[inspect.custom]': reads(builder, (builder) => builder),
  'BufferBuilder#append': [
    on(builder, (builder) => builder.append('a string that is longer than what is left')),
    on(builder, (builder) => builder.append('short')),
    on(builder, (builder) => builder.append('\u{1f3a9}\u{1f3a9}')),
    on(builder, (builder) => builder.append(pattern(1000))),
    on(builder, (builder) => builder.append(new DataView(new ArrayBuffer(9)))),
    on(builder, (builder) => {
      const bytes = MemoryBuffer.wrap(pattern(30))
      builder.append(bytes)
    }),
    on(emptyBuilder, (builder) => builder.append('the first')),
    calm(builder, (builder) => builder.append('fits')),
  ],
  'BufferBuilder#appendCopies': [on(builder, (builder) => builder.appendCopies(7, 10)), on(emptyBuilder, (builder) => builder.appendCopies(7, 100))],
  'BufferBuilder#advance': on(builder, (builder) => builder.advance(1000)),
  'BufferBuilder#reserve': [on(builder, (builder) => builder.reserve(100)), on(emptyBuilder, (builder) => builder.reserve(100))],
  'BufferBuilder#resize': [
    on(builder, (builder) => builder.resize(1000)),
    on(roomyBuilder, (builder) => builder.resize(64)),
    calm(roomyBuilder, (builder) => builder.resize(64, { shrinkToFit: false })),
  ],
  'BufferBuilder#rewind': calm(builder, (builder) => builder.rewind(10)),
  'BufferBuilder#finish': [
    on(builder, (builder) => builder.finish()),
    on(roomyBuilder, (builder) => builder.finish()),
    on(emptyBuilder, (builder) => builder.finish()),
    calm(builder, (builder) => [builder.finish({ shrinkToFit: false }).dispose(), builder.append('')]),
  ],
  'BufferBuilder#finishWithLength': [
    on(roomyBuilder, (builder) => builder.finishWithLength(30)),
    on(roomyBuilder, (builder) => builder.finishWithLength(100)),
    on(emptyBuilder, (builder) => builder.finishWithLength(0)),
  ],
  'BufferBuilder#reset': [calm(roomyBuilder, (builder) => builder.reset()), calm(emptyBuilder, (builder) => builder.reset())],
  'BufferBuilder#dispose': calm(builder, (builder) => builder.dispose()),
  'BufferBuilder#[Symbol.dispose]': calm(builder, (builder) => builder[Symbol.dispose]()),

  // BinaryBufferBuilder
  'new BinaryBufferBuilder': [
    on(pool, (pool) => new BinaryBufferBuilder({ pool, capacity: 10, capacityInBytes: 100 })),
    on(pool, () => new BinaryBufferBuilder({ capacityInBytes: 64, alignment: 4096, offsets: 'int64' })),
    calm(pool, (pool) => new BinaryBufferBuilder({ pool })),
  ],
  'BinaryBufferBuilder#offsetType': reads(strings, (builder) => builder.offsetType),
  'BinaryBufferBuilder#length': reads(strings, (builder) => builder.length),
  'BinaryBufferBuilder#lengthInBytes': reads(strings, (builder) => builder.lengthInBytes),
  'BinaryBufferBuilder#capacity': reads(strings, (builder) => builder.capacity),
  'BinaryBufferBuilder#capacityInBytes': reads(strings, (builder) => builder.capacityInBytes),
  'BinaryBufferBuilder#disposed': reads(strings, (builder) => builder.disposed),
  'BinaryBufferBuilder#[Symbol.toStringTag]': reads(strings, (builder) => builder[Symbol.toStringTag]),
  'BinaryBufferBuilder#[inspect.custom]': reads(strings, (builder) => builder),
  'BinaryBufferBuilder#append': [
    on(strings, (builder) => builder.append('a value that is longer than what is left')),
    on(strings, (builder) => builder.append('four')),
    on(strings, (builder) => builder.append('\u{1f3a9}\u{1f3a9}')),
    on(strings, (builder) => builder.append(pattern(1000))),
    on(strings, (builder) => {
      const bytes = MemoryBuffer.wrap(pattern(30))
      builder.append(bytes)
    }),
    on(emptyStrings, (builder) => builder.append('the first')),
    on(emptyStrings, (builder) => builder.append('')),
    calm(roomyStrings, (builder) => builder.append('fits')),
  ],
  'BinaryBufferBuilder#appendValues': [on(strings, (builder) => builder.appendValues(['v'])), on(emptyStrings, (builder) => builder.appendValues(new Set(['v'])))],
  'BinaryBufferBuilder#reserve': [on(strings, (builder) => builder.reserve(5, 100)), on(emptyStrings, (builder) => builder.reserve(5, 100))],
  'BinaryBufferBuilder#finish': [
    on(strings, (builder) => both(builder)),
    on(roomyStrings, (builder) => both(builder)),
    on(emptyStrings, (builder) => both(builder)),
    calm(strings, (builder) => both(builder, false)),
  ],
  'BinaryBufferBuilder#reset': [calm(roomyStrings, (builder) => builder.reset()), calm(emptyStrings, (builder) => builder.reset())],
  'BinaryBufferBuilder#dispose': calm(strings, (builder) => builder.dispose()),
  'BinaryBufferBuilder#[Symbol.dispose]': calm(strings, (builder) => builder[Symbol.dispose]()),

  // TypedBufferBuilder
  'new TypedBufferBuilder': [
    on(pool, (pool) => new TypedBufferBuilder('float64', { pool, capacity: 10 })),
    on(pool, () => new TypedBufferBuilder('bool', { capacity: 1000, alignment: 4096 })),
    calm(pool, (pool) => new TypedBufferBuilder('int8', { pool })),
  ],
  'TypedBufferBuilder#type': reads(int32s, (builder) => builder.type),
  'TypedBufferBuilder#length': reads(int32s, (builder) => builder.length),
  'TypedBufferBuilder#capacity': reads(int32s, (builder) => builder.capacity),
  'TypedBufferBuilder#lengthInBytes': reads(int32s, (builder) => builder.lengthInBytes),
  'TypedBufferBuilder#falseCount': reads(bools, (builder) => builder.falseCount),
  'TypedBufferBuilder#disposed': reads(int32s, (builder) => builder.disposed),
  'TypedBufferBuilder#[Symbol.toStringTag]': reads(int32s, (builder) => builder[Symbol.toStringTag]),
  'TypedBufferBuilder#[inspect.custom]': reads(int32s, (builder) => builder),
  'TypedBufferBuilder#append': [
    on(emptyInt32s, (builder) => builder.append(42)),
    on(pool, (pool) => {
      const builder = new TypedBufferBuilder('bool', { pool })
      return finallyDo(() => builder.append(true), () => builder.dispose())
    }),
    calm(int64s, (builder) => builder.append(-1n)),
    calm(bools, (builder) => builder.append(true)),
  ],
  'TypedBufferBuilder#appendValues': [
    on(int32s, (builder) => builder.appendValues([1, 2, 3, 4, 5])),
    on(int32s, (builder) => builder.appendValues(new Float64Array(1000).fill(2.5))),
    on(int64s, (builder) => builder.appendValues(BigInt64Array.of(1n, 2n, 3n, 4n, 5n))),
    on(bools, (builder) => builder.appendValues([true, false, true, true, true])),
    on(bools, (builder) => builder.appendValues(new Uint8Array(100).fill(1))),
    on(emptyInt32s, (builder) => builder.appendValues(new Set([5]))),
  ],
  'TypedBufferBuilder#appendCopies': [
    on(int32s, (builder) => builder.appendCopies(7, 5)),
    on(bools, (builder) => builder.appendCopies(true, 1000)),
    on(int64s, (builder) => builder.appendCopies(7n, 5)),
  ],
  'TypedBufferBuilder#advance': [on(int32s, (builder) => builder.advance(5)), on(bools, (builder) => builder.advance(5))],
  'TypedBufferBuilder#reserve': [on(int32s, (builder) => builder.reserve(5)), on(bools, (builder) => builder.reserve(1000))],
  'TypedBufferBuilder#resize': [
    on(int32s, (builder) => builder.resize(1000)),
    on(roomyInt32s, (builder) => builder.resize(16)),
    on(roomyBools, (builder) => builder.resize(512)),
    calm(roomyInt32s, (builder) => builder.resize(16, { shrinkToFit: false })),
  ],
  'TypedBufferBuilder#finish': [
    on(int32s, (builder) => builder.finish()),
    on(roomyBools, (builder) => builder.finish()),
    on(emptyInt32s, (builder) => builder.finish()),
  ],
  'TypedBufferBuilder#finishWithLength': [
    on(roomyInt32s, (builder) => builder.finishWithLength(3)),
    on(roomyInt32s, (builder) => builder.finishWithLength(50)),
    on(roomyBools, (builder) => builder.finishWithLength(3)),
    on(roomyBools, (builder) => builder.finishWithLength(1003)),
  ],
  'TypedBufferBuilder#reset': [calm(roomyInt32s, (builder) => builder.reset()), calm(emptyInt32s, (builder) => builder.reset())],
  'TypedBufferBuilder#dispose': calm(bools, (builder) => builder.dispose()),
  'TypedBufferBuilder#[Symbol.dispose]': calm(int32s, (builder) => builder[Symbol.dispose]()),

  // Arena
  'new Arena': on(pool, (pool) => {
    const arena = new Arena({ pool, alignment: 256, chunkSize: 100 })
    return finallyDo(() => arena.alloc(10).byteLength, () => arena.dispose())
  }),
  'Arena#bytesAllocated': reads(arena, ({ arena }) => arena.bytesAllocated),
  'Arena#used': reads(arena, ({ arena }) => arena.used),
  'Arena#disposed': reads(arena, ({ arena }) => arena.disposed),
  'Arena#[Symbol.toStringTag]': reads(arena, ({ arena }) => arena[Symbol.toStringTag]),
  'Arena#[inspect.custom]': reads(arena, ({ arena }) => arena),
  'Arena#alloc': [on(arena, ({ arena }) => arena.alloc(1000)), on(arena, ({ arena }) => arena.alloc(5000)), calm(arena, ({ arena }) => arena.alloc(800))],
  'Arena#int8': arenaArrays('int8', 1),
  'Arena#uint8': arenaArrays('uint8', 1),
  'Arena#int16': arenaArrays('int16', 2),
  'Arena#uint16': arenaArrays('uint16', 2),
  'Arena#int32': arenaArrays('int32', 4),
  'Arena#uint32': arenaArrays('uint32', 4),
  'Arena#int64': arenaArrays('int64', 8),
  'Arena#uint64': arenaArrays('uint64', 8),
  'Arena#float32': arenaArrays('float32', 4),
  'Arena#float64': arenaArrays('float64', 8),
  'Arena#reset': calm(arena, ({ arena }) => arena.reset()),
  'Arena#dispose': calm(arena, ({ arena }) => arena.dispose()),
  'Arena#[Symbol.dispose]': calm(arena, ({ arena }) => arena[Symbol.dispose]()),

  // BufferReader
  'new BufferReader': [calm(buffer, (buffer) => new BufferReader(buffer).size), calm(pool, () => new BufferReader(pattern(8)).size)],
  'BufferReader#size': reads(reader, ({ reader }) => reader.size),
  'BufferReader#closed': reads(reader, ({ reader }) => reader.closed),
  'BufferReader#[Symbol.toStringTag]': reads(reader, ({ reader }) => reader[Symbol.toStringTag]),
  'BufferReader#tell': calm(reader, ({ reader }) => reader.tell()),
  'BufferReader#seek': calm(reader, ({ reader }) => reader.seek(20)),
  'BufferReader#read': calm(reader, ({ reader }) => reader.read(7)),
  'BufferReader#readInto': calm(reader, ({ reader }) => reader.readInto(new Uint8Array(7))),
  'BufferReader#readAt': calm(reader, ({ reader }) => reader.readAt(50, 7)),
  'BufferReader#readIntoAt': calm(reader, ({ reader }) => reader.readIntoAt(50, new Uint8Array(7))),
  'BufferReader#peek': calm(reader, ({ reader }) => reader.peek(7)),
  'BufferReader#getStream': calm(reader, ({ reader }) => reader.getStream(20, 30).size),
  'BufferReader#asReadable': calm(reader, ({ reader }) => readAll(reader.asReadable({ chunkSize: 16 }))),
  'BufferReader#close': calm(reader, ({ reader }) => reader.close()),
  'BufferReader#[Symbol.dispose]': calm(reader, ({ reader }) => reader[Symbol.dispose]()),

  // FixedSizeBufferWriter
  'new FixedSizeBufferWriter': calm(buffer, (buffer) => new FixedSizeBufferWriter(buffer).size),
  'FixedSizeBufferWriter#size': reads(writer, ({ writer }) => writer.size),
  'FixedSizeBufferWriter#closed': reads(writer, ({ writer }) => writer.closed),
  'FixedSizeBufferWriter#[Symbol.toStringTag]': reads(writer, ({ writer }) => writer[Symbol.toStringTag]),
  'FixedSizeBufferWriter#tell': calm(writer, ({ writer }) => writer.tell()),
  'FixedSizeBufferWriter#seek': calm(writer, ({ writer }) => writer.seek(20)),
  'FixedSizeBufferWriter#write': calm(writer, ({ writer }) => writer.write('text')),
  'FixedSizeBufferWriter#writeAt': calm(writer, ({ writer, buffer }) => writer.writeAt(50, buffer.toHex().slice(0, 50))),
  'FixedSizeBufferWriter#flush': calm(writer, ({ writer }) => writer.flush()),
  'FixedSizeBufferWriter#asWritable': calm(writer, ({ writer }) => writeAll(writer.asWritable(), pattern(50))),
  'FixedSizeBufferWriter#close': calm(writer, ({ writer }) => writer.close()),
  'FixedSizeBufferWriter#[Symbol.dispose]': calm(writer, ({ writer }) => writer[Symbol.dispose]()),

  // BufferOutputStream
  'new BufferOutputStream': [
    on(pool, (pool) => new BufferOutputStream({ pool, capacity: 1000 })),
    // What nobody asked for is not missed.
    on(pool, (pool) => new BufferOutputStream({ pool })),
  ],
  'BufferOutputStream#closed': reads(output, (stream) => stream.closed),
  'BufferOutputStream#capacity': reads(output, (stream) => stream.capacity),
  'BufferOutputStream#[Symbol.toStringTag]': reads(output, (stream) => stream[Symbol.toStringTag]),
  'BufferOutputStream#tell': calm(output, (stream) => stream.tell()),
  'BufferOutputStream#write': [on(output, (stream) => stream.write(pattern(100))), on(output, (stream) => stream.write('text!')), calm(output, (stream) => stream.write('text'))],
  'BufferOutputStream#asWritable': on(output, (stream) => writeAll(stream.asWritable(), pattern(100))),
  'BufferOutputStream#close': calm(output, (stream) => stream.close()),
  'BufferOutputStream#finish': on(output, (stream) => stream.finish()),
  'BufferOutputStream#reset': [
    on(output, (stream) => stream.reset({ capacity: 1000 })),
    on(output, (stream) => stream.reset()),
    calm(output, (stream) => stream.reset({ capacity: 0 })),
  ],
  'BufferOutputStream#dispose': calm(output, (stream) => stream.dispose()),
  'BufferOutputStream#[Symbol.dispose]': calm(output, (stream) => stream[Symbol.dispose]()),

  // MockOutputStream
  'new MockOutputStream': calm(pool, () => new MockOutputStream().size),
  'MockOutputStream#size': reads(pool, () => new MockOutputStream().size),
  'MockOutputStream#closed': reads(pool, () => new MockOutputStream().closed),
  'MockOutputStream#[Symbol.toStringTag]': reads(pool, () => new MockOutputStream()[Symbol.toStringTag]),
  'MockOutputStream#tell': calm(pool, () => new MockOutputStream().tell()),
  'MockOutputStream#write': calm(buffer, (buffer) => new MockOutputStream().write(buffer)),
  'MockOutputStream#asWritable': calm(pool, () => writeAll(new MockOutputStream().asWritable(), pattern(50))),
  'MockOutputStream#close': calm(pool, () => new MockOutputStream().close()),
  'MockOutputStream#[Symbol.dispose]': calm(pool, () => new MockOutputStream()[Symbol.dispose]()),
}

/** What every sweep is repeated with: pools over the failing one. */
export const dresses: Readonly<Record<string, Dress>> = {
  limit: { over: (pool) => pool.limit(1e6) },
  proxy: { over: (pool) => pool.proxy({ name: 'dress' }) },
  hook: { over: (pool) => pool.hook({ onMalloc() {}, onRealloc() {}, onFree() {} }), end: (pool) => void pool.unhook() },
  track: { over: (pool) => pool.track({ stackDepth: 2 }) },
  log: { over: (pool) => pool.log(devNull) },
  scopedStatistics: { over: (pool) => pool.scopedStatistics() },
  debug: { over: (pool) => pool.debug({ onError: 'throw', quarantine: 0, nativeStackDepth: 0 }) },
}

/** Names that are not swept, and why. */
export const exempt: readonly (readonly [reason: string, names: readonly (string | RegExp)[]])[] = [
  ['an error is made of JavaScript memory only', [/^new \w+Error$/, /^\w+Error#\w+$/]],
  ['refuses every caller', ['new Device', 'new MemoryBuffer', 'new MemoryManager', 'new MemoryPool', 'new Pin', 'arrow.new ArrowDeviceHandle', 'arrow.new ArrowDeviceStreamHandle', 'arrow.new ArrowDeviceStreamReader', 'arrow.new DlpackHandle']],
  ['is for a stream of a GPU only', ['arrow.DlpackHandle#unsafeTake']],
  ['jemalloc answers, or changes a setting of its own', ['jemallocPeakReset', 'jemallocSetDecayMs', 'jemallocStat', 'jemallocStatsPrint', 'jemallocStatsString']],
  ['the backend prints to the stderr of the process', ['MemoryPool#printStats']],
  ['cannot be taken off again: the sweep with OFFHEAP_DEBUG_MEMORY_POOL has it', ['setupDebugHooks']],
  ['is the driver: one sweep is under way at a time', ['sweepOutOfMemory']],
]
