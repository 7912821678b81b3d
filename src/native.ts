/**
 * The door to the native addon: its functions, the block of words in which they leave second results, and what this
 * runtime can do. Nothing else in `src/` loads the addon.
 *
 * @module
 */

import { constants as bufferConstants } from 'node:buffer'
import type { NativeArrow } from './arrow/native.js'
import type { NativeCuda } from './cuda/native.js'
import { makeError } from './errors.js'

/** A buffer id, or bytes in JavaScript memory that are read during the call only. */
export type Bytes = number | Uint8Array

/**
 * Builds an error for native code: `detail` is the argument's name, or why a device is not there. Numbers that are unknown
 * are -1, strings that do not apply are ''.
 */
export type MakeError = (
  code: string,
  message: string,
  detail: string,
  requested: number,
  limit: number,
  allocated: number,
  pool: string,
) => Error

/** What native code found out about this environment. */
export interface NativeCapabilities {
  externalBuffers: boolean
  sharedBuffers: boolean
  gate: 'idle' | 'detach' | 'collect'
  maxViewBytes: number
}

/** A share ticket as native code makes it. */
export interface NativeTicket {
  id: number
  secret: string
}

/** Where other processes find a buffer of shared memory. */
export interface NativeSharedMemoryHandle {
  process: number
  descriptor: number
  size: number
  key: string
  offset: number
  length: number
}

/** What fails. Absent numbers are -1, absent texts ''. */
export interface NativeFailingOptions {
  after: number
  count: number
  probability: number
  seed: number
  minSize: number
  stack: string
}

/** Which request of a run fails: its number from 1, and how. */
export interface NativeFailurePoint {
  request: number
  mode: 'undisturbed' | 'once' | 'forever'
}

/** What a sweep found. */
export interface NativeSweepReport {
  runs: number
  injected: number
  requests: number
  survived: number
  leaks: { point: NativeFailurePoint; domain: string; bytes: number; allocations: number }[]
  wrongErrors: { point: NativeFailurePoint; error: string }[]
  isComplete: boolean
  text: string
}

/** A live block. Absent texts are ''; stacks have one frame a line. */
export interface NativeAllocation {
  address: number
  size: number
  alignment: number
  serial: number
  thread: number
  ageMs: number
  stack: string
  nativeStack: string
  tags: string
  parked: boolean
}

/** Where a block was allocated or freed, or damage found. */
export interface NativeOrigin {
  thread: number
  stack: string
  nativeStack: string
  tags: string
}

/** What debug hooks found; `callback` is a callback's number, or 0 to be thrown. */
export interface NativeCorruption {
  callback: number
  kind: string
  detectedOn: string
  address: number
  size: number
  alignment: number
  pool: string
  domain: string
  givenTo: string
  serial: number
  offset?: number | undefined
  allocatedAt?: NativeOrigin | undefined
  freedAt?: NativeOrigin | undefined
  detectedAt: NativeOrigin
  dump: string
  message: string
  text: string
}

/** Blocks of one place. */
export interface NativeSite {
  bytes: number
  count: number
  stack: string
  nativeStack: string
  tags: string
  oldestMs: number
  newestMs: number
}

/** What is alive and what was forgotten, by place. */
export interface NativeSites {
  sites: NativeSite[]
  forgotten: NativeSite[]
}

/**
 * The functions of the addon that this layer calls.
 *
 * - Ids are positive safe integers made of a slab index and a generation that is never used again; 0 means none. A stale
 *   id throws `ERR_OFFHEAP_DISPOSED`; `bufferRelease` and `poolDrop` ignore one.
 * - A function that returns a pool id sets `words[0]` to the pool's key (equal keys are the same pool), and `words` 2 and 3
 *   to the depths of the JavaScript stacks that it wants after and before each call.
 * - A function that returns a buffer id sets `words` 0-3 to address, capacity, size, and {@link NOT_CPU} or 0.
 * - A function that returns a device id sets `words` 0-2 to the code of its type, its number, and 1 where the CPU reads its
 *   memory; one that returns a manager id sets `words[0]` to its key (equal keys are the same manager).
 * - The `state` of dispose and its like: {@link viewState}.
 */
