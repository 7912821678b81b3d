import test from 'ava'
import * as offheap from 'offheap'
import {
  Arena,
  BinaryBufferBuilder,
  BufferBuilder,
  BufferOutputStream,
  defaultMemoryPool,
  MemoryBuffer,
  type MemoryManager,
  type MemoryPool,
  setDefaultMemoryPool,
  supportedMemoryBackends,
  totalAllocatedBytes,
  TypedBufferBuilder,
} from 'offheap'
import { backendPool, held, runScript, throwsCode } from './support.js'

// ava runs each file in a process of its own; within this one the tests run one after the other.

const initial = defaultMemoryPool()

test.afterEach.always(() => setDefaultMemoryPool(initial))

test.serial('#101 setDefaultMemoryPool redirects what is allocated without a pool', (t) => {
  for (const name of supportedMemoryBackends()) {
    const pool = backendPool(name).proxy({ name: 'redirected' })
    setDefaultMemoryPool(pool)
    t.is(defaultMemoryPool(), pool)
    const before = held(initial)
    const buffers = [
      MemoryBuffer.from('some data'),
      MemoryBuffer.concat([new Uint8Array(7)]),
      defaultMemoryPool().allocateBuffer(100),
      MemoryBuffer.wrap(new Uint8Array(10)).copySlice(0, 5),
    ]
    t.deepEqual(held(pool), { bytes: 9 + 7 + 100 + 5, allocations: 4 })
    t.true(buffers.every((buffer) => buffer.pool === pool))
    if (initial.backendName !== name) t.deepEqual(held(initial), before)
    setDefaultMemoryPool(initial)
    t.is(defaultMemoryPool(), initial)
    // What is alive stays where it came from.
    t.true(buffers.every((buffer) => buffer.pool === pool))
    const builder = new BufferBuilder()
    builder.append('x')
    t.deepEqual(held(pool), { bytes: 121, allocations: 4 })
    for (const buffer of buffers) buffer.dispose()
    builder.dispose()
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  }
})

test.serial('#101 totalAllocatedBytes stays right when the default pool is another: Arrow’s does not', (t) => {
  const before = totalAllocatedBytes()
  const pool = initial.limit(10_000)
  setDefaultMemoryPool(pool)
  const buffer = MemoryBuffer.from('0123456789')
  t.is(totalAllocatedBytes(), before + 10)
  setDefaultMemoryPool(initial)
  t.is(totalAllocatedBytes(), before + 10)
  buffer.dispose()
  t.is(totalAllocatedBytes(), before)
})

test.serial('#101 the default pool is that of the process: workers see it', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    const { Worker } = require('worker_threads')
    const pool = offheap.systemMemoryPool().limit(5000, { name: 'of all' })
    offheap.setDefaultMemoryPool(pool)
    const worker = new Worker(\`
      const offheap = require('offheap')
      const { parentPort } = require('worker_threads')
      globalThis.kept = offheap.MemoryBuffer.from('x'.repeat(100))
      parentPort.postMessage(offheap.defaultMemoryPool().name)
      parentPort.once('message', () => { kept.dispose(); parentPort.postMessage('done') })
    \`, { eval: true })
    worker.once('message', (name) => {
      console.log(name, pool.bytesAllocated)
      worker.once('message', () => console.log(pool.bytesAllocated))
      worker.postMessage('go')
    })
  `)
  t.deepEqual({ stdout, code }, { stdout: 'of all 100\n0\n', code: 0 }, stderr)
})

test.serial('the default pool can be forgotten by its maker: it stays', (t) => {
  setDefaultMemoryPool(initial.proxy({ name: 'nobody else holds it' }))
  globalThis.gc!()
  t.is(defaultMemoryPool().name, 'nobody else holds it')
  MemoryBuffer.from('x').dispose()
  t.is(defaultMemoryPool().numAllocations, 1)
})

