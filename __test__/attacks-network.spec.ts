/** Attacks through sockets, http and http2 (`docs/lifetime.md`). */
import test from 'ava'
import { attack, attackTests, checkSafe } from './attacks/suite.js'

attackTests('network', 'http2')

test.serial('http2 streams that ended hold nothing: where Node publishes their life, memory is freed at once again', async (t) => {
  const run = await attack('http2 streams that ended hold nothing', 'guarded')
  checkSafe(t, run)
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number]
  const published = major > 24 || (major === 24 && minor >= 9) || (major === 22 && minor >= 23)
  t.deepEqual(Object.keys(run.result!.outcomes), [published ? 'freed at once' : 'parked'])
})
