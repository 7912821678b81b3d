// The attacks on other runtimes, long. Installs them outside the repository (scripts/runtimes.mjs).
//
//   node __test__/attacks/runtimes.mjs [--rounds 1000] [--table-rounds 48] [--quick] [runtime…]
//
// For each runtime: fs.read, FileHandle.read, zlib and crypto in flight while dispose() is called, 1,000 rounds; then every
// row of the attack table, the rows that need a pin with one and with OFFHEAP_SAFE_DISPOSE=1. `--quick` leaves the table
// out. On Node, everything must be safe. On Bun and Deno some rows never end, because the runtime lacks what they attack or
// lets a stream hang whose input was detached: these are shown, and only harm and crashes are failures.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { runtime } from '../../scripts/runtimes.mjs'
import { groups, open, openOnBun } from './table.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '1000' }, 'table-rounds': { type: 'string', default: '48' }, quick: { type: 'boolean', default: false } },
})
const wanted = positionals.length > 0 ? positionals : ['this', 'node@22', 'node@24', 'node@26', 'bun', 'deno']
const program = fileURLToPath(new URL('run.mjs', import.meta.url))
const together = 'fs.read, FileHandle.read, zlib and crypto together'
let failures = 0

/** How a runtime is started with a program and the collector in reach. */
function command(name) {
  if (name === 'this') return [process.execPath, '--expose-gc']
  const path = runtime(name)
  if (name.startsWith('bun')) return [path]
  if (name.startsWith('deno')) return [path, 'run', '-A', '--no-check', '--v8-flags=--expose-gc']
  return [path, '--expose-gc']
}

function run([binary, ...flags], args, { env = {}, timeout = 600_000 } = {}) {
  const { status, signal, error, stdout, stderr } = spawnSync(binary, [...flags, program, ...args], {
    encoding: 'utf8',
    env: { ...process.env, OFFHEAP_SAFE_DISPOSE: '', ...env },
    timeout,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 26,
  })
  let result
  try {
    result = JSON.parse(stdout.trim().split('\n').at(-1))
  } catch {
    result = undefined
  }
  return { status, signal, hung: error?.code === 'ETIMEDOUT', result, stdout, stderr }
}

/** Prints one row's line, and counts it as failed unless it is safe. */
function judge(label, { status, signal, hung, result, stderr }, strict) {
  let verdict = 'safe'
  if (hung) verdict = 'does not end'
  else if (result === undefined) verdict = status === 0 || status === 13 ? 'does not end' : `crashed: ${signal ?? `exit code ${status}`}`
  else if (result.harmed) verdict = `HARM: ${result.damagedBlocks} blocks, ${result.foreignBytesSent} bytes sent`
  else if (strict && (result.uncaughtErrors > 0 || result.failures.length > 0)) verdict = `errors: ${JSON.stringify(result.uncaught)} ${result.failures}`
  else if (result.leftBytes + result.leftParked > 0) verdict = `left: ${result.leftBytes} allocated, ${result.leftParked} parked`
  const failed = strict ? verdict !== 'safe' : !['safe', 'does not end'].includes(verdict)
  if (failed) failures += 1
  const outcomes = result === undefined ? '' : `${result.rounds} rounds, ${result.disposals} disposals, ${result.reused} freed at once, ${JSON.stringify(result.outcomes)}`
  console.log(`  ${failed ? 'FAIL' : verdict === 'safe' ? 'ok  ' : '--  '}  ${label}: ${verdict}  ${outcomes}`)
  if (failed && result === undefined) console.log(stderr.split('\n').slice(0, 8).join('\n'))
}

for (const name of wanted) {
  const start = command(name)
  const strict = name === 'this' || name.startsWith('node')
  const { stdout } = run(start, ['--list'])
  const rows = stdout.trim().split('\n')
  const version = spawnSync(start[0], ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0]
  console.log(`\n${name} (${version})`)
  judge(together, run(start, [together, 'guarded', values.rounds]), true)
  if (values.quick) continue
  for (const row of rows) {
    if (row === together || row === 'a write into foreign memory') continue
    // Deno 2.9 crashes in its own http2 (an assertion of nghttp2, or free() of a wrong pointer), with plain ArrayBuffers too.
    if (name.startsWith('deno') && row.startsWith('http2')) continue
    const timeout = strict ? 120_000 : 20_000
    if (row in open || (name.startsWith('bun') && openOnBun.includes(row))) {
      judge(`${row}, pinned`, run(start, [row, 'pinned', values['table-rounds']], { timeout }), strict)
      judge(`${row}, OFFHEAP_SAFE_DISPOSE=1`, run(start, [row, 'guarded', values['table-rounds']], { timeout, env: { OFFHEAP_SAFE_DISPOSE: '1' } }), strict)
    } else judge(row, run(start, [row, 'guarded', values['table-rounds']], { timeout }), strict)
  }
}
console.log(`\n${wanted.length} runtimes, ${Object.values(groups).reduce((sum, group) => sum + Object.keys(group).length, 0)} rows, ${failures} failures`)
if (failures > 0) process.exitCode = 1
