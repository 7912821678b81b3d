/** Figures as tables, against their targets. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { notes } from './notes.ts'
import type { Scaling } from './rows.ts'
import type { Contender, Target } from './work.ts'

/** What one contender reached. */
export interface Figure {
  readonly name: string
  readonly kind: Contender['kind']
  readonly median: number
  readonly lowerQuartile: number
  readonly upperQuartile: number
  readonly least: number
  readonly most: number
  readonly samples: number
  /** The median peak of resident memory in MiB, where that was measured. */
  readonly peak?: number
}

function at(sorted: readonly number[], part: number): number {
  const place = part * (sorted.length - 1)
  const below = sorted[Math.floor(place)]!
  return below + (sorted[Math.ceil(place)]! - below) * (place % 1)
}

/** One contender's samples in a few figures. */
export function figureOf(name: string, kind: Figure['kind'], samples: readonly number[], peaks: readonly number[] = []): Figure {
  const sorted = samples.toSorted((a, b) => a - b)
  return {
    name,
    kind,
    median: at(sorted, 0.5),
    lowerQuartile: at(sorted, 0.25),
    upperQuartile: at(sorted, 0.75),
    least: sorted[0]!,
    most: sorted.at(-1)!,
    samples: sorted.length,
    ...(peaks.length > 0 ? { peak: at(peaks.toSorted((a, b) => a - b), 0.5) } : {}),
  }
}

/** All contenders of one work. */
export interface Result {
  readonly group: string
  readonly section: 'javascript' | 'core' | 'workloads'
  readonly name: string
  readonly what: string
  readonly unit: 'ns' | 'MiB'
  readonly threads?: number
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
  readonly scaling: readonly Scaling[]
}

/** `12.3 ns`, `1.65 us`, `34 ms` with three digits. */
export function amount(figure: number, unit: Result['unit']): string {
  const digits = (value: number) => (value >= 100 || value === 0 ? value.toFixed(0) : value.toPrecision(value < 0.1 ? 1 : value < 1 ? 2 : 3))
  if (unit === 'MiB') return `${digits(Math.max(figure, 0))} MiB`
  if (figure < 1e3) return `${digits(figure)} ns`
  if (figure < 1e6) return `${digits(figure / 1e3)} us`
  return figure < 1e9 ? `${digits(figure / 1e6)} ms` : `${digits(figure / 1e9)} s`
}

