/** Failure injection, and the sweep over all failures. */
import { readFile } from 'node:fs/promises'
import test from 'ava'
import {
  BufferBuilder,
  defaultMemoryPool,
  getAllocator,
  MemoryBuffer,
  type MemoryPool,
  sweepOutOfMemory,
  systemMemoryPool,
} from 'offheap'
import { eachBackend, held, rejectsCode, runScript, throwsCode } from './support.js'

/** Which of `count` allocations fail, by number from 1. */
function failed(pool: MemoryPool, count: number, size = 10): number[] {
  const numbers: number[] = []
  for (let number = 1; number <= count; number += 1) {
    try {
      pool.allocateBuffer(size).dispose()
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_OFFHEAP_OUT_OF_MEMORY') throw error
      numbers.push(number)
    }
  }
  return numbers
}

eachBackend('a window of requests fails', (t, base) => {
  t.deepEqual(failed(base.failing(), 3), [1, 2, 3])
  t.deepEqual(failed(base.failing({ after: 2 }), 5), [3, 4, 5])
  const pool = base.failing({ after: 1, count: 2 })
  t.deepEqual(failed(pool, 6), [2, 3])
  t.deepEqual(pool.failingCounts, { requests: 6, failures: 2 })
  pool.rearm({ after: 0, count: 1 })
  t.deepEqual(pool.failingCounts, { requests: 0, failures: 0 })
  t.deepEqual(failed(pool, 2), [1])
  pool.rearm()
  pool.disarm()
  t.deepEqual(failed(pool, 2), [])
  const error = throwsCode(t, () => base.failing().allocateBuffer(77), 'ERR_OFFHEAP_OUT_OF_MEMORY', 'failing')
  t.is((error as unknown as { requested: number }).requested, 77)
})

test('size, probability and seed decide', (t) => {
  const base = systemMemoryPool()
  const large = base.failing({ minSize: 100 })
  t.deepEqual(failed(large, 3, 99), [])
  t.deepEqual(failed(large, 3, 100), [1, 2, 3])
  const draw = (seed: number): number[] => failed(base.failing({ probability: 0.5, seed }), 200)
  t.deepEqual(draw(7), draw(7))
  t.notDeepEqual(draw(7), draw(8))
  t.true(draw(1).length > 60 && draw(1).length < 140)
  t.deepEqual(failed(base.failing({ probability: 0 }), 20), [])
  t.is(failed(base.failing({ probability: 1 }), 20).length, 20)
})

