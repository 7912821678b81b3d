import { inspect } from 'node:util'
import { type FailingCounts, failingDomain, type FailingOptions, nativeFailingOptions, type PoolFailingOptions } from './failing.js'
import { checkDebugOptions, corruptionReport, debugged, type DebugOptions } from './debugging.js'
import { type CorruptionReport, NotSupportedError } from './errors.js'
import { endStacks, wantStacks } from './instrument.js'
import { bufferInternals, IS_MUTABLE, IS_RESIZABLE, type MemoryBuffer } from './memory-buffer.js'
import { FOR_CPU, native, RESIZABLE_BLOCK, words, ZERO_FILL } from './native.js'
import { logged, type LogOptions, type LogSink } from './log.js'
import { type AllocationObserver, checkObserver, endObserver, observe } from './observers.js'
import { isRetried } from './out-of-memory.js'
import { checkTicket, type Ticket } from './ticket.js'
import { INTERNAL } from './token.js'
import {
  type AllocationInfo,
  allocationInfo,
  type AllocationSite,
  allocationSites,
  endReportAtExit,
  reportAtExit,
  type TrackOptions,
} from './tracking.js'
import { DEEPEST_STACK } from './stacks.js'
import { setTrimPolicy, type TrimOptions, type TrimPolicy, trimPolicy } from './trimming.js'
import {
  checkAlignmentArgument,
  checkBoolean,
  checkIntegerFrom,
  checkSize,
  checkString,
  noConstructor,
  option,
  wrongReceiver,
  wrongType,
} from './validate.js'

/** The alignment of every buffer for which none is asked, in bytes: Arrow's, and a cache line. */
export const DEFAULT_ALIGNMENT = 64

/** Where an API that allocates gets its memory. */
export interface PoolOptions {
  /** The pool to allocate from. The default pool when absent. */
  pool?: MemoryPool | undefined
}

/** Options of {@link mimallocMemoryPool}, {@link jemallocMemoryPool} and {@link systemMemoryPool}. */
export interface BackendPoolOptions {
  /**
   * False leaves blocks of 1 MiB and more to the allocator, for comparison. Else offheap maps them, unless
   * `OFFHEAP_LARGE_BLOCKS=0` is in the environment: they grow in place, and give their pages back when they shrink or go.
   * A pool without them is another pool, with figures of its own.
   */
  largeBlocks?: boolean | undefined
}

/** Options of {@link MemoryPool.allocateBuffer} and {@link MemoryPool.allocateResizableBuffer}. */
export interface AllocateOptions {
  /** Alignment of the address in bytes, a power of two. 64 when absent. */
  alignment?: number | undefined
  /** True to zero all of the capacity; else only the padding behind `size` is zero. */
  zeroFill?: boolean | undefined
}

/** Options of {@link MemoryPool.limit} and {@link MemoryPool.proxy}. */
export interface AccountOptions {
  /** A name for error messages and reports. */
  name?: string | undefined
}

/** The figures of a pool at one moment. Figures that are not known, or do not apply, are `null`. */
export interface MemoryPoolStats {
  /** The backend that serves the pool. */
  readonly backendName: string
  /** The pool's name; the backend's for a pool without one. */
  readonly name: string
  /** Bytes asked for by what is alive. Rounding, headers and parked bytes do not count. */
  readonly bytesAllocated: number
  /** The most that `bytesAllocated` has been since the start or the last `resetPeak()`. */
  readonly peakBytes: number
  /** The sum of all allocations and growths. */
  readonly totalBytesAllocated: number
  /** Allocations and growing reallocations. */
  readonly numAllocations: number
  /** Allocations that are alive. */
  readonly liveAllocations: number
  /** Bytes of disposed buffers that wait for work in flight to end. They count against no limit. */
  readonly parkedBytes: number
  /** The pool's own limit in bytes. */
  readonly limitBytes: number | null
  /** Bytes that can still be had under this limit and those above it. */
  readonly available: number | null
  /** True once {@link MemoryPool.close} was called. */
  readonly closed: boolean
  /** Bytes of the blocks behind `bytesAllocated` after the backend's rounding. For the whole backend. */
  readonly usableBytes: number | null
  /** Bytes of the backend in physical memory. For the whole backend. */
  readonly residentBytes: number | null
  /** Bytes that the backend keeps for reuse instead of giving them back. For the whole backend. */
  readonly retainedBytes: number | null
  /** Bytes of the backend that no allocation uses and that cannot be given back. For the whole backend. */
  readonly fragmentedBytes: number | null
  /**
   * Bytes of freed large blocks that wait, in physical memory, for the next request: one figure of the process, whatever
   * the backend, and in none of the others. It goes to zero within two seconds.
   */
  readonly cachedBytes: number | null
}

