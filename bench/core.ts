/**
 * The Rust core beside its peers: runs the core's own benchmark (`crates/offheap/benches/core`) and the Arrow C++ program,
 * in turn, and joins what they print. Both print JSON lines `{"peer", "work", "size", "threads", "ns"}`; ours has every
 * sample in `samples`, and the thread's processor time in `cpu`.
 */

import { execFile, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Lines, type Line } from './lines.ts'
import type { Result } from './report.ts'
import { rowsOf, scalingOf, workloadsOf, type Scaling } from './rows.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const start = promisify(execFile)

/** What the core gives a report. */
export interface CoreResults {
  readonly results: readonly Result[]
  readonly scaling: readonly Scaling[]
}

function jsonLines(text: string): Line[] {
  const lines = text.split('\n').filter((line) => line.startsWith('{'))
  return lines.map((line) => JSON.parse(line) as Line)
}

function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Line[] {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...env },
  })
  if (error !== undefined || status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr}`)
  return jsonLines(stdout)
}

/** Builds a program with cargo; its path. */
function build(args: readonly string[], name: string): string {
  const { status, stdout, stderr, error } = spawnSync('cargo', [...args, '--message-format', 'json-render-diagnostics'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    // Both workspaces build most of the same crates.
    env: { ...process.env, CARGO_TARGET_DIR: process.env['CARGO_TARGET_DIR'] ?? join(root, 'target') },
  })
  if (error !== undefined || status !== 0) throw new Error(error?.message ?? stderr.trim())
  const messages = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { executable?: string | null; target?: { name: string } })
  const program = messages.findLast(({ executable, target }) => executable != null && target?.name === name)?.executable
  if (program == null) throw new Error('cargo named no program')
  return program
}

/** The core's benchmark, with the peers of `bench/rust` where they build. */
function buildCore(quick: boolean, skipped: string[]): string {
  if (quick) {
    skipped.push('vortex-buffer (with --quick it is not built)')
  } else {
    try {
      return build(['build', '--release', '--locked', '--manifest-path', join('bench', 'rust', 'Cargo.toml')], 'offheap-bench')
    } catch (error) {
      skipped.push(`vortex-buffer (bench/rust does not build: ${firstLine(error)})`)
    }
  }
  return build(['bench', '--no-run', '-p', 'offheap', '--bench', 'core'], 'core')
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0]!
}

/** The Arrow C++ peer, where it is at hand. It is no part of this repository. */
function arrowCpp(skipped: string[]): string | undefined {
  const peer = process.env['OFFHEAP_ARROW_CPP_PEER'] ?? join(root, '..', 'shared', 'peers', 'arrow-cpp', 'run')
  if (!existsSync(peer)) {
    skipped.push('Arrow C++ (no peer program: set OFFHEAP_ARROW_CPP_PEER to one that prints the same JSON lines)')
    return undefined
  }
  try {
    run(peer, ['buffers']) // builds it
    return peer
  } catch (error) {
    skipped.push(`Arrow C++ (its program did not build or run: ${firstLine(error)})`)
    return undefined
  }
}

/** The addon, whose C functions are measured, where it was built. */
function addon(): string | undefined {
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const libc = process.platform !== 'linux' ? '' : report.header.glibcVersionRuntime === undefined ? '-musl' : '-gnu'
  const path = join(root, `offheap.${process.platform}-${process.arch}${libc}.node`)
  return existsSync(path) ? path : undefined
}

/** Runs some programs at once, as many as there are in `width`. */
async function inParallel(width: number, tasks: readonly (() => Promise<Line[]>)[]): Promise<Line[]> {
  const lines: Line[] = []
  const queue = tasks.values()
  const worker = async (): Promise<void> => {
    for (const task of queue) lines.push(...(await task()))
  }
  await Promise.all(Array.from({ length: width }, worker))
  return lines
}

const pools = ['mimalloc', 'jemalloc', 'system', 'mapped'] as const
const blocks = [4096, 65_536, 4_194_304] as const

/** What is resident 2.5 s after 512 MiB were freed. Most of that time is spent asleep, so four wait at once. */
async function residency(ours: string, peer: string | undefined, quick: boolean): Promise<Line[]> {
  const rss = (program: string, args: readonly string[]) => async () => {
    const { stdout } = await start(program, args, { cwd: root, encoding: 'utf8' })
    return jsonLines(stdout)
  }
  const tasks = pools.flatMap((pool) => {
    if (quick) return [rss(ours, ['rss', pool, '4096', '0', '1'])]
    const cases = blocks.map((block) => [String(block), '0', '1'])
    cases.push(['4096', '1024', '1'], ['4096', '0', '3'], ['65536', '0', '3'], ['4096', '1024', '3'])
    return cases.map((words) => rss(ours, ['rss', pool, ...words]))
  })
  if (peer !== undefined && !quick) {
    for (const pool of pools) if (pool !== 'mapped') for (const block of blocks) tasks.push(rss(peer, ['rss', pool, String(block)]))
  }
  return inParallel(4, tasks)
}

/** Ten million values in a fresh process, in turn with the peers. */
function coldBuilders(ours: string, peer: string | undefined, rounds: number): Line[] {
  const lines: Line[] = []
  for (let round = 0; round < rounds; round += 1) {
    lines.push(...run(ours, ['cold-builder', 'offheap', '--json']))
    if (peer !== undefined) lines.push(...run(peer, ['cold-builder', '10000000']))
    for (const name of ['arrow-rs', 'vec']) lines.push(...run(ours, ['cold-builder', name, '--json']))
  }
  return lines
}

const workloads = {
  larson: 'small',
  xmalloc: 'small',
  rptest: 'small',
  'malloc-large': 'large',
  'grow-doubling': 'large',
  'allocate-deallocate': 'large',
  'allocate-touch-deallocate': 'large',
} as const

const contenders = ['offheap-mimalloc', 'offheap-limit', 'offheap-jemalloc', 'offheap-system', 'mimalloc', 'jemalloc', 'posix_memalign'] as const

/** One line each of one workload, contenders in turns, each in a process of its own. */
function workload(ours: string, name: keyof typeof workloads, quick: boolean): Line[] {
  // Whole pages for every small block: nobody would.
  const names = workloads[name] === 'small' ? contenders : [...contenders, 'offheap-mapped', 'offheap-no-large-blocks']
  const threads = quick ? [2] : name === 'xmalloc' ? [2, 4, 8] : [1, 2, 4, 8]
  const lines: Line[] = []
  for (const count of threads) {
    for (let round = 0; round < (quick ? 1 : 3); round += 1) {
      for (const contender of names) lines.push(...run(ours, ['workload', name, contender, String(count), '--json', ...(quick ? ['--quick'] : [])]))
    }
  }
  return lines
}

/** Measures the core. What it finds goes to `show` as soon as it is there. */
export async function coreResults(quick: boolean, skipped: string[], show: (results: readonly Result[]) => void): Promise<CoreResults> {
  let ours: string
  try {
    ours = buildCore(quick, skipped)
  } catch (error) {
    skipped.push(`the core (its benchmark does not build: ${firstLine(error)})`)
    return { results: [], scaling: [] }
  }
  const peer = arrowCpp(skipped)
  if (peer !== undefined && quick) skipped.push('the pools and the residency of Arrow C++ (they take a minute; without --quick they are there)')
  const library = addon()
  if (library === undefined) skipped.push('offheap.h (the addon, which has its functions, is not built)')

  const lines = new Lines()
  const options = ['--json', ...(quick ? ['--quick'] : [])]
  for (let round = 0; round < (quick ? 1 : 3); round += 1) {
    for (const part of ['buffers', 'builders', 'pools', 'c-abi'] as const) {
      if (part === 'c-abi' && library === undefined) continue
      lines.add(run(ours, [part, ...options], library === undefined ? {} : { OFFHEAP_C_LIBRARY: library }))
      if (peer !== undefined && part !== 'c-abi' && !(quick && part === 'pools')) lines.add(run(peer, [part]))
    }
  }
  lines.add(run(ours, ['growth', ...options]))
  lines.add(run(ours, ['first-touch', ...options]))
  lines.add(coldBuilders(ours, peer, quick ? 3 : 7))
  lines.add(await residency(ours, peer, quick))
  const results = rowsOf(lines)
  show(results)
  for (const name of Object.keys(workloads) as (keyof typeof workloads)[]) lines.add(workload(ours, name, quick))
  const made = workloadsOf(lines)
  show(made)
  lines.add(run(ours, ['scaling', ...options]))
  return { results: [...results, ...made], scaling: scalingOf(lines) }
}
