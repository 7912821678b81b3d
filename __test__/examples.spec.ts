/** Every program in examples/ runs, as a user would run it, and says that it was right. */

import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'

const folder = join(dirname(fileURLToPath(import.meta.url)), '..', 'examples')

function run(file: string): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)(process.execPath, ['--import', '@oxc-node/core/register', join(folder, file)], { timeout: 120_000 })
}

// A file that starts with an underscore is no program. The main job says more than one line.
const programs = readdirSync(folder).filter((name) => name.endsWith('.ts') && !name.startsWith('_') && name !== 'flights.ts')

test('there are examples', (t) => {
  t.true(programs.length >= 5)
})

for (const file of programs) {
  const name = file.slice(0, -'.ts'.length)
  test.serial(`examples/${file}`, async (t) => {
    const { stdout, stderr } = await run(file)
    t.is(stdout.trimEnd().split('\n').at(-1), `${name}: ok`)
    t.is(stderr, '')
  })
}

test.serial('examples/flights.ts: the main job', async (t) => {
  const { stdout, stderr } = await run('flights.ts')
  t.is(stderr, '')
  t.is(stdout.trimEnd().split('\n').at(-1), 'all checks passed')
  t.false(stdout.includes('FAIL'))
  t.false(stdout.includes('\x1b') || stdout.includes('\r'), 'plain lines where nobody watches')
  t.regex(stdout, /600,000 values compared with flights-200k\.arrow, 0 differ/)
  t.is(stdout.match(/is read by arrow at 0x/g)?.length, 3)
  t.regex(stdout, /the pool holds 0 bytes in 0 allocations/)
  t.regex(stdout, /"code":"ERR_OFFHEAP_OUT_OF_MEMORY","requested":\d+,"limit":1048576,"allocated":\d+,"pool":"too small"/)
  t.regex(stdout, /nothing is left behind: 0 bytes in 0 allocations/)
  t.is(stdout.match(/resident set of the process/g)?.length, 3)
})
