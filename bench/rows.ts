/** The rows of the core: which samples are ours, whose stand beside them, and what is to be reached. */

import type { Choice, Lines, Samples } from './lines.ts'
import { figureOf, type Figure, type Result } from './report.ts'
import type { Target } from './work.ts'

/** A contender of a row: a name to show, and where its samples are. */
interface Other extends Choice {
  readonly name: string
  readonly kind: Figure['kind']
}

interface Row {
  readonly name: string
  readonly what: string
  readonly ours: Choice
  readonly others: readonly Other[]
  readonly targets: readonly Target[]
  /** What is shown: time by the wall's clock unless something else is named. */
  readonly measure?: 'cpu' | 'mib'
}

const names: Readonly<Record<string, string>> = {
  'arrow-cpp': 'Arrow C++',
  'arrow-rs': 'arrow-rs',
  'arc-clone': 'Arc clone and drop',
  'huge-pages': 'huge pages by hand',
  'kept-region': 'a region that is kept',
  raw: 'raw allocator',
  'raw-mimalloc': 'raw mimalloc',
  'raw-jemalloc': 'raw jemalloc',
  'raw-unaligned': 'raw allocator, not aligned',
  realloc: 'realloc, not aligned',
  'small-pages': 'small pages by hand',
  vec: 'Vec, not aligned',
  vortex: 'vortex-buffer',
}

/** Floors under the work, no peers in the sense of something that does the same job. */
const limits = new Set(['raw', 'raw-unaligned', 'arc-clone', 'kept-region', 'huge-pages'])

function kindOf(peer: string): Figure['kind'] {
  return peer.startsWith('offheap') ? 'variant' : limits.has(peer) ? 'limit' : 'peer'
}

/** All contenders of a work, as they are. */
function beside(work: string, peers: readonly string[], where: Omit<Choice, 'peer' | 'work'> = {}): Other[] {
  return peers.map((peer) => ({ ...where, name: names[peer] ?? peer, kind: kindOf(peer), peer, work }))
}

const raw64 = 'raw allocator'
const cpp = 'Arrow C++'

function poolRows(): Row[] {
  const work = 'allocate-free mimalloc'
  const row = (name: string, peer: string, times: number, more: readonly Target[] = []): Row => ({
    name: `pool, 64 B: ${name}`,
    what: 'a block of 64 bytes, 64-byte aligned, is allocated from mimalloc’s pool and freed',
    ours: { peer, work, size: 64 },
    others: beside(work, ['raw', 'raw-unaligned', 'arrow-cpp'], { size: 64 }),
    targets: [{ atMostTimes: times, than: raw64 }, ...more],
  })
  const rows = [
    row('base pool', 'offheap', 1.5, [{ times: 3, than: cpp }]),
    row('limit', 'offheap-limit', 1.6),
    row('through dyn', 'offheap-dyn', 2),
    row('three levels', 'offheap-3-levels', 2.5),
  ]
  rows.push({
    name: 'pool, 64 B: through offheap.h',
    what: 'offheap_mem_malloc and offheap_mem_free, called by their addresses in the addon’s shared library',
    ours: { peer: 'offheap', work: 'c-abi mem', size: 64 },
    others: beside(work, ['raw', 'arrow-cpp'], { size: 64 }),
    targets: [{ times: 2.3, than: cpp }],
  })
  for (const [name, peer] of [
    ['base pool', 'offheap'],
    ['limit', 'offheap-limit'],
  ] as const) {
    rows.push({
      name: `pool, 64 B, 2 threads: ${name}`,
      what: 'the same on two threads at once; processor time of a thread, which leaves out what other machines on this host took',
      ours: { peer, work, size: 64, threads: 2 },
      others: [
        { name: 'one thread', kind: 'limit', peer, work, size: 64, threads: 1 },
        ...beside(work, ['raw', 'arrow-cpp'], { size: 64, threads: 2 }),
      ],
      // A tenth for noise.
      targets: [{ atMostTimes: 1.1, than: 'one thread' }],
      measure: 'cpu',
    })
  }
  return rows
}

function systemRows(): Row[] {
  const work = 'allocate-free system'
  return [1024, 4096, 65_536, 1 << 20].map((size) => ({
    name: `system pool, ${bytes(size)}`,
    what: 'a block, 64-byte aligned, is allocated from the C library’s pool and freed; the raw allocator is malloc with a hidden header',
    ours: { peer: 'offheap', work, size },
    others: beside(work, ['raw', 'posix_memalign', 'arrow-cpp'], { size }),
    targets: [{ times: 5, than: 'posix_memalign' }],
  }))
}

