/** A static chart of ratios beside the README, drawn by Vega without a browser. */

import { writeFileSync } from 'node:fs'
import { parse, type Spec, View } from 'vega'
import { ratiosOf, type Result } from './report.ts'

const peer = { fill: '#2a78b5', name: 'best peer' }
const limit = { fill: '#b8bec4', name: 'limit (a floor under the work, no competitor)' }

/** Writes an SVG file; false when there is nothing to show. */
export async function writeChart(file: string, results: readonly Result[]): Promise<boolean> {
  const values = ratiosOf(results).map(({ work, peer: other, kind, ratio }) => ({
    work,
    kind: kind === 'peer' ? peer.name : limit.name,
    ratio,
    label: `${ratio >= 10 ? ratio.toFixed(0) : ratio.toPrecision(2)}x ${other}`,
  }))
  if (values.length === 0) return false
  const works = [...new Set(values.map(({ work }) => work))]
  const ends = values.map(({ ratio }) => ratio)
  const spec: Spec = {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    background: 'white',
    padding: 12,
    width: 560,
    height: works.length * 30,
    title: { text: 'Time of others divided by ours: above 1 offheap is faster', anchor: 'start', fontSize: 13, offset: 10 },
    data: [{ name: 'ratios', values }],
    scales: [
      { name: 'y', type: 'band', domain: works, range: 'height', paddingInner: 0.25, paddingOuter: 0.1 },
      { name: 'bar', type: 'band', domain: [peer.name, limit.name], range: [0, 22] },
      {
        name: 'x',
        type: 'log',
        // Room for the words at the longest bar's end.
        domain: [Math.min(0.25, ...ends) / 2, Math.max(10, ...ends) * 8],
        range: 'width',
      },
      { name: 'colour', type: 'ordinal', domain: [peer.name, limit.name], range: [peer.fill, limit.fill] },
    ],
    axes: [
      { orient: 'left', scale: 'y', labelLimit: 320, labelFontSize: 11, ticks: false, domain: false, labelPadding: 6 },
      { orient: 'bottom', scale: 'x', grid: true, gridColor: '#e6e8ea', values: [0.01, 0.1, 1, 10, 100, 1000], format: '~r' },
    ],
    legends: [{ fill: 'colour', orient: 'bottom', direction: 'horizontal', labelLimit: 400, symbolType: 'square' }],
    marks: [
      {
        type: 'rect',
        from: { data: 'ratios' },
        encode: {
          enter: {
            y: { scale: 'y', field: 'work', offset: { scale: 'bar', field: 'kind' } },
            height: { value: 10 },
            x: { scale: 'x', value: 1 },
            x2: { scale: 'x', field: 'ratio' },
            fill: { scale: 'colour', field: 'kind' },
          },
        },
      },
      {
        type: 'text',
        from: { data: 'ratios' },
        encode: {
          enter: {
            y: { scale: 'y', field: 'work', offset: { scale: 'bar', field: 'kind' } },
            dy: { value: 5 },
            baseline: { value: 'middle' },
            x: { signal: "max(scale('x', datum.ratio), scale('x', 1)) + 4" },
            text: { field: 'label' },
            fontSize: { value: 9.5 },
            fill: { value: '#33383d' },
          },
        },
      },
      {
        type: 'rule',
        encode: { enter: { x: { scale: 'x', value: 1 }, y: { value: 0 }, y2: { signal: 'height' }, stroke: { value: '#33383d' } } },
      },
    ],
  }
  const view = new View(parse(spec), { renderer: 'none' })
  const svg = await view.toSVG()
  view.finalize()
  writeFileSync(file, `${svg}\n`)
  return true
}
