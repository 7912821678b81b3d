import test from 'ava'
import { jemallocMemoryPool, jemallocPeakReset, jemallocSetDecayMs, jemallocStat, jemallocStatsPrint, jemallocStatsString } from 'offheap'
import { backends, runScript, throwsCode } from './support.js'

const isBuiltIn = backends.includes('jemalloc')
/** A test of a build that has jemalloc; without it the same titles say that everything answers NOT_SUPPORTED. */
const withJemalloc: typeof test.serial = isBuiltIn ? test.serial : test.serial.skip as never

test('#10 #11 without jemalloc everything of it is not supported', (t) => {
  if (isBuiltIn) {
    t.pass()
    return
  }
  for (const use of [
    () => jemallocMemoryPool(),
    () => jemallocSetDecayMs(1),
    () => jemallocStat('stats.allocated'),
    () => jemallocPeakReset(),
    () => jemallocStatsString(),
    () => jemallocStatsPrint(),
  ]) {
    throwsCode(t, use, 'ERR_OFFHEAP_NOT_SUPPORTED', 'jemalloc')
  }
})

withJemalloc('#10 the decay time can be set: 0, some, never', (t) => {
  for (const ms of [0, 1, 1000, 10_000, -1, 1000]) t.notThrows(() => jemallocSetDecayMs(ms))
  for (const ms of [-2, 1.5, Number.NaN, 2 ** 53, Infinity, '1', null, undefined, {}, 1n, Symbol('x')]) {
    throwsCode(t, () => jemallocSetDecayMs(ms as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'ms')
  }
})

withJemalloc('#11 the figures of jemalloc are there', (t) => {
  const buffer = jemallocMemoryPool().allocateBuffer(100_000)
  for (const name of ['stats.allocated', 'stats.active', 'stats.metadata', 'stats.resident', 'stats.mapped']) t.true(jemallocStat(name) > 0, name)
  t.true(jemallocStat('stats.retained') >= 0)
  buffer.dispose()
})

withJemalloc('#11 figures move with allocations', async (t) => {
  // In a process of its own: the figures of the thread are exact there.
  const { stdout, stderr, code } = await runScript(`
    const { jemallocStat: stat, jemallocPeakReset } = offheap
    const pool = offheap.jemallocMemoryPool()
    pool.allocateBuffer(64).dispose()
    jemallocPeakReset()
    const before = { allocated: stat('thread.allocated'), deallocated: stat('thread.deallocated'), all: stat('stats.allocated') }
    const buffer = pool.allocateResizableBuffer(1025)
    buffer.resize(1023)
    const after = { allocated: stat('thread.allocated'), deallocated: stat('thread.deallocated') }
    const peakOfSmall = stat('thread.peak.read')
    const large = pool.allocateBuffer(100000)
    const peakOfLarge = stat('thread.peak.read')
    const all = stat('stats.allocated')
    large.dispose()
    jemallocPeakReset()
    const again = pool.allocateBuffer(1256)
    const peakAgain = stat('thread.peak.read')
    again.dispose()
    buffer.dispose()
    console.log(JSON.stringify({
      allocated: after.allocated - before.allocated,
      deallocated: after.deallocated - before.deallocated,
      peakOfSmall, peakOfLarge, peakAgain, all: all - before.all,
    }))
  `)
  t.is(code, 0, stderr)
  const figures = JSON.parse(stdout) as Record<string, number>
  // Arrow's figures, whose pool asks for the same sizes: 1025 becomes 1280 and then 1024.
  t.true(Math.abs(figures['allocated']! - 2500) <= 500, stdout)
  t.is(figures['deallocated'], 1280, stdout)
  t.true(Math.abs(figures['peakOfSmall']! - 1024) <= 700 * 2, stdout)
  t.true(Math.abs(figures['peakOfLarge']! - 100_000) <= 30_000, stdout)
  t.true(Math.abs(figures['all']! - 100_000) <= 50_000, stdout)
  t.true(Math.abs(figures['peakAgain']! - 1256) <= 100, stdout)
})

withJemalloc('#11 a name that is none is named in the error', (t) => {
  for (const name of ['stats.nonsense', 'nonsense', '', 'stats', 'stats.', 'thread', 'arenas.create', 'arena.0.purge', 'epoch', 'x'.repeat(10_000), 'stats.allocated ', '☃']) {
    const error = throwsCode(t, () => jemallocStat(name), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'name')
    if (name !== '' && name.length < 100) t.true(error.message.includes(name), error.message)
  }
  for (const name of [undefined, null, 5, {}, Symbol('x'), 'stats.allocated\0']) {
    throwsCode(t, () => jemallocStat(name as string), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'name')
  }
})

withJemalloc('what is no number is refused: texts and pointers never come out as addresses', (t) => {
  for (const name of ['config.malloc_conf', 'opt.dss', 'opt.junk', 'opt.stats_print_opts', 'opt.metadata_thp', 'thread.allocatedp', 'thread.deallocatedp', 'opt.thp', 'stats.arenas.0.dss', 'approximate_stats.']) {
    throwsCode(t, () => jemallocStat(name), 'ERR_OFFHEAP_INVALID_ARGUMENT', name)
  }
  t.true(jemallocStat('approximate_stats.active') > 0)
  t.true(jemallocStat('stats.arenas.0.nthreads') >= 0)
})

withJemalloc('#11 the report: as text and as JSON', async (t) => {
  const json = jemallocStatsString('Jax')
  t.true(json.startsWith('{"jemalloc":{"version"'), json.slice(0, 100))
  t.notThrows(() => JSON.parse(json) as unknown)
  t.true(jemallocStatsString().includes('___ Begin jemalloc statistics ___'))
  for (const options of [null, 5, {}, Symbol('x'), 'J\0']) {
    throwsCode(t, () => jemallocStatsString(options as string), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
    throwsCode(t, () => jemallocStatsPrint(options as string), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  }
  const { stdout, stderr, code } = await runScript(`offheap.jemallocStatsPrint('Jax')`)
  t.is(code, 0)
  t.is(stdout, '')
  t.true(stderr.startsWith('{"jemalloc":{"version"'))
})

withJemalloc('peak reset answers on every thread', async (t) => {
  t.notThrows(() => jemallocPeakReset())
  const { stdout, stderr, code } = await runScript(`
    const { Worker } = require('worker_threads')
    const worker = new Worker("const o = require('offheap'); o.jemallocPeakReset(); const b = o.jemallocMemoryPool().allocateBuffer(500000); console.log(o.jemallocStat('thread.peak.read') >= 500000); b.dispose()", { eval: true })
    worker.on('error', (error) => { throw error })
  `)
  t.deepEqual({ stdout, code }, { stdout: 'true\n', code: 0 }, stderr)
})
