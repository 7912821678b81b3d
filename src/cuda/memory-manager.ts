import { InvalidArgumentError, OutOfMemoryError } from '../errors.js'
import type { BufferReader } from '../buffer-reader.js'
import type { FixedSizeBufferWriter } from '../fixed-size-buffer-writer.js'
import type { MemoryBuffer } from '../memory-buffer.js'
import { MemoryManager, managerInternals } from '../memory-manager.js'
import { type AllocateOptions, poolOfId } from '../memory-pool.js'
import { native, words } from '../native.js'
import { type Asked, setMakeRoom } from '../out-of-memory.js'
import { INTERNAL } from '../token.js'
import { checkSize, option, wrongReceiver, wrongType } from '../validate.js'
import { CudaBufferReader } from './buffer-reader.js'
import { CudaBufferWriter, type CudaWriterOptions } from './buffer-writer.js'
import { collectGarbage } from './collect-garbage.js'
import { type CudaDevice, device } from './device.js'
import { type CudaStream, streamInternals } from './stream.js'

/** How a manager gets its memory: see {@link CudaDevice.createMemoryManager}. */
export type CudaMemoryKind = 'driver-pool' | 'pool' | 'plain' | 'host' | 'managed'

/** A number of bytes with its history; `null` for what nobody counts. */
export interface CudaCounter {
  /** Bytes now. */
  readonly current: number | null
  /** The most there have been since the start or the last `resetPeaks()`. */
  readonly peak: number | null
  /** The sum of all increases. */
  readonly total: number | null
}

/**
 * The bytes of a manager. Allocated less requested is rounding; reserved less allocated is what is kept for later. The driver has no
 * totals of its pools; plain and managed memory has `requested` only.
 */
export interface CudaMemoryStats {
  /** What was asked for, of this manager's pool: managers {@link CudaMemoryManager.on} other streams have their own. */
  readonly requested: CudaCounter
  /** The blocks that were given, after rounding; of all streams. */
  readonly allocated: CudaCounter
  /** What was taken from the driver; of all streams. */
  readonly reserved: CudaCounter
}

/** A request for which there is no memory. */
export interface CudaMemoryShortage {
  /** Bytes that were asked for. */
  readonly requested: number
  /** How often the callbacks were asked about this request before. */
  readonly attempt: number
  readonly error: OutOfMemoryError
}

/** Frees memory if it can; true to have the request tried again. */
export type OutOfMemoryCallback = (shortage: CudaMemoryShortage) => boolean

/** So often may callbacks say that it is worth another try. */
const MOST_ATTEMPTS = 16

/** What refers to a forgotten buffer may itself be seen as garbage by the first collection only. */
const MOST_COLLECTIONS = 3

/** A callback, with the manager that it was given to, which is not forgotten as long as it has one. */
interface Watcher {
  readonly callback: OutOfMemoryCallback
  readonly manager: CudaMemoryManager
}

/** By the memory that a pool leads to. */
const watchers = new Map<number, Set<Watcher>>()

/** Memory whose callbacks run at the moment: what they ask for themselves is refused at once. */
const asking = new Set<number>()

/** Asks the callbacks of the memory; true when one of them says that it freed something. */
function makeRoom(asked: Asked, id: number, error: OutOfMemoryError, attempt: number): boolean {
  if (attempt >= MOST_ATTEMPTS) return false
  const memory = asked === 'pool' ? native.cudaMemoryOfPool(id) : native.cudaMemoryOfManager(id)
  const all = watchers.get(memory)
  if (all === undefined || asking.has(memory)) return false
  // As they are now: one may add another.
  const callbacks = Array.from(all, ({ callback }) => callback)
  let isRetried = false
  asking.add(memory)
  try {
    for (const callback of callbacks) isRetried = callback({ requested: error.requested, attempt, error }) === true || isRetried
  } finally {
    asking.delete(memory)
  }
  return isRetried
}

/** The one handle for the manager that the last native call returned: equal managers of one pool are one handle. */
export function adoptManager(id: number): CudaMemoryManager {
  const key = words[0]!
  const pool = poolOfId(native.managerPool(id))
  words[0] = key // what a manager is known by
  return (pool === undefined ? managerInternals.adopt(id) : managerInternals.adoptFor(pool, id)) as CudaMemoryManager
}

/** Memory of a GPU, or of the CPU for a GPU. */
export class CudaMemoryManager extends MemoryManager {
  /** Asked for once. */
  #kind: CudaMemoryKind | undefined = undefined

  private constructor(token: typeof INTERNAL, id: number) {
    super(token, id)
  }

  static {
    for (const type of ['cuda', 'cuda_host', 'cuda_managed']) managerInternals.setClass(type, (id) => new CudaMemoryManager(INTERNAL, id))
  }

  static #check(self: unknown): CudaMemoryManager {
    if (typeof self === 'object' && self !== null && #kind in self) return self
    throw wrongReceiver('CudaMemoryManager')
  }

  static #idOf(self: unknown): number {
    return managerInternals.id(CudaMemoryManager.#check(self))
  }