/** One figure of a scope. */
export interface ScopeCounter {
  /** Allocated less freed since the scope began; negative when more was freed. */
  readonly value: number
  /** The most that the value has been. */
  readonly peak: number
  /** All that was allocated since the scope began. */
  readonly total: number
}

/** What a scope counted. */
export interface ScopeCounters {
  /** Bytes; a resize counts its difference. */
  readonly bytes: ScopeCounter
  /** Allocations; a resize is none. */
  readonly allocations: ScopeCounter
}

/** What {@link MemoryPool.close} found still alive. */
export interface LeakReport {
  /** The pool's name. */
  readonly pool: string
  /** Bytes still allocated from the pool. They stay valid. */
  readonly liveBytes: number
  /** Allocations still alive. */
  readonly liveAllocations: number
  /** Share tickets of this process, of any pool, that were never revoked. Each keeps what it stands for alive. */
  readonly sharedTickets: number
  /** Where what is alive came from, the most bytes first. Of a pool with a tracker. */
  readonly sites?: readonly AllocationSite[]
  /** What the garbage collector has freed because nobody disposed of it, by place. Of a pool with a tracker. */
  readonly forgotten?: readonly AllocationSite[]
}

/** What the rest of `src/` may do with a pool. */
interface PoolInternals {
  /** The native id. */
  id(pool: MemoryPool): number
  is(value: unknown): value is MemoryPool
  /** An argument that must be a pool. */
  check(value: unknown, name: string): MemoryPool
  /** The one handle of this environment for the pool that the last native call returned. */
  adopt(id: number): MemoryPool
  /** A buffer that is there to be shown: refused by a pool whose memory the CPU cannot reach. */
  allocateForCpu(pool: MemoryPool, size: number, alignment: number): MemoryBuffer
}

/** @internal */
export let poolInternals: PoolInternals

/**
 * Where memory comes from, with exact accounting: a backend (mimalloc, jemalloc, system), or an account over one made
 * by {@link limit} or {@link proxy}. A pool lives as long as a handle or a buffer of it does.
 *
 * There is one handle per pool and environment, so pools can be compared with `===`.
 */
export class MemoryPool {
  readonly #id: number
  /** Stands for the pool where the pool itself must not be kept. */
  readonly #held: Held

  private constructor(token: typeof INTERNAL, held: Held) {
    if (token !== INTERNAL) throw noConstructor('MemoryPool', 'defaultMemoryPool(), systemMemoryPool() or pool.limit()')
    this.#id = held.id
    this.#held = held
  }

