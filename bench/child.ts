/**
 * Measures one contender: `child.ts GROUP WORK CONTENDER MILLISECONDS`. It has the process to itself, so no other
 * contender's garbage or type feedback is in the figure. Prints a JSON array of figures in the work's unit.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { worksOf, type Body } from './work.ts'

/** Figures that one process yields. */
const SEGMENTS = 6

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Runs the body, with turns, for `ms` milliseconds at least; nanoseconds an operation. */
async function run(body: Body, operations: number, ms: number): Promise<number> {
  const start = performance.now()
  const end = start + ms
  let calls = 0
  let now = start
  do {
    body()
    await turn()
    calls += 1
    now = performance.now()
  } while (now < end)
  return ((now - start) * 1e6) / (calls * operations)
}

async function time(body: Body, operations: number, ms: number): Promise<number[]> {
  await run(body, operations, ms / 2)
  const figures: number[] = []
  for (let segment = 0; segment < SEGMENTS; segment += 1) figures.push(await run(body, operations, ms / SEGMENTS))
  return figures
}

/** The most memory that the process ever had in RAM, in bytes; on Linux since the last `resetPeakRss()`. */
function peakRss(): number {
  if (process.platform !== 'linux') return process.resourceUsage().maxRSS * 1024
  const kilobytes = /^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]
  return Number(kilobytes) * 1024
}

function resetPeakRss(): void {
  if (process.platform === 'linux') writeFileSync('/proc/self/clear_refs', '5')
}

async function peak(body: Body): Promise<number[]> {
  globalThis.gc?.()
  await turn()
  resetPeakRss()
  const start = process.memoryUsage.rss()
  body()
  return [(peakRss() - start) / 2 ** 20]
}

const [group = '', name, contenderName = '', ms = '300'] = process.argv.slice(2)
const work = (await worksOf(group)).find((candidate) => candidate.name === name)
const contender = work?.contenders[contenderName]
if (work === undefined || contender === undefined) throw new Error(`no such work: ${process.argv.slice(2).join(' / ')}`)
const body = await contender.load()
const figures = work.measure === 'peak' ? await peak(body) : await time(body, work.operations, Number(ms))
process.stdout.write(`${JSON.stringify(figures)}\n`)
