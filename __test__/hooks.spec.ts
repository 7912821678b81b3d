/** Observers of pools: what they are told, when, by whom, and what they may do meanwhile. */
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { type AllocationEvent, defaultMemoryPool, MemoryBuffer, type MemoryPool, systemMemoryPool, type Ticket } from 'offheap'
import { collectUntil, eachBackend, held, root, runScript, throwsCode, turns } from './support.js'

/** A pool whose events go to a list. */
function listening(pool: MemoryPool): { pool: MemoryPool; events: AllocationEvent[] } {
  const events: AllocationEvent[] = []
  const push = (event: AllocationEvent): void => void events.push(event)
  return { pool: pool.hook({ onMalloc: push, onRealloc: push, onFree: push }), events }
}

/** A worker with `offheap`, `workerData` and `pool`, the pool of a ticket. */
function worker(script: string, workerData: unknown): Worker {
  const library = JSON.stringify(join(root, 'dist', 'index.js'))
  const head = `const { parentPort, workerData } = require('node:worker_threads')
    const offheap = require(${library})
    const pool = offheap.MemoryPool.fromShared(workerData)\n`
  return new Worker(head + script, { eval: true, workerData })
}

eachBackend('an observer is told of every request before its caller goes on', (t, base) => {
  const { pool, events } = listening(base)
  const buffer = pool.allocateResizableBuffer(100, { alignment: 256, zeroFill: true })
  t.is(events.length, 1)
  const [malloc] = events as [AllocationEvent]
  t.is(malloc.address, buffer.address)
  t.like(malloc, { type: 'malloc', size: 100, alignment: 256, zeroed: true, failed: false })
  t.false('oldAddress' in malloc)
  buffer.resize(5000)
  t.like(events[1], { type: 'realloc', size: 5000, oldSize: 100, oldAddress: malloc.address, address: buffer.address, failed: false })
  const { address } = buffer
  buffer.dispose()
  t.like(events[2], { type: 'free', size: 5000, address, alignment: 256 })
  t.true(events.every(({ thread }) => thread === malloc.thread && thread > 0))
  t.is(events.length, 3)
  t.is(pool.droppedEvents, 0)
  t.true(pool.unhook())
})

