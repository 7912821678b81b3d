/** Failure injection: which requests fail, and what the sweep finds. */
import test from 'ava'
import {
  BufferBuilder,
  type FailingOptions,
  MemoryBuffer,
  type MemoryPool,
  OutOfMemoryError,
  sweepOutOfMemory,
  systemMemoryPool,
  TypedBufferBuilder,
} from 'offheap'
import { held, throwsCode, withPool } from './support.js'

/** Which of `n` allocations fail. */
function pattern(pool: MemoryPool, n: number, size = 10): string {
  let text = ''
  for (let i = 0; i < n; i += 1) {
    try {
      pool.allocateBuffer(size).dispose()
      text += '.'
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error
      text += 'x'
    }
  }
  return text
}

const windows: readonly [FailingOptions | undefined, string][] = [
  [undefined, 'xxxxxxxx'],
  [{ after: 3 }, '...xxxxx'],
  [{ after: 3, count: 2 }, '...xx...'],
  [{ count: 2 }, 'xx......'],
  [{ after: 0, count: 0 }, '........'],
  [{ probability: 0 }, '........'],
  [{ probability: 1 }, 'xxxxxxxx'],
  [{ minSize: 11 }, '........'],
  [{ minSize: 10, after: 7 }, '.......x'],
]

for (const [options, expected] of windows) {
  withPool(`failing(${JSON.stringify(options) ?? ''}) gives ${expected}`, (t, base) => {
    const pool = base.failing(options)
    const before = pool.stats()
    t.is(pattern(pool, 8), expected)
    const failures = expected.replaceAll('.', '').length
    t.is(pool.failingCounts!.failures, failures)
    t.is(pool.stats().numAllocations - before.numAllocations, 8 - failures, 'a refusal leaves every figure as it was')
    t.is(pool.peakBytes, failures === 8 ? 0 : 10)
  })
}

withPool('the same seed fails the same requests, another one others', (t, base) => {
  const of = (seed: number): string => pattern(base.failing({ probability: 0.5, seed }), 200)
  const first = of(1)
  t.is(of(1), first)
  t.not(of(2), first)
  const failed = first.replaceAll('.', '').length
  t.true(failed > 60 && failed < 140, String(failed))
})

withPool('only requests from a function of that name fail', (t, base) => {
  const pool = base.failing({ stack: 'theUnluckyOne' })
  function theUnluckyOne(): MemoryBuffer {
    return pool.allocateBuffer(10)
  }
  function theLuckyOne(): MemoryBuffer {
    return pool.allocateBuffer(10)
  }
  theLuckyOne().dispose()
  throwsCode(t, theUnluckyOne, 'ERR_OFFHEAP_OUT_OF_MEMORY')
  theLuckyOne().dispose()
})

withPool('what exists is as it was after a failure, and works when nothing fails any more', (t, base) => {
  const pool = base.failing({ after: 2 })
  const buffer = pool.allocateResizableBuffer(100)
  buffer.asUint8Array().fill(5)
  const builder = new BufferBuilder({ pool })
  builder.append('abc')
  throwsCode(t, () => buffer.resize(100_000), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  throwsCode(t, () => builder.append(new Uint8Array(100_000)), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.is(buffer.size, 100)
  t.true(buffer.asUint8Array().every((byte) => byte === 5))
  t.is(builder.length, 3)
  pool.disarm()
  buffer.resize(100_000)
  builder.append(new Uint8Array(100_000))
  t.is(pool.failingCounts!.failures > 0, true)
  pool.rearm({ after: 1 })
  t.deepEqual({ ...pool.failingCounts }, { requests: 0, failures: 0 })
  t.is(pattern(pool, 3), '.xx')
  buffer.dispose()
  builder.dispose()
})

withPool('a domain fails together with the pool', (t, base) => {
  const pool = base.failing({ after: 1, domain: 'object' })
  // The first request is the memory, the second one its control block.
  throwsCode(t, () => pool.allocateBuffer(10), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  pool.close()
  systemMemoryPool().allocateBuffer(10).dispose()
})

test('misuse', (t) => {
  const pool = systemMemoryPool()
  for (const key of ['after', 'count', 'seed', 'minSize']) {
    for (const wrong of [-1, 0.5, Number.NaN, 2 ** 53, '1', null]) {
      throwsCode(t, () => pool.failing({ [key]: wrong } as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', key)
    }
  }
  for (const wrong of [-0.1, 1.1, Number.NaN, '1']) {
    throwsCode(t, () => pool.failing({ probability: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'probability')
  }
  throwsCode(t, () => pool.failing({ probability: 0.5, after: 1 }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => pool.failing({ stack: '' }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'stack')
  throwsCode(t, () => pool.failing({ domain: 'x' as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'domain')
  t.is(pool.failingCounts, undefined)
  throwsCode(t, () => pool.disarm(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => pool.rearm(), 'ERR_OFFHEAP_NOT_SUPPORTED')
})

test.serial('a sweep of a function that survives', async (t) => {
  const report = await sweepOutOfMemory((pool) => {
    using builder = new TypedBufferBuilder('float64', { pool })
    for (let i = 0; i < 1000; i += 1) builder.append(i)
    builder.finish().dispose()
  })
  t.true(report.isClean, report.text)
  t.true(report.requests > 3)
  // One run in which nothing fails, and each request failing once and for ever.
  t.true(report.runs >= 2 * report.requests, String(report.runs))
  t.true(report.injected >= 2 * report.requests)
})

test.serial('a sweep finds what is left behind, and where it came from', async (t) => {
  const kept: MemoryBuffer[] = []
  const report = await sweepOutOfMemory((pool) => {
    const first = pool.allocateBuffer(100)
    const second = pool.allocateBuffer(200) // throws, and nobody disposes the first
    second.dispose()
    first.dispose()
    kept.push(first)
  })
  t.false(report.isClean)
  const [leak] = report.leaks.filter(({ domain }) => domain === undefined)
  t.like(leak, { bytes: 100, allocations: 1 })
  t.regex(leak!.blocks[0]!.stack[0]!.file ?? '', /failing\.spec/)
})

test.serial('a sweep finds errors that do not say that memory ran out', async (t) => {
  const report = await sweepOutOfMemory(async (pool) => {
    await null
    let buffer: MemoryBuffer | undefined
    try {
      buffer = pool.allocateBuffer(100)
    } catch {
      /* swallowed */
    }
    buffer!.size
    buffer!.dispose()
  })
  t.false(report.isClean)
  t.true(report.wrongErrors.length >= 2)
  t.true(report.wrongErrors.every(({ error }) => error instanceof TypeError))
})

test.serial('a sweep ends after as many runs, and gives everything back', async (t) => {
  let runs = 0
  const pool = systemMemoryPool().proxy()
  const report = await sweepOutOfMemory(
    (sweep) => {
      runs += 1
      for (let i = 0; i < runs + 5; i += 1) sweep.allocateBuffer(10).dispose()
    },
    { pool, maxRuns: 12 },
  )
  t.is(report.isComplete, false)
  t.is(runs, 12)
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})
