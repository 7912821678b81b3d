import { getHeapStatistics } from 'node:v8'
import { native, words } from './native.js'
import { isObject, property, wrongType } from './validate.js'

/** One backend's part of the memory. Figures that the backend cannot tell are `null`. */
export interface BackendOverview {
  readonly backendName: string
  /** Bytes asked for by what is alive. */
  readonly allocatedBytes: number
  /** Allocations that are alive. */
  readonly liveAllocations: number
  /** What rounding to alignments and size classes costs, in bytes. */
  readonly roundingBytes: number | null
  /** Bytes of disposed buffers that wait for work in flight to end. */
  readonly parkedBytes: number
  /** Bytes in physical memory. */
  readonly residentBytes: number | null
  /** Free bytes that the backend keeps for the next request (`system`: of all that the process asks malloc for). */
  readonly retainedBytes: number | null
}

/** The V8 heap of this environment, in bytes. */
export interface HeapOverview {
  /** Held by objects. */
  readonly usedBytes: number
  /** In physical memory and free for objects. */
  readonly freeBytes: number
  /** In physical memory. */
  readonly physicalBytes: number
  /** The most that the heap may become. */
  readonly limitBytes: number
}

/** One line of the sum. */
export interface MemoryOverviewPart {
  readonly label: string
  /** `null` where it is not known; it is part of `other` then. */
  readonly bytes: number | null
}

/** Where the memory of the process is. The `parts` that are known add up to `rssBytes` exactly. */
export interface MemoryOverview {
  /** Physical memory of the whole process. */
  readonly rssBytes: number
  readonly heap: HeapOverview
  /** ArrayBuffers and Buffers that JavaScript made itself; offheap's are not among them. `null` where it cannot be told. */
  readonly arrayBufferBytes: number | null
  readonly backends: readonly BackendOverview[]
  /** Freed blocks of 1 MiB and more, of any backend, that wait up to two seconds for the next request. */
  readonly cachedBytes: number
  /** Code, stacks, other workers' heaps, other native libraries: what is left of the RSS. */
  readonly otherBytes: number
  /** 0 or less: bytes that were reserved and are counted above, but whose pages nobody has touched yet. */
  readonly untouchedBytes: number
  readonly parts: readonly MemoryOverviewPart[]
}

/** Words that native code fills per backend. */
const WORDS_PER_BACKEND = 8

function known(figure: number): number | null {
  return figure < 0 ? null : figure
}

function backendOverviews(): BackendOverview[] {
  const names = native.supportedBackends()
  native.overview()
  return names.map((backendName, index) => {
    // By index only: iterators and `subarray` can be replaced, and would hand the words to their replacement.
    const first = index * WORDS_PER_BACKEND
    const allocated = words[first]!
    const usable = words[first + 1]!
    return {
      backendName,
      allocatedBytes: allocated,
      liveAllocations: words[first + 5]!,
      roundingBytes: usable < 0 ? null : Math.max(usable - allocated, 0),
      parkedBytes: words[first + 4]!,
      residentBytes: known(words[first + 2]!),
      retainedBytes: known(words[first + 3]!),
    }
  })
}

/** Freed large blocks: every backend that has them tells the same figure. */
function cachedByBackends(backends: readonly BackendOverview[]): number {
  let cached = 0
  for (let index = 0; index < backends.length; index += 1) cached = Math.max(cached, words[index * WORDS_PER_BACKEND + 6]!)
  return cached
}

/** The parts of one backend. Where its resident bytes are known, the parts that are known add up to them. */
function backendParts(backend: BackendOverview): MemoryOverviewPart[] {
  const { backendName, allocatedBytes, roundingBytes, parkedBytes, residentBytes, retainedBytes } = backend
  const inUse = allocatedBytes + (roundingBytes ?? 0) + parkedBytes
  const held = residentBytes === null ? retainedBytes : Math.max(residentBytes - inUse, 0)
  return [
    { label: `${backendName}: asked for`, bytes: allocatedBytes },
    { label: `${backendName}: rounding`, bytes: roundingBytes },
    { label: `${backendName}: parked`, bytes: parkedBytes },
    { label: `${backendName}: free, held by the allocator`, bytes: held },
  ]
}

/**
 * Where the memory of the process is, at this moment. It takes some 10-100 us.
 *
 * Heaps of other workers are part of `otherBytes`; pools are shared by all workers.
 */
export function memoryOverview(): MemoryOverview {
  const backends = backendOverviews()
  const cachedBytes = cachedByBackends(backends)
  const statistics = getHeapStatistics()
  const { arrayBuffers } = process.memoryUsage()
  const rssBytes = process.memoryUsage.rss()
  const physicalBytes = statistics.total_physical_size
  const usedBytes = Math.min(statistics.used_heap_size, physicalBytes)
  const freeBytes = physicalBytes - usedBytes
  // Bun counts ArrayBuffers over native memory among its own.
  const arrayBufferBytes = process.versions['bun'] === undefined ? arrayBuffers : null

  const accounted: MemoryOverviewPart[] = [
    { label: 'V8 heap: used', bytes: usedBytes },
    { label: 'V8 heap: free', bytes: freeBytes },
    { label: 'ArrayBuffers of JavaScript', bytes: arrayBufferBytes },
    ...backends.flatMap(backendParts),
    { label: 'large blocks: freed, waiting to be used again', bytes: cachedBytes },
  ]
  const remainder = rssBytes - accounted.reduce((sum, part) => sum + (part.bytes ?? 0), 0)
  const otherBytes = Math.max(remainder, 0)
  const untouchedBytes = Math.min(remainder, 0)
  return {
    rssBytes,
    heap: { usedBytes, freeBytes, physicalBytes, limitBytes: statistics.heap_size_limit },
    arrayBufferBytes,
    backends,
    cachedBytes,
    otherBytes,
    untouchedBytes,
    parts: [
      ...accounted,
      { label: 'other (code, stacks, workers, libraries)', bytes: otherBytes },
      { label: 'reserved above, not yet touched', bytes: untouchedBytes },
    ],
  }
}

const LABEL_WIDTH = 48
const FIGURE_WIDTH = 12

function row(label: string, figure: string): string {
  return `${label.padEnd(LABEL_WIDTH)}${figure.padStart(FIGURE_WIDTH)}\n`
}

function mebibytes(bytes: number | null): string {
  if (bytes === null) return 'unknown'
  const text = (bytes / 2 ** 20).toFixed(2)
  return text === '-0.00' ? '0.00' : text
}

/** An overview as a table of one screen, in MiB. */
export function formatMemoryOverview(overview: MemoryOverview): string {
  const shown = overview.parts.filter((part) => part.bytes !== 0)
  const rule = `${'-'.repeat(LABEL_WIDTH + FIGURE_WIDTH)}\n`
  return [
    row('memory', 'MiB'),
    rule,
    ...shown.map((part) => row(part.label, mebibytes(part.bytes))),
    rule,
    row('resident set of the process', mebibytes(overview.rssBytes)),
  ].join('')
}

/** Writes the overview of this moment, one screen in MiB, to a stream. To standard output when absent. */
export function printMemoryOverview(stream: NodeJS.WritableStream = process.stdout): void {
  if (!isObject(stream) || typeof property(stream, 'write', 'stream.write') !== 'function') {
    throw wrongType('stream', 'a writable stream', stream)
  }
  stream.write(formatMemoryOverview(memoryOverview()))
}
