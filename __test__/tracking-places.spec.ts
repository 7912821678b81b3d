/** Who holds what: live blocks with their JavaScript stacks, leak reports, what the garbage collector freed. */
import { Worker } from 'node:worker_threads'
import { join } from 'node:path'
import test from 'ava'
import { defaultMemoryPool, MemoryBuffer, type MemoryPool, systemMemoryPool, TypedBufferBuilder, withTags } from 'offheap'
import { collectUntil, eachBackend, root, runScript, throwsCode, withPool } from './support.js'

function allocatesHere(pool: MemoryPool, size: number): MemoryBuffer {
  return pool.allocateBuffer(size)
}

eachBackend('a tracked block knows its size, alignment, age and JavaScript stack', (t, base) => {
  const pool = base.track()
  const buffer = allocatesHere(pool, 1000)
  const [block] = pool.allocations()
  t.like(block, { address: buffer.address, size: 1000, alignment: 64, serial: 1, tags: '', parked: false })
  t.true(block!.ageMs >= 0 && block!.ageMs < 60_000)
  t.is(block!.stack[0]!.function, 'allocatesHere')
  t.regex(block!.stack[0]!.file ?? '', /tracking\.spec\.ts$/)
  t.true(block!.stack[0]!.line! > 5)
  t.like(buffer.allocationSite, { serial: 1, size: 1000 })
  using slice = buffer.slice(10)
  t.is(slice.allocationSite!.serial, 1)
  slice.dispose()
  buffer.dispose()
  t.deepEqual(pool.allocations(), [])
})

withPool('a block keeps its place when it is resized; builders have the place of their growth', (t, base) => {
  const pool = base.track()
  const buffer = pool.allocateResizableBuffer(10)
  buffer.resize(100_000)
  t.like(pool.allocations()[0], { serial: 1, size: 100_000 })
  buffer.dispose()
  const builder = new TypedBufferBuilder('int32', { pool })
  builder.append(1)
  t.true(pool.allocations()[0]!.stack.some(({ file }) => /tracking\.spec/.test(file ?? '')))
  builder.dispose()
  t.deepEqual(pool.allocations(), [])
})

withPool('close() names what is alive by place, the most bytes first', (t, base) => {
  const pool = base.track({ stackDepth: 4 })
  const kept = [1, 2, 3].map((n) => allocatesHere(pool, n * 100))
  const large = pool.allocateBuffer(5000)
  const report = pool.close()
  t.like(report, { liveBytes: 5600, liveAllocations: 4 })
  t.is(report.sites![0]!.bytes, 5000)
  t.like(report.sites![1], { bytes: 600, count: 3 })
  t.is(report.sites![1]!.stack[0]!.function, 'allocatesHere')
  t.true(report.sites!.every(({ stack }) => stack.length <= 4))
  t.deepEqual(report.forgotten, [])
  for (const buffer of [...kept, large]) buffer.dispose()
})