function ratio(value: number): string {
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** `not yet` is a miss of what the design asks of a later version. */
export type Verdict = 'reached' | 'MISSED' | 'not yet' | 'not measured'

/** One target against what was measured. */
export interface Judgement {
  readonly target: string
  readonly verdict: Verdict
  /** The target was missed by this factor; 1 and less when it was reached. */
  readonly by: number
}

function ownOf(result: Result): Figure | undefined {
  return result.figures.find((figure) => figure.kind === 'ours')
}

function judge(result: Result, target: Target): Judgement {
  const { atMost, times, atMostTimes, than } = target
  const ours = ownOf(result)
  const other = result.figures.find((figure) => figure.name === than)
  const text =
    atMost !== undefined
      ? `≤ ${amount(atMost, result.unit)}`
      : atMostTimes !== undefined
        ? `≤ ${ratio(atMostTimes)}x ${than}`
        : times === 1
          ? `as fast as ${than}`
          : `≥ ${ratio(times!)}x faster than ${than}`
  const bound = atMost ?? (other === undefined ? undefined : atMostTimes !== undefined ? other.median * atMostTimes : other.median / times!)
  if (ours === undefined || bound === undefined) return { target: text, verdict: 'not measured', by: 1 }
  const by = ours.median / bound
  // The table has this ratio where it compares with that contender; a target of its own may name another one.
  const is = other === undefined ? '' : ` (is ${ratio(atMostTimes !== undefined ? ours.median / other.median : other.median / ours.median)}x)`
  return { target: text + is, verdict: by <= 1 ? 'reached' : target.later === true ? 'not yet' : 'MISSED', by }
}

/** What became of a work's targets. */
export function judgementsOf(result: Result): Judgement[] {
  return result.targets.map((target) => judge(result, target))
}

/** The contender that ours is compared with: the best peer, or the limit that a target names, or the first limit. */
function comparedOf(result: Result, kind: 'peer' | 'limit'): Figure | undefined {
  const found = result.figures.filter((figure) => figure.kind === kind)
  if (kind === 'peer') return found.toSorted((a, b) => a.median - b.median)[0]
  const named = result.targets.map(({ than }) => found.find(({ name }) => name === than)).find((figure) => figure !== undefined)
  return named ?? found[0]
}

/** The cells of a result: work, ours, best peer, its ratio, limit, its ratio. */
function cells(result: Result): string[] {
  const ours = ownOf(result)
  if (ours === undefined) return []
  const peak = (figure: Figure) => (figure.peak === undefined ? '' : `, ${amount(figure.peak, 'MiB')}`)
  const other = (figure: Figure | undefined): string[] =>
    figure === undefined
      ? ['', '']
      : [
          `${figure.name} ${amount(figure.median, result.unit)}${peak(figure)}`,
          // Of nothing there is no ratio.
          result.unit === 'MiB' && Math.min(ours.median, figure.median) < 1 ? '' : `${ratio(figure.median / ours.median)}x`,
        ]
  const own = `${amount(ours.median, result.unit)}${peak(ours)}`
  return [result.name, own, ...other(comparedOf(result, 'peer')), ...other(comparedOf(result, 'limit'))]
}

/** A line for each result, for the terminal. */
export function table(results: readonly Result[], withHeading: boolean): string {
  const widths = [44, 10, 38, 7, 36, 7]
  const line = (texts: readonly string[]) => `${texts.map((text, index) => text.padEnd(widths[index] ?? 0)).join('  ').trimEnd()}\n`
  const heading = withHeading ? line(['work', 'ours', 'best peer', 'ratio', 'limit', 'ratio', 'targets']) : ''
  const judged = (result: Result) => judgementsOf(result).map(({ target, verdict, by }) => `${target}: ${verdict}${verdict === 'MISSED' ? ` (${ratio(by)}x)` : ''}`)
  return heading + results.map((result) => line([...cells(result), judged(result).join('; ')])).join('')
}

function markdownRow(texts: readonly string[]): string {
  return `| ${texts.join(' | ')} |`
}

function markdownTable(heading: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [markdownRow(heading), markdownRow(heading.map(() => '---')), ...rows.map(markdownRow)]
}

function details(summary: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', `<details><summary>${summary}</summary>`, '', ...lines, '', '</details>']
}

/** Results with targets, their verdicts, and the notes of those that were missed. */
function targetTable(results: readonly Result[]): string[] {
  const rows = results.map((result) => {
    const judgements = judgementsOf(result)
    const verdicts = judgements.map(({ verdict, by }) => (verdict === 'MISSED' ? `**MISSED** by ${ratio(by)}x` : verdict))
    return [...cells(result), judgements.map(({ target }) => target).join('; '), [...new Set(verdicts)].join('; ')]
  })
  return markdownTable(['work', 'ours', 'best peer', 'ratio', 'limit', 'ratio', 'target', ''], rows)
}

function missNotes(results: readonly Result[]): string[] {
  const missed = results.filter((result) => judgementsOf(result).some(({ verdict }) => verdict === 'MISSED'))
  if (missed.length === 0) return []
  return ['', 'What was missed:', '', ...missed.map(({ name }) => `- **${name}**: ${notes[name] ?? 'the reason is not known yet'}`)]
}

/** A table of workloads: ours, the best peer and their peaks of resident memory, by the number of threads. */
function workloadTable(results: readonly Result[], cores: number): string[] {
  const rows = results.map((result) => {
    const over = (result.threads ?? 1) > cores ? ' (oversubscribed)' : ''
    const [, ours = '', peer = '', times = ''] = cells(result)
    return [`${result.name}${over}`, ours, peer, times]
  })
  return markdownTable(['workload', 'offheap, peak', 'best peer, its peak', 'ratio'], rows)
}

/** By how much a cost grew, as what it grows with did; and whether it was ever more than in proportion. */
function growthOf(scaling: Scaling, costs: readonly (number | undefined)[]): { factor: number; linear: boolean } {
  const points = costs.flatMap((cost, index) => (cost === undefined ? [] : [{ cost, value: scaling.at[index]!.value }]))
  const [first, last] = [points[0]!, points.at(-1)!]
  return { factor: last.cost / first.cost, linear: points.every(({ cost, value }) => cost / first.cost <= value / first.value) }
}

function scalingTable(scaling: Scaling): string[] {
  const rows = scaling.series.map(({ name, kind, costs }) => {
    const { factor, linear } = growthOf(scaling, costs)
    const shown = costs.map((cost) => (cost === undefined ? '' : amount(cost, scaling.unit)))
    return [kind === 'ours' ? '**offheap**' : name, ...shown, `${ratio(factor)}x`, linear ? 'no worse than linear' : '**worse than linear**']
  })
  const heading = [scaling.name, ...scaling.at.map(({ label }) => label), 'last / first', '']
  return [`${scaling.what}:`, '', ...markdownTable(heading, rows), '']
}

/** Scaling for the terminal: ours, and whether it is worse than linear. */
export function scalingLines(all: readonly Scaling[]): string {
  const lines = all.flatMap((scaling) =>
    scaling.series
      .filter(({ kind }) => kind === 'ours' || kind === 'variant')
      .map(({ name, costs }) => {
        const { factor, linear } = growthOf(scaling, costs)
        const [from, to] = [scaling.at[0]!.label, scaling.at[costs.findLastIndex((cost) => cost !== undefined)]!.label]
        return `cost by ${scaling.name}, ${name}: ${ratio(factor)}x from ${from} to ${to}, ${linear ? 'no worse than linear' : 'WORSE THAN LINEAR'}\n`
      }),
  )
  return lines.join('')
}

/** Whether all of ours grow no worse than linearly. */
export function allLinear(all: readonly Scaling[]): boolean {
  return all.every((scaling) => scaling.series.every(({ kind, costs }) => (kind !== 'ours' && kind !== 'variant') || growthOf(scaling, costs).linear))
}

function spread(results: readonly Result[]): string[] {
  const rows = results.flatMap(({ name, unit, figures }) =>
    figures.map((figure, index) => {
      const { least, lowerQuartile, median, upperQuartile, most } = figure
      const values = [least, lowerQuartile, median, upperQuartile, most].map((value) => amount(value, unit))
      return [index === 0 ? name : '', figure.name, ...values, ...(figure.peak === undefined ? [''] : [amount(figure.peak, 'MiB')])]
    }),
  )
  return markdownTable(['work', 'contender', 'least', 'quartile', 'median', 'quartile', 'most', 'peak'], rows)
}

function markdown(report: Report, chart: string | undefined): string {
  const { date, machine, quick, seconds, skipped, results, scaling } = report
  const { node, v8, cpu, cores, memoryGiB, system } = machine
  const withTargets = results.filter(({ targets }) => targets.length > 0)
  const core = withTargets.filter(({ section }) => section === 'core')
  const javascript = withTargets.filter(({ section }) => section === 'javascript')
  const workloads = results.filter(({ section }) => section === 'workloads')
  const rest = results.filter((result) => result.targets.length === 0 && result.section !== 'workloads')
  const section = (title: string, lines: readonly string[], empty: boolean) => (empty ? [] : ['', `### ${title}`, '', ...lines])
  const restRows = rest.map((result) => cells(result)).filter((row) => row.length > 0)
  return [
    `${date}, Node ${node.slice(1)} (V8 ${v8}), ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${system}; ${quick ? 'a quick run' : 'a full run'} of ${Math.round(seconds / 60)} minutes.`,
    ...skipped.map((note) => `Not measured: ${note}.`),
    ...(chart === undefined ? [] : ['', `![Ratios of all works with targets: the best peer's time divided by ours](${chart})`]),
    ...section('The core', [...targetTable(core), ...missNotes(core)], core.length === 0),
    ...section('JavaScript', [...targetTable(javascript), ...missNotes(javascript)], javascript.length === 0),
    ...section('Workloads', workloadTable(workloads, cores), workloads.length === 0),
    ...section('Scaling', scaling.flatMap(scalingTable), scaling.length === 0),
    ...details('Other works', restRows.length === 0 ? [] : markdownTable(['work', 'ours', 'best peer', 'ratio', 'limit', 'ratio'], restRows)),
    ...details('All contenders of the works with targets and of the workloads', spread([...withTargets, ...workloads])),
    ...details('What each work is', whatEachIs([...withTargets, ...workloads])),
  ].join('\n')
}

/** What is done in each work; said once where several have the same words. */
function whatEachIs(results: readonly Result[]): string[] {
  const byWhat = new Map<string, string[]>()
  for (const { name, what } of results) byWhat.set(what, [...(byWhat.get(what) ?? []), name])
  return [...byWhat].map(([what, names]) => `- **${names.join('**, **')}**: ${what}.`)
}

/** Replaces the part of README.md that shows runs with this major version of Node. `chart` is relative to it. */
export function writeReadme(file: string, report: Report, chart: string | undefined): void {
  const major = report.machine.node.split('.')[0]!.slice(1)
  const begin = `<!-- figures: node ${major} -->`
  const end = `<!-- end of figures: node ${major} -->`
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '# Benchmarks\n'
  const part = `${begin}\n\n${markdown(report, chart)}\n\n${end}`
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  const replaced = from >= 0 && to > from
  writeFileSync(
    file,
    replaced ? text.slice(0, from) + part + text.slice(to + end.length) : `${text.trimEnd()}\n\n## Node ${major}\n\n${part}\n`,
  )
}

/** By how much ours is better than its best peer, or worse than its limit: what the chart shows. */
export function ratiosOf(results: readonly Result[]): { work: string; peer: string; kind: 'peer' | 'limit'; ratio: number }[] {
  return results
    .filter((result) => result.targets.length > 0 && result.unit === 'ns')
    .flatMap((result) => {
      const ours = ownOf(result)
      return (['peer', 'limit'] as const).flatMap((kind) => {
        const other = comparedOf(result, kind)
        return ours === undefined || other === undefined ? [] : [{ work: result.name, peer: other.name, kind, ratio: other.median / ours.median }]
      })
    })
}
