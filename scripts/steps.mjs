// Runs commands one after the other, shows what they print, and counts the tests that they report.
import { spawn } from 'node:child_process'
import { stripVTControlCharacters } from 'node:util'
import { root } from './platform.mjs'

/** The tests that a command's output reports: cargo's `test result:` lines, or ava's summary. */
function count(output) {
  const plain = stripVTControlCharacters(output)
  const sum = (pattern) => [...plain.matchAll(pattern)].reduce((total, [, number]) => total + Number(number), 0)
  const lines = (pattern) => [...plain.matchAll(pattern)].length
  return {
    // ava leaves out how many passed when one failed; it has a line for each.
    passed: sum(/^test result: .*? (\d+) passed/gm) + (sum(/^ {2}(\d+) tests? passed/gm) || lines(/^ {2}✔ /gm)),
    failed:
      sum(/^test result: .*? (\d+) failed/gm) +
      sum(/^ {2}(\d+) (?:tests? failed|hooks? failed|uncaught exceptions?|unhandled rejections?|tests? remained pending)/gm) +
      lines(/^ {2}✘ .* exited due to /gm),
    skipped: sum(/^test result: .*? (\d+) ignored/gm) + sum(/^ {2}(\d+) tests? (?:skipped|todo)/gm),
  }
}

/** Runs one command to its end; what it prints goes to our own stdout and stderr as it comes. */
function execute({ command, env = {}, cwd = root }) {
  return new Promise((resolve) => {
    let output = ''
    const child = spawn(command[0], command.slice(1), {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const relay = (from, to) =>
      from.setEncoding('utf8').on('data', (chunk) => {
        output += chunk
        to.write(chunk)
      })
    relay(child.stdout, process.stdout)
    relay(child.stderr, process.stderr)
    child.on('error', (error) => resolve({ ok: false, output: `${output}\n${error.message}` }))
    child.on('close', (code, signal) => resolve({ ok: code === 0, code, signal, output }))
  })
}

/**
 * Runs all steps, also after one that failed, and prints a table of what they counted. A step is
 * `{ name, command, env?, cwd? }`. Sets the exit code.
 */
export async function runSteps(steps) {
  const rows = []
  for (const step of steps) {
    console.log(`\n── ${step.name}: ${step.command.join(' ')}`)
    const start = performance.now()
    const result = await execute(step)
    if (result.signal) console.log(`killed by ${result.signal}`)
    const counts = count(result.output)
    // A command that failed without a failed test did not get that far (it did not build, it crashed): that counts too.
    if (!result.ok && counts.failed === 0) counts.failed = 1
    rows.push({ name: step.name, ok: result.ok, seconds: (performance.now() - start) / 1000, ...counts })
  }
  const width = Math.max(...rows.map(({ name }) => name.length), 5)
  const line = ({ name, ok, passed, failed, skipped, seconds }) =>
    `${ok ? 'PASS' : 'FAIL'}  ${name.padEnd(width)}  ${String(passed).padStart(6)} passed  ` +
    `${String(failed).padStart(4)} failed  ${String(skipped).padStart(4)} skipped  ${seconds.toFixed(1).padStart(7)} s`
  const total = { name: 'total', ok: rows.every(({ ok }) => ok), passed: 0, failed: 0, skipped: 0, seconds: 0 }
  for (const row of rows) for (const key of ['passed', 'failed', 'skipped', 'seconds']) total[key] += row[key]
  console.log(`\n${rows.map(line).join('\n')}\n${line(total)}`)
  console.log(`${total.passed} passed, ${total.failed} failed`)
  if (!total.ok) process.exitCode = 1
}
