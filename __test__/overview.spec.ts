import { Writable } from 'node:stream'
import test from 'ava'
import { type MemoryOverview, memoryOverview, printMemoryOverview } from 'offheap'
import { backendPool, backends, runScript, throwsCode } from './support.js'

function printed(): string {
  let text = ''
  printMemoryOverview(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString()
        done()
      },
    }),
  )
  return text
}

function sum(overview: MemoryOverview): number {
  return overview.parts.reduce((total, part) => total + (part.bytes ?? 0), 0)
}

test('the parts add up to the resident set, to the byte', (t) => {
  for (let round = 0; round < 50; round += 1) {
    const overview = memoryOverview()
    t.is(sum(overview), overview.rssBytes)
  }
  const buffers = backends.flatMap((name) => [1000, 100_000, 10_000_000].map((size) => backendPool(name).allocateBuffer(size)))
  const untouched = memoryOverview()
  t.is(sum(untouched), untouched.rssBytes)
  for (const buffer of buffers) buffer.fill(1)
  const touched = memoryOverview()
  t.is(sum(touched), touched.rssBytes)
  for (const buffer of buffers) buffer.dispose()
})

test('a gigabyte that is reserved but not touched still adds up', (t) => {
  const buffer = backendPool('system').allocateBuffer(2 ** 33)
  const overview = memoryOverview()
  t.is(sum(overview), overview.rssBytes)
  t.true(overview.rssBytes < 2 ** 33)
  t.true(overview.untouchedBytes < 0)
  buffer.dispose()
  const after = memoryOverview()
  t.is(sum(after), after.rssBytes)
})

test('freed large blocks are a part of their own until they are given back', (t) => {
  const pool = backendPool('mapped')
  const buffer = pool.allocateBuffer(64 << 20)
  buffer.fill(1)
  buffer.dispose()
  const cached = memoryOverview()
  t.true(cached.cachedBytes >= 64 << 20)
  t.is(cached.parts.find(({ label }) => label.startsWith('large blocks'))?.bytes, cached.cachedBytes)
  t.is(sum(cached), cached.rssBytes)
  pool.releaseUnused()
  const released = memoryOverview()
  t.is(released.cachedBytes, 0)
  t.true(released.rssBytes < cached.rssBytes - (60 << 20))
})

test('every part is a whole number of bytes or unknown, and only the correction is negative', (t) => {
  const overview = memoryOverview()
  for (const { label, bytes } of overview.parts) {
    t.true(bytes === null || Number.isSafeInteger(bytes), label)
    if (bytes !== null && bytes !== overview.untouchedBytes) t.true(bytes >= 0, `${label}: ${bytes}`)
  }
  t.is(new Set(overview.parts.map(({ label }) => label)).size, overview.parts.length)
  t.true(overview.otherBytes >= 0)
  t.true(overview.untouchedBytes <= 0)
  const { heap } = overview
  t.true(heap.usedBytes > 0 && heap.usedBytes <= heap.physicalBytes)
  t.is(heap.usedBytes + heap.freeBytes, heap.physicalBytes)
  t.true(heap.limitBytes > heap.usedBytes)
})

test('each backend has its line, in order, with what its pool says', (t) => {
  const buffers = backends.map((name, index) => backendPool(name).allocateBuffer(100_000 * (index + 1)))
  const overview = memoryOverview()
  t.deepEqual(
    overview.backends.map(({ backendName }) => backendName),
    [...backends],
  )
  for (const backend of overview.backends) {
    const pool = backendPool(backend.backendName)
    t.is(backend.allocatedBytes, pool.bytesAllocated)
    t.is(backend.liveAllocations, pool.liveAllocations)
    for (const figure of [backend.roundingBytes, backend.residentBytes, backend.retainedBytes]) {
      t.true(figure === null || (Number.isSafeInteger(figure) && figure >= 0))
    }
    t.true(overview.parts.some(({ label, bytes }) => label.startsWith(backend.backendName) && bytes === backend.allocatedBytes))
  }
  for (const buffer of buffers) buffer.dispose()
})

test('what is unknown is null, and printed as unknown', (t) => {
  const overview = memoryOverview()
  const unknown = overview.parts.filter(({ bytes }) => bytes === null)
  const text = printed()
  t.is((text.match(/unknown/g) ?? []).length >= unknown.length, true)
  for (const { label } of unknown) t.regex(text, new RegExp(`^${label.replace(/[()]/g, '\\$&')} +unknown$`, 'm'))
})

test('the print fits a terminal of 80 columns and 24 rows', (t) => {
  const buffers = backends.map((name) => backendPool(name).allocateBuffer(3_000_000).fill(1))
  const lines = printed().trimEnd().split('\n')
  t.true(lines.length <= 24, `${lines.length} lines`)
  for (const line of lines) t.true(line.length <= 80, line)
  for (const name of backends) t.true(lines.some((line) => line.includes(name)))
  for (const buffer of buffers) buffer.dispose()
})

test('what is printed adds up, too', async (t) => {
  const { stdout, code } = await runScript('offheap.printMemoryOverview()')
  t.is(code, 0)
  const figures = stdout.split('\n').map((line) => / (-?\d+\.\d\d)$/.exec(line)?.[1])
  const rules = stdout.split('\n').flatMap((line, index) => (/^-+$/.test(line) ? [index] : []))
  t.is(rules.length, 2)
  const parts = figures.slice(rules[0]! + 1, rules[1]).flatMap((figure) => (figure === undefined ? [] : [Number(figure)]))
  const total = Number(figures[rules[1]! + 1])
  t.true(total > 10)
  // Each line is rounded to 0.01 MiB.
  t.true(Math.abs(parts.reduce((a, b) => a + b, 0) - total) <= 0.01 * (parts.length + 1), stdout)
})

test('it adds up in a worker, too', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    const { Worker } = require('worker_threads')
    new Worker(\`
      const { memoryOverview, defaultMemoryPool } = require('offheap')
      const buffer = defaultMemoryPool().allocateBuffer(1000000).fill(1)
      const { parts, rssBytes } = memoryOverview()
      console.log(parts.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0) === rssBytes)
      buffer.dispose()
    \`, { eval: true }).on('error', (error) => { throw error })
  `)
  t.deepEqual({ stdout, code }, { stdout: 'true\n', code: 0 }, stderr)
})

test('printMemoryOverview takes a stream, and nothing else', (t) => {
  for (const stream of [null, 5, 'stdout', {}, { write: 5 }, Symbol('x')]) {
    throwsCode(t, () => printMemoryOverview(stream as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'stream')
  }
})

test('disposing gives back what the overview shows', (t) => {
  const pool = backendPool('system')
  const before = memoryOverview().backends.find(({ backendName }) => backendName === 'system')!
  const buffer = pool.allocateBuffer(50_000_000).fill(1)
  const during = memoryOverview().backends.find(({ backendName }) => backendName === 'system')!
  t.is(during.allocatedBytes - before.allocatedBytes, 50_000_000)
  buffer.dispose()
  const after = memoryOverview().backends.find(({ backendName }) => backendName === 'system')!
  t.is(after.allocatedBytes, before.allocatedBytes)
})
