// The harness of the attacks: hands views of offheap buffers to an API, disposes of the buffers while the API may still
// have their address, lets somebody else have the memory at once, and looks whether a byte of theirs changed or was sent.
//
// Plain JavaScript, because the same files run on Node 20 to 26, Bun and Deno.
import { execFileSync } from 'node:child_process'
import { constants, mkdtempSync, openSync, read, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { capabilities, defaultMemoryPool, MemoryBuffer, systemMemoryPool } from '../../dist/index.mjs'
import { memoryPool } from '../../dist/shm/index.mjs'

export const KIB = 1024
export const MIB = 1024 * KIB

/** What the attacked buffer holds, so what an API may send. */
export const OWN = 0x4f
/** What files and peers have, so what an API may write into an attacked buffer. */
export const INPUT = 0x52
/** What the memory holds once somebody else has it: to be sent to nobody, and changed by nobody. */
export const FOREIGN = 0xee

/**
 * How a row is run.
 *
 * - `guarded`: `buffer.dispose()` at a bad moment, as a user would do it by mistake.
 * - `pinned`: the same with a pin held until the work has ended.
 * - `naked`: the view belongs to nobody and the memory is freed under it, a real use after free. It shows that the harness
 *   sees one; the memory is always somebody's, so it does not crash by itself.
 */
export const modes = ['guarded', 'pinned', 'naked']

export const isNode = process.versions.bun === undefined && process.versions.deno === undefined
export const nodeMajor = isNode ? Number(process.versions.node.split('.')[0]) : 0

/** One turn of the event loop. */
export const turn = () => new Promise((resolve) => setImmediate(resolve))

/** A promise of a Node callback's result. */
export const called = (start) => new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value))))

/** When a round disposes: at once, after a microtask, after a tick, after a turn of the event loop. */
const moments = ['start', 'microtask', 'tick', 'turn']

async function reach(moment) {
  if (moment === 'microtask') await null
  else if (moment === 'tick') await new Promise((resolve) => process.nextTick(resolve))
  else if (moment === 'turn') await turn()
}

/** Collects garbage, where that can be asked for. */
export function collect() {
  if (globalThis.gc !== undefined) globalThis.gc()
  else globalThis.Bun?.gc(true)
}

/** What an error is called in a result: its code, where that is a word. */
const nameOf = (error) => String(typeof error?.code === 'string' ? error.code : (error?.name ?? error))

const references = new Map()

/** A buffer of `size` foreign bytes to compare with. */
function reference(size) {
  let bytes = references.get(size)
  if (bytes === undefined) references.set(size, (bytes = Buffer.alloc(size, FOREIGN)))
  return bytes
}

/** One buffer under attack. */
class Lease {
  constructor(round, size) {
    const { mode, pool } = round
    this.round = round
    this.size = size
    this.buffer = pool.allocateBuffer(size)
    this.address = this.buffer.address
    if (mode === 'naked') this.view = MemoryBuffer.unsafeForeign(this.address, size, undefined).asUint8Array()
    else this.view = this.buffer.asUint8Array()
    this.view.fill(OWN)
    if (mode === 'pinned') this.pin = this.buffer.pin()
  }

  /** The view as a Node Buffer, which some APIs want. */
  get bytes() {
    return Buffer.from(this.view.buffer, this.view.byteOffset, this.view.byteLength)
  }

  /** Disposes, and lets somebody else have the memory at once. */
  dispose() {
    const { attack } = this.round
    attack.result.disposals += 1
    if (this.pin === undefined) this.buffer.dispose()
    else {
      try {
        this.buffer.dispose()
        attack.fail('a pinned buffer was disposed')
      } catch (error) {
        if (error.code !== 'ERR_OFFHEAP_BUSY') throw error
      }
    }
    this.round.reuse(this)
  }

  end() {
    this.pin?.dispose()
    this.buffer.dispose()
  }
}

