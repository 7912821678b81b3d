/** The out-of-memory sweep over every public operation of this package, in the manner of SQLite. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { capabilities, defaultMemoryPool, MemoryBuffer, TypedBufferBuilder } from 'offheap'
import { calm, on, sweepAll } from './sweeps/harness.js'
import { buffer, builder, pool } from './sweeps/kinds.js'
import { declaredNames, reflectedNames } from './sweeps/names.js'
import { dresses, exempt, operations } from './sweeps/operations.js'
import { held, runFile, throwsCode } from './support.js'

const reflected = reflectedNames()
const declared = declaredNames()

test('what is there is declared, and what is declared is there', (t) => {
  const undeclared = [...reflected].filter((name) => !declared.has(name))
  t.deepEqual(undeclared.filter((name) => !/#\[inspect\.custom\]$|Error#name$/.test(name)), [], 'in the package, but not in index.d.ts')
  const absent = [...declared].filter((name) => !reflected.has(name))
  t.deepEqual(absent.filter((name) => !/^\w+Error#\w+$/.test(name)), [], 'in index.d.ts, but not in the package')
})

test('every public name is swept or exempt', (t) => {
  const names = new Set([...reflected, ...declared])
  const exemptions = exempt.flatMap(([, names]) => names)
  const isExempt = (name: string): boolean => exemptions.some((given) => (typeof given === 'string' ? given === name : given.test(name)))
  const missing = [...names].filter((name) => !(name in operations) && !isExempt(name))
  t.deepEqual(
    missing,
    [],
    'public names without an out-of-memory sweep. Add a line for each to `operations` in __test__/sweeps/operations.ts: `on(kind, call)` if it ' +
      'asks for memory, `calm(kind, call)` if it does not; or, if it can be neither, its name to `exempt` under the reason.',
  )
  t.deepEqual(Object.keys(operations).filter((name) => !names.has(name)), [], 'sweeps of names that are not public any more: remove their lines')
  t.deepEqual(Object.keys(operations).filter(isExempt), [], 'names that are swept and exempt: remove one')
  const isStale = (given: string | RegExp): boolean => ![...names].some((name) => (typeof given === 'string' ? given === name : given.test(name)))
  t.deepEqual(exemptions.filter(isStale), [], 'exempt names that are not public any more: remove them')
})

test.serial('every operation survives running out of memory', async (t) => {
  t.timeout(240_000)
  const { wrong, refusals, operations: count } = await sweepAll(operations)
  t.deepEqual(wrong, [])
  t.log(`${count} operations, ${refusals} refusals`)
  t.true(refusals > 1000)
})

/** The sweep in a process of its own, whose heap is small: under debug hooks, and with SAFE_DISPOSE, much is freed by collections. */
async function alone(t: ExecutionContext, args: readonly string[], env: Record<string, string> = {}): Promise<void> {
  t.timeout(240_000)
  const { code, signal, stdout, stderr } = await runFile('sweeps/alone.ts', args, env)
  t.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
  const { wrong, refusals } = JSON.parse(stdout) as Awaited<ReturnType<typeof sweepAll>>
  t.deepEqual(wrong, [])
  t.true(refusals > 1000)
}

for (const name of Object.keys(dresses)) {
  test.serial(`every operation survives it in a pool of ${name} over the failing one`, (t) => alone(t, [name]))
}

for (const [variable, value] of [
  ['OFFHEAP_NO_EXTERNAL_BUFFERS', '1'],
  ['OFFHEAP_SAFE_DISPOSE', '1'],
  ['OFFHEAP_DEBUG_MEMORY_POOL', 'abort'],
] as const) {
  test.serial(`every operation survives it with ${variable}=${value}`, (t) => alone(t, [], { [variable]: value }))
}

test.serial('every operation survives it in a worker', async (t) => {
  t.timeout(240_000)
  const worker = new Worker(new URL('sweeps/alone.ts', import.meta.url))
  const exit = once(worker, 'exit')
  const [{ wrong, refusals }] = (await once(worker, 'message')) as [Awaited<ReturnType<typeof sweepAll>>]
  t.deepEqual(await exit, [0])
  t.deepEqual(wrong, [])
  t.true(refusals > 1000)
})

test.serial('the sweep notices what it is there for', async (t) => {
  const kept: MemoryBuffer[] = []
  const { wrong } = await sweepAll({
    changes: on(builder, (builder) => {
      builder.rewind(10)
      builder.append(new Uint8Array(1000))
    }),
    'asks for nothing': on(buffer, (buffer) => buffer.size),
    'is not calm': calm(pool, (pool) => pool.allocateBuffer(1)),
    leaks: on(pool, (pool) => {
      kept.push(pool.allocateBuffer(1))
      kept.push(pool.allocateBuffer(1))
    }),
    'another error': on(pool, (pool) => {
      try {
        return pool.allocateBuffer(1)
      } catch {
        throw new Error('something')
      }
    }),
    'another outcome': on(pool, (pool) => {
      try {
        return pool.allocateBuffer(1).fill(1)
      } catch {
        return MemoryBuffer.wrap(new Uint8Array(2))
      }
    }),
  })
  for (const buffer of kept) buffer.dispose()
  t.is(wrong.length, 6, wrong.join('\n'))
  t.regex(wrong[0]!, /^changes: the failed operation changed its object/)
  t.regex(wrong[1]!, /^asks for nothing: it asked for no memory/)
  t.regex(wrong[2]!, /^is not calm: .*OutOfMemoryError/s)
  t.regex(wrong[3]!, /^leaks: the failed operation changed the figures/)
  t.regex(wrong[4]!, /^another error: .*something/s)
  t.regex(wrong[5]!, /^another outcome: after 1 refusals/)
})

test.serial('an iterable that memory runs out for leaves what came before', (t) => {
  for (let after = 0; after < 10; after += 1) {
    const pool = defaultMemoryPool().failing({ after })
    const builder = new TypedBufferBuilder('int32', { pool })
    const values = (function* () {
      for (let value = 0; ; value += 1) yield value
    })()
    throwsCode(t, () => builder.appendValues(values), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.is(builder.length, builder.capacity)
    pool.disarm()
    const column = builder.finish()
    t.true(column.asInt32Array().every((value, index) => value === index))
    column.dispose()
    builder.dispose()
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  }
})

test.serial('a buffer whose views had to end for a growth that then failed can be shown again', (t) => {
  // The limit has room for one block, not for two: the views end first, and then the growth fails.
  const failing = defaultMemoryPool().failing()
  failing.disarm()
  const pool = failing.limit(1500)
  for (const grow of ['resize', 'reserve'] as const) {
    const buffer = pool.allocateResizableBuffer(1000, { zeroFill: true })
    const view = buffer.asUint8Array().fill(7)
    failing.rearm()
    throwsCode(t, () => buffer[grow](1400), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    failing.disarm()
    t.is(buffer.size, 1000)
    if (capabilities().externalBuffers) t.is(view.length, 0)
    t.true(buffer.asUint8Array().every((byte) => byte === 7))
    t.is(buffer.arrayBuffer.byteLength, 1000)
    buffer[grow](1400)
    t.is(buffer.at(999), 7)
    buffer.dispose()
  }
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})
