/** Logging pools as Arrow's tests have them: what they count, and what a process that frees all has written. */
import test from 'ava'
import { type AllocationEvent } from 'offheap'
import { backends, eachBackend, held, runScript } from './support.js'

eachBackend('#8 a logged pool counts as what it logs', (t, base) => {
  const events: AllocationEvent[] = []
  const pool = base.log((event) => events.push(event))
  const first = pool.allocateBuffer(150)
  const second = pool.allocateBuffer(50)
  first.dispose()
  second.dispose()
  t.deepEqual([pool.maxMemory, base.maxMemory], [200, 200])
  t.deepEqual([held(pool), held(base)], [held(base), { bytes: 0, allocations: 0 }])
  t.deepEqual(
    events.map(({ type, size }) => `${type} ${size}`),
    ['malloc 150', 'malloc 50', 'free 150', 'free 50'],
  )
})

test('#100 the log of a process that frees all has as many frees as allocations, over every backend', async (t) => {
  for (const backend of backends) {
    const { code, stdout, stderr } = await runScript(`
      const pool = offheap.${backend}MemoryPool().log()
      for (const size of [1, 100, 10_000]) pool.allocateBuffer(size).dispose()
      const resizable = pool.allocateResizableBuffer(10)
      resizable.resize(5000)
      resizable.dispose()
      // What is told apart from the pool's own log: another pool's requests.
      offheap.${backend}MemoryPool().allocateBuffer(77).dispose()`)
    t.is(code, 0, stderr)
    t.is(stdout, '')
    const lines = stderr.trimEnd().split('\n')
    const count = (action: string): number => lines.filter((line) => line.startsWith(`${action}: `)).length
    t.deepEqual([count('Allocate'), count('Reallocate'), count('Free'), lines.length], [4, 1, 4, 9], stderr)
    t.true(lines.every((line) => line.endsWith(`, pool = ${backend}`)), stderr)
  }
})