/** One round of an attack. */
class Round {
  constructor(attack, number) {
    this.attack = attack
    this.mode = attack.mode
    this.number = number
    /** When to dispose. */
    this.moment = moments[number % moments.length]
    /** Whether the work must start in another stretch than the one that made the view: a row then waits for a turn. */
    this.late = Math.floor(number / moments.length) % 2 === 1
    // mimalloc hands memory out again after a while, the C library at once: half of the rounds each.
    this.pool = attack.pools[Math.floor(number / (2 * moments.length)) % attack.pools.length]
    this.leases = []
    this.others = []
  }

  /** A buffer to attack, filled with {@link OWN}. */
  lease(size) {
    const lease = new Lease(this, size)
    this.leases.push(lease)
    return lease
  }

  /** Disposes of leases when this round's moment has come; in the call when that is the start. */
  async dispose(...leases) {
    if (this.moment !== 'start') await reach(this.moment)
    for (const lease of leases) lease.dispose()
    this.attack.releaseThreads()
  }

  /** Somebody else gets memory: blocks of the same size, filled with {@link FOREIGN}. */
  reuse(lease) {
    const most = Math.max(2, Math.min(16, Math.ceil((256 * KIB) / lease.size)))
    for (let count = 0; count < most; count += 1) {
      const other = this.pool.allocateBuffer(lease.size).fill(FOREIGN)
      this.others.push(other)
      if (other.address !== lease.address) continue
      this.attack.result.reused += 1
      break
    }
  }

  /** Waits for the work; an error is an outcome like any other. */
  async settle(work) {
    let outcome = 'completed'
    let value
    try {
      value = await work
    } catch (error) {
      outcome = nameOf(error)
    }
    this.attack.outcome(outcome)
    return value
  }

  /** Looks at bytes that an API sent on: they may be the buffer's own, or zero where pages were given back. */
  sent(bytes, { complete = false, length = undefined } = {}) {
    const { result } = this.attack
    let foreign = 0
    let zeros = 0
    for (const byte of bytes) {
      if (byte === OWN) continue
      if (byte === 0) zeros += 1
      else foreign += 1
    }
    result.foreignBytesSent += foreign
    if (length !== undefined && bytes.length < length) result.truncated += 1
    if (complete && (zeros > 0 || bytes.length !== length)) this.attack.fail(`what was copied in the call is incomplete: ${bytes.length} of ${length} bytes, ${zeros} of them zero`)
  }

  /** Looks at the memory of the others, gives it back, and ends the leases. */
  end() {
    const { result } = this.attack
    for (const other of this.others) {
      if (!other.equals(reference(other.size))) result.damagedBlocks += 1
      other.dispose()
    }
    for (const lease of this.leases) lease.end()
    this.others = []
    this.leases = []
  }
}

/** One row's run. */
export class Attack {
  constructor(name, mode, count) {
    this.name = name
    this.mode = mode
    this.count = count
    this.occupied = 0
    // Shared memory is unmapped when it is freed: whoever uses it then ends the process.
    const bases = process.env.OFFHEAP_ATTACK_POOL === 'shm' ? [memoryPool()] : [systemMemoryPool(), defaultMemoryPool()]
    this.pools = bases.map((base) => base.proxy({ name: `attack on ${base.name}` }))
    this.result = {
      name,
      mode,
      gate: capabilities().gate,
      safeDispose: capabilities().safeDispose,
      rounds: count,
      disposals: 0,
      /** How often the others got the very address of a buffer that was disposed. */
      reused: 0,
      /** Blocks of the others that somebody wrote to. */
      damagedBlocks: 0,
      /** Bytes sent that were not the buffer's. */
      foreignBytesSent: 0,
      /** Transfers of which a part was missing. */
      truncated: 0,
      outcomes: {},
      uncaught: {},
      failures: [],
    }
    process.on('uncaughtException', (error) => this.tally('uncaught', error))
    process.on('unhandledRejection', (error) => this.tally('uncaught', error))
  }