function bufferRows(): Row[] {
  const buffer = 'allocate-buffer-drop'
  const peers = ['arrow-cpp', 'arrow-rs', 'bytes', 'vortex', 'vec']
  return [
    {
      name: 'allocate a buffer of 4 KiB, drop it',
      what: 'a buffer is allocated from the default pool and dropped; the raw allocator has no buffer, and bytes and Vec no alignment',
      ours: { peer: 'offheap', work: buffer, size: 4096 },
      others: [...beside('allocate-free mimalloc', ['raw'], { size: 4096 }), ...beside(buffer, peers, { size: 4096 })],
      targets: [{ atMost: 25 }, { times: 1, than: cpp }],
    },
    {
      name: 'slice a buffer, drop the slice',
      what: '128 bytes of a buffer are sliced and the slice is dropped',
      ours: { peer: 'offheap', work: 'slice-drop', size: 128 },
      others: beside('slice-drop', ['arc-clone', 'arrow-cpp', 'arrow-rs', 'bytes', 'vortex'], { size: 128 }),
      targets: [{ atMostTimes: 1.2, than: 'Arc clone and drop' }],
    },
    {
      name: 'slice a buffer, borrowed',
      what: 'the same as a Rust slice that borrows the buffer',
      ours: { peer: 'offheap-borrowed', work: 'slice-drop', size: 128 },
      others: beside('slice-drop', ['arrow-cpp', 'arrow-rs', 'bytes', 'vortex'], { size: 128 }),
      targets: [{ atMost: 1 }],
    },
  ]
}

function builderRows(): Row[] {
  const peers = ['arrow-cpp', 'arrow-rs', 'vortex', 'vec']
  const built = 'values are appended one by one to a builder that starts empty, and finished'
  return [
    {
      name: 'build 10M int64, fresh process',
      what: `ten million ${built}, in a process that did nothing before`,
      ours: { peer: 'offheap', work: 'append-int64 cold' },
      others: beside('append-int64 cold', peers),
      targets: [{ atMost: 1.3 }, { atMostTimes: 0.6, than: cpp }],
    },
    {
      name: 'build int64, warm',
      what: `ten million ${built}, as often before`,
      ours: { peer: 'offheap', work: 'append-int64 warm' },
      others: beside('append-int64 warm', peers),
      targets: [{ atMostTimes: 0.5, than: cpp }],
    },
    {
      name: 'build bool, warm',
      what: `ten million bits, alternating: ${built}`,
      ours: { peer: 'offheap', work: 'append-bool warm' },
      others: [...beside('append-bool warm', peers), ...beside('append-bool warm', ['offheap-random', 'offheap-bulk'])],
      targets: [{ atMost: 1 }],
    },
  ]
}

function growthRows(): Row[] {
  const peers = ['raw-mimalloc', 'raw-jemalloc', 'posix_memalign', 'realloc', 'kept-region']
  const variants = ['offheap-limit', 'offheap-jemalloc', 'offheap-system', 'offheap-mapped', 'offheap-no-large-blocks']
  const grow = (name: string, work: string, what: string, targets: readonly Target[]): Row => ({
    name,
    what,
    ours: { peer: 'offheap', work },
    others: beside(work, [...peers, ...variants]),
    targets,
  })
  const than = 'raw mimalloc'
  return [
    grow('grow by doubling from 1 MiB', 'grow-doubling from 1 MiB', 'a block grows to 1 GiB (64 MiB with --quick), a byte a page is written, and it is freed; warm: the same a moment ago', [
      { atMostTimes: 1.3, than: 'a region that is kept' },
      { times: 1, than },
    ]),
    grow('grow by a quarter from 1 MiB', 'grow-by-a-quarter from 1 MiB', 'the same by 1.25 to 256 MiB (32 MiB with --quick)', [{ times: 1, than }]),
    grow('grow by doubling from 64 KiB', 'grow-doubling from 64 KiB', 'the same by doubling to 4 MiB, over the size from which large blocks are ours', [{ times: 1, than }]),
    {
      name: 'first touch of 80 MB',
      what: '80 MB that were never used are allocated, a byte a page is written, and they are freed; the region cache is emptied before',
      ours: { peer: 'offheap', work: 'first-touch' },
      others: beside('first-touch', ['huge-pages', 'small-pages', 'vec']),
      targets: [{ atMostTimes: 1.3, than: 'huge pages by hand' }],
    },
  ]
}