test('the JavaScript stack decides', (t) => {
  const pool = systemMemoryPool().failing({ stack: 'thisOneFails' })
  function thisOneFails(): MemoryBuffer {
    return pool.allocateBuffer(10)
  }
  function thisOneWorks(): MemoryBuffer {
    return pool.allocateBuffer(10)
  }
  throwsCode(t, thisOneFails, 'ERR_OFFHEAP_OUT_OF_MEMORY')
  thisOneWorks().dispose()
  throwsCode(t, () => thisOneFails(), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.deepEqual(pool.failingCounts, { requests: 2, failures: 2 })
  pool.rearm({ stack: 'thisOneWorks' })
  throwsCode(t, thisOneWorks, 'ERR_OFFHEAP_OUT_OF_MEMORY')
  thisOneFails().dispose()
})

test('wrong options are refused with a code', (t) => {
  const pool = systemMemoryPool()
  const wrong: [string, unknown[]][] = [
    ['after', [-1, 1.5, '1', null, 2 ** 53]],
    ['count', [-1, NaN]],
    ['probability', [-0.1, 1.1, NaN, '1', 1n]],
    ['seed', [-1, 0.5]],
    ['minSize', [-1, {}]],
    ['stack', ['', 1, 'a\0']],
    ['domain', ['all', '', 1, null]],
  ]
  for (const [name, values] of wrong) {
    for (const value of values) throwsCode(t, () => pool.failing({ [name]: value }), 'ERR_OFFHEAP_INVALID_ARGUMENT', name)
  }
  throwsCode(t, () => pool.failing(1 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  throwsCode(t, () => pool.failing({ after: 1, probability: 0.5 }), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => pool.disarm(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => pool.rearm({}), 'ERR_OFFHEAP_NOT_SUPPORTED')
  t.is(pool.failingCounts, undefined)
})

test('a domain fails with the pool until it is closed', async (t) => {
  // In a process of its own: the object domain is everybody's.
  const { stdout, stderr } = await runScript(`
    const tries = (pool) => { try { pool.allocateBuffer(10).dispose(); return 'works' } catch (error) { return error.code } }
    const before = offheap.getAllocator('object')
    const failing = offheap.systemMemoryPool().failing({ domain: 'object' })
    console.log(tries(offheap.mimallocMemoryPool()), tries(offheap.domainPool('object')))
    failing.disarm()
    console.log(tries(offheap.mimallocMemoryPool()))
    failing.rearm()
    failing.close()
    console.log(tries(offheap.mimallocMemoryPool()), offheap.getAllocator('object') === before)`)
  t.is(stderr, '')
  t.is(stdout, 'ERR_OFFHEAP_OUT_OF_MEMORY ERR_OFFHEAP_OUT_OF_MEMORY\nworks\nworks true\n')
})

test.serial('a sweep of code that is right is clean', async (t) => {
  const before = defaultMemoryPool()
  const report = await sweepOutOfMemory((pool) => {
    t.is(defaultMemoryPool().backendName, pool.backendName)
    const first = pool.allocateResizableBuffer(100)
    try {
      first.resize(5000)
      const second = MemoryBuffer.from('hello')
      second.dispose()
    } finally {
      first.dispose()
    }
  })
  t.true(report.isClean, report.text)
  t.true(report.isComplete)
  t.deepEqual(report.leaks, [])
  t.deepEqual(report.wrongErrors, [])
  t.is(report.requests, 5)
  t.is(report.survived, 0)
  t.is(report.injected, 10)
  t.is(report.runs, 1 + 6 + 6)
  t.is(defaultMemoryPool(), before)
})

test.serial('a sweep waits for asynchronous code and for work in flight', async (t) => {
  const report = await sweepOutOfMemory(async (pool) => {
    const buffer = pool.allocateBuffer(4096)
    try {
      buffer.asUint8Array().fill(1)
      await readFile(new URL(import.meta.url))
      const builder = new BufferBuilder({ pool })
      try {
        builder.append('some text')
      } finally {
        builder.dispose()
      }
    } finally {
      buffer.dispose()
    }
  })
  t.true(report.isClean, report.text)
  t.is(report.requests, 4)
})

test.serial('a sweep finds a leak and says who made it', async (t) => {
  function leaky(pool: MemoryPool): void {
    const buffer = pool.allocateBuffer(100)
    const copy = buffer.copySlice(0, 50, { pool })
    copy.dispose()
    buffer.dispose()
  }
  const kept = held(systemMemoryPool())
  const report = await sweepOutOfMemory(leaky, { pool: systemMemoryPool() })
  t.true(report.isComplete)
  t.false(report.isClean)
  t.deepEqual(report.wrongErrors, [])
  const [leak] = report.leaks
  t.like(leak, { request: 3, mode: 'once', domain: undefined, bytes: 100, allocations: 1 })
  t.is(leak!.blocks.length, 1)
  t.is(leak!.blocks[0]!.stack[0]!.function, 'leaky')
  t.regex(report.text, /leak with allocation 3 failing: 100 bytes in 1 allocations of the pool/)
  t.true(report.leaks.some(({ domain, blocks }) => domain === 'object' && blocks.length === 0))
  t.true(held(systemMemoryPool()).bytes > kept.bytes)
})

test.serial('a sweep finds errors that are none of memory, and what gave up without a reason', async (t) => {
  const wrong = new Error('broken')
  const broken = await sweepOutOfMemory((pool) => {
    try {
      pool.allocateBuffer(10).dispose()
    } catch {
      throw wrong
    }
  })
  t.false(broken.isClean)
  t.is(broken.wrongErrors[0]!.error, wrong)
  t.like(broken.wrongErrors[0], { request: 1, mode: 'once' })
  const caused = await sweepOutOfMemory((pool) => {
    try {
      pool.allocateBuffer(10).dispose()
    } catch (cause) {
      throw new Error('wrapped', { cause })
    }
  })
  t.true(caused.isClean, caused.text)
  const survivor = await sweepOutOfMemory((pool) => {
    try {
      pool.allocateBuffer(10).dispose()
    } catch {
      // goes on without
    }
  })
  t.true(survivor.isClean)
  t.is(survivor.survived, 4)
  const undisturbed = await sweepOutOfMemory(() => {
    throw new Error('at once')
  })
  t.false(undisturbed.isComplete)
  t.is(undisturbed.runs, 1)
  const endless = await sweepOutOfMemory((pool) => void Array.from({ length: 50 }, () => pool.allocateBuffer(1).dispose()), { maxRuns: 5 })
  t.is(endless.runs, 5)
  t.false(endless.isComplete)
})

test.serial('one sweep at a time; wrong arguments are refused; everything is put back', async (t) => {
  const before = [getAllocator('mem'), getAllocator('object')]
  const inner = await sweepOutOfMemory(async () => {
    await rejectsCode(t, sweepOutOfMemory(() => {}), 'ERR_OFFHEAP_BUSY')
  })
  t.true(inner.isClean, inner.text)
  await rejectsCode(t, sweepOutOfMemory(1 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'fn')
  await rejectsCode(t, sweepOutOfMemory(() => {}, { pool: {} as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  await rejectsCode(t, sweepOutOfMemory(() => {}, { domains: ['x' as never] }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'domains[0]')
  await rejectsCode(t, sweepOutOfMemory(() => {}, { domains: 'mem' as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'domains')
  await rejectsCode(t, sweepOutOfMemory(() => {}, { maxRuns: 0 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'maxRuns')
  t.deepEqual([getAllocator('mem'), getAllocator('object')].map((pool, index) => pool === before[index]), [true, true])
  const none = await sweepOutOfMemory((pool) => void pool.allocateBuffer(1).dispose(), { domains: [] })
  t.is(none.requests, 1)
  t.true(none.isClean)
})