  tally(what, error) {
    const name = nameOf(error)
    this.result[what][name] = (this.result[what][name] ?? 0) + 1
    if (process.env.OFFHEAP_ATTACK_VERBOSE) console.error(error)
  }

  outcome(name) {
    this.result.outcomes[name] = (this.result.outcomes[name] ?? 0) + 1
  }

  fail(message) {
    if (!this.result.failures.includes(message)) this.result.failures.push(message)
  }

  /**
   * The rounds. What a round leaves is looked at when the next one is asked for.
   *
   * With `threads`, all threads of libuv's pool are kept waiting in every other round until the buffers are disposed of
   * (in the naked mode in every one), so that the work of the round certainly runs afterwards.
   */
  async *rounds({ most = this.count, threads = false } = {}) {
    // The proof at load has a request in flight; let it end.
    await new Promise((resolve) => setTimeout(resolve, 20))
    for (let number = 0; number < Math.min(most, this.count); number += 1) {
      const round = new Round(this, number)
      if (threads && isNode && process.platform !== 'win32' && (this.mode === 'naked' || number % 3 === 1)) this.occupyThreads()
      yield round
      this.releaseThreads()
      round.end()
    }
  }

  occupyThreads() {
    if (this.fifo === undefined) {
      const path = join(this.folder, 'threads')
      execFileSync('mkfifo', [path])
      this.fifo = openSync(path, constants.O_RDWR)
    }
    this.occupied = Number(process.env.UV_THREADPOOL_SIZE ?? 4)
    for (let thread = 0; thread < this.occupied; thread += 1) read(this.fifo, Buffer.alloc(1), 0, 1, null, () => {})
  }

  releaseThreads() {
    if (this.occupied > 0) writeSync(this.fifo, Buffer.alloc(this.occupied))
    this.occupied = 0
  }

  /** A folder that {@link end} removes. */
  get folder() {
    return (this.madeFolder ??= mkdtempSync(join(tmpdir(), 'offheap-attack-')))
  }

  /** A file of `size` bytes. */
  file(name, size, byte = INPUT) {
    const path = join(this.folder, name)
    writeFileSync(path, Buffer.alloc(size, byte))
    return path
  }

  /** A path for a socket: a pipe's buffer is smaller than a connection's, so that writes wait. */
  socket(name = 'socket') {
    return process.platform === 'win32' ? `\\\\.\\pipe\\offheap-${process.pid}-${name}` : join(this.folder, name)
  }

  /** Shows a buffer and disposes of it. */
  touch() {
    const buffer = defaultMemoryPool().allocateBuffer(64)
    buffer.asUint8Array()
    buffer.dispose()
  }

  /** Waits for parked memory, and gives the verdict. */
  async end() {
    const { result } = this
    // In the naked mode memory was freed under its views on purpose.
    for (let tries = 0; tries < 200; tries += 1) {
      if (this.pools.every((pool) => pool.stats().parkedBytes === 0 && pool.bytesAllocated === 0)) break
      collect()
      await turn()
      // Where no event loop can be asked, what waits is looked at when something is disposed of.
      if (result.gate !== 'idle') this.touch()
      if (tries > 20) await new Promise((resolve) => setTimeout(resolve, 10))
    }
    result.leftBytes = this.pools.reduce((sum, pool) => sum + pool.bytesAllocated, 0)
    result.leftParked = this.pools.reduce((sum, pool) => sum + pool.stats().parkedBytes, 0)
    if (this.madeFolder !== undefined) rmSync(this.madeFolder, { recursive: true, force: true })
    result.harmed = result.damagedBlocks > 0 || result.foreignBytesSent > 0
    result.uncaughtErrors = Object.values(result.uncaught).reduce((sum, count) => sum + count, 0)
    return result
  }
}