  static {
    const byKey = new Map<number, WeakRef<MemoryPool>>()
    const forgotten = new FinalizationRegistry<Held>((held) => {
      if (byKey.get(held.key)?.deref() === undefined) byKey.delete(held.key)
      endStacks(held)
      native.poolDrop(held.id)
    })
    poolInternals = {
      id: (pool) => pool.#id,
      is: (value) => MemoryPool.#isPool(value),
      check(value, name) {
        if (MemoryPool.#isPool(value)) return value
        throw wrongType(name, 'a MemoryPool', value)
      },
      allocateForCpu: (pool, size, alignment) =>
        bufferInternals.create(native.bufferAllocate(pool.#id, size, alignment, FOR_CPU), IS_MUTABLE, pool, undefined),
      adopt(id) {
        const key = words[0]!
        const stacksAfter = words[2]!
        const stacksBefore = words[3]!
        let pool = byKey.get(key)?.deref()
        if (pool === undefined) {
          const held = { id, key }
          pool = new MemoryPool(INTERNAL, held)
          byKey.set(key, new WeakRef(pool))
          forgotten.register(pool, held)
        } else if (pool.#id !== id) native.poolDrop(id)
        if (stacksAfter > 0 || stacksBefore > 0) wantStacks(pool.#held, stacksAfter, stacksBefore)
        return pool
      },
    }
  }

  static #idOf(self: unknown): number {
    if (!MemoryPool.#isPool(self)) throw wrongReceiver('MemoryPool')
    return self.#id
  }

  static #isPool(value: unknown): value is MemoryPool {
    return typeof value === 'object' && value !== null && #id in value
  }

  static #figure(self: unknown, word: number): number {
    native.poolStats(MemoryPool.#idOf(self))
    return words[word]!
  }

  /**
   * Opens the pool that a ticket stands for, in this worker.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a ticket that is malformed, forged, revoked, or a buffer's
   */
  static fromShared(ticket: Ticket): MemoryPool {
    const { id, secret } = checkTicket(ticket)
    return poolInternals.adopt(native.poolFromShared(id, secret))
  }

  /** The backend that serves the pool: `'mimalloc'`, `'jemalloc'` or `'system'`. */
  get backendName(): string {
    return native.poolBackendName(MemoryPool.#idOf(this))
  }

  /** The name given to {@link limit} or {@link proxy}; the backend's for a pool without one. */
  get name(): string {
    return native.poolName(MemoryPool.#idOf(this))
  }

  /** Bytes asked for by what is alive. A buffer counts its size, or the capacity that it was grown to. */
  get bytesAllocated(): number {
    return MemoryPool.#figure(this, 0)
  }

  /** The most that {@link bytesAllocated} has been since the start or the last {@link resetPeak}. */
  get peakBytes(): number {
    return MemoryPool.#figure(this, 1)
  }

  /** {@link peakBytes} under Arrow's name. */
  get maxMemory(): number {
    return MemoryPool.#figure(this, 1)
  }

  /** The sum of all allocations and growths, in bytes. */
  get totalBytesAllocated(): number {
    return MemoryPool.#figure(this, 2)
  }

  /** How many allocations and growing reallocations there were. */
  get numAllocations(): number {
    return MemoryPool.#figure(this, 3)
  }

  /** How many allocations are alive. */
  get liveAllocations(): number {
    return MemoryPool.#figure(this, 4)
  }

  /** The pool's own limit in bytes; `undefined` without one. */
  get limitBytes(): number | undefined {
    return known(MemoryPool.#figure(this, 6))
  }

  /** Bytes that can still be had under this pool's limit and those above it; `undefined` where there is none. */
  get available(): number | undefined {
    return known(MemoryPool.#figure(this, 7))
  }

  /** True once {@link close} was called. */
  get closed(): boolean {
    return MemoryPool.#figure(this, 8) === 1
  }

  /** All figures at once. Asking the backend for its own costs microseconds, not nanoseconds. */
  stats(): MemoryPoolStats {
    const id = MemoryPool.#idOf(this)
    const backendName = native.poolBackendName(id)
    const name = native.poolName(id)
    native.poolStats(id)
    return {
      backendName,
      name,
      bytesAllocated: words[0]!,
      peakBytes: words[1]!,
      totalBytesAllocated: words[2]!,
      numAllocations: words[3]!,
      liveAllocations: words[4]!,
      parkedBytes: words[5]!,
      limitBytes: known(words[6]!) ?? null,
      available: known(words[7]!) ?? null,
      closed: words[8] === 1,
      usableBytes: known(words[9]!) ?? null,
      residentBytes: known(words[10]!) ?? null,
      retainedBytes: known(words[11]!) ?? null,
      fragmentedBytes: known(words[12]!) ?? null,
      cachedBytes: known(words[13]!) ?? null,
    }
  }

  /** Sets {@link peakBytes} to {@link bytesAllocated}. */
  resetPeak(): void {
    native.poolResetPeak(MemoryPool.#idOf(this))
  }

  /**
   * Gives memory that no allocation uses back to the system now: all that this thread can, for every pool over the same
   * backend, and the cached large blocks. Memory that other workers freed by mimalloc is given back by their own event
   * loops, which are woken. Takes milliseconds.
   */
  releaseUnused(): void {
    native.poolReleaseUnused(MemoryPool.#idOf(this))
  }

  /**
   * Says when the backend gives unused memory back by itself: once `minBytes` were freed and nearly nothing was allocated
   * for `idleMs`. It is on without a call, with 500 ms and 32 MiB; `false` switches it off, as `OFFHEAP_TRIM=0` does for all.
   *
   * The backend is the process's: this holds for every pool over it, in all workers. Buffers of 1 MiB and more belong to the
   * pool `mapped`, whatever their own, and are kept for a second at most.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for what is no policy; ERR_OFFHEAP_NOT_SUPPORTED over memory that is no backend's
   */
  trim(options?: TrimOptions | false): void {
    setTrimPolicy(MemoryPool.#idOf(this), options)
  }

  /** When the backend {@link trim}s; `undefined`: never. */
  get trimPolicy(): TrimPolicy | undefined {
    return trimPolicy(MemoryPool.#idOf(this))
  }

  /** Writes the backend's own statistics to the process's standard error. */
  printStats(): void {
    native.poolPrintStats(MemoryPool.#idOf(this))
  }

  /**
   * A mutable buffer of `size` bytes whose content is whatever the memory held; the padding up to the capacity is zero. From a
   * pool of a device's memory, a buffer there: `isCpu` is false, and nobody zeroed its padding.
   *
   * @param size - in bytes; 0 gives an empty buffer that still has an address
   * @throws ERR_OFFHEAP_OUT_OF_MEMORY over a limit or when the system refuses; ERR_OFFHEAP_CLOSED after {@link close}
   */
  allocateBuffer(size: number, options?: AllocateOptions): MemoryBuffer {
    const id = MemoryPool.#idOf(this)
    const bytes = checkSize(size, 'size')
    for (let attempt = 0; ; attempt += 1) {
      try {
        const block = options === undefined ? native.bufferAllocate(id, bytes, DEFAULT_ALIGNMENT, 0) : allocate(id, bytes, options, 0)
        return bufferInternals.create(block, IS_MUTABLE, this, undefined)
      } catch (error) {
        if (!isRetried('pool', id, error, attempt)) throw error
      }
    }
  }

  /** The same as {@link allocateBuffer}, for a buffer that can be resized afterwards. */
  allocateResizableBuffer(size: number, options?: AllocateOptions): MemoryBuffer {
    const id = MemoryPool.#idOf(this)
    const block = allocate(id, checkSize(size, 'size'), options, RESIZABLE_BLOCK)
    return bufferInternals.create(block, IS_MUTABLE | IS_RESIZABLE, this, undefined)
  }

  /** A mutable buffer for `bits` bits, of which only the last byte is zeroed. */
  allocateBitmap(bits: number, options?: AllocateOptions): MemoryBuffer {
    const id = MemoryPool.#idOf(this)
    const size = Math.ceil(checkSize(bits, 'bits') / 8)
    const bitmap = bufferInternals.create(allocate(id, size, options, FOR_CPU), IS_MUTABLE, this, undefined)
    if (size > 0) bitmap.fill(0, size - 1, size)
    return bitmap
  }

  /** A mutable buffer for `bits` bits, all zero. */
  allocateEmptyBitmap(bits: number, options?: AllocateOptions): MemoryBuffer {
    const id = MemoryPool.#idOf(this)
    const size = Math.ceil(checkSize(bits, 'bits') / 8)
    return bufferInternals.create(allocate(id, size, options, ZERO_FILL | FOR_CPU), IS_MUTABLE, this, undefined)
  }

  /**
   * A pool over this one that never holds more than `maxBytes`. Exact both ways, also across threads: it is never
   * exceeded by one byte, and never refuses while bytes are free. Limits nest.
   */
  limit(maxBytes: number, options?: AccountOptions): MemoryPool {
    const id = MemoryPool.#idOf(this)
    return poolInternals.adopt(native.poolLimit(id, checkSize(maxBytes, 'maxBytes'), option(options, 'name', checkString, '')))
  }

  /** A pool over this one with its own figures and no limit. */
  proxy(options?: AccountOptions): MemoryPool {
    const id = MemoryPool.#idOf(this)
    return poolInternals.adopt(native.poolProxy(id, option(options, 'name', checkString, '')))
  }

  /**
   * A pool over this one that tells `observer` of every request that it gets, before the caller that made it goes on;
   * requests of other threads (and what the garbage collector frees) are told in a later turn of the event loop, in the
   * order in which they were made. Requests of 0 bytes need no memory and are not told.
   *
   * An observer may do anything, also use and close this pool: what it allocates itself it is not told of. What it
   * throws becomes an uncaught exception in the next tick, and the request stands. It is kept until the pool and all of
   * its buffers are gone, or {@link unhook} is called; with the end of its thread it ends.
   */
  hook(observer: AllocationObserver): MemoryPool {
    const id = MemoryPool.#idOf(this)
    const checked = checkObserver(observer, 'observer')
    return poolInternals.adopt(observe(checked, (kinds) => native.poolObserve(id, kinds)))
  }

  /**
   * Ends the observer that this pool, or the nearest pool under it, was given by {@link hook} in this thread. The pool
   * goes on without it.
   *
   * @returns false when there is none
   */
  unhook(): boolean {
    return endObserver(MemoryPool.#idOf(this))
  }

  /**
   * How many events the nearest observer of this thread was not told of, because other threads made more than 16,384
   * of them in one turn of the event loop; `undefined` without an observer.
   */
  get droppedEvents(): number | undefined {
    return known(native.poolDroppedEvents(MemoryPool.#idOf(this)))
  }

  /**
   * A pool over this one whose requests fail as the options say, with ERR_OFFHEAP_OUT_OF_MEMORY, to see what a program
   * then does. Frees never fail.
   */
  failing(options?: PoolFailingOptions): MemoryPool {
    const id = MemoryPool.#idOf(this)
    return poolInternals.adopt(native.poolFailing(id, nativeFailingOptions(options), failingDomain(options)))
  }

  /** What the nearest {@link failing} pool has counted since it was armed; `undefined` where nothing fails. */
  get failingCounts(): FailingCounts | undefined {
    if (!native.poolFailingCounts(MemoryPool.#idOf(this))) return undefined
    return { requests: words[0]!, failures: words[1]! }
  }

  /** Lets everything through from now on. The counts stay. @throws ERR_OFFHEAP_NOT_SUPPORTED where nothing fails */
  disarm(): void {
    native.poolDisarm(MemoryPool.#idOf(this))
  }

  /** Starts failing anew, as these options say, with both counts at 0. @throws ERR_OFFHEAP_NOT_SUPPORTED where nothing fails */
  rearm(options?: FailingOptions): void {
    const id = MemoryPool.#idOf(this)
    const given = nativeFailingOptions(options)
    native.poolRearm(id, given)
    if (given.stack !== '') wantStacks(this.#held, 0, DEEPEST_STACK)
  }

  /**
   * A pool over this one that knows every live block and where it came from: {@link allocations}, `buffer.allocationSite`,
   * and the places in the report of {@link close}. An allocation costs some microseconds for its JavaScript stack.
   */
  track(options?: TrackOptions): MemoryPool {
    const id = MemoryPool.#idOf(this)
    const stackDepth = option(options, 'stackDepth', checkDepth, 16)
    const nativeStackDepth = option(options, 'nativeStackDepth', checkDepth, 0)
    const reports = option(options, 'reportAtExit', checkBoolean, false)
    const pool = poolInternals.adopt(native.poolTrack(id, nativeStackDepth, stackDepth))
    if (reports) reportAtExit(pool.#id, pool)
    return pool
  }

  /**
   * The live blocks of this pool, or of the nearest tracker under it, in the order of their allocation.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED without {@link track}
   */
  allocations(): AllocationInfo[] {
    const found = native.poolAllocations(MemoryPool.#idOf(this))
    if (found === null) throw new NotSupportedError('nothing tracks the blocks of this pool: make one by track()')
    return found.map(allocationInfo)
  }

  /**
   * A pool over this one whose blocks lie between guards: writes behind and in front of a block, to freed and to frozen
   * ones, through views of disposed buffers, and frees that are wrong are found and reported with the stacks of the
   * allocation and of the free. Its buffers have no padding. Found when a block is freed or resized, when it leaves the
   * quarantine, and by {@link checkIntegrity}.
   *
   * While nothing is in flight, a disposed buffer's views stay attached here, over memory that is 0xDB, to catch who writes
   * through them; they count as parked.
   */
  debug(options?: DebugOptions): MemoryPool {
    const id = MemoryPool.#idOf(this)
    return poolInternals.adopt(debugged(id, checkDebugOptions(options)))
  }

  /**
   * Looks at every block of this pool's debug hooks, or the nearest under it, and says what is damaged; nothing else is
   * done about it. Empty: all is well.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED without {@link debug}
   */
  checkIntegrity(): CorruptionReport[] {
    return native.poolCheck(MemoryPool.#idOf(this)).map(corruptionReport)
  }

  /**
   * A pool over this one that logs every request: to stderr, a file, a function or a channel of
   * `node:diagnostics_channel`. Functions and channels are told as {@link hook} tells, and ended by {@link unhook}.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a file that cannot be made
   */
  log(sink?: LogSink, options?: LogOptions): MemoryPool {
    return poolInternals.adopt(logged(MemoryPool.#idOf(this), sink, options))
  }

  /** A pool over this one that counts what stretches of each thread's work allocate: {@link pushCounters}. */
  scopedStatistics(): MemoryPool {
    return poolInternals.adopt(native.poolScoped(MemoryPool.#idOf(this)))
  }

  /**
   * Begins a scope of this thread: what it allocates from now on counts by itself, until {@link popCounters} adds it to the
   * scope around it. (RMM's statistics resource.)
   *
   * @returns the counters of the scope around it
   * @throws ERR_OFFHEAP_NOT_SUPPORTED without {@link scopedStatistics}
   */
  pushCounters(): ScopeCounters {
    return MemoryPool.#scope(this, 0)
  }

  /** Ends this thread's innermost scope. @returns what it counted. @throws ERR_OFFHEAP_INVALID_ARGUMENT without one */
  popCounters(): ScopeCounters {
    return MemoryPool.#scope(this, 1)
  }

  /** What this thread's innermost scope has counted so far; without one, what was counted outside of scopes. */
  counters(): ScopeCounters {
    return MemoryPool.#scope(this, 2)
  }

  static #scope(self: unknown, what: number): ScopeCounters {
    native.poolScope(MemoryPool.#idOf(self), what)
    const counter = (at: number): ScopeCounter => ({ value: words[at]!, peak: words[at + 1]!, total: words[at + 2]! })
    return { bytes: counter(0), allocations: counter(3) }
  }

  /** A ticket that opens this pool in another worker. It keeps the pool alive until `revokeShared(ticket)`. */
  share(): Ticket {
    return native.poolShare(MemoryPool.#idOf(this))
  }

  /**
   * Refuses later allocations with ERR_OFFHEAP_CLOSED. Live buffers stay valid and are reported. The second time it only
   * reports.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a backend's pool and for the default pool
   */
  close(): LeakReport {
    const id = MemoryPool.#idOf(this)
    const pool = native.poolName(id)
    const sharedTickets = native.sharedTickets()
    const places = native.poolClose(id)
    const report = { pool, liveBytes: words[0]!, liveAllocations: words[1]!, sharedTickets }
    if (report.liveAllocations === 0) endReportAtExit(id)
    return places === null ? report : { ...report, ...allocationSites(places) }
  }

  /** The same as {@link close}, for `using`. */
  [Symbol.dispose](): void {
    MemoryPool.prototype.close.call(this)
  }

  /** `'MemoryPool'` */
  get [Symbol.toStringTag](): string {
    return 'MemoryPool'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!MemoryPool.#isPool(this)) return 'MemoryPool {}'
    const { name, bytesAllocated, limitBytes, liveAllocations, closed } = this.stats()
    const limit = limitBytes === null ? '' : ` of ${limitBytes}`
    return `MemoryPool { ${name}: ${bytesAllocated}${limit} bytes in ${liveAllocations} allocations${closed ? ', closed' : ''} }`
  }
}

/** What stands for a pool where the pool itself must not be kept alive. */
interface Held {
  readonly id: number
  readonly key: number
}

function checkDepth(value: unknown, name: string): number {
  return checkIntegerFrom(value, name, 0, DEEPEST_STACK)
}

/** Native figures are -1 where they are unknown or do not apply. */
function known(figure: number): number | undefined {
  return figure < 0 ? undefined : figure
}

/** What native code takes of the options: `flags` and theirs. */
export function allocationArguments(options: AllocateOptions | undefined, flags: number): { alignment: number; flags: number } {
  const alignment = option(options, 'alignment', checkAlignmentArgument, DEFAULT_ALIGNMENT)
  const zeroFill = option(options, 'zeroFill', checkBoolean, false)
  return { alignment, flags: zeroFill ? flags | ZERO_FILL : flags }
}

function allocate(pool: number, size: number, options: AllocateOptions | undefined, flags: number): number {
  const given = allocationArguments(options, flags)
  return native.bufferAllocate(pool, size, given.alignment, given.flags)
}

/** The pool of a trailing options object; the default pool when there is none. */
export function poolOption(options: unknown): MemoryPool {
  return option(options, 'pool', poolInternals.check, undefined) ?? defaultMemoryPool()
}

/**
 * The pool that is used where no other is given: mimalloc, else jemalloc, else system; `OFFHEAP_DEFAULT_MEMORY_POOL` and
 * {@link setDefaultMemoryPool} change it.
 */
export function defaultMemoryPool(): MemoryPool {
  return poolInternals.adopt(native.poolDefault())
}

/** Makes `pool` the default pool of the whole process, all workers included. What is alive stays where it is. */
export function setDefaultMemoryPool(pool: MemoryPool): void {
  native.poolSetDefault(poolInternals.id(poolInternals.check(pool, 'pool')))
}

const backends = new Map<string, MemoryPool>()

function backend(name: string, options?: BackendPoolOptions): MemoryPool {
  const largeBlocks = option(options, 'largeBlocks', checkBoolean, true)
  const key = largeBlocks ? name : `${name} without large blocks`
  let pool = backends.get(key)
  if (pool === undefined) {
    pool = poolInternals.adopt(native.poolBackend(name, largeBlocks))
    backends.set(key, pool)
  }
  return pool
}

/** The pool over the C library's allocator. */
export function systemMemoryPool(options?: BackendPoolOptions): MemoryPool {
  return backend('system', options)
}

/** The pool over jemalloc. @throws ERR_OFFHEAP_NOT_SUPPORTED when it is not built in */
export function jemallocMemoryPool(options?: BackendPoolOptions): MemoryPool {
  return backend('jemalloc', options)
}

/** The pool over mimalloc. @throws ERR_OFFHEAP_NOT_SUPPORTED when it is not built in */
export function mimallocMemoryPool(options?: BackendPoolOptions): MemoryPool {
  return backend('mimalloc', options)
}

/**
 * The pool of the system's pages: whole pages for every block, each a mapping of its own below 1 MiB, given back as soon
 * as it is freed. For blocks that are few and large, or whose pages are to be theirs alone.
 */
export function mappedMemoryPool(): MemoryPool {
  return backend('mapped')
}

/** The backends that are built in, the preferred one first. */
export function supportedMemoryBackends(): string[] {
  return native.supportedBackends()
}

/** Bytes asked for by everything that is alive, over all backends of the process. */
export function totalAllocatedBytes(): number {
  return native.totalAllocatedBytes()
}

/** The pool that a pool id from native code stands for; `undefined` for 0. */
export function poolOfId(id: number): MemoryPool | undefined {
  if (id === 0) return undefined
  return poolInternals.adopt(id)
}