  /** The GPU. For memory of the CPU that is for a GPU, {@link device} is another one: `cuda_host` or `cuda_managed`. */
  get gpu(): CudaDevice {
    return device(native.cudaManagerOrdinal(CudaMemoryManager.#idOf(this)))
  }

  /** How it gets its memory. */
  get kind(): CudaMemoryKind {
    const manager = CudaMemoryManager.#check(this)
    return (manager.#kind ??= native.cudaManagerKind(managerInternals.id(manager)) as CudaMemoryKind)
  }

  /**
   * The same memory for buffers of `stream`: they may be used there at once, and go back in its order. They count in a pool of
   * their own.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a stream of another GPU; ERR_OFFHEAP_NOT_SUPPORTED for page-locked memory
   */
  on(stream: CudaStream): CudaMemoryManager {
    const manager = CudaMemoryManager.#check(this)
    const streamId = streamInternals.id(streamInternals.check(stream, 'stream'))
    return adoptManager(native.cudaManagerOn(managerInternals.id(manager), streamId))
  }

  /**
   * As {@link MemoryManager.allocateBuffer}; when there is no memory, what is kept is given back, callbacks of
   * {@link onOutOfMemory} run, and it is tried again.
   */
  override allocateBuffer(size: number, options?: AllocateOptions): MemoryBuffer {
    CudaMemoryManager.#check(this)
    return super.allocateBuffer(size, options)
  }

  /**
   * As {@link allocateBuffer}; when nothing else helps, garbage is collected, so that buffers that were forgotten go back, and it is
   * tried again, three times at most.
   */
  async allocateBufferAsync(size: number, options?: AllocateOptions): Promise<MemoryBuffer> {
    const manager = CudaMemoryManager.#check(this)
    for (let collections = 0; ; collections += 1) {
      try {
        return CudaMemoryManager.prototype.allocateBuffer.call(manager, size, options)
      } catch (error) {
        if (!(error instanceof OutOfMemoryError) || collections === MOST_COLLECTIONS) throw error
      }
      await collectGarbage()
    }
  }

  /**
   * Has `callback` called, before the error is thrown, when this manager's memory runs out (RMM's failure callback: the place to spill):
   * in `allocateBuffer` and {@link allocateBufferAsync} of this manager, of the same {@link on} another stream and of those of pools over
   * this one's (a limit, say), in `allocateBuffer` of all these pools, and in `copyTo` and `viewOrCopyTo` to any of them. At most 16
   * times a request. What it throws is thrown instead. What the callback itself asks for is refused without asking it again.
   *
   * @returns what ends it
   */
  onOutOfMemory(callback: OutOfMemoryCallback): () => void {
    const manager = CudaMemoryManager.#check(this)
    if (typeof callback !== 'function') throw wrongType('callback', 'a function', callback)
    const memory = native.cudaMemoryOfManager(managerInternals.id(manager))
    // One of its own for each call, so that the same function can be given twice.
    const watcher: Watcher = { callback, manager }
    const all = watchers.get(memory) ?? new Set()
    watchers.set(memory, all.add(watcher))
    setMakeRoom(makeRoom)
    return () => {
      // The second time there may be others under the same number.
      if (!all.delete(watcher) || all.size > 0) return
      watchers.delete(memory)
      if (watchers.size === 0) setMakeRoom(undefined)
    }
  }

  /** As {@link MemoryManager.reader}; page-locked memory is the CPU's, which a {@link BufferReader} reads. */
  override reader(buffer: MemoryBuffer): CudaBufferReader | BufferReader {
    const manager = CudaMemoryManager.#check(this)
    if (manager.kind === 'host') return super.reader(buffer) as BufferReader
    return new CudaBufferReader(managerInternals.checkOwn(manager, buffer))
  }

  /**
   * As {@link MemoryManager.writer}; page-locked memory is the CPU's, which a {@link FixedSizeBufferWriter} writes at once.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a `bufferSize` with page-locked memory
   */
  override writer(buffer: MemoryBuffer, options?: CudaWriterOptions): CudaBufferWriter | FixedSizeBufferWriter {
    const manager = CudaMemoryManager.#check(this)
    const bufferSize = option(options, 'bufferSize', checkSize, undefined)
    if (manager.kind !== 'host') return new CudaBufferWriter(managerInternals.checkOwn(manager, buffer), { bufferSize })
    if (bufferSize !== undefined) throw new InvalidArgumentError('bufferSize is no option of a writer of page-locked memory: it gathers nothing')
    return super.writer(buffer) as FixedSizeBufferWriter
  }

  /** Bytes that were requested, allocated and reserved. */
  stats(): CudaMemoryStats {
    native.cudaManagerStats(CudaMemoryManager.#idOf(this))
    const figure = (word: number): number | null => (words[word]! < 0 ? null : words[word]!)
    const counter = (word: number): CudaCounter => ({ current: figure(word), peak: figure(word + 1), total: figure(word + 2) })
    return { requested: counter(0), allocated: counter(3), reserved: counter(6) }
  }

  /** Starts the peaks of {@link stats} anew. */
  resetPeaks(): void {
    native.cudaManagerResetPeaks(CudaMemoryManager.#idOf(this))
  }

  /** Gives memory that no buffer uses back to the driver, down to `keepBytes` of reserved bytes. */
  trim(keepBytes = 0): void {
    native.cudaManagerTrim(CudaMemoryManager.#idOf(this), checkSize(keepBytes, 'keepBytes'))
  }

  /** `'CudaMemoryManager'` */
  override get [Symbol.toStringTag](): string {
    return 'CudaMemoryManager'
  }
}
