import { constants } from 'node:buffer'
import type { FileHandle } from 'node:fs/promises'
import { inspect } from 'node:util'
import { BufferReader } from './buffer-reader.js'
import { type ByteSource, checkByteSource, javaScriptBytes, type Region, regionBytes, regionOf, toBytes } from './bytes.js'
import type { Device } from './device.js'
import { BusyError, DisposedError, ImmutableError, InvalidArgumentError, NotSupportedError } from './errors.js'
import { type FileTransferOptions, readFile, writeFile } from './file-transfer.js'
import { FixedSizeBufferWriter } from './fixed-size-buffer-writer.js'
import { throwHeldBack } from './instrument.js'
import { currentStretch, endWatch, viewState, watch, type Watch } from './lifetime.js'
import { defaultCpuMemoryManager, managerInternals, type MemoryManager } from './memory-manager.js'
import { DEFAULT_ALIGNMENT, type MemoryPool, poolInternals, poolOfId, poolOption, type PoolOptions } from './memory-pool.js'
import { type Bytes, externalBuffers, IMMUTABLE_BLOCK, maxViewBytes, native, NOT_CPU, words } from './native.js'
import { retried } from './out-of-memory.js'
import { createPin, type Pin } from './pin.js'
import { checkTicket, type Ticket } from './ticket.js'
import { INTERNAL } from './token.js'
import { type AllocationInfo, allocationInfo } from './tracking.js'
import {
  arrayElements,
  checkAlignmentArgument,
  checkBoolean,
  checkByte,
  checkInteger,
  checkPosition,
  checkSize,
  describe,
  isArray,
  noConstructor,
  option,
  outOfRange,
  wrongReceiver,
  wrongType,
} from './validate.js'

/** Flags of a handle; {@link NOT_CPU} is one, too. */
export const IS_MUTABLE = 1
export const IS_RESIZABLE = 2

/** The id of a handle over an ArrayBuffer of the user: there is no native memory behind it. */
const WRAPPED = -1

/** The code of the CPU among device types. */
const CPU_DEVICE_TYPE = 1

/** Options of {@link MemoryBuffer.resize}. */
export interface ResizeOptions {
  /** False to keep the capacity when the size shrinks. True when absent. */
  shrinkToFit?: boolean | undefined
}

/** A view over part of a buffer that is too large for one ArrayBuffer. */
interface Window {
  readonly offset: number
  readonly length: number
  readonly arrayBuffer: ArrayBuffer
}

/** What few handles need, kept out of the hot fields. */
interface Extra {
  pins: number
  windows: Window[]
  shared: SharedArrayBuffer | undefined
  region: Region | undefined
  owner: unknown
  /** Of a wrapped ArrayBuffer that is viewed as memory of this manager. */
  manager: MemoryManager | undefined
}

function newExtra(region?: Region, owner?: unknown): Extra {
  return { pins: 0, windows: [], shared: undefined, region, owner, manager: undefined }
}

/** Keeps the owner of foreign memory alive for as long as an ArrayBuffer over it is. */
const viewOwners = new WeakMap<ArrayBufferLike, unknown>()

interface ViewConstructor<View> {
  readonly name: string
  new (buffer: ArrayBuffer, byteOffset: number, length: number): View
}

/** What the rest of `src/` may do with a buffer. */
interface BufferInternals {
  /** A handle for the block that the last native call returned. */
  create(id: number, flags: number, pool: MemoryPool | undefined, parent: MemoryBuffer | undefined): MemoryBuffer
  is(value: unknown): value is MemoryBuffer
  /** The native id; `undefined` for a wrapped ArrayBuffer. Throws when the buffer was disposed. */
  nativeId(buffer: MemoryBuffer): number | undefined
  isMutable(buffer: MemoryBuffer): boolean
  /** The length in bytes, also where a property shadows the getter. Throws when the buffer was disposed. */
  size(buffer: MemoryBuffer): number
  /** The bytes, for native code. */
  bytes(buffer: MemoryBuffer): Bytes
  /** The same wherever they are: for native code that does not read them itself. */
  bytesAnywhere(buffer: MemoryBuffer): Bytes
  /** True when views are windows on the memory itself, not copies. */
  isDirect(buffer: MemoryBuffer): boolean
  /** Copies bytes into a mutable buffer; refuses, with nothing written, what does not fit. */
  write(buffer: MemoryBuffer, position: number, bytes: Bytes, length: number): void
  /** Copies bytes out, all of `target`. */
  read(buffer: MemoryBuffer, position: number, target: Uint8Array): void
  checkMutable(buffer: MemoryBuffer): void
  /** Throws where the CPU can neither read nor write the memory. */
  checkCpu(buffer: MemoryBuffer): void
  /** Keeps `owner` as long as a handle of the memory. For a new buffer. */
  keepOwner(buffer: MemoryBuffer, owner: unknown): void
  unpin(buffer: MemoryBuffer): void
}

/** @internal */
export let bufferInternals: BufferInternals

/**
 * A handle on memory outside the JavaScript heap, 64-byte aligned and padded unless asked otherwise. It is freed when
 * {@link dispose} is called on the last handle of it, not when the garbage collector runs; a handle that is forgotten is
 * freed by the collector.
 *
 * ArrayBuffers and views handed out are leases: they end (length 0) when the handle is disposed, resized or frozen. They
 * are always writable; those of an immutable buffer must not be written. Where `capabilities().externalBuffers` is
 * false they are copies: {@link flush} and {@link refresh} move the bytes, and what `fill`, a writer or `readFrom` put
 * into the buffer appears in a view after `refresh()` only.
 *
 * After `dispose()` every member but `disposed` and `dispose` throws ERR_OFFHEAP_DISPOSED.
 */
export class MemoryBuffer {
  /** Native id; 0 when disposed, WRAPPED for the user's own ArrayBuffer. */
  #id: number
  #size: number
  #capacity: number
  #address: number
  #flags: number
  /** `undefined` = ask native code. */
  #pool: MemoryPool | undefined
  #parent: MemoryBuffer | undefined
  #arrayBuffer: ArrayBuffer | undefined = undefined
  /** The stretch in which the oldest view was made. */
  #stretch = 0
  #extra: Extra | undefined
  /** While it is set, the memory is released when the handle is forgotten. */
  #watch: Watch | undefined = undefined

