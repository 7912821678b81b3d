/**
 * What hooks cost: `npm run bench:hooks`. Builds the core with hooks and without them, lets both programs take turns, and
 * prints the ratio of the medians (at most 1.05 while nothing is installed), then what each adaptor costs when it is on.
 */

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const quick = process.argv.includes('--quick')
const rounds = quick ? 7 : 31
const limit = 1.05

/** Builds the program with some features, and gives a path of its own: the next build overwrites the file. */
function build(scratch: string, name: string, features: string): string {
  const args = ['build', '--release', '-p', 'offheap', '--example', 'bench_hooks', '--no-default-features', '--features', features]
  const output = execFileSync('cargo', [...args, '--message-format', 'json-render-diagnostics'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  })
  const built = output
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { reason: string; executable?: string; target?: { name: string } })
    .find(({ executable, target }) => executable != null && target?.name === 'bench_hooks')
  if (built?.executable === undefined) throw new Error('cargo built no bench_hooks')
  const path = join(scratch, name)
  copyFileSync(built.executable, path)
  return path
}

/** One of the two programs, and what it said. */
class Program {
  readonly figures = new Map<string, number[]>()

  constructor(readonly path: string) {}

  /** One round, in a process of its own: where a process's memory happens to lie makes some nanoseconds. */
  round(...what: string[]): void {
    const output = execFileSync(this.path, { input: `${what.join('\n')}\n` }).toString()
    for (const line of output.split('\n')) {
      if (!line.startsWith('{')) continue
      const { work, ns } = JSON.parse(line) as { work: string; ns: number }
      const known = this.figures.get(work)
      if (known === undefined) this.figures.set(work, [ns])
      else known.push(ns)
    }
  }
}

function median(figures: readonly number[] | undefined): number {
  const sorted = [...(figures ?? [])].sort((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

const scratch = mkdtempSync(join(tmpdir(), 'offheap-bench-'))
try {
  const without = new Program(build(scratch, 'without', 'mimalloc'))
  const withHooks = new Program(build(scratch, 'with', 'mimalloc,hooks'))
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? [without, withHooks] : [withHooks, without]
    for (const program of order) program.round('off')
    withHooks.round('on')
  }
  console.log(`Hooks compiled in, none installed (${rounds} rounds in turns, medians, ns a pair):`)
  for (const [work, figures] of without.figures) {
    const [before, after] = [median(figures), median(withHooks.figures.get(work))]
    const ratio = after / before
    const verdict = ratio <= limit ? '' : `   over ${limit}`
    console.log(`  ${work.padEnd(24)} ${before.toFixed(1).padStart(8)} ${after.toFixed(1).padStart(8)}  ${ratio.toFixed(3)}x${verdict}`)
  }
  console.log('Installed (ns a pair, and what it adds to a plain pool):')
  const plain = median(withHooks.figures.get('pool 64'))
  for (const [work, figures] of withHooks.figures) {
    if (without.figures.has(work)) continue
    const ns = median(figures)
    console.log(`  ${work.padEnd(24)} ${ns.toFixed(1).padStart(8)}  ${ns < plain ? '' : '+'}${(ns - plain).toFixed(1)}`)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
