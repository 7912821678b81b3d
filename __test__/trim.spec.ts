/** Unused memory goes back to the system by itself, from every thread, and keeps nothing alive meanwhile. */
import test from 'ava'
import { mappedMemoryPool, systemMemoryPool } from 'offheap'
import { backends, runScript, throwsCode } from './support.js'

const MIB = 2 ** 20

test('a policy is the backend’s: set through any pool over it, read through all of them', (t) => {
  const pool = mappedMemoryPool()
  const over = pool.limit(1000).proxy()
  t.deepEqual(pool.trimPolicy, { idleMs: 500, minBytes: 32 * MIB })
  over.trim({ idleMs: 20, minBytes: 3 })
  t.deepEqual(pool.trimPolicy, { idleMs: 20, minBytes: 3 })
  pool.trim({ minBytes: 2 ** 53 - 1 })
  t.deepEqual(over.trimPolicy, { idleMs: 500, minBytes: 2 ** 53 - 1 })
  pool.trim(false)
  t.is(over.trimPolicy, undefined)
  pool.trim()
  t.deepEqual(over.trimPolicy, { idleMs: 500, minBytes: 32 * MIB })
  // Another backend has its own.
  over.trim({ idleMs: 7 })
  t.deepEqual(systemMemoryPool().trimPolicy, { idleMs: 500, minBytes: 32 * MIB })
  pool.trim({})
})

