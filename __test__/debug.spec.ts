/** Debug hooks from JavaScript: what is found, when, how it is told, and that the objects stay whole. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import {
  BufferBuilder,
  capabilities,
  CorruptionError,
  type CorruptionReport,
  isOffheapError,
  MemoryBuffer,
  type MemoryPool,
  systemMemoryPool,
} from 'offheap'
import { collectUntil, eachBackend, held, root, runScript, throwsCode } from './support.js'

/** Writes one byte at an offset from a buffer's first, in or out of it. */
function poke(buffer: MemoryBuffer, offset: number): void {
  pokeAt(buffer.address + BigInt(offset))
}

function pokeAt(address: bigint): void {
  const foreign = MemoryBuffer.unsafeForeign(address, 1, undefined)
  foreign.fill(0x11)
  foreign.dispose()
}

function thrown(t: ExecutionContext, action: () => unknown, kind: CorruptionReport['kind']): CorruptionError {
  const error = throwsCode(t, action, 'ERR_OFFHEAP_CORRUPTION')
  t.true(error instanceof CorruptionError)
  t.true(isOffheapError(error))
  const corruption = error as unknown as CorruptionError
  t.is(corruption.report.kind, kind, corruption.report.text)
  t.is(corruption.message, corruption.report.message)
  return corruption
}

