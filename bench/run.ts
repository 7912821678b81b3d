/**
 * Benchmarks with their peers in one run.
 *
 *   npm run bench                          everything: some twenty minutes
 *   npm run bench -- --quick               fewer rounds: some two minutes
 *   npm run bench -- append core           some of the groups: append, strings, scratch, buffers, resident, core
 *   npm run bench -- --json FILE           where the figures go, instead of bench/results/
 *   npm run bench -- --readme              also rewrites the tables of bench/README.md, and its chart
 *   npm run bench -- --from FILE --readme  the same from the figures of an earlier run
 *
 * Every contender has a process of its own, so neither garbage nor type feedback of one is in another's figure, and they
 * take turns of some milliseconds, so that what disturbs the machine disturbs all of them. Shown is the median of a
 * contender's samples; the file has the quartiles, the least and the most, too.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { writeChart } from './chart.ts'
import { coreResults } from './core.ts'
import { allLinear, figureOf, judgementsOf, type Report, type Result, scalingLines, table, type Verdict, writeReadme } from './report.ts'
import type { Scaling } from './rows.ts'
import { groups, worksOf, type Work } from './work.ts'

const here = dirname(fileURLToPath(import.meta.url))

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    readme: { type: 'boolean', default: false },
    from: { type: 'string' },
  },
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
  return { group, section: 'javascript', name: work.name, what: work.what, unit, figures, targets: work.targets }
}

/** Runs the selected groups. */
async function measure(): Promise<Report> {
  const start = performance.now()
  const results: Result[] = []
  const skipped: string[] = []
  let scaling: readonly Scaling[] = []
  const show = (added: readonly Result[]): void => {
    process.stdout.write(table(added, results.length === 0))
    results.push(...added)
  }
  for (const group of selected) {
    if (group === 'core') {
      const core = await coreResults(options.quick, skipped, show)
      scaling = core.scaling
    } else {
      for (const work of await worksOf(group)) show([await compare(group, work)])
    }
  }
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown CPU',
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
    scaling,
  }
}

/** Where the figures of a run are kept: a file for each day, machine and version of Node. */
function defaultFile({ date, machine: { cpu, cores, node } }: Report): string {
  const slug = `${cpu.replaceAll(/\((?:R|TM)\)|\bCPU\b|@.*/gi, '').trim()} ${cores} cores node ${node.split('.')[0]!.slice(1)}`
  return join(here, 'results', `${date}-${slug.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.json`)
}

const report = options.from === undefined ? await measure() : (JSON.parse(readFileSync(options.from, 'utf8')) as Report)
const file = options.from ?? options.json ?? defaultFile(report)
if (options.from === undefined) {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`)
}
if (options.readme) {
  const chart = join(here, 'results', `${basename(file, '.json')}.svg`)
  const drawn = await writeChart(chart, report.results)
  writeReadme(join(here, 'README.md'), report, drawn ? relative(here, chart).replaceAll('\\', '/') : undefined)
}

const verdicts = report.results.flatMap(judgementsOf).map(({ verdict }) => verdict)
const count = (verdict: Verdict) => verdicts.filter((found) => found === verdict).length
process.stdout.write(scalingLines(report.scaling))
console.log(`\n${report.results.length} works in ${report.seconds} s`)
console.log(`targets: ${count('reached')} reached, ${count('MISSED')} missed, ${count('not yet')} for later, ${count('not measured')} not measured`)
if (report.scaling.length > 0) console.log(`scaling: ${allLinear(report.scaling) ? 'no cost grows worse than linearly' : 'a cost grows WORSE THAN LINEARLY'}`)
console.log(`figures: ${relative(process.cwd(), file)}`)
for (const note of report.skipped) console.log(`not measured: ${note}`)