test('what is no policy is refused, and changes nothing', (t) => {
  const pool = mappedMemoryPool().proxy()
  const before = pool.trimPolicy
  for (const wrong of [true, null, 1, 'never', Symbol('never')]) {
    throwsCode(t, () => pool.trim(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', /options must be an object or false/)
  }
  for (const wrong of [-1, 0.5, Number.NaN, Infinity, 2 ** 53, 7 * 24 * 3600 * 1000 + 1, '1', 1n, null]) {
    throwsCode(t, () => pool.trim({ idleMs: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', /idleMs/)
  }
  for (const wrong of [-1, 0.5, Number.NaN, Infinity, 2 ** 53, '1', 1n, null]) {
    throwsCode(t, () => pool.trim({ minBytes: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', /minBytes/)
  }
  throwsCode(t, () => pool.trim.call({} as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', /receiver/)
  t.deepEqual(pool.trimPolicy, before)
})

test('OFFHEAP_TRIM=0 switches it off for every backend', async (t) => {
  const script = `console.log(JSON.stringify(offheap.supportedMemoryBackends().map((name) => {
    const pool = offheap[name + 'MemoryPool']()
    const before = pool.trimPolicy ?? null
    pool.trim({ idleMs: 1 })
    return [before, pool.trimPolicy.idleMs]
  })))`
  const off = await runScript(script, { OFFHEAP_TRIM: '0' })
  t.deepEqual(
    JSON.parse(off.stdout),
    backends.map(() => [null, 1]),
  )
})

/** Fills and frees, then only waits: prints `ok` once the process is back near where it began. */
const residency = `
  const mib = () => process.memoryUsage.rss() / 2 ** 20
  const blocks = []
  function churn(pool, size, bytes, live) {
    const count = bytes / size
    for (let index = 0; index < count; index += 1) blocks.push(pool.allocateBuffer(size).fill(1))
    let index = 0
    for (const block of blocks) if (index++ % 1024 >= live) block.dispose()
  }
  function waitUntil(isThere, after) {
    const giveUpAt = Date.now() + 60_000
    const timer = setInterval(() => {
      if (!isThere() && Date.now() < giveUpAt) return
      clearInterval(timer)
      console.log(isThere() ? 'ok' : 'still ' + mib())
      after?.()
    }, 50)
  }
`

for (const name of backends) {
  for (const [size, live] of [
    [4096, 0],
    [4096, 1],
    [65_536, 0],
    [4 * MIB, 0],
  ] as const) {
    test.serial(`memory goes back while nobody calls anything: ${name}, ${size} bytes, ${live} of 1024 alive`, async (t) => {
      if (process.platform !== 'linux') {
      t.pass('only measured on Linux')
      return
    }
      const { stdout, stderr } = await runScript(
        `${residency}
        const pool = offheap.${name}MemoryPool()
        const [size, live] = [${size}, ${live}]
        churn(pool, size, 4 * 2 ** 20, 0)
        const start = mib()
        churn(pool, size, 256 * 2 ** 20, live)
        blocks.length = live === 0 ? 0 : blocks.length
        // The handles are JavaScript's own memory.
        waitUntil(() => (gc(), mib() - start < 60))`,
      )
      t.is(stdout.trim(), 'ok', stderr)
    })
  }
}

test.serial('workers give back what they freed, alive and asleep or gone, and none is kept from ending', async (t) => {
  if (process.platform !== 'linux') {
      t.pass('only measured on Linux')
      return
    }
  const { stdout, stderr, code } = await runScript(
    `${residency}
    const { Worker } = require('node:worker_threads')
    const library = JSON.stringify(require.resolve('offheap'))
    const script = \`
      const { parentPort, workerData } = require('node:worker_threads')
      const offheap = require(\${library})
      const blocks = []
      for (let index = 0; index < 32768; index += 1) blocks.push(offheap.mimallocMemoryPool().allocateBuffer(4096).fill(1))
      blocks.forEach((block, index) => { if (index % 1024 !== 0) block.dispose() })
      parentPort.postMessage('freed')
      if (workerData) parentPort.on('message', () => process.exit())\`
    const start = mib()
    const workers = [true, true, false].map((stays) => new Worker(script, { eval: true, workerData: stays }))
    let freed = 0
    for (const worker of workers) worker.once('message', () => {
      if (++freed < workers.length) return
      // Isolates take some 30 MiB each; 384 MiB were freed.
      waitUntil(() => mib() - start < 200, () => workers.slice(0, 2).forEach((worker) => worker.postMessage('end')))
    })`,
  )
  t.is(stdout.trim(), 'ok', stderr)
  t.is(code, 0)
})

test.serial('a process with nothing to do ends, also when there is memory to give back', async (t) => {
  const { code, stdout, stderr } = await runScript(
    `${residency}
    for (const name of offheap.supportedMemoryBackends()) churn(offheap[name + 'MemoryPool'](), 65536, 64 * 2 ** 20, 0)
    blocks.length = 0
    console.log('done')
    process.on('exit', () => console.log('exit'))`,
  )
  t.deepEqual([code, stdout.trim().split('\n')], [0, ['done', 'exit']], stderr)
})

test.serial('environments come and go while memory is being given back', async (t) => {
  const { code, stdout, stderr } = await runScript(
    `const { Worker } = require('node:worker_threads')
    const library = JSON.stringify(require.resolve('offheap'))
    for (const name of offheap.supportedMemoryBackends()) offheap[name + 'MemoryPool']().trim({ idleMs: 0, minBytes: 65536 })
    const script = \`
      const offheap = require(\${library})
      const pool = offheap.mimallocMemoryPool()
      for (let round = 0; round < 20; round += 1) {
        const blocks = []
        for (let index = 0; index < 256; index += 1) blocks.push(pool.allocateBuffer(4096).fill(1))
        for (const block of blocks) block.dispose()
        pool.releaseUnused()
      }\`
    let left = 24
    const next = () => {
      if (left-- <= 0) return
      const worker = new Worker(script, { eval: true })
      if (left % 4 === 0) setTimeout(() => worker.terminate(), 20)
      worker.once('exit', next)
    }
    for (let index = 0; index < 4; index += 1) next()
    process.on('exit', () => console.log(offheap.totalAllocatedBytes()))`,
  )
  t.deepEqual([code, stdout.trim()], [0, '0'], stderr)
})
