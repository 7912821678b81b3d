import test from 'ava'
import { defaultMemoryPool } from 'offheap'
import { backends, runScript } from './support.js'

const PRINT = 'console.log(offheap.defaultMemoryPool().backendName)'

/** The backend that a process has by default in an environment, and what it said about it. */
async function chosen(env: Record<string, string>, script = PRINT) {
  const { stdout, stderr, code, signal } = await runScript(script, env)
  return { backend: stdout.trim(), stderr, code: code ?? signal }
}

const preferred = backends[0]!
const variables = ['OFFHEAP_DEFAULT_MEMORY_POOL', 'ARROW_DEFAULT_MEMORY_POOL', 'ALKAID_DEFAULT_MEMORY_POOL']

for (const variable of variables) {
  for (const backend of backends) {
    test(`#104 ${variable}=${backend} chooses it, silently`, async (t) => {
      t.deepEqual(await chosen({ [variable]: backend }), { backend, stderr: '', code: 0 })
    })
  }

  test(`#104 ${variable} with an unknown value: one line that names the valid ones, then the default`, async (t) => {
    // Asked for several times, in a worker too: the warning comes once.
    const { backend, stderr, code } = await chosen(
      { [variable]: 'nonexistent' },
      `${PRINT}
       offheap.defaultMemoryPool()
       offheap.MemoryBuffer.from('x').dispose()
       new offheap.BufferBuilder().append('x')
       const { Worker } = require('worker_threads')
       new Worker("require('offheap').defaultMemoryPool().allocateBuffer(1)", { eval: true })`,
    )
    t.is(backend, preferred)
    t.is(code, 0)
    const lines = stderr.split('\n').filter((line) => line !== '')
    t.is(lines.length, 1, stderr)
    t.true(lines[0]!.includes(variable), stderr)
    t.true(lines[0]!.includes("'nonexistent'"), stderr)
    for (const name of backends) t.true(lines[0]!.includes(`'${name}'`), stderr)
  })

  test(`${variable} that is empty counts as unset`, async (t) => {
    t.deepEqual(await chosen({ [variable]: '' }), { backend: preferred, stderr: '', code: 0 })
  })
}

test('names are case-sensitive, and not trimmed, as in Arrow', async (t) => {
  for (const value of ['System', 'SYSTEM', ' system', 'system ', 'default']) {
    const { backend, stderr } = await chosen({ OFFHEAP_DEFAULT_MEMORY_POOL: value })
    t.is(backend, preferred)
    t.true(stderr.includes(`'${value}'`), stderr)
  }
})

test('ours comes before Arrow’s, Arrow’s before Alkaid’s; what is empty does not count', async (t) => {
  const [first, second] = [backends[0]!, backends.at(-1)!]
  const cases: [string, string, string, string][] = [
    [second, first, first, second],
    [first, second, second, first],
    ['', second, first, second],
    ['', '', second, second],
    ['', first, second, first],
  ]
  for (const [ours, arrow, alkaid, expected] of cases) {
    const env = { OFFHEAP_DEFAULT_MEMORY_POOL: ours, ARROW_DEFAULT_MEMORY_POOL: arrow, ALKAID_DEFAULT_MEMORY_POOL: alkaid }
    t.deepEqual(await chosen(env), { backend: expected, stderr: '', code: 0 }, JSON.stringify(env))
  }
})

test('an unknown value of ours is not saved by a good one of Arrow’s', async (t) => {
  const { backend, stderr } = await chosen({ OFFHEAP_DEFAULT_MEMORY_POOL: 'nonexistent', ARROW_DEFAULT_MEMORY_POOL: 'system' })
  t.is(backend, preferred)
  t.true(stderr.includes('OFFHEAP_DEFAULT_MEMORY_POOL'))
})

test('no value at all that a shell can pass crashes it', async (t) => {
  for (const value of ['x'.repeat(100_000), '☃', '%s%n', "'; drop", '\u001b[31m', '\n\n']) {
    const { backend, code } = await chosen({ OFFHEAP_DEFAULT_MEMORY_POOL: value })
    t.deepEqual({ backend, code }, { backend: preferred, code: 0 })
  }
})

test('the environment is read once: changing it later changes nothing', async (t) => {
  const { backend } = await chosen(
    {},
    `offheap.defaultMemoryPool()
     process.env.OFFHEAP_DEFAULT_MEMORY_POOL = 'system'
     ${PRINT}`,
  )
  t.is(backend, preferred)
  t.is(defaultMemoryPool().backendName, process.env['OFFHEAP_DEFAULT_MEMORY_POOL'] || preferred)
})

test('the chosen pool is the one that everything allocates from', async (t) => {
  const { backend, code } = await chosen(
    { OFFHEAP_DEFAULT_MEMORY_POOL: 'system' },
    `const buffer = offheap.MemoryBuffer.from('x')
     console.log(buffer.pool === offheap.systemMemoryPool(), offheap.defaultMemoryPool() === offheap.systemMemoryPool(), offheap.systemMemoryPool().bytesAllocated)`,
  )
  t.deepEqual({ backend, code }, { backend: 'true true 1', code: 0 })
})

test('OFFHEAP_SAFE_DISPOSE=1: shown memory waits for the collector, and that is all that changes', async (t) => {
  const { backend, stderr, code } = await chosen(
    { OFFHEAP_SAFE_DISPOSE: '1' },
    `const pool = offheap.defaultMemoryPool().proxy()
     console.log(offheap.capabilities().gate, offheap.capabilities().safeDispose)
     const hidden = pool.allocateBuffer(1000)
     hidden.dispose()
     const shown = pool.allocateBuffer(1000)
     ;(() => { shown.asUint8Array().fill(1) })()
     shown.dispose()
     console.log(pool.bytesAllocated, pool.stats().parkedBytes)
     let rounds = 0
     setImmediate(function wait() {
       gc()
       rounds += 1
       if (pool.stats().parkedBytes > 0 && rounds < 100) setImmediate(wait)
       else console.log(pool.stats().parkedBytes)
     })`,
  )
  t.is(code, 0, stderr)
  t.is(backend, 'collect true\n0 1000\n0')
})
