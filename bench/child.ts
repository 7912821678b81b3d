/**
 * One contender in a process of its own: `child.ts GROUP WORK CONTENDER`. Whenever `run.ts` asks, it works for some
 * milliseconds and answers with a figure; between, it sleeps, and others have their turn.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { worksOf, type Body } from './work.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Runs the body, with turns, for `ms` milliseconds at least; nanoseconds an operation. */
async function time(body: Body, operations: number, ms: number): Promise<number> {
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

/** The most memory that the process ever had in RAM, in bytes; on Linux since the last `resetPeakRss()`. */
function peakRss(): number {
  if (process.platform !== 'linux') return process.resourceUsage().maxRSS * 1024
  const kilobytes = /^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]
  return Number(kilobytes) * 1024
}

function resetPeakRss(): void {
  if (process.platform === 'linux') writeFileSync('/proc/self/clear_refs', '5')
}

/** By how many MiB the RSS is over its start at its peak. */
async function peak(body: Body): Promise<number> {
  globalThis.gc?.()
  await turn()
  resetPeakRss()
  const start = process.memoryUsage.rss()
  body()
  return (peakRss() - start) / 2 ** 20
}

/** By how many MiB the RSS is over its start 2.5 s after the body; 0.1 stands for less, also for less than at the start. */
async function later(body: Body): Promise<number> {
  globalThis.gc?.()
  await turn()
  const start = process.memoryUsage.rss()
  body()
  await new Promise<void>((resolve) => setTimeout(resolve, 2500))
  return Math.max(0.1, (process.memoryUsage.rss() - start) / 2 ** 20)
}

const [group = '', name, contenderName = ''] = process.argv.slice(2)
const work = (await worksOf(group)).find((candidate) => candidate.name === name)
const contender = work?.contenders[contenderName]
if (work === undefined || contender === undefined) throw new Error(`no such work: ${process.argv.slice(2).join(' / ')}`)
const body = await contender.load()

process.on('message', async (ms: number) => {
  if (work.measure === 'peak') {
    process.send!(await peak(body))
  } else if (work.measure === 'later') {
    process.send!(await later(body))
  } else {
    body() // the others had the caches
    process.send!(await time(body, work.operations, ms))
  }
})
process.send!('ready')
