/**
 * The Rust core beside Arrow C++: runs the core's own benchmark (`crates/offheap/examples/bench_core.rs`) and the peer
 * program, in turn, and pairs what they print. Both print JSON lines `{"peer", "work", "size", "threads", "ns"}`.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Figure, figureOf, type Result } from './report.ts'
import type { Target } from './work.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const parts = ['buffers', 'builders', 'pools'] as const

interface Sample {
  readonly peer: string
  readonly work: string
  readonly size: number
  readonly threads: number
  readonly ns: number
}

/** What is to be reached, by work; sizes and threads not named are shown and not judged. */
const targets: readonly { work: RegExp; size?: number; threads?: number; target: Target }[] = [
  { work: /^allocate-buffer-drop$/, target: { times: 1, than: 'Arrow C++' } },
  { work: /^allocate-buffer-drop$/, size: 4096, target: { atMost: 25, later: true } },
  { work: /^slice-drop$/, target: { times: 1 / 1.2, than: 'Arc clone and drop' } },
  { work: /^allocate-free mimalloc$/, size: 64, threads: 1, target: { times: 1 / 1.5, than: 'raw allocator', later: true } },
  { work: /^allocate-free mimalloc$/, size: 64, threads: 1, target: { times: 3, than: 'Arrow C++', later: true } },
  { work: /^append-bool warm$/, target: { atMost: 1, later: true } },
  { work: /^append-int64 warm$/, target: { times: 2, than: 'Arrow C++', later: true } },
]

function jsonLines(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Sample)
    .filter((sample) => typeof sample.ns === 'number')
}

function run(program: string, args: readonly string[]): Sample[] {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 26 })
  if (error !== undefined || status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr}`)
  return jsonLines(stdout)
}

/** Builds the core's benchmark; the path of the program. */
function buildCore(): string {
  const args = ['build', '--release', '-p', 'offheap', '--example', 'bench_core', '--message-format', 'json-render-diagnostics']
  const { status, stdout, stderr, error } = spawnSync('cargo', args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 })
  if (error !== undefined || status !== 0) throw new Error(error?.message ?? stderr)
  const messages = stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as { executable?: string | null })
  const program = messages.map((message) => message.executable).findLast((path) => path != null)
  if (program == null) throw new Error('cargo named no program')
  return program
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
    skipped.push(`Arrow C++ (its program did not build or run: ${String(error).split('\n')[0]})`)
    return undefined
  }
}

/** One function for all works of the core, so that the runs of both programs can be interleaved. */
export function coreResults(rounds: number, quick: boolean, skipped: string[]): (() => Promise<Result[]>)[] {
  let ours: string
  try {
    ours = buildCore()
  } catch (error) {
    skipped.push(`the core (its benchmark does not build: ${String(error).split('\n')[0]})`)
    return []
  }
  const peer = arrowCpp(skipped)
  if (peer !== undefined && quick) skipped.push('the pools of Arrow C++ (they take half a minute; without --quick they are there)')
  return parts.map((part) => async () => {
    const samples: Sample[] = []
    for (let round = 0; round < rounds; round += 1) {
      samples.push(...run(ours, quick ? [part, '--quick'] : [part]))
      if (peer !== undefined && !(quick && part === 'pools')) samples.push(...run(peer, [part]))
    }
    return pair(samples)
  })
}

/** What is no peer in the sense of something that does the same job, but the floor under it. */
const limits = new Set(['raw', 'arc-clone', 'vec'])
const names: Readonly<Record<string, string>> = {
  'arrow-cpp': 'Arrow C++',
  'arrow-rs': 'arrow-rs',
  'arc-clone': 'Arc clone and drop',
  raw: 'raw allocator',
  vec: 'Vec (not aligned)',
}

function pair(samples: readonly Sample[]): Result[] {
  const works = new Map<string, Sample[]>()
  for (const sample of samples) {
    const key = `${sample.work}|${sample.size}|${sample.threads}`
    works.set(key, [...(works.get(key) ?? []), sample])
  }
  return [...works.values()]
    .filter((found) => found.some(({ peer }) => peer === 'offheap'))
    .map((found): Result => {
      const { work, size, threads } = found[0]!
      const peers = [...new Set(found.map((sample) => sample.peer))]
      return {
        group: 'core',
        name: `${work}, ${bytes(size)}${threads > 1 ? `, ${threads} threads` : ''}`,
        what: whatIs(work),
        unit: 'ns',
        figures: peers.map((name) => figure(name, found.filter((sample) => sample.peer === name).map((sample) => sample.ns))),
        targets: targets
          .filter((entry) => entry.work.test(work) && (entry.size ?? size) === size && (entry.threads ?? threads) === threads)
          .map((entry) => entry.target),
      }
    })
}

function figure(peer: string, samples: readonly number[]): Figure {
  const kind = peer === 'offheap' ? 'ours' : peer.startsWith('offheap') ? 'variant' : limits.has(peer) ? 'limit' : 'peer'
  return figureOf(names[peer] ?? peer, kind, samples)
}

function bytes(size: number): string {
  return size >= 2 ** 20 ? `${size / 2 ** 20} MiB` : size >= 1024 ? `${size / 1024} KiB` : `${size} B`
}

function whatIs(work: string): string {
  if (work.startsWith('allocate-free')) return 'the pool allocates and frees a block, 64-byte aligned'
  if (work === 'allocate-buffer-drop') return 'a buffer is allocated from the default pool and dropped'
  if (work === 'slice-drop') return '128 bytes of a buffer are sliced and the slice is dropped'
  if (work.startsWith('append-bytes')) return '256 MiB are appended to a byte builder, that many at a time'
  return 'ten million values are appended one by one to a builder that starts empty, and finished; `first` in a fresh process, `warm` after that'
}