export interface NativeBinding extends NativeArrow, NativeCuda {
  configure(words: ArrayBuffer, makeError: MakeError, options: number): NativeCapabilities

  supportedBackends(): string[]
  poolDefault(): number
  poolSetDefault(pool: number): void
  poolBackend(name: string, largeBlocks: boolean): number
  poolLimit(pool: number, maxBytes: number, name: string): number
  poolProxy(pool: number, name: string): number
  poolName(pool: number): string
  poolBackendName(pool: number): string
  poolStats(pool: number): void
  poolResetPeak(pool: number): void
  poolReleaseUnused(pool: number): void
  /** -1 milliseconds: never. */
  poolTrim(pool: number, idleMs: number, minBytes: number): void
  poolTrimPolicy(pool: number): void
  poolPrintStats(pool: number): void
  poolClose(pool: number): NativeSites | null
  poolDrop(pool: number): void
  totalAllocatedBytes(): number
  parkedBytes(): number

  poolShare(pool: number): NativeTicket
  poolFromShared(id: number, secret: string): number
  bufferShare(buffer: number): NativeTicket
  bufferFromShared(id: number, secret: string): number
  revokeShared(id: number, secret: string): boolean
  sharedTickets(): number

  bufferAllocate(pool: number, size: number, alignment: number, flags: number): number
  bufferFromBytes(pool: number, bytes: Bytes, flags: number): number
  bufferForeign(address: bigint, size: number): number
  bufferSlice(buffer: number, offset: number, length: number, mutable: boolean): number
  bufferCopy(source: Bytes, offset: number, length: number, pool: number, alignment: number): number
  bufferConcat(pool: number, parts: Bytes[]): number
  bufferPool(buffer: number): number
  bufferLocation(buffer: number): string
  /** Throws where the CPU cannot reach the bytes. */
  bufferCheckCpu(buffer: number): void
  bufferDescribe(buffer: number): void
  bufferView(buffer: number, offset: number, length: number): ArrayBuffer
  bufferSharedView(buffer: number): SharedArrayBuffer
  bufferFlush(buffer: number, view: ArrayBuffer, offset: number): void
  bufferRefresh(buffer: number, view: ArrayBuffer, offset: number): void
  bufferDispose(buffer: number, view: ArrayBuffer | undefined, state: number): boolean
  bufferDisposeWindows(buffer: number, views: ArrayBuffer[], state: number): boolean
  bufferRelease(buffer: number): void
  bufferResize(buffer: number, size: number, shrinkToFit: boolean, views: ArrayBuffer[], state: number): boolean
  bufferReserve(buffer: number, capacity: number, views: ArrayBuffer[], state: number): boolean
  bufferFreeze(buffer: number, views: ArrayBuffer[], state: number): boolean
  bytesEqual(a: Bytes, b: Bytes): boolean
  bytesCompare(a: Bytes, b: Bytes): number
  bytesToHex(a: Bytes): string
  bytesAt(a: Bytes, index: number): number
  bufferFill(buffer: number, byte: number, start: number, end: number): void
  bufferZeroPadding(buffer: number): void
  bufferWrite(buffer: number, position: number, bytes: Bytes): void
  bufferRead(source: Bytes, position: number, target: Uint8Array): void
  builderWindow(buffer: number, capacity: number, view: ArrayBuffer | undefined, zero: boolean): ArrayBuffer
  builderFinish(buffer: number, size: number, shrinkToFit: boolean, view: ArrayBuffer | undefined): void