function bytes(size: number): string {
  if (size >= 2 ** 30) return `${size / 2 ** 30} GiB`
  return size >= 2 ** 20 ? `${size / 2 ** 20} MiB` : size >= 1024 ? `${size / 1024} KiB` : `${size} B`
}

function resultOf(lines: Lines, { name, what, ours, others, targets, measure }: Row): Result | undefined {
  const own = lines.find(ours)
  if (own === undefined) return undefined
  // Programs that do not know processor time say what they know.
  const samplesOf = (samples: Samples) => (measure === 'mib' ? samples.mib : measure === 'cpu' && samples.cpu.length > 0 ? samples.cpu : samples.wall)
  const figures = others.flatMap((other): Figure[] => {
    const samples = lines.find(other)
    return samples === undefined ? [] : [figureOf(other.name, other.kind, samplesOf(samples))]
  })
  return {
    group: 'core',
    section: 'core',
    name,
    what,
    unit: measure === 'mib' ? 'MiB' : 'ns',
    figures: [figureOf('offheap', 'ours', samplesOf(own)), ...figures],
    targets,
  }
}

/** What stays resident, one row a backend: the worst of its cases, and each of them without a target. */
function residencyOf(lines: Lines): Result[] {
  const found = lines.all().filter(({ work, peer }) => work.startsWith('rss ') && peer === 'offheap')
  const backends = [...new Set(found.map(({ work }) => work.slice(4)))]
  const cases = found.map((samples): Result => {
    const { work, size, threads, liveEvery } = samples
    const theirs = lines.find({ peer: 'arrow-cpp', work, size })
    const detail = `${threads > 1 ? `, ${threads} threads` : ''}${liveEvery > 0 ? `, 1 of ${liveEvery} alive` : ''}`
    return {
      group: 'core',
      section: 'core',
      name: `resident after, ${work.slice(4)}, ${bytes(size)}${detail}`,
      what: '512 MiB were written in such blocks and freed 2.5 s ago: what is resident over the start. The threads that freed them are still there',
      unit: 'MiB',
      figures: [
        figureOf('offheap', 'ours', samples.mib),
        ...(theirs === undefined || detail !== '' ? [] : [figureOf(cpp, 'peer', theirs.mib)]),
      ],
      targets: [],
    }
  })
  const worst = backends.map((backend): Result => {
    const own = cases.filter(({ name }) => name.startsWith(`resident after, ${backend},`)).map(({ figures }) => figures[0]!.median)
    const theirs = lines.all().filter(({ work, peer }) => work === `rss ${backend}` && peer === 'arrow-cpp')
    return {
      group: 'core',
      section: 'core',
      name: `resident 2.5 s after freeing, ${backend}`,
      what: `512 MiB written and freed: the worst of ${own.length} cases (blocks of 4 KiB, 64 KiB, 4 MiB; one and three threads; 1 of 1024 blocks alive); for Arrow C++ the worst of its block sizes`,
      unit: 'MiB',
      figures: [
        figureOf('offheap', 'ours', [Math.max(...own)]),
        ...(theirs.length === 0 ? [] : [figureOf(cpp, 'peer', [Math.max(...theirs.flatMap(({ mib }) => mib))])]),
      ],
      targets: [{ atMost: 40 }],
    }
  })
  return [...worst, ...cases.toSorted((a, b) => (a.name < b.name ? -1 : 1))]
}

/** Everything the core's programs measured that no row shows: each work with all its contenders. */
function restOf(lines: Lines, shown: readonly Row[]): Result[] {
  const isShown = new Set(shown.map(({ ours: { work, size, threads = 1 } }) => `${work}|${size ?? ''}|${threads}`))
  const own = lines.all().filter(({ peer, work, wall }) => peer === 'offheap' && wall.length > 0 && !work.startsWith('scaling-'))
  return own
    .filter(({ work, size, threads }) => !isShown.has(`${work}|${size}|${threads}`) && !isShown.has(`${work}||${threads}`))
    .map(({ work, size, threads }): Result => {
      const all = lines.all().filter((samples) => samples.work === work && samples.size === size && samples.threads === threads)
      const figures = all.map(({ peer, wall, cpu }) => {
        const time = threads > 1 && cpu.length > 0 ? cpu : wall
        return figureOf(names[peer] ?? peer, peer === 'offheap' ? 'ours' : kindOf(peer), time)
      })
      const name = `${work}, ${bytes(size)}${threads > 1 ? `, ${threads} threads` : ''}`
      return { group: 'core', section: 'core', name, what: '', unit: 'ns', figures, targets: [] }
    })
}