  private constructor(
    token: typeof INTERNAL,
    id: number,
    flags: number,
    pool: MemoryPool | undefined,
    parent: MemoryBuffer | undefined,
    extra: Extra | undefined,
  ) {
    if (token !== INTERNAL) throw noConstructor('MemoryBuffer', 'pool.allocateBuffer(), MemoryBuffer.from() or MemoryBuffer.wrap()')
    this.#id = id
    this.#pool = pool
    this.#parent = parent
    this.#extra = extra
    if (id === WRAPPED) {
      this.#address = 0
      this.#flags = flags
      this.#capacity = this.#size = extra!.region!.length
    } else {
      this.#address = words[0]!
      this.#capacity = words[1]!
      this.#size = words[2]!
      this.#flags = flags | words[3]!
      this.#watch = watch(id)
    }
  }

  static {
    bufferInternals = {
      create: (id, flags, pool, parent) => new MemoryBuffer(INTERNAL, id, flags, pool, parent, undefined),
      is: (value): value is MemoryBuffer => MemoryBuffer.#isBuffer(value),
      nativeId(buffer) {
        const id = MemoryBuffer.#live(buffer)
        return id === WRAPPED ? undefined : id
      },
      isMutable: (buffer) => (buffer.#flags & IS_MUTABLE) !== 0,
      size(buffer) {
        MemoryBuffer.#live(buffer)
        return buffer.#size
      },
      bytes: (buffer) => MemoryBuffer.#bytes(buffer),
      bytesAnywhere(buffer) {
        const id = MemoryBuffer.#live(buffer)
        return id === WRAPPED ? regionBytes(buffer.#extra!.region!) : id
      },
      isDirect: (buffer) => externalBuffers || buffer.#id === WRAPPED,
      write(buffer, position, bytes, length) {
        const id = MemoryBuffer.#mutableId(buffer)
        if (position + length > buffer.#size) throw outOfRange(position, length, buffer.#size)
        if (id !== WRAPPED) return native.bufferWrite(id, position, bytes)
        const target = regionBytes(buffer.#extra!.region!)
        if (typeof bytes === 'number') native.bufferRead(bytes, 0, target.subarray(position, position + length))
        else target.set(bytes, position)
      },
      read: (buffer, position, target) => {
        const bytes = MemoryBuffer.#bytes(buffer)
        if (target.byteLength > 0) native.bufferRead(bytes, position, target)
      },
      checkMutable: (buffer) => void MemoryBuffer.#mutableId(buffer),
      checkCpu: (buffer) => void MemoryBuffer.#cpuId(buffer),
      keepOwner: (buffer, owner) => {
        buffer.#extra = newExtra(undefined, owner)
      },
      unpin: (buffer) => {
        buffer.#extra!.pins -= 1
      },
    }
  }

  static #isBuffer(value: unknown): value is MemoryBuffer {
    return typeof value === 'object' && value !== null && #id in value
  }

  /** The id of a handle that is alive. */
  static #live(self: unknown): number {
    if (!MemoryBuffer.#isBuffer(self)) throw wrongReceiver('MemoryBuffer')
    const id = self.#id
    if (id === 0) throw new DisposedError('the buffer was disposed')
    return id
  }

  static #mutableId(self: MemoryBuffer): number {
    const id = MemoryBuffer.#live(self)
    if ((self.#flags & IS_MUTABLE) === 0) throw new ImmutableError('the buffer is immutable')
    return id
  }

  /** The id of a handle whose bytes the CPU can read and write. */
  static #cpuId(self: MemoryBuffer): number {
    const id = MemoryBuffer.#live(self)
    if ((self.#flags & NOT_CPU) !== 0) native.bufferCheckCpu(id)
    return id
  }

  static #bytes(self: MemoryBuffer): Bytes {
    const id = MemoryBuffer.#cpuId(self)
    return id === WRAPPED ? regionBytes(self.#extra!.region!) : id
  }

  static #wrap(region: Region, flags: number, parent: MemoryBuffer | undefined): MemoryBuffer {
    return new MemoryBuffer(INTERNAL, WRAPPED, flags, undefined, parent, newExtra(region))
  }

  /**
   * An immutable buffer with a copy of `source`: a string (as UTF-8), a `MemoryBuffer`, an ArrayBuffer or view of one,
   * or an array of bytes.
   */
  static from(source: string | ByteSource | readonly number[], options?: PoolOptions): MemoryBuffer {
    const pool = poolOption(options) // first: reading options may run the caller's code, and that detach the source
    let bytes: Bytes
    if (typeof source === 'string') bytes = Buffer.from(source, 'utf8')
    else if (isArray(source)) bytes = Uint8Array.from(arrayElements(source, 'source', checkByte))
    else if (MemoryBuffer.#isBuffer(source)) bytes = MemoryBuffer.#bytes(source)
    else {
      const given = javaScriptBytes(source)
      if (given === undefined) throw wrongType('source', 'a string, bytes or an array of byte values', source)
      bytes = given
    }
    return bufferInternals.create(native.bufferFromBytes(poolInternals.id(pool), bytes, IMMUTABLE_BLOCK), 0, pool, undefined)
  }

  /**
   * A mutable buffer over the caller's own ArrayBuffer or SharedArrayBuffer, or a view of one. Nothing is copied and no
   * pool counts it; it has no `address`, and `dispose()` leaves the ArrayBuffer as it was. When the ArrayBuffer is
   * detached, transferred or shrunk, every use throws ERR_OFFHEAP_DISPOSED. It cannot be shared by ticket.
   */
  static wrap(source: ArrayBufferLike | ArrayBufferView): MemoryBuffer {
    const region = regionOf(source)
    if (region === undefined) throw wrongType('source', 'an ArrayBuffer or a view of one', source)
    regionBytes(region) // refuses a detached one
    return MemoryBuffer.#wrap(region, IS_MUTABLE, undefined)
  }

  /**
   * A mutable buffer over `size` bytes at `address` that some other library owns. **The caller is trusted**: a wrong
   * address crashes the process or corrupts memory. `owner` is kept alive until the last handle and the last view of
   * the memory are gone. No pool counts it.
   */
  static unsafeForeign(address: bigint | number, size: number, owner: unknown): MemoryBuffer {
    const start = checkSize(typeof address === 'bigint' ? Number(address) : address, 'address')
    const length = checkSize(size, 'size')
    if (start === 0 && length > 0) throw new InvalidArgumentError(`address must not be 0 for ${length} bytes`)
    if (start + length > Number.MAX_SAFE_INTEGER) throw outOfRange(start, length, Number.MAX_SAFE_INTEGER)
    const id = native.bufferForeign(BigInt(start), length)
    return new MemoryBuffer(INTERNAL, id, IS_MUTABLE, undefined, undefined, newExtra(undefined, owner))
  }

  /** A mutable buffer with the bytes of all `buffers`, one after the other. */
  static concat(buffers: readonly ByteSource[], options?: PoolOptions): MemoryBuffer {
    if (!isArray(buffers)) throw wrongType('buffers', 'an array', buffers)
    const pool = poolOption(options)
    // In two steps, because reading elements and options may run the caller's code, and that detach what was read before.
    const sources = arrayElements(buffers, 'buffers', checkByteSource)
    const parts = sources.map((source, index) => toBytes(source, `buffers[${index}]`))
    return bufferInternals.create(native.bufferConcat(poolInternals.id(pool), parts), IS_MUTABLE, pool, undefined)
  }

  /**
   * Opens the same bytes that a ticket stands for, in this worker. Nothing is copied; two workers that write are in a
   * data race, as with a SharedArrayBuffer.
   *
   * @throws ERR_OFFHEAP_INVALID_ARGUMENT for a ticket that is malformed, forged, revoked, or a pool's
   */
  static fromShared(ticket: Ticket): MemoryBuffer {
    const { id, secret } = checkTicket(ticket)
    const opened = native.bufferFromShared(id, secret)
    return bufferInternals.create(opened, words[4] === 1 ? IS_MUTABLE : 0, undefined, undefined)
  }

  /** Length in bytes. */
  get size(): number {
    MemoryBuffer.#live(this)
    return this.#size
  }

  /** Bytes that the block can hold without moving; a multiple of 64, except for slices and foreign memory. */
  get capacity(): number {
    MemoryBuffer.#live(this)
    return this.#capacity
  }

  /**
   * The address of the first byte: the device's where {@link isCpu} is false.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED for a wrapped ArrayBuffer, which may move
   */
  get address(): bigint {
    return BigInt(MemoryBuffer.#addressOf(this, 'address'))
  }

  /** The largest power of two that divides the address. @throws ERR_OFFHEAP_NOT_SUPPORTED for a wrapped ArrayBuffer */
  get alignment(): number {
    const address = BigInt(MemoryBuffer.#addressOf(this, 'alignment'))
    return Number(address & -address)
  }

  static #addressOf(self: MemoryBuffer, member: string): number {
    if (MemoryBuffer.#live(self) === WRAPPED) throw new NotSupportedError(`${member}: the address of a wrapped ArrayBuffer is not known`)
    return self.#address
  }

  /**
   * True when the CPU may read and write the memory. Where it is false, all that reads or writes bytes here throws
   * ERR_OFFHEAP_NOT_SUPPORTED: {@link copyTo} brings them over.
   */
  get isCpu(): boolean {
    MemoryBuffer.#live(this)
    return (this.#flags & NOT_CPU) === 0
  }

  /** The device where the memory lies: of a view, where it is viewed. */
  get device(): Device {
    return MemoryBuffer.#memoryManager(this).device
  }

  /** Who copies and views the memory: the same object for all buffers of a pool. */
  get memoryManager(): MemoryManager {
    return MemoryBuffer.#memoryManager(this)
  }

  static #memoryManager(self: MemoryBuffer): MemoryManager {
    const id = MemoryBuffer.#live(self)
    if (id === WRAPPED) return self.#extra!.manager ?? defaultCpuMemoryManager()
    const own = native.bufferManager(id)
    if (own !== 0) return managerInternals.adopt(own)
    const pool = MemoryBuffer.#poolOf(self, id)
    return pool === undefined ? defaultCpuMemoryManager() : managerInternals.ofPool(pool)
  }

  /** True when `fill`, `sliceMutable`, writers and `readFrom` may change the bytes. */
  get isMutable(): boolean {
    MemoryBuffer.#live(this)
    return (this.#flags & IS_MUTABLE) !== 0
  }

  /** True when {@link resize} and {@link reserve} work. */
  get isResizable(): boolean {
    MemoryBuffer.#live(this)
    return (this.#flags & IS_RESIZABLE) !== 0
  }

  /** True after {@link dispose}. Never throws on a buffer. */
  get disposed(): boolean {
    if (!MemoryBuffer.#isBuffer(this)) throw wrongReceiver('MemoryBuffer')
    return this.#id === 0
  }

  /** The buffer that this is a slice or a view of. */
  get parent(): MemoryBuffer | undefined {
    MemoryBuffer.#live(this)
    return this.#parent
  }

  /** The pool that counts the memory; `undefined` for wrapped and foreign memory. */
  get pool(): MemoryPool | undefined {
    return MemoryBuffer.#poolOf(this, MemoryBuffer.#live(this))
  }

  static #poolOf(self: MemoryBuffer, id: number): MemoryPool | undefined {
    if (self.#pool === undefined && id !== WRAPPED) self.#pool = poolOfId(native.bufferPool(id))
    return self.#pool
  }

  /** Where the block came from; `undefined` unless its pool is one of `track()`, and for wrapped and foreign memory. */
  get allocationSite(): AllocationInfo | undefined {
    const id = MemoryBuffer.#live(this)
    const found = id === WRAPPED ? null : native.bufferAllocation(id)
    return found === null ? undefined : allocationInfo(found)
  }

  /**
   * An immutable buffer over `length` bytes from `offset`, to the end when `length` is absent. Nothing is copied, and
   * the memory lives until the last slice is gone. A slice is of the same device and memory manager.
   *
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when the range does not lie in the buffer; it is never clamped
   */
  slice(offset: number, length?: number): MemoryBuffer {
    return MemoryBuffer.#slice(this, offset, length, false)
  }

  /** The same as {@link slice}, but mutable. @throws ERR_OFFHEAP_IMMUTABLE on an immutable buffer */
  sliceMutable(offset: number, length?: number): MemoryBuffer {
    MemoryBuffer.#mutableId(this)
    return MemoryBuffer.#slice(this, offset, length, true)
  }

  /** The same as {@link slice}, with JavaScript's indexes: clamped, and negative ones count from the end. */
  subarray(start?: number, end?: number): MemoryBuffer {
    MemoryBuffer.#live(this)
    const from = clampIndex(start === undefined ? 0 : checkInteger(start, 'start'), this.#size)
    const to = clampIndex(end === undefined ? this.#size : checkInteger(end, 'end'), this.#size)
    return MemoryBuffer.#slice(this, from, Math.max(to - from, 0), false)
  }

  static #slice(self: MemoryBuffer, offset: number, length: number | undefined, mutable: boolean): MemoryBuffer {
    const id = MemoryBuffer.#live(self)
    const start = checkInteger(offset, 'offset')
    const count = length === undefined ? self.#size - start : checkInteger(length, 'length')
    if (start < 0 || count < 0 || start + count > self.#size) throw outOfRange(start, count, self.#size)
    const flags = mutable ? IS_MUTABLE : 0
    const extra = self.#extra
    if (id === WRAPPED) {
      const { buffer, offset: base } = extra!.region!
      const slice = MemoryBuffer.#wrap({ buffer, offset: base + start, length: count }, flags, self)
      slice.#extra!.manager = extra!.manager
      return slice
    }
    const slice = native.bufferSlice(id, start, count, mutable)
    return new MemoryBuffer(INTERNAL, slice, flags, self.#pool, self, MemoryBuffer.#ownerExtra(self))
  }

  /** What keeps the owner of foreign memory for another handle on it. */
  static #ownerExtra(self: MemoryBuffer): Extra | undefined {
    const extra = self.#extra
    return extra === undefined || extra.owner === undefined ? undefined : newExtra(undefined, extra.owner)
  }

  /**
   * A mutable copy of the bytes in new memory of `destination`, a manager or a device's default one: always a copy, also to
   * where this buffer is. Made by the destination's manager, else by this one's, else over the CPU. Done when this returns.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED when no way leads there; ERR_OFFHEAP_OUT_OF_MEMORY, and what the devices say
   */
  copyTo(destination: MemoryManager | Device): MemoryBuffer {
    MemoryBuffer.#live(this)
    const manager = managerInternals.id(managerInternals.check(destination, 'destination'))
    return MemoryBuffer.#copyTo(this, manager, 0)
  }

  static #copyTo(self: MemoryBuffer, manager: number, flags: number): MemoryBuffer {
    const mutable = flags === IMMUTABLE_BLOCK ? 0 : IS_MUTABLE
    return retried('manager', manager, () => {
      // Each time: who makes room may dispose of this, too.
      const id = MemoryBuffer.#live(self)
      const bytes = id === WRAPPED ? regionBytes(self.#extra!.region!) : id
      return bufferInternals.create(native.bufferCopyTo(bytes, manager, flags), mutable, undefined, undefined)
    })
  }

  /**
   * The same bytes as memory of `destination`, a manager or a device's default one, without a copy, and mutable when this buffer
   * is. Always a new handle, whose end ends nothing else; the memory goes with the last. A view of memory that a device
   * moves by itself may move bytes when it is first read.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED when neither device can view the other's memory
   */
  viewOn(destination: MemoryManager | Device): MemoryBuffer {
    MemoryBuffer.#live(this)
    const manager = managerInternals.check(destination, 'destination')
    const id = MemoryBuffer.#live(this)
    if (id === WRAPPED) return MemoryBuffer.#viewWrapped(this, manager)
    return MemoryBuffer.#viewOf(this, native.bufferViewOn(id, managerInternals.id(manager)))
  }

  /**
   * {@link viewOn} where that is possible, else a copy, which is mutable when this buffer is. Running out of memory is an error,
   * never a reason to copy.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED when no way leads there; ERR_OFFHEAP_OUT_OF_MEMORY, and what the devices say
   */
  viewOrCopyTo(destination: MemoryManager | Device): MemoryBuffer {
    MemoryBuffer.#live(this)
    const manager = managerInternals.check(destination, 'destination')
    const managerId = managerInternals.id(manager)
    const id = MemoryBuffer.#live(this)
    if (id === WRAPPED) {
      if (canViewWrapped(manager)) return MemoryBuffer.#viewWrapped(this, manager)
      return MemoryBuffer.#copyTo(this, managerId, (this.#flags & IS_MUTABLE) === 0 ? IMMUTABLE_BLOCK : 0)
    }
    return retried('manager', managerId, () => {
      const made = native.bufferViewOrCopyTo(MemoryBuffer.#live(this), managerId)
      if (words[4] === 1) return MemoryBuffer.#viewOf(this, made)
      return bufferInternals.create(made, this.#flags & IS_MUTABLE, undefined, undefined)
    })
  }

  /** A handle for the view of this buffer that native code has just made. */
  static #viewOf(self: MemoryBuffer, view: number): MemoryBuffer {
    return new MemoryBuffer(INTERNAL, view, self.#flags & IS_MUTABLE, undefined, self, MemoryBuffer.#ownerExtra(self))
  }

  /** A wrapped ArrayBuffer can be seen by the CPU only: it may move or go at any time. */
  static #viewWrapped(self: MemoryBuffer, manager: MemoryManager): MemoryBuffer {
    if (!canViewWrapped(manager)) {
      throw new NotSupportedError(`viewing a wrapped ArrayBuffer on ${manager.device.toString()} is not supported: it may move; use copyTo()`)
    }
    const region = self.#extra!.region!
    regionBytes(region) // refuses a detached one
    const view = MemoryBuffer.#wrap(region, self.#flags & IS_MUTABLE, self)
    view.#extra!.manager = manager
    return view
  }

  /** A mutable copy of `length` bytes from `offset`, in a block of its own. */
  copySlice(offset: number, length?: number, options?: PoolOptions): MemoryBuffer {
    MemoryBuffer.#live(this)
    const start = checkInteger(offset, 'offset')
    const count = length === undefined ? this.#size - start : checkInteger(length, 'length')
    const pool = poolOption(options)
    const bytes = MemoryBuffer.#bytes(this)
    if (start < 0 || count < 0 || start + count > this.#size) throw outOfRange(start, count, this.#size)
    const copy = native.bufferCopy(bytes, start, count, poolInternals.id(pool), DEFAULT_ALIGNMENT)
    return bufferInternals.create(copy, IS_MUTABLE, pool, undefined)
  }

  /**
   * Ends this buffer's views and makes it immutable for good.
   *
   * @throws ERR_OFFHEAP_BUSY while it is pinned
   */
  freeze(): this {
    const id = MemoryBuffer.#live(this)
    MemoryBuffer.#checkNotPinned(this, 'frozen')
    if (id !== WRAPPED && (this.#flags & IS_MUTABLE) !== 0) {
      MemoryBuffer.#afterChange(this, native.bufferFreeze(id, MemoryBuffer.#views(this), viewState(this.#stretch)))
    }
    this.#flags &= NOT_CPU
    throwHeldBack()
    return this
  }

  /**
   * Changes the size. The bytes up to the smaller of both sizes are kept, new ones are whatever the memory held. Views
   * end. When it fails, nothing was changed; only where a limit has no room for a second block, views may have ended.
   *
   * @throws ERR_OFFHEAP_OUT_OF_MEMORY; ERR_OFFHEAP_NOT_SUPPORTED for a buffer that is not resizable
   */
  resize(size: number, options?: ResizeOptions): void {
    const id = MemoryBuffer.#resizableId(this)
    const bytes = checkSize(size, 'size')
    const shrinkToFit = option(options, 'shrinkToFit', checkBoolean, true)
    const views = MemoryBuffer.#views(this)
    const areAttached = views.every(isAttached)
    try {
      MemoryBuffer.#afterChange(this, native.bufferResize(id, bytes, shrinkToFit, views, viewState(this.#stretch)))
    } catch (error) {
      if (areAttached) MemoryBuffer.#forgetEnded(this)
      throw error
    }
    throwHeldBack()
  }

  /** Makes the capacity at least `capacity` bytes. The size stays; views end when the block moves. */
  reserve(capacity: number): void {
    const id = MemoryBuffer.#resizableId(this)
    const bytes = checkSize(capacity, 'capacity')
    const views = MemoryBuffer.#views(this)
    const areAttached = views.every(isAttached)
    try {
      MemoryBuffer.#afterChange(this, native.bufferReserve(id, bytes, views, viewState(this.#stretch)))
    } catch (error) {
      if (areAttached) MemoryBuffer.#forgetEnded(this)
      throw error
    }
    throwHeldBack()
  }

  static #resizableId(self: MemoryBuffer): number {
    const id = MemoryBuffer.#mutableId(self)
    if ((self.#flags & IS_RESIZABLE) === 0) {
      throw new NotSupportedError('the buffer is not resizable: make it with pool.allocateResizableBuffer()')
    }
    MemoryBuffer.#checkNotPinned(self, 'resized')
    return id
  }

  static #checkNotPinned(self: MemoryBuffer, what: string): void {
    if (self.#extra !== undefined && self.#extra.pins > 0) {
      throw new BusyError(`a pinned buffer cannot be ${what}: dispose its ${self.#extra.pins} pin(s) first`)
    }
  }

  /** Takes over what a native call that may have moved the block left in the words. */
  static #afterChange(self: MemoryBuffer, viewsEnded: boolean): void {
    self.#address = words[0]!
    self.#capacity = words[1]!
    self.#size = words[2]!
    if (!viewsEnded) return
    self.#arrayBuffer = undefined
    if (self.#extra !== undefined) {
      self.#extra.windows = []
      self.#extra.shared = undefined
    }
  }

  /**
   * Drops views that a change ended before it failed: the memory can be shown again. Not to be called for views that their
   * receivers had transferred away before.
   */
  static #forgetEnded(self: MemoryBuffer): void {
    if (self.#arrayBuffer !== undefined && !isAttached(self.#arrayBuffer)) self.#arrayBuffer = undefined
    if (self.#extra !== undefined) self.#extra.windows = self.#extra.windows.filter((window) => isAttached(window.arrayBuffer))
  }

  /** All ArrayBuffers that this handle has made and still caches. */
  static #views(self: MemoryBuffer): ArrayBuffer[] {
    const windows = self.#extra === undefined ? [] : self.#extra.windows.map((window) => window.arrayBuffer)
    return self.#arrayBuffer === undefined ? windows : [self.#arrayBuffer, ...windows]
  }

  /**
   * The whole buffer as one ArrayBuffer, the same at every access.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED when the buffer is larger than `capabilities().maxViewBytes`, or wraps a part of
   * an ArrayBuffer: take `asUint8Array(offset, length)` then
   */
  get arrayBuffer(): ArrayBuffer {
    if (MemoryBuffer.#live(this) !== WRAPPED) return MemoryBuffer.#wholeArrayBuffer(this)
    const region = this.#extra!.region!
    if (regionBytes(region).byteLength !== region.buffer.byteLength) {
      throw new NotSupportedError('arrayBuffer: the buffer wraps a part of an ArrayBuffer; use asUint8Array()')
    }
    return region.buffer
  }

  static #wholeArrayBuffer(self: MemoryBuffer): ArrayBuffer {
    const cached = self.#arrayBuffer
    if (cached !== undefined) {
      if (cached.byteLength === 0) throw new DisposedError('the ArrayBuffer of this buffer was transferred away')
      return cached
    }
    MemoryBuffer.#cpuId(self)
    const size = self.#size
    if (size === 0) return new ArrayBuffer(0)
    if (size > maxViewBytes) {
      throw new NotSupportedError(
        `${size} bytes are more than one ArrayBuffer can show (${maxViewBytes}): use asUint8Array(offset, length) for windows`,
      )
    }
    const arrayBuffer = native.bufferView(self.#id, 0, size)
    self.#arrayBuffer = arrayBuffer
    self.#stretch = currentStretch()
    if (self.#extra !== undefined && self.#extra.owner !== undefined) viewOwners.set(arrayBuffer, self.#extra.owner)
    return arrayBuffer
  }

  /** A part of a buffer that is too large for one ArrayBuffer. The same part gives the same ArrayBuffer. */
  static #window(self: MemoryBuffer, offset: number, length: number): ArrayBuffer {
    MemoryBuffer.#cpuId(self)
    if (length === 0) return new ArrayBuffer(0)
    if (length > maxViewBytes) {
      throw new NotSupportedError(`a view of ${length} bytes is larger than this runtime allows (${maxViewBytes}): ask for a shorter one`)
    }
    const extra = (self.#extra ??= newExtra())
    const known = extra.windows.find((window) => window.offset === offset && window.length === length)
    if (known !== undefined) {
      if (known.arrayBuffer.byteLength === 0) throw new DisposedError('the ArrayBuffer of this window was transferred away')
      return known.arrayBuffer
    }
    const arrayBuffer = native.bufferView(self.#id, offset, length)
    if (extra.windows.length === 0) self.#stretch = currentStretch()
    extra.windows.push({ offset, length, arrayBuffer })
    if (extra.owner !== undefined) viewOwners.set(arrayBuffer, extra.owner)
    return arrayBuffer
  }

  static #view<View>(
    self: MemoryBuffer,
    viewClass: ViewConstructor<View>,
    elementSize: number,
    offset: number | undefined,
    length: number | undefined,
  ): View {
    const id = MemoryBuffer.#live(self)
    const size = self.#size
    const start = offset === undefined ? 0 : checkPosition(offset, 'offset')
    const byteOffset = start * elementSize
    const count = length === undefined ? (size - byteOffset) / elementSize : checkSize(length, 'length')
    if (count < 0 || byteOffset + count * elementSize > size) throw outOfRange(start, count, size / elementSize, 'elements')
    if (!Number.isInteger(count)) {
      throw new InvalidArgumentError(
        `${size} bytes are no multiple of ${elementSize}, the element of a ${viewClass.name}: pass a length, or slice() first and see ensureAlignment()`,
      )
    }
    const region = id === WRAPPED ? self.#extra!.region! : undefined
    const address = region === undefined ? self.#address : region.offset
    if (address % elementSize !== 0) {
      throw new InvalidArgumentError(
        `a ${viewClass.name} needs an address that is a multiple of ${elementSize}: use ensureAlignment(${elementSize})`,
      )
    }
    if (region !== undefined) return new viewClass(regionBytes(region).buffer, region.offset + byteOffset, count)
    if (size <= maxViewBytes) return new viewClass(MemoryBuffer.#wholeArrayBuffer(self), byteOffset, count)
    return new viewClass(MemoryBuffer.#window(self, byteOffset, count * elementSize), 0, count)
  }

  /**
   * A `Uint8Array` over the memory. As for all typed views, `offset` and `length` count elements and may be absent:
   * from the start, to the end. Making the first view of a buffer costs about 0.6 us, every other about 20 ns.
   *
   * @throws ERR_OFFHEAP_OUT_OF_RANGE when the range does not lie in the buffer; ERR_OFFHEAP_INVALID_ARGUMENT when the
   * address or the size does not fit the element: see {@link ensureAlignment}
   */
  asUint8Array(offset?: number, length?: number): Uint8Array<ArrayBuffer> {
    if (offset === undefined && length === undefined && MemoryBuffer.#live(this) !== WRAPPED && this.#size <= maxViewBytes) {
      return new Uint8Array(MemoryBuffer.#wholeArrayBuffer(this))
    }
    return MemoryBuffer.#view<Uint8Array<ArrayBuffer>>(this, Uint8Array, 1, offset, length)
  }

  /** A `Uint8ClampedArray` over the memory; see {@link asUint8Array}. */
  asUint8ClampedArray(offset?: number, length?: number): Uint8ClampedArray<ArrayBuffer> {
    return MemoryBuffer.#view<Uint8ClampedArray<ArrayBuffer>>(this, Uint8ClampedArray, 1, offset, length)
  }

  /** An `Int8Array` over the memory; see {@link asUint8Array}. */
  asInt8Array(offset?: number, length?: number): Int8Array<ArrayBuffer> {
    return MemoryBuffer.#view<Int8Array<ArrayBuffer>>(this, Int8Array, 1, offset, length)
  }

  /** An `Int16Array` over the memory; see {@link asUint8Array}. */
  asInt16Array(offset?: number, length?: number): Int16Array<ArrayBuffer> {
    return MemoryBuffer.#view<Int16Array<ArrayBuffer>>(this, Int16Array, 2, offset, length)
  }

  /** A `Uint16Array` over the memory; see {@link asUint8Array}. */
  asUint16Array(offset?: number, length?: number): Uint16Array<ArrayBuffer> {
    return MemoryBuffer.#view<Uint16Array<ArrayBuffer>>(this, Uint16Array, 2, offset, length)
  }

  /** An `Int32Array` over the memory; see {@link asUint8Array}. */
  asInt32Array(offset?: number, length?: number): Int32Array<ArrayBuffer> {
    return MemoryBuffer.#view<Int32Array<ArrayBuffer>>(this, Int32Array, 4, offset, length)
  }

  /** A `Uint32Array` over the memory; see {@link asUint8Array}. */
  asUint32Array(offset?: number, length?: number): Uint32Array<ArrayBuffer> {
    return MemoryBuffer.#view<Uint32Array<ArrayBuffer>>(this, Uint32Array, 4, offset, length)
  }

  /** A `BigInt64Array` over the memory; see {@link asUint8Array}. */
  asBigInt64Array(offset?: number, length?: number): BigInt64Array<ArrayBuffer> {
    return MemoryBuffer.#view<BigInt64Array<ArrayBuffer>>(this, BigInt64Array, 8, offset, length)
  }

  /** A `BigUint64Array` over the memory; see {@link asUint8Array}. */
  asBigUint64Array(offset?: number, length?: number): BigUint64Array<ArrayBuffer> {
    return MemoryBuffer.#view<BigUint64Array<ArrayBuffer>>(this, BigUint64Array, 8, offset, length)
  }

  /** A `Float32Array` over the memory; see {@link asUint8Array}. */
  asFloat32Array(offset?: number, length?: number): Float32Array<ArrayBuffer> {
    return MemoryBuffer.#view<Float32Array<ArrayBuffer>>(this, Float32Array, 4, offset, length)
  }

  /** A `Float64Array` over the memory; see {@link asUint8Array}. */
  asFloat64Array(offset?: number, length?: number): Float64Array<ArrayBuffer> {
    return MemoryBuffer.#view<Float64Array<ArrayBuffer>>(this, Float64Array, 8, offset, length)
  }

  /** A `DataView` over the memory; offset and length in bytes. */
  asDataView(offset?: number, length?: number): DataView<ArrayBuffer> {
    return MemoryBuffer.#view<DataView<ArrayBuffer>>(this, DataView, 1, offset, length)
  }

  /** A Node `Buffer` over the memory; offset and length in bytes. */
  asBuffer(offset?: number, length?: number): Buffer<ArrayBuffer> {
    const { buffer, byteOffset, byteLength } = MemoryBuffer.#view<Uint8Array<ArrayBuffer>>(this, Uint8Array, 1, offset, length)
    return Buffer.from(buffer, byteOffset, byteLength)
  }

  /**
   * The whole buffer as a SharedArrayBuffer that can be posted to workers. It cannot be ended: after `dispose()` the
   * memory goes when the collector has taken the SharedArrayBuffer in every worker.
   *
   * @throws ERR_OFFHEAP_NOT_SUPPORTED where `capabilities().sharedBuffers` is false; share() works everywhere
   */
  asSharedArrayBuffer(): SharedArrayBuffer {
    const id = MemoryBuffer.#cpuId(this)
    if (id === WRAPPED) throw new NotSupportedError('asSharedArrayBuffer: a wrapped ArrayBuffer belongs to its maker')
    if (this.#size === 0) return new SharedArrayBuffer(0)
    const extra = (this.#extra ??= newExtra())
    if (extra.shared === undefined) {
      extra.shared = native.bufferSharedView(id)
      if (extra.owner !== undefined) viewOwners.set(extra.shared, extra.owner)
    }
    return extra.shared
  }

  /** Where views are copies: moves what was written to this buffer's views into the buffer. Elsewhere it does nothing. */
  flush(): void {
    MemoryBuffer.#mutableId(this)
    const id = MemoryBuffer.#cpuId(this)
    if (externalBuffers || id === WRAPPED) return
    if (this.#arrayBuffer !== undefined) native.bufferFlush(id, this.#arrayBuffer, 0)
    for (const { arrayBuffer, offset } of this.#extra?.windows ?? []) native.bufferFlush(id, arrayBuffer, offset)
  }

  /** Where views are copies: moves the buffer's bytes into its views. Elsewhere it does nothing. */
  refresh(): void {
    const id = MemoryBuffer.#cpuId(this)
    if (externalBuffers || id === WRAPPED) return
    if (this.#arrayBuffer !== undefined) native.bufferRefresh(id, this.#arrayBuffer, 0)
    for (const { arrayBuffer, offset } of this.#extra?.windows ?? []) native.bufferRefresh(id, arrayBuffer, offset)
  }

  /** True when both hold the same bytes; with `nbytes`, when both have that many and the first `nbytes` are the same. */
  equals(other: ByteSource, nbytes?: number): boolean {
    const bytes = MemoryBuffer.#bytes(this)
    if (nbytes === undefined) return native.bytesEqual(bytes, toBytes(other, 'other'))
    const count = checkSize(nbytes, 'nbytes')
    toBytes(other, 'other')
    const peer = MemoryBuffer.#isBuffer(other) ? other : MemoryBuffer.wrap(other)
    if (count > this.#size || count > peer.#size) return false
    const left = this.slice(0, count)
    const right = peer.slice(0, count)
    try {
      return left.equals(right)
    } finally {
      left.dispose()
      right.dispose()
    }
  }

  /** -1, 0 or 1: byte by byte, then the shorter first. */
  compare(other: ByteSource): -1 | 0 | 1 {
    return native.bytesCompare(MemoryBuffer.#bytes(this), toBytes(other, 'other')) as -1 | 0 | 1
  }

  /** The bytes in upper-case hexadecimal. */
  toHex(): string {
    const bytes = MemoryBuffer.#bytes(this)
    if (this.#size * 2 > constants.MAX_STRING_LENGTH) throw tooLongForString(this.#size)
    return native.bytesToHex(bytes)
  }

  /** The bytes as text, as `Buffer.prototype.toString` does it. Reads a copy: the buffer's memory is not shown. */
  toString(encoding: BufferEncoding = 'utf8'): string {
    MemoryBuffer.#cpuId(this)
    if (typeof encoding !== 'string' || !Buffer.isEncoding(encoding)) {
      throw new InvalidArgumentError(`encoding must be one that Buffer knows, got ${describe(encoding)}`)
    }
    if (this.#size > constants.MAX_STRING_LENGTH) throw tooLongForString(this.#size)
    const copy = Buffer.allocUnsafeSlow(this.#size)
    bufferInternals.read(this, 0, copy)
    try {
      return copy.toString(encoding)
    } catch {
      throw tooLongForString(this.#size)
    }
  }

  /** One byte; -1 is the last. @throws ERR_OFFHEAP_OUT_OF_RANGE */
  at(index: number): number {
    return native.bytesAt(MemoryBuffer.#bytes(this), checkInteger(index, 'index'))
  }

  /** Sets the bytes from `start` to before `end` to `byte`. @throws ERR_OFFHEAP_IMMUTABLE, ERR_OFFHEAP_OUT_OF_RANGE */
  fill(byte: number, start?: number, end?: number): this {
    MemoryBuffer.#mutableId(this)
    const id = MemoryBuffer.#cpuId(this)
    const value = checkByte(byte, 'byte')
    const from = start === undefined ? 0 : checkInteger(start, 'start')
    const to = end === undefined ? this.#size : checkInteger(end, 'end')
    if (from < 0 || from > to || to > this.#size) throw outOfRange(from, to - from, this.#size)
    if (id === WRAPPED) regionBytes(this.#extra!.region!).fill(value, from, to)
    else native.bufferFill(id, value, from, to)
    return this
  }

  /** Zeroes the bytes between size and capacity. */
  zeroPadding(): void {
    const id = MemoryBuffer.#mutableId(this)
    if (id === WRAPPED) regionBytes(this.#extra!.region!)
    else native.bufferZeroPadding(id)
  }

  /** True when the address is a multiple of `alignment`, a power of two. */
  checkAlignment(alignment: number): boolean {
    const address = MemoryBuffer.#addressOf(this, 'checkAlignment')
    return address % checkAlignmentArgument(alignment, 'alignment') === 0
  }

  /**
   * A new handle on the same bytes at an address that is a multiple of `alignment`: a slice of this buffer when its
   * address already is one, else a mutable copy (aligned to 64 at least).
   */
  ensureAlignment(alignment: number, options?: PoolOptions): MemoryBuffer {
    MemoryBuffer.#live(this)
    const wanted = checkAlignmentArgument(alignment, 'alignment')
    const pool = poolOption(options)
    if (MemoryBuffer.#live(this) !== WRAPPED && this.#address % wanted === 0) {
      return MemoryBuffer.#slice(this, 0, this.#size, (this.#flags & IS_MUTABLE) !== 0)
    }
    const copy = native.bufferCopy(MemoryBuffer.#bytes(this), 0, this.#size, poolInternals.id(pool), Math.max(wanted, DEFAULT_ALIGNMENT))
    return bufferInternals.create(copy, IS_MUTABLE, pool, undefined)
  }

  /**
   * Reads from a file into this buffer, which is pinned meanwhile. Short reads are continued until `length` bytes are
   * there or the file ends.
   *
   * @returns how many bytes were read
   * @throws ERR_OFFHEAP_IMMUTABLE, ERR_OFFHEAP_OUT_OF_RANGE, or the file system's error
   */
  async readFrom(fileHandle: FileHandle, options?: FileTransferOptions): Promise<number> {
    MemoryBuffer.#mutableId(this)
    MemoryBuffer.#cpuId(this)
    return readFile(this, fileHandle, options)
  }

  /** Writes this buffer's bytes to a file; the buffer is pinned meanwhile. @returns how many bytes were written */
  async writeTo(fileHandle: FileHandle, options?: FileTransferOptions): Promise<number> {
    MemoryBuffer.#cpuId(this)
    return writeFile(this, fileHandle, options)
  }

  /** A reader over this buffer's bytes. It makes no copy. */
  getReader(): BufferReader {
    MemoryBuffer.#live(this)
    return new BufferReader(this)
  }

  /** A writer into this buffer, which keeps its size. @throws ERR_OFFHEAP_IMMUTABLE */
  getWriter(): FixedSizeBufferWriter {
    MemoryBuffer.#live(this)
    return new FixedSizeBufferWriter(this)
  }

  /** Forbids dispose, resize and freeze until the pin is disposed. Pins nest. */
  pin(): Pin {
    MemoryBuffer.#cpuId(this)
    const extra = (this.#extra ??= newExtra())
    extra.pins += 1
    return createPin(this)
  }

  /** A ticket that opens these bytes in another worker. It keeps them alive until `revokeShared(ticket)`. */
  share(): Ticket {
    const id = MemoryBuffer.#live(this)
    if (id === WRAPPED) throw new NotSupportedError('a wrapped ArrayBuffer cannot be shared: copy it with MemoryBuffer.from()')
    return native.bufferShare(id)
  }

  /**
   * Ends this handle and its views. With the last handle the memory goes back to the pool, in this call unless work in
   * flight may still use a view (see `docs/lifetime.md`). The second time it does nothing.
   *
   * @throws ERR_OFFHEAP_BUSY while the buffer is pinned
   */
  dispose(): void {
    if (!MemoryBuffer.#isBuffer(this)) throw wrongReceiver('MemoryBuffer')
    const id = this.#id
    if (id === 0) return
    if (this.#extra !== undefined) return MemoryBuffer.#disposeWithExtra(this, this.#extra)
    const view = this.#arrayBuffer
    this.#id = 0
    this.#parent = undefined
    if (view === undefined) {
      native.bufferDispose(id, undefined, 0)
    } else {
      this.#arrayBuffer = undefined
      native.bufferDispose(id, view, viewState(this.#stretch))
    }
    MemoryBuffer.#endWatch(this)
  }

  static #endWatch(self: MemoryBuffer): void {
    const watch = self.#watch
    self.#watch = undefined
    if (watch !== undefined) endWatch(watch)
  }

  static #disposeWithExtra(self: MemoryBuffer, extra: Extra): void {
    MemoryBuffer.#checkNotPinned(self, 'disposed')
    const id = self.#id
    const view = self.#arrayBuffer
    self.#id = 0
    self.#parent = self.#arrayBuffer = self.#extra = undefined
    if (id === WRAPPED) return
    if (extra.windows.length === 0) native.bufferDispose(id, view, viewState(self.#stretch))
    else native.bufferDisposeWindows(id, extra.windows.map((window) => window.arrayBuffer), viewState(self.#stretch))
    MemoryBuffer.#endWatch(self)
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    MemoryBuffer.prototype.dispose.call(this)
  }

  /** `'MemoryBuffer'` */
  get [Symbol.toStringTag](): string {
    return 'MemoryBuffer'
  }

  /** @internal */
  [inspect.custom](): string {
    if (!MemoryBuffer.#isBuffer(this)) return 'MemoryBuffer {}'
    if (this.#id === 0) return 'MemoryBuffer { disposed }'
    const kind = (this.#flags & IS_MUTABLE) === 0 ? 'immutable' : (this.#flags & IS_RESIZABLE) === 0 ? 'mutable' : 'resizable'
    const place = this.#id === WRAPPED ? 'wrapped' : `at 0x${this.#address.toString(16)}`
    if ((this.#flags & NOT_CPU) !== 0) {
      return `MemoryBuffer { ${this.#size} bytes of ${this.#capacity} ${place} on ${native.bufferLocation(this.#id)}, ${kind} }`
    }
    const start = Buffer.alloc(Math.min(this.#size, 16))
    try {
      bufferInternals.read(this, 0, start)
    } catch {
      return `MemoryBuffer { ${this.#size} bytes, wrapped, detached }`
    }
    const bytes = start.toString('hex').replace(/..(?=.)/g, '$& ')
    return `MemoryBuffer { ${this.#size} bytes of ${this.#capacity} ${place}, ${kind} <${bytes}${this.#size > 16 ? ' …' : ''}> }`
  }
}

/** False for an ArrayBuffer that was ended or transferred away. Empty ones are never kept. */
function isAttached(arrayBuffer: ArrayBuffer): boolean {
  return arrayBuffer.byteLength > 0
}

/** Whether a wrapped ArrayBuffer can be memory of this manager. */
function canViewWrapped(manager: MemoryManager): boolean {
  return manager.device.deviceType === CPU_DEVICE_TYPE
}

function clampIndex(index: number, size: number): number {
  return index < 0 ? Math.max(size + index, 0) : Math.min(index, size)
}

function tooLongForString(size: number): NotSupportedError {
  return new NotSupportedError(`${size} bytes do not fit a JavaScript string: take a slice()`)
}