eachBackend('writes outside of a block are thrown from the call that ends it', (t, base) => {
  const pool = base.debug({ onError: 'throw' })
  for (const [offset, kind] of [
    [100, 'overflow'],
    [120, 'overflow'],
    [-1, 'underflow'],
  ] as const) {
    function maker(): MemoryBuffer {
      return pool.allocateBuffer(100)
    }
    const buffer = maker()
    t.is(buffer.capacity, 100)
    poke(buffer, offset)
    function ender(): void {
      buffer.dispose()
    }
    const { report, further } = thrown(t, ender, kind)
    t.like(report, { offset, size: 100, alignment: 64, domain: 'm', detectedOn: 'deallocation', pool: pool.name })
    t.is(report.address > 0n, true)
    t.is(report.allocatedAt!.stack[0]!.function, 'maker')
    t.is(report.detectedAt.stack[0]!.function, 'ender')
    t.true(report.detectedAt.nativeStack.length > 0)
    t.regex(report.dump, />11/)
    t.regex(report.text, /maker/)
    t.deepEqual(further, [])
    t.true(buffer.disposed)
  }
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('a freed block that is written is found by a check, and when it leaves the quarantine', (t) => {
  const pool = systemMemoryPool().debug({ onError: 'throw', quarantine: 4096 })
  const buffer = pool.allocateBuffer(64)
  const { address } = buffer
  buffer.dispose()
  t.deepEqual(pool.checkIntegrity(), [])
  pokeAt(address + 5n)
  const [found] = pool.checkIntegrity()
  t.like(found, { kind: 'write-after-free', offset: 5, detectedOn: 'check' })
  t.truthy(found!.freedAt)
  // Found by whichever call pushes it out. Its own work is done.
  let error: unknown
  for (let i = 0; i < 100 && error === undefined; i += 1) {
    const other = pool.allocateBuffer(64)
    try {
      other.dispose()
    } catch (thrown) {
      error = thrown
    }
  }
  t.is((error as CorruptionError).report.kind, 'write-after-free')
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('writes to immutable buffers are found', (t) => {
  const pool = systemMemoryPool().debug({ onError: 'throw' })
  const text = MemoryBuffer.from('immutable', { pool })
  text.asUint8Array()[0] = 1
  t.is(pool.checkIntegrity()[0]!.kind, 'immutable-write')
  thrown(t, () => text.dispose(), 'immutable-write')
  const frozen = pool.allocateBuffer(10)
  frozen.fill(7)
  frozen.freeze()
  t.deepEqual(pool.checkIntegrity(), [])
  frozen.asUint8Array()[9] = 1
  thrown(t, () => frozen.dispose(), 'immutable-write')
  // A slice that may be written keeps the block open.
  const parent = pool.allocateBuffer(10)
  const slice = parent.sliceMutable(0, 5)
  parent.freeze()
  slice.fill(3)
  slice.dispose()
  parent.dispose()
})

test.serial('a view of a disposed buffer is found when it is written', async (t) => {
  t.is(capabilities().gate, 'idle', 'only where an idle event loop is known')
  const reports: CorruptionReport[] = []
  const pool = systemMemoryPool().debug({ onError: (report) => void reports.push(report) })
  ;(function user() {
    const buffer = pool.allocateBuffer(100)
    const view = buffer.asUint8Array()
    buffer.dispose()
    t.is(view.length, 100)
    t.is(view[0], 0xdb)
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
    view[42] = 1
    const [found] = pool.checkIntegrity()
    t.like(found, { kind: 'stale-view', offset: 42 })
  })()
  t.deepEqual(reports, [])
  // One that is not written is nothing.
  pool.allocateBuffer(10).asUint8Array().fill(1)
  t.true(await collectUntil(() => reports.length > 0))
  t.like(reports[0], { kind: 'stale-view', offset: 42, size: 100 })
  t.is(reports[0]!.allocatedAt!.stack[0]!.function, 'user')
  await collectUntil(() => false, 3)
  t.is(reports.length, 1)
})

test.serial('while requests are in flight, views end as without debug hooks', async (t) => {
  const pool = systemMemoryPool().debug({ onError: 'throw' })
  const reading = readFile(new URL(import.meta.url))
  const buffer = pool.allocateBuffer(100)
  const view = buffer.asUint8Array()
  const slice = pool.allocateBuffer(10)
  const part = slice.slice(0, 5)
  const partView = part.asUint8Array()
  part.dispose() // the memory lives: its view ends
  t.true(partView.length === 0 || partView[0] !== 0xdb)
  slice.dispose()
  await reading
  buffer.dispose()
  t.true(view.length === 0 || view[0] === 0xdb)
  t.deepEqual(pool.checkIntegrity(), [])
})

test('what reports damage has done its work, and the object is whole', (t) => {
  const pool = systemMemoryPool().debug({ onError: 'throw' })
  const buffer = pool.allocateResizableBuffer(100)
  buffer.fill(5)
  poke(buffer, 100)
  thrown(t, () => buffer.resize(1000), 'overflow')
  t.is(buffer.size, 1000)
  t.is(buffer.capacity, 1000)
  t.is(buffer.at(99), 5)
  t.is(buffer.asUint8Array().length, 1000)
  buffer.dispose()

  const tracked = pool.track()
  const builder = new BufferBuilder({ pool: tracked })
  builder.append('some text')
  const [block] = tracked.allocations()
  pokeAt(block!.address + BigInt(block!.size))
  thrown(t, () => builder.reserve(10_000), 'overflow')
  builder.append(' and more')
  const finished = builder.finish()
  t.is(finished.toString(), 'some text and more')
  finished.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('an allocation that ends with a report gives its memory back', (t) => {
  const pool = systemMemoryPool().debug({ onError: 'throw', quarantine: 0 })
  const kept = pool.allocateResizableBuffer(64)
  poke(kept, 64)
  const before = held(pool)
  thrown(t, () => kept.resize(128), 'overflow')
  t.is(held(pool).allocations, before.allocations)
  kept.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('a callback is told after the call, and what it throws is uncaught', async (t) => {
  const reports: CorruptionReport[] = []
  const pool: MemoryPool = systemMemoryPool().debug({
    onError(report) {
      reports.push(report)
      // It may use the pool.
      pool.allocateBuffer(10).dispose()
    },
  })
  const buffer = pool.allocateBuffer(10)
  poke(buffer, 10)
  buffer.dispose()
  t.is(reports.length, 1)
  t.is(reports[0]!.kind, 'overflow')
  const { stdout } = await runScript(`
    process.on('uncaughtException', (error) => console.log('uncaught', error.message))
    const pool = offheap.systemMemoryPool().debug({ onError() { throw new Error('mine') } })
    const buffer = pool.allocateBuffer(10)
    offheap.MemoryBuffer.unsafeForeign(buffer.address + 10n, 1).fill(1)
    buffer.dispose()
    console.log('disposed', buffer.disposed)`)
  t.is(stdout, 'disposed true\nuncaught mine\n')
})

test('what the collector finds is an uncaught exception; at the end of a process it is printed', async (t) => {
  const damage = `const pool = offheap.systemMemoryPool().debug({ onError: 'throw' })
    function damage(buffer) { offheap.MemoryBuffer.unsafeForeign(buffer.address + 10n, 1).fill(1) }`
  const collected = await runScript(`${damage}
    process.on('uncaughtException', (error) => { console.log(error.code, error.report.kind); process.exit(0) })
    ;(() => damage(pool.allocateBuffer(10)))()
    setInterval(() => gc(), 1)`)
  t.is(collected.stdout, 'ERR_OFFHEAP_CORRUPTION overflow\n', collected.stderr)
  const atEnd = await runScript(`${damage}
    globalThis.kept = pool.allocateBuffer(10)
    damage(kept)`)
  t.is(atEnd.code, 0, atEnd.stderr)
  t.is(atEnd.signal, null)
  t.regex(atEnd.stderr, /^offheap: Buffer overflow found/)
})

test('abort and warn write the report with the JavaScript frames of the call', async (t) => {
  const script = (mode: string): string => `
    const pool = offheap.systemMemoryPool().debug(${mode})
    function maker() { return pool.allocateBuffer(10) }
    const buffer = maker()
    offheap.MemoryBuffer.unsafeForeign(buffer.address + 10n, 1).fill(1)
    function ender() { buffer.dispose() }
    ender()
    console.log('goes on')`
  const warned = await runScript(script(`{ onError: 'warn' }`))
  t.deepEqual([warned.code, warned.stdout], [0, 'goes on\n'])
  for (const name of ['Buffer overflow', 'maker \\(', 'ender \\(']) t.regex(warned.stderr, new RegExp(name))
  const aborted = await runScript(script(''))
  t.is(aborted.signal, 'SIGABRT')
  t.is(aborted.stdout, '')
  for (const name of ['Buffer overflow', 'maker \\(', 'ender \\(']) t.regex(aborted.stderr, new RegExp(name))
})

test('setupDebugHooks covers all domains, once', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    const before = ['raw', 'mem', 'object'].map(offheap.getAllocator)
    const early = offheap.defaultMemoryPool().allocateBuffer(10)
    offheap.setupDebugHooks({ onError: 'throw' })
    const after = ['raw', 'mem', 'object'].map(offheap.getAllocator)
    offheap.setupDebugHooks({ onError: 'abort' })
    console.log(after.map((pool, index) => pool !== before[index] && pool === offheap.getAllocator(['raw', 'mem', 'object'][index])))
    early.dispose()
    const buffer = offheap.MemoryBuffer.from('text')
    buffer.asUint8Array()[0] = 1
    try { buffer.dispose() } catch (error) { console.log(error.report.kind, error.report.domain) }
    const small = offheap.domainPool('object').allocateBuffer(20)
    offheap.MemoryBuffer.unsafeForeign(small.address + 20n, 1).fill(1)
    try { small.dispose() } catch (error) { console.log(error.report.kind, error.report.domain) }
    console.log(offheap.getAllocator('mem').checkIntegrity().length)`)
  t.is(stderr, '')
  t.is(code, 0)
  t.is(stdout, '[ true, true, true ]\nimmutable-write m\noverflow o\n0\n')
})

test.serial('a worker that opens a debugged pool is thrown what it finds', async (t) => {
  const pool = systemMemoryPool().debug({ onError: 'throw' })
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
     const offheap = require(${JSON.stringify(join(root, 'dist', 'index.js'))})
     const pool = offheap.MemoryPool.fromShared(workerData)
     const buffer = pool.allocateBuffer(10)
     offheap.MemoryBuffer.unsafeForeign(buffer.address + 10n, 1).fill(1)
     function inTheWorker() { buffer.dispose() }
     try { inTheWorker() } catch ({ code, report }) { parentPort.postMessage([code, report.kind, report.detectedAt.stack[0].function]) }`,
    { eval: true, workerData: pool.share() },
  )
  const [message] = await once(worker, 'message')
  t.deepEqual(message, ['ERR_OFFHEAP_CORRUPTION', 'overflow', 'inTheWorker'])
  await once(worker, 'exit')
})

test('misuse', (t) => {
  const pool = systemMemoryPool()
  for (const onError of ['call', 'ABORT', '', 1, null, {}]) {
    throwsCode(t, () => pool.debug({ onError: onError as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'onError')
  }
  for (const wrong of [-1, 1.5, '1', null]) {
    throwsCode(t, () => pool.debug({ quarantine: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'quarantine')
    throwsCode(t, () => pool.debug({ nativeStackDepth: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'nativeStackDepth')
  }
  throwsCode(t, () => pool.debug({ nativeStackDepth: 65 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'nativeStackDepth')
  throwsCode(t, () => pool.debug(1 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  throwsCode(t, () => pool.checkIntegrity(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => new CorruptionError(null as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})
