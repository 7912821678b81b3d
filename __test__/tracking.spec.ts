/** Trackers: where live memory came from, what is left, what was forgotten; JavaScript stacks that retain nothing. */
import { once } from 'node:events'
import { writeFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import diagnosticsChannel from 'node:diagnostics_channel'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { type AllocationEvent, BufferBuilder, MemoryBuffer, type MemoryPool, systemMemoryPool, withTags } from 'offheap'
import { collectUntil, eachBackend, held, root, runNode, runScript, throwsCode, turns } from './support.js'

function innermost(buffer: MemoryBuffer): string {
  return buffer.allocationSite!.stack[0]!.function
}

eachBackend('a tracker knows what is alive and who made it', (t, base) => {
  const pool = base.track()
  function makeIt(): MemoryBuffer {
    return pool.allocateBuffer(100, { alignment: 256 })
  }
  const buffer = makeIt()
  const site = buffer.allocationSite!
  t.like(site, { address: buffer.address, size: 100, alignment: 256, serial: 1, tags: '', parked: false })
  t.deepEqual(site.nativeStack, [])
  t.is(site.stack[0]!.function, 'makeIt')
  t.regex(site.stack[0]!.file!, /tracking\.spec\.ts$/)
  t.true(site.stack[0]!.line! > 1)
  t.true(site.stack.length > 1 && site.stack.length <= 16)
  t.false(site.stack.some(({ file }) => file?.includes(join(root, 'dist'))), 'a frame of offheap')
  t.deepEqual(pool.allocations().map(({ size }) => size), [100])
  const slice = buffer.slice(10, 20)
  t.is(slice.allocationSite!.serial, 1)
  t.is(pool.limit(1000).allocations().length, 1)
  slice.dispose()
  buffer.dispose()
  t.deepEqual(pool.allocations(), [])
  t.like(pool.close(), { pool: pool.name, liveBytes: 0, liveAllocations: 0, sites: [], forgotten: [] })
})

test('every way to allocate has its maker’s stack', (t) => {
  const pool = systemMemoryPool().track()
  const makers = {
    allocate: () => pool.allocateBuffer(10),
    resizable: () => pool.allocateResizableBuffer(10),
    bitmap: () => pool.allocateEmptyBitmap(10),
    from: () => MemoryBuffer.from('abc', { pool }),
    concat: () => MemoryBuffer.concat([Buffer.from('abc')], { pool }),
    builder: () => {
      const builder = new BufferBuilder({ pool })
      builder.append('abc')
      return builder.finish()
    },
  }
  for (const [name, make] of Object.entries(makers)) {
    const named = { [name]: () => make() }[name]!
    const buffer = named()
    const frames = buffer.allocationSite!.stack.slice(0, 3)
    t.true(frames.some((frame) => frame.function.endsWith(name)), `${name}: ${JSON.stringify(frames)}`)
    buffer.dispose()
  }
  const copy = MemoryBuffer.from('abc').copySlice(0, 1, { pool })
  t.truthy(copy.allocationSite)
  copy.dispose()
  t.is(MemoryBuffer.from('abc').allocationSite, undefined)
  t.is(MemoryBuffer.wrap(new ArrayBuffer(8)).allocationSite, undefined)
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('depth and options are checked, and 0 keeps no stack', (t) => {
  const pool = systemMemoryPool()
  for (const wrong of [-1, 65, 1.5, '3', null]) {
    throwsCode(t, () => pool.track({ stackDepth: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'stackDepth')
    throwsCode(t, () => pool.track({ nativeStackDepth: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'nativeStackDepth')
  }
  throwsCode(t, () => pool.track({ reportAtExit: 1 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => pool.allocations(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  const none = pool.track({ stackDepth: 0, nativeStackDepth: 8 }).allocateBuffer(1)
  t.deepEqual(none.allocationSite!.stack, [])
  t.true(none.allocationSite!.nativeStack.length > 0)
  none.dispose()
  const deep = (pool: MemoryPool, n: number): MemoryBuffer => (n === 0 ? pool.allocateBuffer(1) : deep(pool, n - 1))
  for (const stackDepth of [1, 3, 64]) {
    const buffer = deep(pool.track({ stackDepth }), 100)
    t.is(buffer.allocationSite!.stack.length, stackDepth)
    t.is(innermost(buffer), 'deep')
    buffer.dispose()
  }
})

test('close says where what is left came from, the largest place first', (t) => {
  const pool = systemMemoryPool().track()
  const small = (): MemoryBuffer => pool.allocateBuffer(10)
  const large = (): MemoryBuffer => pool.allocateBuffer(1000)
  const kept = [small(), large()]
  for (let i = 0; i < 4; i += 1) kept.push(small())
  const { sites, forgotten, liveBytes, liveAllocations } = pool.close()
  t.is(liveBytes, 1050)
  t.is(liveAllocations, 6)
  t.deepEqual(forgotten, [])
  t.is(sites![0]!.bytes, 1000)
  t.is(sites![0]!.stack[0]!.function, 'large')
  t.is(sites!.reduce((sum, { count }) => sum + count, 0), 6)
  t.is(systemMemoryPool().proxy().close().sites, undefined)
  for (const buffer of kept) buffer.dispose()
})

test.serial('what the collector frees is listed apart', async (t) => {
  const pool = systemMemoryPool().track()
  ;(function forgetful() {
    pool.allocateBuffer(123)
    pool.allocateBuffer(77).asUint8Array().fill(1)
    pool.allocateBuffer(5).dispose()
  })()
  t.true(await collectUntil(() => pool.liveAllocations === 0))
  const { forgotten, sites } = pool.close()
  t.deepEqual(sites, [])
  t.is(forgotten!.reduce((sum, { bytes }) => sum + bytes, 0), 200)
  t.true(forgotten!.every(({ stack }) => stack[0]!.function === 'forgetful'))
})

test('tags follow awaits, nest and replace', async (t) => {
  const pool = systemMemoryPool().track()
  const tagsOf = (): string => {
    const buffer = pool.allocateBuffer(1)
    const { tags } = buffer.allocationSite!
    buffer.dispose()
    return tags
  }
  t.is(tagsOf(), '')
  const result = await withTags({ query: '1', user: 'a' }, async () => {
    t.is(tagsOf(), 'query=1, user=a')
    await turns(2)
    t.is(tagsOf(), 'query=1, user=a')
    withTags({ user: 'b', step: 'x=y' }, () => t.is(tagsOf(), 'query=1, user=b, step=x=y'))
    return 7
  })
  t.is(result, 7)
  t.is(tagsOf(), '')
  for (const wrong of [null, 1, 'a=b', () => {}, { a: 1 }, { 'a,b': 'c' }, { 'a=': 'c' }, { a: 'b,c' }, { a: 'b\n' }, { a: 'b\0' }, { '': 'x' }]) {
    throwsCode(t, () => withTags(wrong as never, () => t.fail()), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'tags')
  }
  throwsCode(t, () => withTags({}, 1 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'fn')
})

test.serial('stacks survive what programs do with Error', (t) => {
  const pool = systemMemoryPool().track({ stackDepth: 4 })
  function place(): string {
    const buffer = pool.allocateBuffer(1)
    const site = buffer.allocationSite!
    buffer.dispose()
    return site.stack[0]?.function ?? ''
  }
  const properties = ['prepareStackTrace', 'stackTraceLimit'] as const
  const before = properties.map((key) => Object.getOwnPropertyDescriptor(Error, key))
  const restore = (): void =>
    properties.forEach((key, index) => {
      delete (Error as Partial<typeof Error>)[key]
      if (before[index] !== undefined) Object.defineProperty(Error, key, before[index])
    })
  let calls = 0
  const descriptors: Record<string, { key: (typeof properties)[number]; descriptor: PropertyDescriptor }> = {
    'a function that throws': {
      key: 'prepareStackTrace',
      descriptor: {
        value: () => {
          calls += 1
          throw new Error('no')
        },
        writable: true,
        configurable: true,
      },
    },
    'a function that gives nonsense': { key: 'prepareStackTrace', descriptor: { value: () => ((calls += 1), { x: 1 }), writable: true, configurable: true } },
    'read-only': { key: 'prepareStackTrace', descriptor: { value: () => ((calls += 1), 'mine'), writable: false, configurable: true } },
    'an accessor': { key: 'prepareStackTrace', descriptor: { get: () => () => ((calls += 1), 'mine'), set: () => t.fail(), configurable: true } },
    'a limit of 0': { key: 'stackTraceLimit', descriptor: { value: 0, writable: true, configurable: true, enumerable: true } },
    'a limit that is none': { key: 'stackTraceLimit', descriptor: { value: 'x', writable: true, configurable: true } },
    'a limit that is an accessor': { key: 'stackTraceLimit', descriptor: { get: () => 1, configurable: true } },
  }
  try {
    for (const [name, { key, descriptor }] of Object.entries(descriptors)) {
      delete (Error as Partial<typeof Error>)[key]
      Object.defineProperty(Error, key, descriptor)
      t.is(place(), 'place', name)
      t.deepEqual(Object.getOwnPropertyDescriptor(Error, key), { enumerable: false, ...descriptor }, name)
      restore()
    }
    t.is(calls, 0)
    t.deepEqual(properties.map((key) => Object.getOwnPropertyDescriptor(Error, key)), before)
    t.is(place(), 'place')
    t.deepEqual(properties.map((key) => Object.getOwnPropertyDescriptor(Error, key)), before)
  } finally {
    restore()
  }
})

test('stacks also come where Error is frozen', async (t) => {
  for (const [flags, prepare] of [
    [[], ''],
    [[], `Error.prepareStackTrace = () => { throw new Error('no') }\n`],
    [[], `Error.prepareStackTrace = () => 42\n`],
    [['--frozen-intrinsics'], ''],
  ] as const) {
    const script = `const offheap = require('offheap')
      ${prepare}
      Object.freeze(Error)
      const pool = offheap.systemMemoryPool().track()
      function place() { return pool.allocateBuffer(1) }
      const { stack } = place().allocationSite
      console.log(stack.length > 0 ? stack[0].function : 'none')`
    const { stdout, stderr, code } = await runNode([...flags, '-e', script])
    t.is(code, 0, stderr)
    // With somebody's own function that cannot be put aside, what it gives is no stack.
    t.is(stdout.trim(), prepare === '' ? 'place' : 'none', flags.join(' '))
  }
})

test.serial('a stack keeps nothing of the program alive', async (t) => {
  const pool = systemMemoryPool().track()
  const kept: MemoryBuffer[] = []
  const refs = (() => {
    class Receiver {
      big = new Array(1000).fill(1)
      make(closure: object): MemoryBuffer {
        return [closure].map(() => pool.allocateBuffer(10))[0]!
      }
    }
    const receiver = new Receiver()
    const closure = { big: new Array(1000).fill(2) }
    kept.push(receiver.make(closure))
    return [new WeakRef<object>(receiver), new WeakRef<object>(closure)]
  })()
  t.true(await collectUntil(() => refs.every((ref) => ref.deref() === undefined)))
  t.true(kept[0]!.allocationSite!.stack.some((frame) => frame.function.endsWith('Receiver.make')))
  kept[0]!.dispose()
})

test.serial('a worker that opens a tracked pool has its stacks kept, too', async (t) => {
  const pool = systemMemoryPool().track()
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
     const offheap = require(${JSON.stringify(join(root, 'dist', 'index.js'))})
     const pool = offheap.MemoryPool.fromShared(workerData)
     function inTheWorker() { return pool.allocateBuffer(42) }
     parentPort.postMessage(inTheWorker().share())
     parentPort.once('message', () => process.exit())`,
    { eval: true, workerData: pool.share() },
  )
  const [ticket] = await once(worker, 'message')
  const buffer = MemoryBuffer.fromShared(ticket)
  t.is(innermost(buffer), 'inTheWorker')
  worker.postMessage('end')
  await once(worker, 'exit')
  t.is(innermost(buffer), 'inTheWorker')
  const { revokeShared } = await import('offheap')
  revokeShared(ticket)
  buffer.dispose()
})

test('the report at exit names the places, with source maps', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'offheap-'))
  try {
    // One line of JavaScript that came from line 7 of a TypeScript file.
    const map = { version: 3, sources: ['original.ts'], names: [], mappings: 'AAMA', sourcesContent: ['\n'.repeat(20)] }
    const comment = `//# sourceMappingURL=data:application/json;base64,${Buffer.from(JSON.stringify(map)).toString('base64')}`
    const file = join(folder, 'made.js')
    const line = `const pool = require(${JSON.stringify(join(root, 'dist', 'index.js'))}).systemMemoryPool().track({ reportAtExit: true }); globalThis.kept = pool.allocateBuffer(1234); pool.allocateBuffer(1).dispose()`
    writeFileSync(file, `${line}\n${comment}\n`)
    const mapped = await runNode(['--enable-source-maps', file])
    t.is(mapped.code, 0)
    t.regex(mapped.stderr, /pool 'track of system': not disposed at exit: 1234 bytes in 1 allocations of 1 places\n {2}1234 bytes in 1 allocations\n/)
    t.regex(mapped.stderr, /at .*\(.*original\.ts:7:1\)/)
    const plain = await runNode([file])
    t.regex(plain.stderr, /at .*\(.*made\.js:1:\d+\)/)
    const none = await runScript('const pool = offheap.systemMemoryPool().track({ reportAtExit: true }); pool.allocateBuffer(1).dispose(); pool.close()')
    t.is(none.stderr, '')
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('scopes count what a stretch of work allocated', (t) => {
  const pool = systemMemoryPool().scopedStatistics()
  const outer = pool.allocateBuffer(100)
  t.is(pool.pushCounters().bytes.value, 100)
  const first = pool.allocateBuffer(10)
  pool.pushCounters()
  const second = pool.allocateBuffer(5)
  second.dispose()
  t.deepEqual(pool.counters().bytes, { value: 0, peak: 5, total: 5 })
  t.deepEqual(pool.popCounters(), { bytes: { value: 0, peak: 5, total: 5 }, allocations: { value: 0, peak: 1, total: 1 } })
  t.deepEqual(pool.popCounters().bytes, { value: 10, peak: 15, total: 15 })
  throwsCode(t, () => pool.popCounters(), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => systemMemoryPool().pushCounters(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  for (const buffer of [outer, first]) buffer.dispose()
})

test('a log goes to a file, in each format', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'offheap-'))
  try {
    const lines = (file: string): string[] => readFileSync(file, 'utf8').trimEnd().split('\n')
    const logged = (sink: string | URL, format?: 'text' | 'json' | 'rmm-csv'): void => {
      const pool = format === undefined ? systemMemoryPool().log(sink) : systemMemoryPool().log(sink, { format })
      const buffer = pool.allocateResizableBuffer(100)
      buffer.resize(200)
      buffer.dispose()
    }
    const file = join(folder, 'log')
    logged(file)
    t.is(lines(file).length, 3)
    t.regex(lines(file)[0]!, /^Allocate: size = 100, alignment = 64, address = 0x[0-9a-f]+, pool = system$/)
    logged(pathToFileURL(file), 'json')
    t.is(lines(file).length, 3)
    t.is((JSON.parse(lines(file)[0]!) as { size: number }).size, 100)
    logged(file, 'rmm-csv')
    t.is(lines(file)[0], 'Thread,Time,Action,Pointer,Size,Stream')
    t.is(lines(file).length, 1 + 4)
    throwsCode(t, () => systemMemoryPool().log(join(folder, 'no', 'such', 'folder')), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a log goes to stderr, to a function and to a channel', async (t) => {
  const { stderr, code } = await runScript(`offheap.systemMemoryPool().log().allocateBuffer(10).dispose()
    offheap.systemMemoryPool().log('stderr', { format: 'rmm-csv' }).allocateBuffer(10).dispose()`)
  t.is(code, 0)
  t.regex(stderr, /^Allocate: size = 10,.*\nFree: .*\nThread,Time,Action,Pointer,Size,Stream\n.*allocate.*\n.*free.*\n$/)

  const events: AllocationEvent[] = []
  const pool = systemMemoryPool().log((event) => void events.push(event))
  pool.allocateBuffer(10).dispose()
  t.deepEqual(events.map(({ type, size }) => [type, size]), [['malloc', 10], ['free', 10]])
  t.true(pool.unhook())

  const published: unknown[] = []
  const subscriber = (message: unknown): void => void published.push(message)
  diagnosticsChannel.subscribe('offheap:allocation', subscriber)
  const named = systemMemoryPool().log('offheap:allocation')
  named.allocateBuffer(10).dispose()
  const own = diagnosticsChannel.channel('offheap:test')
  own.subscribe(subscriber)
  const given = systemMemoryPool().log(own)
  given.allocateBuffer(20).dispose()
  t.deepEqual((published as AllocationEvent[]).map(({ type, size }) => [type, size]), [['malloc', 10], ['free', 10], ['malloc', 20], ['free', 20]])
  diagnosticsChannel.unsubscribe('offheap:allocation', subscriber)
  for (const ended of [named, given]) t.true(ended.unhook())

  const system = systemMemoryPool()
  for (const wrong of [null, 1, {}, '', 'a\0b', [], new URL('http://localhost/')]) {
    throwsCode(t, () => system.log(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'sink')
  }
  throwsCode(t, () => system.log('stderr', { format: 'xml' as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'format')
  throwsCode(t, () => system.log(() => {}, { format: 'json' }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'format')
})
