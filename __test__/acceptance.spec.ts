import { join } from 'node:path'
import test from 'ava'
import { root, runNode } from './support.js'

test('docs/acceptance.md is current, and every required case has its tests', async (t) => {
  const { stdout, stderr, code } = await runNode([join(root, 'scripts', 'acceptance.mjs'), '--check'])
  t.is(code, 0, stderr)
  t.regex(stdout, /^\d+ cases, \d+ Rust tests, \d+ TypeScript tests, 0 problems\n$/)
})