  deviceCpu(): number
  deviceDrop(device: number): void
  deviceTypeName(device: number): string
  deviceLocation(device: number): string
  deviceEquals(device: number, other: number): boolean
  deviceDefaultManager(device: number): number
  deviceManager(device: number, pool: number): number
  managerDefaultCpu(): number
  managerCpu(pool: number): number
  managerOfPool(pool: number): number
  managerDrop(manager: number): void
  managerDevice(manager: number): number
  managerPool(manager: number): number
  managerIsCpu(manager: number): boolean
  managerEquals(manager: number, other: number): boolean
  managerAllocate(manager: number, size: number, alignment: number, flags: number): number
  /** 0 where it is that of the buffer's pool, or of the CPU without one. */
  bufferManager(buffer: number): number
  bufferCopyTo(source: Bytes, manager: number, flags: number): number
  bufferViewOn(buffer: number, manager: number): number
  /** Sets `words[4]` to 1 for a view, 0 for a copy. */
  bufferViewOrCopyTo(buffer: number, manager: number): number

  shmDevice(): number
  shmDefaultPool(): number
  shmPool(label: string, reserve: boolean): number
  shmExport(buffer: number): NativeSharedMemoryHandle
  shmOpen(handle: NativeSharedMemoryHandle, readOnly: boolean): number
  shmRevoke(buffer: number): void
  shmSeal(buffer: number): void

  /** What there is to do after a call: {@link AFTER_WANTS_ORIGIN} and its like. */
  afterCall(): number
  takeEvents(target: ArrayBuffer): number
  eventsStart(wake: () => void): void
  takeReports(): NativeCorruption[]
  poolObserve(pool: number, kinds: number): number
  poolUnobserve(pool: number): number
  poolDroppedEvents(pool: number): number
  originsWanted(wanted: boolean): void
  originsStack(text: string): number
  originsForgetStacks(): void
  originsTell(stack: number, tags: string): void
  originsBefore(stack: number): void

  domainAllocator(domain: string): number
  domainSetAllocator(domain: string, pool: number): number
  domainObserve(domain: string, kinds: number): number
  domainPool(domain: string): number
  poolObject(): number
  arenasFrom(pool: number): void
  arenasObserve(kinds: number): number

  poolFailing(pool: number, options: NativeFailingOptions, domain: string): number
  poolFailingCounts(pool: number): boolean
  poolDisarm(pool: number): void
  poolRearm(pool: number, options: NativeFailingOptions): void
  sweepStart(pool: number, domains: string[], maxRuns: number): number
  sweepBegin(): NativeFailurePoint | null
  sweepEnd(outcome: number, error: string): void
  sweepFinish(): NativeSweepReport

  poolLog(pool: number, path: string, format: string): number
  poolScoped(pool: number): number
  poolScope(pool: number, what: number): void
  poolDebug(pool: number, onError: string, quarantine: number, depth: number): number
  poolCheck(pool: number): NativeCorruption[]
  debugSetup(onError: string, quarantine: number, depth: number): number
  poolTrack(pool: number, nativeDepth: number, javascriptDepth: number): number
  poolAllocations(pool: number): NativeAllocation[] | null
  poolSites(pool: number): NativeSites | null
  bufferAllocation(buffer: number): NativeAllocation | null

  jemallocSetDecayMs(ms: number): void
  jemallocStat(name: string): number
  jemallocPeakReset(): void
  jemallocStatsString(options: string): string
  overview(): void
}

/** Flags of `bufferAllocate`, `bufferFromBytes`, `managerAllocate` and `bufferCopyTo`. */
export const ZERO_FILL = 1
export const RESIZABLE_BLOCK = 2
export const IMMUTABLE_BLOCK = 4
export const FOR_CPU = 8

/** What `words[3]` is for a buffer that the CPU can neither read nor write. */
export const NOT_CPU = 4

/** Bits of what `afterCall` answers. */
export const AFTER_WANTS_ORIGIN = 1
export const AFTER_HAS_EVENTS = 2
export const AFTER_HAS_REPORTS = 4

/** The word that is not 0 while a native call runs that is followed by `afterCall`. */
export const IN_CALL_WORD = 30
/** The words that native calls leave results in: those below. */
export const RESULT_WORDS = 30

