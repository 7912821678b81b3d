/**
 * Benchmarks with their peers in one run.
 *
 *   npm run bench                          everything: about ten minutes
 *   npm run bench -- --quick               fewer rounds: under two minutes
 *   npm run bench -- append core           some of the groups: append, scratch, buffers, resident, core
 *   npm run bench -- --json FILE           where the figures go, instead of bench/results/
 *   npm run bench -- --readme              also rewrites the tables of bench/README.md
 *
 * Every figure comes from a process of its own, and the contenders of a work take turns, round by round, so that what
 * disturbs the machine disturbs all of them. Shown is the lower quartile of a contender's samples, because what disturbs a
 * machine only ever adds; the file has the least, the median and the most as well.
 */

import { spawnSync } from 'node:child_process'
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
const rounds = options.quick ? 1 : 7
const milliseconds = options.quick ? 150 : 400

/** Figures of one contender from one process. */
function measure(group: string, work: Work, contender: string): number[] {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...process.execArgv, join(here, 'child.ts'), group, work.name, contender, String(milliseconds)],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`${work.name}, ${contender}: ${stderr}`)
  return JSON.parse(stdout) as number[]
}

/** The contenders of one work, in turn. */
function compare(group: string, work: Work): Result {
  const contenders = Object.entries(work.contenders)
  const samples = contenders.map((): number[] => [])
  for (let round = 0; round < rounds; round += 1) {
    for (let place = 0; place < contenders.length; place += 1) {
      const index = (place + round) % contenders.length
      samples[index]!.push(...measure(group, work, contenders[index]![0]))
    }
  }
  const figures = contenders.map(([name, { kind }], index) => figureOf(name, kind, samples[index]!))
  const unit = work.measure === 'peak' ? 'MiB' : 'ns'
  return { group, name: work.name, what: work.what, unit, figures, targets: work.targets }
}

const start = performance.now()
const results: Result[] = []
const skipped: string[] = []
for (const group of selected) {
  const found = group === 'core' ? coreResults(options.quick ? 1 : 5, options.quick, skipped) : (await worksOf(group)).map((work) => () => compare(group, work))
  for (const next of found) {
    const added = [next()].flat()
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
  rounds,
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
console.log(`\n${results.length} works in ${report.seconds} s; targets: ${count('reached')} reached, ${count('MISSED')} missed, ${count('not yet')} for later`)
console.log(`figures: ${relative(process.cwd(), file)}`)
for (const note of skipped) console.log(`not measured: ${note}`)