withPool('tags say on whose behalf, also across await', async (t, base) => {
  const pool = base.track()
  const buffers: MemoryBuffer[] = []
  await Promise.all(
    ['a', 'b'].map((query) =>
      withTags({ query }, async () => {
        await new Promise(setImmediate)
        buffers.push(pool.allocateBuffer(10))
        withTags({ step: '2' }, () => buffers.push(pool.allocateBuffer(20)))
      }),
    ),
  )
  buffers.push(pool.allocateBuffer(30))
  const tags = pool.allocations().map(({ size, tags }) => `${size} ${tags}`)
  t.deepEqual(tags.toSorted(), ['10 query=a', '10 query=b', '20 query=a, step=2', '20 query=b, step=2', '30 '])
  for (const buffer of buffers) buffer.dispose()
  for (const wrong of [undefined, null, 1, { a: 1 }, []]) {
    throwsCode(t, () => withTags(wrong as never, () => {}), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

test('what the garbage collector freed is listed apart, with its place', async (t) => {
  const pool = systemMemoryPool().track()
  ;(function forgets() {
    for (let i = 0; i < 5; i += 1) pool.allocateBuffer(100 + i)
  })()
  await collectUntil(() => pool.bytesAllocated === 0)
  const disposed = pool.allocateBuffer(1)
  disposed.dispose()
  const { forgotten, sites } = pool.close()
  t.deepEqual(sites, [])
  t.is(forgotten!.reduce((sum, { count }) => sum + count, 0), 5)
  t.is(forgotten![0]!.stack[0]!.function, 'forgets')
})

test('capturing a stack retains nothing of the program', async (t) => {
  const pool = systemMemoryPool().track()
  const buffer: MemoryBuffer[] = []
  const weak = (function scope() {
    const object = { large: new Array(1000).fill(0) }
    const method = {
      object,
      run(): void {
        buffer.push(pool.allocateBuffer(100))
      },
    }
    method.run()
    return [new WeakRef(object), new WeakRef(method)]
  })()
  await collectUntil(() => weak.every((reference) => reference.deref() === undefined))
  t.is(pool.allocations().length, 1)
  buffer[0]!.dispose()
})

const prepareStackTraces: readonly [string, unknown][] = [
  ['throws', () => { throw new Error('mine') }], // prettier-ignore
  ['returns nonsense', () => 42],
  ['is no function', 'x'],
  ['returns the sites', (_: unknown, sites: unknown) => sites],
]
for (const [what, prepare] of prepareStackTraces) {
  test.serial(`a program's Error.prepareStackTrace that ${what} is neither called nor lost`, (t) => {
    const pool = defaultMemoryPool().proxy().track()
    let calls = 0
    const own = typeof prepare === 'function' ? (...args: unknown[]) => ((calls += 1), (prepare as (...a: unknown[]) => unknown)(...args)) : prepare
    const before = Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace')
    const limit = Error.stackTraceLimit
    Object.defineProperty(Error, 'prepareStackTrace', { value: own, configurable: true, writable: true })
    Error.stackTraceLimit = 3
    try {
      const buffer = allocatesHere(pool, 10)
      t.is(Error.prepareStackTrace as unknown, own)
      t.is(Error.stackTraceLimit, 3)
      t.is(pool.allocations()[0]!.stack[0]!.function, 'allocatesHere')
      buffer.dispose()
      t.is(calls, 0)
    } finally {
      Error.stackTraceLimit = limit
      if (before === undefined) delete (Error as { prepareStackTrace?: unknown }).prepareStackTrace
      else Object.defineProperty(Error, 'prepareStackTrace', before)
    }
  })
}

test('a worker has its own stacks, in a pool that both use', async (t) => {
  const pool = systemMemoryPool().track()
  const mine = allocatesHere(pool, 11)
  const library = JSON.stringify(join(root, 'dist', 'index.js'))
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
     const { MemoryPool } = require(${library})
     const pool = MemoryPool.fromShared(workerData)
     function inTheWorker() { return pool.allocateBuffer(22) }
     const buffer = inTheWorker()
     parentPort.once('message', () => { buffer.dispose(); process.exit(0) })
     parentPort.postMessage(pool.allocations().map(({ size, thread }) => [size, thread]))`,
    { eval: true, workerData: pool.share() },
  )
  const seen = await new Promise<[number, number][]>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  t.deepEqual(seen.map(([size]) => size), [11, 22])
  t.not(seen[0]![1], seen[1]![1])
  const here = pool.allocations()
  t.is(here.find(({ size }) => size === 11)!.stack[0]!.function, 'allocatesHere')
  t.is(here.find(({ size }) => size === 22)!.stack[0]!.function, 'inTheWorker')
  worker.postMessage('go on')
  await new Promise((resolve) => worker.once('exit', resolve))
  mine.dispose()
  t.deepEqual(pool.allocations(), [])
})

test('a report at exit names what is alive, and says nothing when nothing is', async (t) => {
  const script = (body: string): string => `
    const { systemMemoryPool } = require('./dist/index.js')
    const pool = systemMemoryPool().track({ reportAtExit: true })
    function leaks() { return pool.allocateBuffer(12345) }
    ${body}`
  const leaking = await runScript(script('globalThis.kept = [leaks(), leaks()]'))
  t.is(leaking.code, 0)
  t.regex(leaking.stderr, /24690 bytes in 2 allocations/)
  t.regex(leaking.stderr, /at leaks/)
  const clean = await runScript(script('leaks().dispose()'))
  t.deepEqual([clean.code, clean.stderr], [0, ''])
})

test('misuse', (t) => {
  const pool = systemMemoryPool()
  for (const key of ['stackDepth', 'nativeStackDepth']) {
    for (const wrong of [-1, 65, 0.5, Number.NaN, '1']) {
      throwsCode(t, () => pool.track({ [key]: wrong } as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', key)
    }
  }
  throwsCode(t, () => pool.track({ reportAtExit: 1 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'reportAtExit')
  throwsCode(t, () => pool.allocations(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  using buffer = pool.allocateBuffer(1)
  t.is(buffer.allocationSite, undefined)
  t.is(MemoryBuffer.wrap(new ArrayBuffer(8)).allocationSite, undefined)
})