test.serial('what cannot be the default pool', (t) => {
  for (const value of [undefined, null, 5, 'mimalloc', {}, [], Symbol('x'), Object.create(Object.getPrototypeOf(initial) as object)]) {
    throwsCode(t, () => setDefaultMemoryPool(value as MemoryPool), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  }
  const closed = initial.proxy()
  closed.close()
  throwsCode(t, () => setDefaultMemoryPool(closed), 'ERR_OFFHEAP_CLOSED')
  t.is(defaultMemoryPool(), initial)
  const current = initial.proxy()
  setDefaultMemoryPool(current)
  throwsCode(t, () => current.close(), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'default')
  setDefaultMemoryPool(initial)
  t.notThrows(() => current.close())
})

// ---- Every API that allocates, while the default pool always fails

const source = MemoryBuffer.wrap(Buffer.from('some data to work with'))
const own = initial.proxy()
const misaligned = own.allocateBuffer(100).slice(1)

/** The manager that an API without one would take. */
const managerOf = (options?: { pool: MemoryPool }): MemoryManager =>
  options?.pool === undefined ? offheap.defaultCpuMemoryManager() : offheap.cpuMemoryManager(options.pool)

/** Each makes something from a pool, as its last argument says, and gives what is to be disposed. */
const allocating: Record<string, (options?: { pool: MemoryPool }) => { dispose(): void }[]> = {
  'MemoryBuffer.from(string)': (options) => [MemoryBuffer.from('text', options)],
  'MemoryBuffer.from(bytes)': (options) => [MemoryBuffer.from(new Uint8Array(10), options)],
  'MemoryBuffer.from(array)': (options) => [MemoryBuffer.from([1, 2, 3], options)],
  'MemoryBuffer.from(buffer)': (options) => [MemoryBuffer.from(misaligned, options)],
  'MemoryBuffer.concat': (options) => [MemoryBuffer.concat([source, misaligned], options)],
  'copySlice of a wrapped buffer': (options) => [source.copySlice(0, 4, options)],
  'copySlice of a buffer of another pool': (options) => [misaligned.copySlice(0, 4, options)],
  'copyTo a manager': (options) => [misaligned.copyTo(managerOf(options))],
  'copyTo a manager, of a wrapped buffer': (options) => [source.copyTo(managerOf(options))],
  'MemoryManager.allocateBuffer': (options) => [managerOf(options).allocateBuffer(100)],
  'ensureAlignment of a wrapped buffer': (options) => [source.ensureAlignment(64, options)],
  'ensureAlignment of a buffer of another pool': (options) => [misaligned.ensureAlignment(64, options)],
  'new BufferBuilder with capacity': (options) => [new BufferBuilder({ ...options, capacity: 100 })],
  'BufferOutputStream.write': (options) => {
    // Without a capacity, the first room is made when it can be: the constructor asks for nothing that must be had.
    const stream = new BufferOutputStream(options)
    stream.write('text')
    return [stream.finish(), stream]
  },
  'new BufferOutputStream with capacity': (options) => [new BufferOutputStream({ ...options, capacity: 1 })],
  ...Object.fromEntries(
    Object.entries({
      append: (builder: BufferBuilder) => builder.append('text'),
      appendBytes: (builder: BufferBuilder) => builder.append(new Uint8Array(3)),
      appendBuffer: (builder: BufferBuilder) => builder.append(misaligned),
      appendCopies: (builder: BufferBuilder) => builder.appendCopies(1, 10),
      advance: (builder: BufferBuilder) => builder.advance(10),
      reserve: (builder: BufferBuilder) => builder.reserve(10),
      resize: (builder: BufferBuilder) => builder.resize(10),
    }).map(([name, act]) => [
      `BufferBuilder.${name}`,
      (options?: { pool: MemoryPool }) => {
        const builder = new BufferBuilder(options)
        act(builder)
        return [builder.finish(), builder]
      },
    ]),
  ),
  ...Object.fromEntries(
    Object.entries({
      append: (builder: BinaryBufferBuilder) => builder.append('text'),
      appendBytes: (builder: BinaryBufferBuilder) => builder.append(new Uint8Array(3)),
      appendBuffer: (builder: BinaryBufferBuilder) => builder.append(misaligned),
      appendValues: (builder: BinaryBufferBuilder) => builder.appendValues(['text']),
      reserve: (builder: BinaryBufferBuilder) => builder.reserve(10, 10),
      finish: () => undefined, // the first offset needs room
    }).map(([name, act]) => [
      `BinaryBufferBuilder.${name}`,
      (options?: { pool: MemoryPool }) => {
        const builder = new BinaryBufferBuilder(options)
        act(builder)
        const { offsets, data } = builder.finish()
        return [offsets, data, builder]
      },
    ]),
  ),
  'new BinaryBufferBuilder with capacity': (options) => [new BinaryBufferBuilder({ ...options, capacity: 10 })],
  'new BinaryBufferBuilder with capacityInBytes': (options) => [new BinaryBufferBuilder({ ...options, capacityInBytes: 10 })],
  ...Object.fromEntries(
    (['int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'float32', 'float64', 'int64', 'uint64', 'bool'] as const).flatMap((type) => {
      const value = (type === 'bool' ? true : type === 'int64' || type === 'uint64' ? 1n : 1) as never
      return Object.entries({
        append: (builder: TypedBufferBuilder) => builder.append(value),
        appendValues: (builder: TypedBufferBuilder) => builder.appendValues([value]),
        appendCopies: (builder: TypedBufferBuilder) => builder.appendCopies(value, 10),
        advance: (builder: TypedBufferBuilder) => builder.advance(10),
        reserve: (builder: TypedBufferBuilder) => builder.reserve(10),
        resize: (builder: TypedBufferBuilder) => builder.resize(10),
      })
        .map(([name, act]): [string, (options?: { pool: MemoryPool }) => { dispose(): void }[]] => [
          `TypedBufferBuilder<${type}>.${name}`,
          (options) => {
            const builder = new TypedBufferBuilder(type, options) as unknown as TypedBufferBuilder
            act(builder)
            return [builder.finish(), builder]
          },
        ])
        .concat([[`new TypedBufferBuilder<${type}> with capacity`, (options) => [new TypedBufferBuilder(type, { ...options, capacity: 10 })]]])
    }),
  ),
  ...Object.fromEntries(
    (['alloc', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64', 'float32', 'float64'] as const).map((name) => [
      `Arena.${name}`,
      (options?: { pool: MemoryPool }) => {
        const arena = new Arena(options)
        arena[name](10)
        return [arena]
      },
    ]),
  ),
}

for (const [name, allocate] of Object.entries(allocating)) {
  test.serial(`the default pool always fails: ${name} works with another pool, and fails typed without`, (t) => {
    const poison = initial.limit(0, { name: 'poison' })
    const pool = initial.proxy({ name: 'other' })
    const ownBefore = held(own)
    setDefaultMemoryPool(poison)
    const { numAllocations } = initial
    const made = allocate({ pool })
    t.true(pool.numAllocations > 0, 'nothing came from the pool that was given')
    t.is(initial.numAllocations - numAllocations, pool.numAllocations, 'something came from elsewhere')
    t.is(poison.numAllocations, 0)
    for (const each of made) each.dispose()
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 })

    const error = throwsCode(t, () => allocate(), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'poison'") as unknown as offheap.OutOfMemoryError
    t.is(error.pool, 'poison')
    t.is(error.limit, 0)
    t.true(error.requested > 0)
    throwsCode(t, () => allocate({ pool: undefined } as never), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'poison'")
    t.deepEqual(held(poison), { bytes: 0, allocations: 0 })
    t.deepEqual(held(own), ownBefore)

    const exhausted = pool.limit(1, { name: 'exhausted' })
    const first = exhausted.allocateBuffer(1)
    throwsCode(t, () => allocate({ pool: exhausted }), 'ERR_OFFHEAP_OUT_OF_MEMORY', "'exhausted'")
    first.dispose()
  })
}

test.serial('the default pool always fails: what needs no memory of a pool works', (t) => {
  setDefaultMemoryPool(initial.limit(0))
  using wrapped = MemoryBuffer.wrap(new Uint8Array(100))
  using slice = wrapped.sliceMutable(1)
  using subarray = slice.subarray(-5)
  t.true(slice.equals(slice.asUint8Array(), 10))
  t.is(slice.compare(slice), 0)
  t.is(subarray.toHex(), '0000000000')
  t.is(wrapped.toString('hex').length, 200)
  slice.getWriter().write('text')
  t.is(wrapped.getReader().read(4).size, 4)
  t.is(MemoryBuffer.from('').size, 0)
  t.is(MemoryBuffer.concat([]).size, 0)
  t.is(new BufferBuilder().finish().size, 0)
  t.is(new TypedBufferBuilder('int8').finish().size, 0)
  new Arena().dispose()
  const mock = new offheap.MockOutputStream()
  mock.write('x')
  t.true(offheap.memoryOverview().rssBytes > 0)
  using aligned = misaligned.ensureAlignment(1)
  t.is(aligned.size, 99)
  const ticket = own.share()
  t.true(offheap.revokeShared(ticket))
})

test.serial('every export is known here to allocate or not: a new one must be added to the table above', (t) => {
  const allocates = ['MemoryBuffer', 'MemoryManager', 'BinaryBufferBuilder', 'BufferBuilder', 'TypedBufferBuilder', 'BufferOutputStream', 'Arena']
  const allocatesNothing = [
    'BufferReader',
    'Device', // its managers do
    'FixedSizeBufferWriter',
    'MemoryPool', // from itself
    'MockOutputStream',
    'Pin',
    'BusyError',
    'ClosedError',
    'CorruptionError',
    'DeviceUnavailableError',
    'DisposedError',
    'ImmutableError',
    'InternalError',
    'InvalidArgumentError',
    'InvalidArgumentRangeError',
    'NotSupportedError',
    'OutOfMemoryError',
    'OutOfRangeError',
    'capabilities',
    'cpuDevice',
    'cpuMemoryManager',
    'defaultCpuMemoryManager',
    'defaultMemoryPool',
    'domainPool',
    'getAllocator',
    'isOffheapError',
    'jemallocMemoryPool',
    'jemallocPeakReset',
    'jemallocSetDecayMs',
    'jemallocStat',
    'jemallocStatsPrint',
    'jemallocStatsString',
    'memoryOverview',
    'mappedMemoryPool',
    'mimallocMemoryPool',
    'objectMemoryPool',
    'printMemoryOverview',
    'revokeShared',
    'setAllocator',
    'setArenaAllocator',
    'setDefaultMemoryPool',
    'setupDebugHooks',
    'supportedMemoryBackends',
    'sweepOutOfMemory', // what its function does
    'systemMemoryPool',
    'totalAllocatedBytes',
    'withTags',
  ]
  t.deepEqual(Object.keys(offheap).sort(), [...allocates, ...allocatesNothing].sort())
  for (const name of allocates) t.true(Object.keys(allocating).some((title) => title.includes(name)), name)
})
