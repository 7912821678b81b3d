/**
 * Benchmarks with their peers in one run.
 *
 *   npm run bench                          everything: about ten minutes, most of it the core
 *   npm run bench -- --quick               fewer rounds: under two minutes
 *   npm run bench -- append core           some of the groups: append, strings, scratch, buffers, resident, core
 *   npm run bench -- --json FILE           where the figures go, instead of bench/results/
 *   npm run bench -- --readme              also rewrites the tables of bench/README.md
 *
 * Every contender has a process of its own, so neither garbage nor type feedback of one is in another's figure, and they
 * take turns of some milliseconds, so that what disturbs the machine disturbs all of them. Shown is the lower quartile of
 * a contender's samples, because what disturbs a machine only ever adds; the file has the least, the median and the most.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { coreResults } from './core.ts'
import { figureOf, type Report, type Result, table, type Verdict, verdictsOf, writeReadme } from './report.ts'
import { groups, worksOf, type Work } from './work.ts'

const here = dirname(fileURLToPath(import.meta.url))

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'string' }, readme: { type: 'boolean', default: false } },
})
const known: readonly string[] = [...groups, 'core']
for (const name of positionals) if (!known.includes(name)) throw new Error(`no group ${name}; there are: ${known.join(', ')}`)
const selected = positionals.length > 0 ? positionals : known
/** How long a contender works before it is measured, how long a turn is, and how many turns each one has. */
const plan = options.quick ? { warmUp: 250, turn: 20, rounds: 8, processes: 1 } : { warmUp: 400, turn: 40, rounds: 50, processes: 3 }

/** A contender in a process of its own that waits to be asked. */
class Runner {
  readonly #child: ChildProcess

  private constructor(
    child: ChildProcess,
    readonly name: string,
  ) {
    this.#child = child
  }

  static async start(group: string, work: Work, name: string): Promise<Runner> {
    const child = fork(join(here, 'child.ts'), [group, work.name, name], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    const runner = new Runner(child, name)
    await runner.#answer()
    return runner
  }

  /** One figure. */
  async run(ms: number): Promise<number> {
    this.#child.send(ms)
    return (await this.#answer()) as number
  }

  #answer(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error(`${this.name}: its process ended`))
      this.#child.once('exit', ended)
      this.#child.once('message', (message) => {
        this.#child.off('exit', ended)
        resolve(message)
      })
    })
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit')
    this.#child.disconnect()
    await ended
  }
}

/** The contenders of one work, in turn. */
async function compare(group: string, work: Work): Promise<Result> {
  const contenders = Object.entries(work.contenders)
  const samples = contenders.map((): number[] => [])
  // A second process of the same contender has other addresses, and its code may have been compiled another way.
  for (let process = 0; process < plan.processes; process += 1) {
    const runners = await Promise.all(contenders.map(([name]) => Runner.start(group, work, name)))
    if (work.measure === 'time') for (const runner of runners) await runner.run(plan.warmUp)
    const rounds = work.measure !== 'time' ? 1 : Math.ceil(plan.rounds / plan.processes)
    for (let round = 0; round < rounds; round += 1) {
      for (let place = 0; place < runners.length; place += 1) {
        const index = (place + round) % runners.length
        samples[index]!.push(await runners[index]!.run(plan.turn))
      }
    }
    await Promise.all(runners.map((runner) => runner.stop()))
  }
  const figures = contenders.map(([name, { kind }], index) => figureOf(name, kind, samples[index]!))
  const unit = work.measure === 'time' ? 'ns' : 'MiB'
  return { group, name: work.name, what: work.what, unit, figures, targets: work.targets }
}

const start = performance.now()
const results: Result[] = []
const skipped: string[] = []
for (const group of selected) {
  const found =
    group === 'core'
      ? coreResults(options.quick ? 1 : 5, options.quick, skipped)
      : (await worksOf(group)).map((work) => async () => [await compare(group, work)])
  for (const next of found) {
    const added = await next()
    process.stdout.write(table(added, results.length === 0))
    results.push(...added)
  }
}

const cpu = cpus()[0]?.model ?? 'unknown CPU'
const report: Report = {
  date: new Date().toISOString().slice(0, 10),
  machine: {
    cpu,
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${release()}`,
    node: process.version,
    v8: process.versions.v8,
  },
  quick: options.quick,
  rounds: plan.rounds,
  seconds: Math.round((performance.now() - start) / 1000),
  skipped,
  results,
}
const slug = `${cpu.replaceAll(/\((?:R|TM)\)|\bCPU\b|@.*/gi, '').trim()} ${report.machine.cores} cores node ${process.versions.node.split('.')[0]}`
const file = options.json ?? join(here, 'results', `${report.date}-${slug.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.json`)
mkdirSync(dirname(file), { recursive: true })
writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`)
if (options.readme) writeReadme(join(here, 'README.md'), report)

const verdicts = results.flatMap(verdictsOf)
const count = (verdict: Verdict) => verdicts.filter((found) => found === verdict).length
console.log(`\n${results.length} works in ${report.seconds} s`)
console.log(`targets: ${count('reached')} reached, ${count('MISSED')} missed, ${count('not yet')} for later, ${count('not measured')} not measured`)
console.log(`figures: ${relative(process.cwd(), file)}`)
for (const note of skipped) console.log(`not measured: ${note}`)