/** The core's rows, those with targets first. */
export function rowsOf(lines: Lines): Result[] {
  const rows = [...poolRows(), ...systemRows(), ...bufferRows(), ...builderRows(), ...growthRows()]
  const results = rows.map((row) => resultOf(lines, row)).filter((result) => result !== undefined)
  return [...results, ...residencyOf(lines), ...restOf(lines, rows)]
}

const workloads: Readonly<Record<string, string>> = {
  larson: 'each thread replaces random ones of 1,000 blocks of 8 to 1,000 bytes, and hands all of them to a new thread, again and again',
  xmalloc: 'half of the threads allocate batches of 120 blocks of 16 to 512 bytes, the others free them',
  rptest: 'sizes up to 128 KiB of three distributions, random lifetimes, 2,000 blocks a thread; one free in eight is another thread’s',
  'malloc-large': 'twenty live blocks of 5 to 25 MiB a thread, all pages written, random ones replaced',
  'grow-doubling': 'a block grows from 64 KiB to 4 MiB by doubling, new pages written, again and again',
  'allocate-deallocate': 'Arrow’s benchmark: 4 KiB, 64 KiB, 1 MiB and 16 MiB in turn, allocated and freed',
  'allocate-touch-deallocate': 'the same with a byte a page written',
}

/** Workloads, a row for each number of threads. */
export function workloadsOf(lines: Lines): Result[] {
  const own = lines.all().filter(({ peer, work }) => peer === 'offheap-mimalloc' && work in workloads)
  return own.map(({ work, threads }) => {
    const all = lines.all().filter((samples) => samples.work === work && samples.threads === threads && !samples.peer.includes('cpp'))
    return {
      group: 'core',
      section: 'workloads',
      name: `${work}, ${threads} thread${threads > 1 ? 's' : ''}`,
      what: workloads[work]!,
      unit: 'ns',
      threads,
      figures: all
        .filter(({ peer, mib }) => peer !== 'offheap' && mib.length > 0)
        .map(({ peer, wall, mib }) => {
          const kind = peer === 'offheap-mimalloc' ? 'ours' : peer.startsWith('offheap') ? 'variant' : 'peer'
          const name = kind === 'peer' && peer !== 'posix_memalign' ? `raw ${peer}` : peer.replace('offheap-', 'offheap ')
          return figureOf(name, kind, wall, mib)
        }),
      targets: [],
    }
  })
}

/** How a cost grows with something. */
export interface Scaling {
  readonly name: string
  readonly what: string
  readonly unit: 'ns'
  /** What it grows with, as it is shown. */
  readonly at: readonly { readonly value: number; readonly label: string }[]
  readonly series: readonly {
    readonly name: string
    readonly kind: Figure['kind']
    /** Medians, as far as they were measured. */
    readonly costs: readonly (number | undefined)[]
  }[]
}

export function scalingOf(lines: Lines): Scaling[] {
  const of = (work: string, by: 'size' | 'threads', name: string, what: string, label: (value: number) => string): Scaling[] => {
    const found = lines.all().filter((samples) => samples.work === work)
    const values = [...new Set(found.map((samples) => samples[by]))].toSorted((a, b) => a - b)
    if (values.length === 0) return []
    const peers = [...new Set(found.map(({ peer }) => peer))]
    const cost = (samples: Samples | undefined) => {
      if (samples === undefined) return undefined
      return figureOf('', 'ours', by === 'threads' ? samples.cpu : samples.wall).median
    }
    const series = peers.map((peer) => ({
      name: names[peer] ?? peer.replace('offheap-', 'offheap '),
      kind: peer === 'offheap' ? ('ours' as const) : kindOf(peer),
      costs: values.map((value) => cost(found.find((samples) => samples.peer === peer && samples[by] === value))),
    }))
    return [{ name, what, unit: 'ns', at: values.map((value) => ({ value, label: label(value) })), series }]
  }
  const count = (value: number) => value.toLocaleString('en')
  return [
    ...of('scaling-threads', 'threads', 'threads', 'sixteen blocks of 64 bytes allocated and freed: processor time of a thread, a pair', String),
    ...of('scaling-live', 'size', 'live blocks', 'a random one of so many blocks of 64 bytes is freed and another one allocated: a pair, the misses of the caches included', count),
    ...of('scaling-size', 'size', 'size', 'a block is allocated and freed, its memory untouched', bytes),
    ...of('scaling-touched', 'size', 'size, touched', 'a block is allocated, a byte a page is written, and it is freed', bytes),
  ]
}
