/** Attacks through what copies, moves or keeps ArrayBuffers, and the harness's own controls (`docs/lifetime.md`). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { attack, attackTests, checkSafe } from './attacks/suite.js'
import { open, rows } from './attacks/table.mjs'
import { root } from './support.js'

attackTests('together', 'objects', 'reentrancy')

test.serial('with nothing in flight, memory is freed in the call and the next who asks gets it', async (t) => {
  const run = await attack('nothing in flight', 'guarded')
  checkSafe(t, run)
  t.deepEqual(run.result!.outcomes, { 'freed at once': run.result!.disposals })
  t.true(run.result!.reused >= run.result!.disposals / 2, `the address was seen again ${run.result!.reused} times`)
})

test.serial('the harness sees one byte that is written into memory of others', async (t) => {
  const { result } = await attack('a write into foreign memory', 'guarded')
  t.is(result?.damagedBlocks, result?.disposals)
})

test.serial('OFFHEAP_SAFE_DISPOSE=1 keeps everything that was shown until it is collected', async (t) => {
  const run = await attack('nothing in flight', 'guarded', { OFFHEAP_SAFE_DISPOSE: '1' })
  checkSafe(t, run)
  t.deepEqual(run.result!.outcomes, { parked: run.result!.disposals })
  t.is(run.result!.reused, 0)
  t.is(run.result!.gate, 'collect')
})

test('docs/lifetime.md lists every row that needs a pin, and no other', (t) => {
  const guide = readFileSync(join(root, 'docs', 'lifetime.md'), 'utf8')
  const section = /## When to pin\n(.*?)\n## /s.exec(guide)?.[1] ?? ''
  const listed = [...section.matchAll(/^\| .*\| `([^`]+)` \|$/gm)].map((match) => match[1]!)
  t.deepEqual(listed.sort(), Object.keys(open).sort())
  for (const row of listed) t.true(row in rows || row === 'ab.transfer()', row)
})