test('a refused request is told as failed, and what the caller sees is unchanged', (t) => {
  const { pool, events } = listening(systemMemoryPool().limit(1000))
  throwsCode(t, () => pool.allocateBuffer(1001), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.like(events[0], { type: 'malloc', size: 1001, address: 0n, failed: true })
  const buffer = pool.allocateResizableBuffer(600)
  throwsCode(t, () => buffer.resize(1001), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.like(events[2], { type: 'realloc', failed: true, address: 0n, oldAddress: buffer.address, oldSize: 600, size: 1001 })
  t.is(buffer.size, 600)
  buffer.dispose()
  t.is(events.length, 4)
  pool.unhook()
})

test('only the functions that there are get called, with their object as this', (t) => {
  class Counter {
    count = 0
    onFree(): void {
      this.count += 1
    }
  }
  const counter = new Counter()
  const pool = systemMemoryPool().hook(counter)
  pool.allocateBuffer(1).dispose()
  pool.allocateBuffer(0).dispose() // needs no memory
  t.is(counter.count, 1)
  pool.unhook()
})

test('what is no observer is refused with a code', (t) => {
  const pool = systemMemoryPool()
  for (const wrong of [undefined, null, 1, 'x', () => {}, {}, { onMalloc: 1 }, { onFree: {} }, { onmalloc() {} }, [], new Map()]) {
    throwsCode(t, () => pool.hook(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'observer')
  }
  const throwing = {
    get onMalloc(): never {
      throw new Error('mine')
    },
  }
  const error = throwsCode(t, () => pool.hook(throwing), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.is((error.cause as Error).message, 'mine')
  const { hook, unhook } = pool
  throwsCode(t, () => Reflect.apply(hook, {}, [{ onMalloc() {} }]), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => Reflect.apply(unhook, {}, []), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.false(pool.unhook())
  t.is(pool.droppedEvents, undefined)
})

test('hooks stack: the one put on last is told first of an end, last of a beginning', (t) => {
  const order: string[] = []
  const name = (text: string) => ({ onMalloc: () => void order.push(`${text} malloc`), onFree: () => void order.push(`${text} free`) })
  const inner = systemMemoryPool().hook(name('inner'))
  const outer = inner.hook(name('outer'))
  outer.allocateBuffer(10).dispose()
  t.deepEqual(order, ['inner malloc', 'outer malloc', 'outer free', 'inner free'])
  t.true(outer.unhook())
  outer.allocateBuffer(10).dispose()
  t.deepEqual(order.slice(4), ['inner malloc', 'inner free'])
  t.true(inner.unhook())
  outer.allocateBuffer(10).dispose()
  t.is(order.length, 6)
})

test('an observer that allocates from its own pool is not told of that', (t) => {
  let calls = 0
  const made: MemoryBuffer[] = []
  const pool: MemoryPool = systemMemoryPool().hook({
    onMalloc() {
      calls += 1
      made.push(pool.allocateBuffer(10), MemoryBuffer.from('abc', { pool }))
    },
    onFree() {
      calls += 1
    },
  })
  const buffer = pool.allocateBuffer(100)
  t.is(calls, 1)
  t.is(made.length, 2)
  t.is(pool.liveAllocations, 3)
  t.is(made[1]!.toString(), 'abc')
  buffer.dispose()
  t.is(calls, 2)
  for (const buffer of made) buffer.dispose()
  t.is(calls, 4)
  t.is(pool.liveAllocations, 0)
  pool.unhook()
})

test('second results of a call survive what observers call meanwhile', (t) => {
  const other = systemMemoryPool()
  const pool = systemMemoryPool().hook({ onMalloc: () => other.allocateBuffer(777, { alignment: 4096 }).dispose() })
  for (let size = 1; size < 50; size += 1) {
    const buffer = pool.allocateBuffer(size)
    t.is(buffer.size, size)
    t.is(buffer.capacity, 64)
    t.is(buffer.asUint8Array().fill(size).length, size)
    buffer.dispose()
  }
  t.like(pool.stats(), { liveAllocations: 0, numAllocations: 49 })
  pool.unhook()
})

test('an observer may end its pool, its hook and its buffer', (t) => {
  let calls = 0
  const unhooking: MemoryPool = systemMemoryPool().hook({
    onMalloc() {
      calls += 1
      t.true(unhooking.unhook())
    },
    onFree: () => t.fail(),
  })
  unhooking.allocateBuffer(1).dispose()
  t.is(calls, 1)

  const events: string[] = []
  const closing: MemoryPool = systemMemoryPool().hook({
    onMalloc: () => void events.push(`close: ${closing.close().liveBytes}`),
    onFree: () => void events.push('free'),
  })
  const buffer = closing.allocateBuffer(10)
  t.is(buffer.size, 10)
  throwsCode(t, () => closing.allocateBuffer(1), 'ERR_OFFHEAP_CLOSED')
  buffer.dispose()
  t.deepEqual(events, ['close: 10', 'free'])

  const kept = systemMemoryPool().limit(1000)
  const disposing: MemoryPool = kept.hook({ onRealloc: () => victim.dispose() })
  const victim = disposing.allocateResizableBuffer(10)
  victim.resize(500)
  t.true(victim.disposed)
  t.deepEqual(held(kept), { bytes: 0, allocations: 0 })
  disposing.unhook()
  closing.unhook()
})

test('what an observer throws is an uncaught exception of the next tick', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    process.on('uncaughtException', (error) => console.log('uncaught', error.message))
    const pool = offheap.systemMemoryPool().hook({
      onMalloc() { throw new Error('from onMalloc') },
      onFree() { throw new Error('from onFree') },
    })
    const buffer = pool.allocateBuffer(10)
    console.log('size', buffer.size, pool.bytesAllocated)
    buffer.dispose()
    console.log('live', pool.liveAllocations)
    process.nextTick(() => console.log('next tick'))`)
  t.is(stderr, '')
  t.is(stdout, 'size 10 10\nlive 0\nuncaught from onMalloc\nuncaught from onFree\nnext tick\n')
  t.is(code, 0)
})

test.serial('what other threads do is told later, in order, and what is too much is counted', async (t) => {
  const { pool, events } = listening(systemMemoryPool())
  const few = worker('for (let i = 1; i <= 1000; i += 1) pool.allocateBuffer(i).dispose()', pool.share())
  await once(few, 'exit')
  await turns(3)
  t.is(events.length, 2000)
  const other = events[0]!.thread
  pool.allocateBuffer(5).dispose()
  t.not(events[2000]!.thread, other)
  const live = new Map<bigint, number>()
  for (const { type, address, size, thread } of events.slice(0, 2000)) {
    t.is(thread, other)
    if (type === 'malloc') {
      t.false(live.has(address))
      live.set(address, size)
    } else {
      t.is(live.get(address), size)
      live.delete(address)
    }
  }
  t.is(pool.droppedEvents, 0)

  events.length = 0
  const done = new Int32Array(new SharedArrayBuffer(4))
  const many = worker(
    `parentPort.once('message', (done) => {
       for (let i = 0; i < 20000; i += 1) pool.allocateBuffer(64).dispose()
       Atomics.store(done, 0, 1)
       Atomics.notify(done, 0)
     })
     parentPort.postMessage('ready')`,
    pool.share(),
  )
  await once(many, 'message')
  many.postMessage(done)
  // This thread is busy until the worker is done: nothing is told meanwhile.
  t.not(Atomics.wait(done, 0, 0, 20_000), 'timed-out')
  t.is(events.length, 0)
  await once(many, 'exit')
  await turns(3)
  t.is(events.length, 16_384)
  t.is(pool.droppedEvents, 40_000 - 16_384)
  t.true(pool.unhook())
})

test('an observer keeps no process alive, and is told nothing at the end', async (t) => {
  const { code, stderr, stdout } = await runScript(`
    const pool = offheap.systemMemoryPool().hook({ onMalloc() {}, onFree() { console.log('free') } })
    globalThis.kept = pool.allocateBuffer(10)
    kept.asUint8Array()
    console.log('end')`)
  t.deepEqual({ code, stderr, stdout }, { code: 0, stderr: '', stdout: 'end\n' })
})

test('an observer of a worker ends with it: its pool goes on elsewhere', async (t) => {
  for (const end of ['', 'process.exit(3)', 'while (true) observed.allocateBuffer(64).dispose()']) {
    const base = defaultMemoryPool().proxy({ name: t.title })
    const thread = worker(
      `let count = 0
       const observed = pool.hook({ onMalloc() { count += 1 }, onFree() { count += 1 } })
       for (let i = 0; i < 10; i += 1) observed.allocateBuffer(64).dispose()
       parentPort.postMessage([observed.share(), count])
       ${end}`,
      base.share(),
    )
    const exit = once(thread, 'exit')
    const [[ticket, count]] = (await once(thread, 'message')) as [[Ticket, number]]
    t.is(count, 20)
    const { MemoryPool } = await import('offheap')
    const opened = MemoryPool.fromShared(ticket)
    const buffer = opened.allocateBuffer(100)
    if (end.startsWith('while')) await thread.terminate()
    await exit
    opened.allocateBuffer(100).dispose()
    buffer.dispose()
    t.is(opened.droppedEvents, undefined)
    t.false(opened.unhook())
    t.deepEqual(held(base), { bytes: 0, allocations: 0 })
  }
})

test.serial('what the collector frees is told in a turn of its own', async (t) => {
  const { pool, events } = listening(systemMemoryPool())
  ;(() => {
    pool.allocateBuffer(100)
    pool.allocateBuffer(200).asUint8Array().fill(1)
  })()
  t.is(events.length, 2)
  t.true(await collectUntil(() => events.length === 4))
  t.deepEqual(events.slice(2).map(({ type }) => type), ['free', 'free'])
  pool.unhook()
})

test.serial('an observer is kept until its pool is gone, and not longer', async (t) => {
  let gone = false
  const seen: string[] = []
  const registry = new FinalizationRegistry(() => (gone = true))
  let buffer = (() => {
    const observer = { onMalloc: () => void seen.push('malloc'), onFree: () => void seen.push('free') }
    registry.register(observer, undefined)
    return systemMemoryPool().hook(observer).limit(1000).allocateBuffer(10)
  })()
  await collectUntil(() => gone, 5)
  t.false(gone)
  buffer.dispose()
  t.deepEqual(seen, ['malloc', 'free'])
  buffer = undefined as never
  t.true(await collectUntil(() => gone))
})

test.serial('without an observer the native functions are the addon’s own', async (t) => {
  const { stdout } = await runScript(`
    const { native } = require('offheap/package.json') && require(${JSON.stringify(join(root, 'dist', 'native.js'))})
    const before = { ...native }
    const same = () => Object.keys(before).filter((name) => native[name] !== before[name]).length
    const first = offheap.systemMemoryPool().hook({ onMalloc() {} })
    const second = first.hook({ onFree() {} })
    const during = same() > 0
    second.unhook()
    const still = same() > 0
    first.unhook()
    console.log(during, still, same())`)
  t.is(stdout, 'true true 0\n')
})
