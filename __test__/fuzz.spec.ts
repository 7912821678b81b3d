import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { fuzz, type FuzzReport } from './fuzz-engine.js'
import { runFile } from './support.js'

/** `OFFHEAP_FUZZ_SEED=… npx ava __test__/fuzz.spec.ts` repeats a run, or makes a new one. */
const seed = Number(process.env['OFFHEAP_FUZZ_SEED'] ?? 20_261_121)

function judge(t: ExecutionContext, report: FuzzReport): void {
  const where = `seed ${report.seed}`
  t.deepEqual(report.failures.slice(0, 10), [], `${report.failures.length} failures with ${where}`)
  t.deepEqual(report.after, report.before, `the pools hold something else than before, with ${where}`)
  // The calls reach what they are meant to: values, and errors of many kinds.
  t.true(report.targets > 150, `${report.targets} targets`)
  t.true(report.values > report.calls / 20, `${report.values} values of ${report.calls} calls`)
  for (const code of ['INVALID_ARGUMENT', 'DISPOSED', 'OUT_OF_RANGE', 'NOT_SUPPORTED', 'IMMUTABLE', 'CLOSED', 'OUT_OF_MEMORY']) {
    t.true((report.errors[`ERR_OFFHEAP_${code}`] ?? 0) > 0, `no call gave ${code}: ${JSON.stringify(report.errors)}`)
  }
  t.log(`${where}: ${report.calls} calls of ${report.targets} functions: ${report.values} values, ${JSON.stringify(report.errors)}`)
}

/** Runs a seed in a process of its own; a crash becomes a failure that names the seed and the call. */
async function child(t: ExecutionContext, ofSeed: number, walks: number, calls?: number): Promise<void> {
  const journal = join(tmpdir(), `offheap-fuzz-${process.pid}-${ofSeed}`)
  try {
    const { code, signal, stdout, stderr } = await runFile('fuzz-child.ts', [String(ofSeed), journal, String(walks), ...(calls === undefined ? [] : [String(calls)])])
    if (code !== 0) {
      const last = await readFile(journal, 'utf8').catch(() => 'unknown')
      t.fail(`seed ${ofSeed} ended the process: exit code ${code}, signal ${signal}; the last call was ${last.trim()}\n${stderr.slice(-3000)}`)
    }
    judge(t, JSON.parse(stdout) as FuzzReport)
  } finally {
    await rm(journal, { force: true })
  }
}

test.serial('no input ends this process or gives an error without a code', async (t) => {
  const report = await fuzz({ seed, calls: 4000, walks: 100 })
  t.true(report.calls >= 2000)
  judge(t, report)
})

test.serial('every call there is, in a process of its own', async (t) => {
  await child(t, seed + 1, 1000)
})

for (const more of [2, 3]) {
  test.serial(`random walks, seed ${seed + more}`, async (t) => {
    await child(t, seed + more, 1500, 2000)
  })
}
