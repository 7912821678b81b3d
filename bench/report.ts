/** Figures as a table, against their targets. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { Contender, Target } from './work.ts'

/** What one contender reached. */
export interface Figure {
  readonly name: string
  readonly kind: Contender['kind']
  /** The lower quartile of the samples: what disturbs a machine only ever adds. */
  readonly value: number
  readonly median: number
  readonly least: number
  readonly most: number
  readonly samples: number
}

/** One contender's samples in a few figures. */
export function figureOf(name: string, kind: Figure['kind'], samples: readonly number[]): Figure {
  const sorted = samples.toSorted((a, b) => a - b)
  return {
    name,
    kind,
    value: sorted[sorted.length >> 2]!,
    median: sorted[sorted.length >> 1]!,
    least: sorted[0]!,
    most: sorted.at(-1)!,
    samples: sorted.length,
  }
}

/** All contenders of one work. */
export interface Result {
  readonly group: string
  readonly name: string
  readonly what: string
  readonly unit: 'ns' | 'MiB'
  readonly figures: readonly Figure[]
  readonly targets: readonly Target[]
}

/** One run. */
export interface Report {
  readonly date: string
  readonly machine: {
    readonly cpu: string
    readonly cores: number
    readonly memoryGiB: number
    readonly system: string
    readonly node: string
    readonly v8: string
  }
  readonly quick: boolean
  readonly rounds: number
  readonly seconds: number
  readonly skipped: readonly string[]
  readonly results: readonly Result[]
}

/** `12.3 ns`, `1.65 us`, `34 ms` with three digits. */
export function amount(figure: number, unit: Result['unit']): string {
  const digits = (value: number) => (value >= 100 || value === 0 ? value.toFixed(0) : value.toPrecision(value < 0.1 ? 1 : value < 1 ? 2 : 3))
  if (unit === 'MiB') return `${digits(Math.max(figure, 0))} MiB`
  if (figure < 1e3) return `${digits(figure)} ns`
  return figure < 1e6 ? `${digits(figure / 1e3)} us` : `${digits(figure / 1e6)} ms`
}

/** `not yet` is a miss of what the design asks of a later version. */
export type Verdict = 'reached' | 'MISSED' | 'not yet' | 'not measured'

function verdictOf(result: Result, target: Target): Verdict {
  const ours = result.figures.find((figure) => figure.kind === 'ours')
  if (ours === undefined) return 'not measured'
  const missed = target.later === true ? 'not yet' : 'MISSED'
  if (target.atMost !== undefined) return ours.value <= target.atMost ? 'reached' : missed
  const other = result.figures.find((figure) => figure.name === target.than)
  if (other === undefined) return 'not measured'
  return other.value / ours.value >= target.times! ? 'reached' : missed
}

/** Whether a work reached its targets. */
export function verdictsOf(result: Result): Verdict[] {
  return result.targets.map((target) => verdictOf(result, target))
}

/** One line of the table: ours beside one other, and what was to be reached. */
interface Line {
  readonly work: string
  readonly ours: string
  readonly other: string
  readonly ratio: string
  readonly target: string
  readonly verdict: string
}

function lines(result: Result): Line[] {
  const ours = result.figures.find((figure) => figure.kind === 'ours')
  if (ours === undefined) return []
  const own = amount(ours.value, result.unit)
  const beside = (other: Figure | undefined, target = '', verdict = ''): Line => ({
    work: result.name,
    ours: own,
    other: other === undefined ? '' : `${amount(other.value, result.unit)} ${other.name}`,
    ratio: other === undefined ? '' : `${ratio(other.value / ours.value)}x`,
    target,
    verdict,
  })
  const peers = result.figures.filter((figure) => figure.kind === 'peer').toSorted((a, b) => a.value - b.value)
  const limit = result.figures.find((figure) => figure.kind === 'limit')
  const judged = result.targets.map((target) => {
    const { atMost, times, than } = target
    const verdict = verdictOf(result, target)
    if (atMost !== undefined) return beside(limit ?? peers[0], `<= ${amount(atMost, result.unit)}`, verdict)
    const other = result.figures.find((figure) => figure.name === than)
    return beside(other, `>= ${ratio(times!)}x`, other === undefined ? `${than} was not measured` : verdict)
  })
  const shown = new Set(result.targets.map((target) => target.than))
  const best = peers[0]
  if (best !== undefined && !shown.has(best.name) && !(limit === undefined && result.targets.some((target) => target.atMost !== undefined))) {
    judged.push(beside(best))
  }
  if (judged.length === 0) judged.push(beside(limit))
  return judged
}

function ratio(value: number): string {
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

const columns = [
  ['work', 38],
  ['ours', 9],
  ['beside', 52],
  ['ratio', 7],
  ['target', 10],
  ['', 8],
] as const

/** The lines of some results for the terminal. */
export function table(results: readonly Result[], withHeading: boolean): string {
  const cells = (texts: readonly string[]) => `${texts.map((text, index) => text.padEnd(columns[index]![1])).join('  ').trimEnd()}\n`
  const heading = withHeading ? cells(columns.map(([name]) => name)) : ''
  const rows = results.flatMap((result) =>
    lines(result).map(({ work, ours, other, ratio, target, verdict }, index) =>
      cells(index === 0 ? [work, ours, other, ratio, target, verdict] : ['', '', other, ratio, target, verdict]),
    ),
  )
  return heading + rows.join('')
}

/** The same as Markdown, with all contenders and their spread. */
function markdown({ date, machine, rounds, skipped, results }: Report): string {
  const targets = results.flatMap((result) =>
    lines(result).map(
      ({ work, ours, other, ratio, target, verdict }, index) =>
        `| ${index === 0 ? work : ''} | ${index === 0 ? ours : ''} | ${other} | ${ratio} | ${target} | ${verdict} |`,
    ),
  )
  const all = results.flatMap((result) =>
    result.figures.map((figure, index) => {
      const cells = [figure.value, figure.least, figure.median, figure.most].map((value) => amount(value, result.unit))
      return `| ${index === 0 ? result.name : ''} | ${figure.name} | ${cells.join(' | ')} |`
    }),
  )
  const works = results.filter((result) => result.what !== '').map((result) => `- **${result.name}**: ${result.what}.`)
  const { node, v8, cpu, cores, memoryGiB, system } = machine
  return [
    `${date}, Node ${node.slice(1)} (V8 ${v8}), ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${system}; ${rounds} round${rounds === 1 ? '' : 's'}.`,
    ...skipped.map((note) => `Not measured: ${note}.`),
    '',
    '| work | ours | beside | ratio | target | |',
    '|---|---|---|---|---|---|',
    ...targets,
    '',
    '<details><summary>All contenders</summary>',
    '',
    '| work | contender | lower quartile | least | median | most |',
    '|---|---|---|---|---|---|',
    ...all,
    '',
    '</details>',
    '',
    '<details><summary>What each work is</summary>',
    '',
    ...works,
    '',
    '</details>',
  ].join('\n')
}

/** Replaces the part of README.md that shows runs with this major version of Node. */
export function writeReadme(file: string, report: Report): void {
  const major = report.machine.node.split('.')[0]!.slice(1)
  const begin = `<!-- figures: node ${major} -->`
  const end = `<!-- end of figures: node ${major} -->`
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '# Benchmarks\n'
  const part = `${begin}\n\n${markdown(report)}\n\n${end}`
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  const replaced = from >= 0 && to > from
  writeFileSync(
    file,
    replaced ? text.slice(0, from) + part + text.slice(to + end.length) : `${text.trimEnd()}\n\n## Node ${major}\n\n${part}\n`,
  )
}