/** Bits of the options word of `configure`. */
const SAFE_DISPOSE = 1
const RUNTIME_IS_BUN = 2
const RUNTIME_IS_DENO_OR_UNKNOWN = 4
const FORBID_EXTERNAL_BUFFERS = 8
const VIEWS_CAPPED_AT_4_GIB = 16

/** The Node release that this runtime is, or says it is compatible with: `[major, minor]`. */
export const nodeVersion: readonly [number, number] = (() => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return [major, minor] as const
})()

/** True on Node itself, false on Bun, Deno and the rest. */
export const isNode = process.versions['bun'] === undefined && process.versions['deno'] === undefined && process.release.name === 'node'

const safeDispose = process.env['OFFHEAP_SAFE_DISPOSE'] === '1'

function configureOptions(): number {
  const isBun = process.versions['bun'] !== undefined
  let options = 0
  if (safeDispose) options |= SAFE_DISPOSE
  if (isBun) options |= RUNTIME_IS_BUN
  else if (!isNode) options |= RUNTIME_IS_DENO_OR_UNKNOWN
  if (process.env['OFFHEAP_NO_EXTERNAL_BUFFERS'] === '1') options |= FORBID_EXTERNAL_BUFFERS
  if (isBun || bufferConstants.MAX_LENGTH <= 2 ** 32) options |= VIEWS_CAPPED_AT_4_GIB
  return options
}

/** Where the addon's exports carry the words. */
const WORDS: unique symbol = Symbol.for('offheap.words')

// A copy, so that the functions are in-object properties: the exports object of an addon is a dictionary.
const loaded = require('../index.js') as NativeBinding & { [WORDS]?: Float64Array<ArrayBuffer> }

/** The native functions. While something must happen after each call, `instrument.ts` puts others in their place. */
export const native: Readonly<NativeBinding> = { ...loaded }

/** What all copies of this layer over one addon must have in common, by name. */
export function shared<Value extends object>(name: string, make: () => Value): Value {
  const carrier = loaded as unknown as Record<symbol, Value | undefined>
  return (carrier[Symbol.for(`offheap.${name}`)] ??= make())
}

/**
 * Where native functions leave second results. Read them before any other call. An addon has one block of words for each
 * environment: where this file is loaded again for the same addon (Jest does that), it takes over the first one's.
 */
export const words: Float64Array<ArrayBuffer> = (loaded[WORDS] ??= new Float64Array(32))

/** What this runtime can do. */
export interface Capabilities {
  /**
   * False where the runtime forbids ArrayBuffers over native memory (Electron). Views are then copies: `flush()` moves
   * what was written to a view into the buffer, `refresh()` moves the buffer's bytes into its views.
   */
  readonly externalBuffers: boolean
  /** True where `asSharedArrayBuffer()` works. */
  readonly sharedBuffers: boolean
  /**
   * How `dispose()` learns that nobody uses a view any more: `idle` asks the event loop for requests in flight, `detach`
   * asks the engine (Bun), `collect` waits for the garbage collector.
   */
  readonly gate: 'idle' | 'detach' | 'collect'
  /** The largest ArrayBuffer over native memory, in bytes. Larger buffers hand out windows. */
  readonly maxViewBytes: number
  /** True when `OFFHEAP_SAFE_DISPOSE=1` is set: memory that was ever shown is freed by the garbage collector only. */
  readonly safeDispose: boolean
}

const environment: Capabilities = Object.freeze({
  ...native.configure(words.buffer, makeError, configureOptions()),
  safeDispose,
})

/** True where views are windows on the memory itself, false where they are copies. */
export const externalBuffers: boolean = environment.externalBuffers

/** The largest view, in bytes. */
export const maxViewBytes: number = environment.maxViewBytes

/** What this runtime can do. Found out once, at load. */
export function capabilities(): Capabilities {
  return environment
}
