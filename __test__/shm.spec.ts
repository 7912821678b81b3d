/** Shared memory: between processes that come, go and are killed; handles that are wrong in every way; lifetimes. */
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, read, readlinkSync, rmSync, statSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect, promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import {
  BufferBuilder,
  capabilities,
  cpuDevice,
  defaultCpuMemoryManager,
  defaultMemoryPool,
  Device,
  MemoryBuffer,
  MemoryManager,
  type MemoryPool,
  type OutOfMemoryError,
  sweepOutOfMemory,
  TypedBufferBuilder,
} from 'offheap'
import * as shm from 'offheap/shm'
import type { SharedMemoryHandle } from 'offheap/shm'
import { attack, checkSafe } from './attacks/suite.js'
import { mapped } from './shm/mapped.mjs'
import { cleanEnvironment, collectUntil, held, random, rejectsCode, root, runNode, throwsCode, turns } from './support.js'

const child = join(root, '__test__', 'shm', 'child.mjs')
const linux = process.platform === 'linux'

/** A process of `child.mjs`. */
class Peer {
  readonly process: ChildProcess = fork(child, { execArgv: [], env: cleanEnvironment(), cwd: root })

  async ask<Answer = unknown>(command: string, ...args: readonly unknown[]): Promise<Answer> {
    const answer = once(this.process, 'message')
    this.process.send([command, ...args])
    const [{ value, error }] = (await answer) as [{ value: Answer; error?: { code: string; name: string; message: string } }]
    if (error !== undefined) throw Object.assign(new Error(error.message), error)
    return value
  }

  /** The end of the process, however it comes. */
  async end(signal?: NodeJS.Signals): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const exited = once(this.process, 'exit')
    if (signal === undefined) this.process.disconnect()
    else this.process.kill(signal)
    await exited
  }
}

interface Opened {
  readonly index: number
  readonly size: number
  readonly isMutable: boolean
  readonly alignment: number
}

type Body = (t: ExecutionContext, pool: MemoryPool, peer: () => Peer) => void | Promise<void>

/** A test over a pool of shared memory of its own: at its end nothing may be allocated or mapped, and no descriptor open. */
function sharing(title: string, body: Body): void {
  const run = linux ? test.serial : test.serial.skip
  run(title, async (t) => {
    const before = mapped()
    const pool = shm.memoryPool().proxy({ name: title })
    const peers: Peer[] = []
    const start = (): Peer => {
      const peer = new Peer()
      peers.push(peer)
      return peer
    }
    try {
      await body(t, pool, start)
    } finally {
      for (const peer of peers) await peer.end()
    }
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 }, 'something is left in the pool')
    t.deepEqual(mapped(), before, 'something is left mapped, or a descriptor open')
  })
}

// First, so that it is there before anything is counted: what all buffers of no bytes are exported as.
if (linux) shm.exportHandle(shm.memoryManager().allocateBuffer(0))

test.serial('there is one device, with a default manager and pool', (t) => {
  const device = shm.device()
  t.true(device instanceof Device)
  t.is(device, shm.device())
  t.is(device.typeName, 'shm')
  t.true(device.isCpu)
  t.is(device.deviceId, -1)
  t.is(String(device), 'shm')
  t.is(inspect(device), 'Device { shm }')
  t.false(device.equals(cpuDevice()))
  const manager = shm.memoryManager()
  t.true(manager instanceof MemoryManager)
  t.is(manager, shm.memoryManager())
  t.is(manager, device.memoryManager)
  t.true(manager.isCpu)
  t.is(manager.device, device)
  t.is(manager.pool, shm.memoryPool())
  t.is(shm.memoryPool(), shm.memoryPool())
  t.is(shm.memoryPool().backendName, 'shm')
  const own = shm.memoryPool({})
  t.not(own, shm.memoryPool())
  t.false(shm.memoryManager({}).equals(manager))
  t.is(shm.memoryManager({}).device, device)
  t.is(device.memoryManagerOf(own).pool, own)
  throwsCode(t, () => device.memoryManagerOf(defaultMemoryPool()), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})

sharing('buffers are what the manager makes, and other memory is copied there', (t, pool) => {
  const manager = shm.device().memoryManagerOf(pool)
  const buffer = manager.allocateBuffer(1000, { zeroFill: true })
  t.is(buffer.device, shm.device())
  t.is(buffer.memoryManager, manager)
  t.is(buffer.pool, pool)
  t.true(buffer.isCpu && buffer.isMutable)
  t.deepEqual(held(pool), { bytes: 1000, allocations: 1 })
  t.true(buffer.asUint8Array().every((byte) => byte === 0))

  using text = MemoryBuffer.from('some text')
  const copy = text.copyTo(manager)
  t.is(copy.device, shm.device())
  t.is(copy.toString(), 'some text')
  t.is(copy.pool, pool)
  throwsCode(t, () => text.viewOn(manager), 'ERR_OFFHEAP_NOT_SUPPORTED')
  const either = text.viewOrCopyTo(manager)
  t.not(either.address, text.address)
  const byDevice = text.copyTo(shm.device())
  t.is(byDevice.memoryManager, shm.memoryManager())

  const view = copy.viewOn(defaultCpuMemoryManager())
  t.is(view.address, copy.address)
  t.is(view.device, cpuDevice())
  t.is(shm.exportHandle(view).key, shm.exportHandle(copy).key)
  const back = view.viewOn(manager)
  t.is(back.address, copy.address)
  const wrapped = MemoryBuffer.wrap(new Uint8Array([1, 2, 3])).copyTo(manager)
  t.is(wrapped.toHex(), '010203')
  for (const each of [buffer, copy, either, byDevice, view, back, wrapped]) each.dispose()
})

sharing('builders build in shared memory, and what they finish is exported as it is', async (t, pool, start) => {
  const builder = new TypedBufferBuilder('float64', { pool })
  for (let value = 0; value < 10_000; value += 1) builder.append(value)
  const column = builder.finish()
  const text = new BufferBuilder({ pool })
  text.append('hello from shared memory')
  const bytes = text.finish()
  const peer = start()
  const opened = await peer.ask<Opened>('open', shm.exportHandle(column))
  t.is(opened.size, 80_000)
  t.is(await peer.ask('sum', opened.index), 49_995_000)
  const other = shm.open(shm.exportHandle(bytes))
  t.is(other.toString(), 'hello from shared memory')
  t.not(other.address, bytes.address)
  for (const each of [column, bytes, other]) each.dispose()
})

sharing('a child sees what its parent writes, and the other way round: from fork', async (t, pool, start) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(10_000, { zeroFill: true })
  const peer = start()
  const { index, isMutable, alignment } = await peer.ask<Opened>('open', shm.exportHandle(buffer))
  t.true(isMutable)
  t.true(alignment >= 64)
  t.is(await peer.ask('read', index, 9999), 0)
  buffer.fill(5, 9999)
  t.is(await peer.ask('read', index, 9999), 5)
  buffer.asUint8Array()[9999] = 6
  t.is(await peer.ask('readView', index, 9999), 6)
  await peer.ask('write', index, 0, 7)
  t.is(buffer.at(0), 7)
  await peer.ask('writeView', index, 0, 8)
  t.is(buffer.asUint8Array()[0], 8)

  // The child's own, opened here.
  const made = await peer.ask<{ index: number; handle: SharedMemoryHandle }>('make', 100, 42)
  const opened = shm.open(made.handle)
  t.is(opened.at(0), 42)
  t.is(opened.pool, undefined)
  opened.fill(43)
  t.is(await peer.ask('read', made.index, 0), 43)
  opened.dispose()
  buffer.dispose()
})

sharing('a process that is nobody of ours opens it by text', async (t, pool) => {
  const column = shm.device().memoryManagerOf(pool).allocateBuffer(800)
  column.asFloat64Array().fill(0.5)
  const { stdout, stderr, code } = await runNode([child, 'sum', JSON.stringify(shm.exportHandle(column))])
  t.deepEqual({ stdout, stderr, code }, { stdout: '50\n', stderr: '', code: 0 })
  column.dispose()
})

sharing('a worker opens it, too, and ends with it open', async (t, pool) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(4096, { zeroFill: true })
  const before = mapped()
  for (const way of ['end', 'terminate']) {
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads')
       const shm = require('offheap/shm')
       const made = shm.memoryManager().allocateBuffer(5000)
       const opened = shm.open(workerData.handle)
       globalThis.kept = [made, made.asUint8Array(), opened, opened.slice(5), opened.asUint8Array(), shm.open(workerData.handle, { readOnly: true }).asUint8Array()]
       opened.asUint8Array()[0] += 1
       parentPort.postMessage('there')
       if (workerData.way === 'terminate') for (;;) {}`,
      { eval: true, workerData: { handle: shm.exportHandle(buffer), way } },
    )
    const exited = once(worker, 'exit')
    await once(worker, 'message')
    if (way === 'terminate') await worker.terminate()
    await exited
    t.deepEqual(mapped(), before, way)
  }
  t.is(buffer.at(0), 2)
  t.is(shm.memoryPool().bytesAllocated, 4096)
  buffer.dispose()
})

sharing('slices are exported as slices', async (t, pool, start) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(256)
  for (let index = 0; index < 256; index += 1) buffer.asUint8Array()[index] = index
  const slice = buffer.slice(100, 50)
  const handle = shm.exportHandle(slice)
  t.deepEqual([handle.offset, handle.length, handle.readOnly], [100, 50, true])
  const mutable = buffer.sliceMutable(128)
  t.deepEqual(Object.entries(shm.exportHandle(mutable)).slice(4), [
    ['offset', 128],
    ['length', 128],
    ['readOnly', false],
  ])
  const opened = shm.open(handle)
  t.deepEqual([opened.size, opened.at(0), opened.at(-1), opened.isMutable], [50, 100, 149, false])
  const inner = opened.slice(10, 10)
  const again = shm.exportHandle(inner)
  t.deepEqual([again.offset, again.length, again.key], [110, 10, handle.key])
  opened.dispose()
  const peer = start()
  const { index } = await peer.ask<Opened>('open', again)
  t.is(await peer.ask('read', index, 0), 110)
  const whole = await peer.ask<Opened>('open', shm.exportHandle(mutable))
  await peer.ask('write', whole.index, 0, 1)
  t.is(buffer.at(128), 1)
  for (const each of [slice, mutable, inner, buffer]) each.dispose()
})

sharing('what is opened read-only cannot be written, and writing its views harms nobody', async (t, pool, start) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(20_000, { zeroFill: true })
  const opened = shm.open(shm.exportHandle(buffer), { readOnly: true })
  t.false(opened.isMutable)
  throwsCode(t, () => opened.fill(1), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => opened.sliceMutable(0), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => opened.getWriter(), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => opened.zeroPadding(), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => opened.resize(5), 'ERR_OFFHEAP_IMMUTABLE')
  // @ts-expect-error: no file
  await rejectsCode(t, opened.readFrom(undefined), 'ERR_OFFHEAP_IMMUTABLE')

  buffer.fill(1, 0, 1)
  t.is(opened.at(0), 1, 'it is the same memory')
  const view = opened.asUint8Array()
  t.is(view[0], 1, 'the view is no copy')
  buffer.fill(2, 0, 1)
  t.is(view[0], 2)
  // Every way to write a view.
  view[0] = 99
  opened.asDataView().setFloat64(8, 1)
  const slice = opened.slice(16)
  slice.asBuffer().write('text')
  Atomics.add(opened.asInt32Array(), 10, 1)
  new Uint8Array(opened.arrayBuffer).fill(7, 50, 60)
  t.is(opened.at(0), 99)
  t.deepEqual([...buffer.asUint8Array(0, 100)], [2, ...Array.from({ length: 99 }, () => 0)])
  // Another page still follows.
  buffer.fill(3, 19_999)
  t.is(opened.at(-1), 3)
  const ticket = opened.share()
  const inWorker = MemoryBuffer.fromShared(ticket)
  t.false(inWorker.isMutable)
  inWorker.asUint8Array()[1] = 5
  t.is(buffer.at(1), 0)
  const { revokeShared } = await import('offheap')
  revokeShared(ticket)

  const peer = start()
  const remote = await peer.ask<Opened>('open', shm.exportHandle(buffer), { readOnly: true })
  await t.throwsAsync(peer.ask('write', remote.index, 0, 1), { code: 'ERR_OFFHEAP_IMMUTABLE' })
  await peer.ask('writeView', remote.index, 0, 55)
  t.is(await peer.ask('read', remote.index, 0), 55)
  t.is(buffer.at(0), 2)
  for (const each of [opened, slice, inWorker, buffer]) each.dispose()
})

sharing('an immutable buffer is opened read-only', async (t, pool, start) => {
  const manager = shm.device().memoryManagerOf(pool)
  const frozen = manager.allocateBuffer(100).fill(1).freeze()
  const handle = shm.exportHandle(frozen)
  t.true(handle.readOnly)
  const opened = shm.open(handle)
  t.false(opened.isMutable)
  t.true(shm.exportHandle(opened).readOnly)
  throwsCode(t, () => shm.open(handle, { readOnly: false }), 'ERR_OFFHEAP_IMMUTABLE')
  const here = shm.open(handle, { readOnly: true })
  const peer = start()
  t.false((await peer.ask<Opened>('open', handle)).isMutable)
  for (const each of [frozen, opened, here]) each.dispose()
})

sharing('sealed memory cannot be opened for writing by anybody', async (t, pool, start) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(100, { zeroFill: true })
  const handle = shm.exportHandle(buffer)
  const before = shm.open(handle)
  const slice = buffer.slice(5, 5)
  shm.seal(slice)
  shm.seal(buffer)
  throwsCode(t, () => shm.open(handle), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => shm.open({ ...handle, readOnly: false }, { readOnly: false }), 'ERR_OFFHEAP_IMMUTABLE')
  const peer = start()
  await t.throwsAsync(peer.ask('open', handle), { code: 'ERR_OFFHEAP_IMMUTABLE' })
  const { index } = await peer.ask<Opened>('open', handle, { readOnly: true })
  // Who had it open goes on.
  before.fill(1)
  buffer.fill(2, 50)
  t.is(await peer.ask('read', index, 0), 1)
  t.is(await peer.ask('read', index, 99), 2)
  await peer.ask('writeView', index, 0, 99)
  t.is(buffer.at(0), 1)
  throwsCode(t, () => shm.seal(before), 'ERR_OFFHEAP_NOT_SUPPORTED')
  await t.throwsAsync(peer.ask('seal', index), { code: 'ERR_OFFHEAP_NOT_SUPPORTED' })

  for (const each of [before, slice, buffer]) each.dispose()
})

sharing('revoked memory is opened by nobody, and kept by who has it', async (t, pool, start) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(100, { zeroFill: true })
  const handle = shm.exportHandle(buffer)
  const opened = shm.open(handle)
  const peer = start()
  const { index } = await peer.ask<Opened>('open', handle)
  throwsCode(t, () => shm.revoke(opened), 'ERR_OFFHEAP_NOT_SUPPORTED')
  await t.throwsAsync(peer.ask('revoke', index), { code: 'ERR_OFFHEAP_NOT_SUPPORTED' })
  const { descriptors } = mapped()
  const slice = buffer.slice(1)
  shm.revoke(slice)
  shm.revoke(buffer)
  t.is(mapped().descriptors, descriptors - 1, 'its descriptor is closed')
  throwsCode(t, () => shm.open(handle), 'ERR_OFFHEAP_DISPOSED')
  await t.throwsAsync(peer.ask('open', handle), { code: 'ERR_OFFHEAP_DISPOSED' })
  throwsCode(t, () => shm.exportHandle(buffer), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => shm.seal(buffer), 'ERR_OFFHEAP_DISPOSED')
  // Its handle says where it was, and that is over.
  throwsCode(t, () => shm.open(shm.exportHandle(opened)), 'ERR_OFFHEAP_DISPOSED')
  buffer.fill(1)
  t.deepEqual([opened.at(0), await peer.ask('read', index, 0)], [1, 1])
  await peer.ask('write', index, 0, 2)
  t.deepEqual([opened.at(0), buffer.at(0)], [2, 2])
  for (const each of [opened, slice, buffer]) each.dispose()
})

const noBuffers: readonly unknown[] = [undefined, null, 0, 'x', {}, [], Symbol('x'), () => {}, new Proxy({}, {}), new Uint8Array(5), Object.create(MemoryBuffer.prototype as object)]

test.serial('what is no shared memory is refused', (t) => {
  for (const use of [shm.exportHandle, shm.revoke, shm.seal]) {
    for (const value of noBuffers) throwsCode(t, () => use(value as MemoryBuffer), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    using plain = MemoryBuffer.from('x')
    throwsCode(t, () => use(plain), 'ERR_OFFHEAP_NOT_SUPPORTED', /copy it/)
    using empty = MemoryBuffer.from('')
    throwsCode(t, () => use(empty), 'ERR_OFFHEAP_NOT_SUPPORTED', /copy it/)
    throwsCode(t, () => use(MemoryBuffer.wrap(new Uint8Array(5))), 'ERR_OFFHEAP_NOT_SUPPORTED', /copy it/)
    throwsCode(t, () => use(MemoryBuffer.unsafeForeign(plain.address, 1, plain)), 'ERR_OFFHEAP_NOT_SUPPORTED', /copy it/)
    const gone = MemoryBuffer.from('x')
    gone.dispose()
    throwsCode(t, () => use(gone), 'ERR_OFFHEAP_DISPOSED')
  }
})

test.serial('options are checked', (t) => {
  for (const make of [shm.memoryPool, shm.memoryManager]) {
    for (const options of [null, 5, 'x', { label: 5 }, { label: 'a\0b' }, { label: 'x'.repeat(201) }, { reserve: 1 }]) {
      throwsCode(t, () => make(options as shm.SharedMemoryOptions), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    }
    const throwing = {
      get label() {
        throw new Error('mine')
      },
    } as unknown as shm.SharedMemoryOptions
    t.is((throwsCode(t, () => make(throwing), 'ERR_OFFHEAP_INVALID_ARGUMENT').cause as Error).message, 'mine')
  }
})

sharing('options make the memory: its label and its pages', (t) => {
  for (const reserve of [false, true]) {
    const buffer = shm.memoryManager({ label: 'mine', reserve }).allocateBuffer(1 << 20)
    const { descriptor } = shm.exportHandle(buffer)
    const path = `/proc/self/fd/${descriptor}`
    t.is(readlinkSync(path), '/memfd:offheap:mine (deleted)')
    const taken = (): number => statSync(path).blocks * 512
    // The page of what offheap itself keeps is there.
    t.is(taken() > 1 << 20, reserve)
    buffer.fill(1)
    t.true(taken() > 1 << 20)
    buffer.dispose()
  }
})

/** Handles that no one has made, from a good one. All refused by their form: nothing is looked for. */
const malformed: Record<string, (handle: SharedMemoryHandle) => unknown> = {
  'undefined': () => undefined,
  'null': () => null,
  'a number': () => 5,
  'its JSON': (handle) => JSON.stringify(handle),
  'an array': (handle) => Object.values(handle),
  'an array of them': (handle) => [handle],
  'nothing in it': () => ({}),
  'a field more': (handle) => ({ ...handle, extra: 1 }),
  'a symbol more': (handle) => ({ ...handle, [Symbol('extra')]: 1 }),
  'its fields inherited': (handle) => ({ __proto__: handle, extra: 1 }),
  'a proxy whose traps throw': () =>
    new Proxy(
      {},
      {
        ownKeys() {
          throw new Error('no')
        },
      },
    ),
  'a revoked proxy': () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  },
  'a getter that throws': (handle) =>
    Object.defineProperty({ ...handle }, 'key', {
      enumerable: true,
      get() {
        throw new Error('no')
      },
    }),
  'process 0': (handle) => ({ ...handle, process: 0 }),
  'a process of 2^31': (handle) => ({ ...handle, process: 2 ** 31 }),
  'a process of 2^32': (handle) => ({ ...handle, process: 2 ** 32 }),
  'a descriptor of 2^31': (handle) => ({ ...handle, descriptor: 2 ** 31 }),
  'an offset past the end': (handle) => ({ ...handle, offset: handle.size + 1, length: 0 }),
  'a range past the end': (handle) => ({ ...handle, offset: 1, length: handle.size }),
  'a size that only rounds to the same': (handle) => ({ ...handle, size: 2 ** 53 }),
  'a size over all': (handle) => ({ ...handle, size: Number.MAX_SAFE_INTEGER }),
  'no key': (handle) => ({ ...handle, key: '' }),
  'half a key': (handle) => ({ ...handle, key: handle.key.slice(0, 50) }),
  'a key and more': (handle) => ({ ...handle, key: `${handle.key}00` }),
  'a key with a NUL': (handle) => ({ ...handle, key: `\0${handle.key.slice(1)}` }),
  'a key in capitals': (handle) => ({ ...handle, key: handle.key.replace(/..$/, 'FF') }),
  'a key with a surrogate': (handle) => ({ ...handle, key: `\uD800${handle.key.slice(1)}` }),
  'a key of another system': (handle) => ({ ...handle, key: handle.key.replace(/^../, '58') }),
  'a key of another version': (handle) => ({ ...handle, key: handle.key.replace(/^(..)01/, '$102') }),
  'a key without its secret': (handle) => ({ ...handle, key: handle.key.replace(/.{32}$/, '0'.repeat(32)) }),
}

/** For each field, what it cannot be. */
const wrong: Record<keyof SharedMemoryHandle, readonly unknown[]> = {
  process: [undefined, null, '5', -1, 1.5, NaN, Infinity, 5n, {}, []],
  descriptor: [undefined, null, '5', -1, 1.5, NaN, Infinity, 5n, {}, []],
  size: [undefined, null, '5', -1, 1.5, NaN, Infinity, 5n, {}, [], 2 ** 53],
  key: [undefined, null, 5, 5n, {}, [], Symbol('x'), 'x'.repeat(1_000_000)],
  offset: [undefined, null, '5', -1, 1.5, NaN, Infinity, 5n, {}, [], 2 ** 53],
  length: [undefined, null, '5', -1, 1.5, NaN, Infinity, 5n, {}, [], 2 ** 53],
  readOnly: [undefined, null, 0, 1, 'false', {}, []],
}

sharing('malformed handles are refused', (t, pool) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(1000)
  const handle = shm.exportHandle(buffer)
  const refuse = (value: unknown, what: string): void => {
    const { message } = throwsCode(t, () => shm.open(value as SharedMemoryHandle), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    t.false(message.includes(handle.key.slice(-32)), `${what}: the message tells the secret`)
  }
  for (const [what, make] of Object.entries(malformed)) refuse(make(handle), what)
  for (const [field, values] of Object.entries(wrong)) {
    for (const value of values) refuse({ ...handle, [field]: value }, `${field}: ${typeof value}`)
    const { [field as 'key']: _, ...rest } = handle
    refuse(rest, `no ${field}`)
  }
  for (const options of [null, 5, 'x', { readOnly: 0 }, { readOnly: null }]) {
    throwsCode(t, () => shm.open(handle, options as unknown as shm.OpenOptions), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  // What is read is read once.
  let reads = 0
  const counting = Object.defineProperty({ ...handle }, 'length', { enumerable: true, get: () => 8 + 8 * reads++ })
  const opened = shm.open(counting)
  t.deepEqual([opened.size, reads], [8, 1])
  opened.dispose()
  buffer.dispose()
})

sharing('forged handles are refused, whatever was changed', (t, pool) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(1000)
  const handle = shm.exportHandle(buffer)
  const file = openSync(child, 'r')
  const refuse = (changed: Partial<SharedMemoryHandle>, codes: RegExp): void => {
    const error = t.throws(() => shm.open({ ...handle, ...changed }), undefined, JSON.stringify(changed)) as Error & { code: string } | undefined
    t.regex(error!.code, codes, JSON.stringify(changed))
  }
  const anyOf = /^ERR_OFFHEAP_(INVALID_ARGUMENT|DISPOSED)$/
  // Every bit of the key: where the memory is, when its process began, the secret.
  for (let digit = 0; digit < handle.key.length; digit += 1) {
    const other = (Number.parseInt(handle.key[digit]!, 16) ^ 1).toString(16)
    const code = digit >= 52 && digit < 68 ? /^ERR_OFFHEAP_(INVALID_ARGUMENT|DISPOSED|NOT_SUPPORTED)$/ : anyOf
    refuse({ key: handle.key.slice(0, digit) + other + handle.key.slice(digit + 1) }, code)
  }
  for (const size of [1000, handle.size - 1, handle.size + 1, handle.size + 4096, 2 ** 40, 2 ** 52]) {
    if (size !== handle.size) refuse({ size, offset: 0, length: 1 }, /^ERR_OFFHEAP_INVALID_ARGUMENT$/)
  }
  refuse({ process: process.ppid }, anyOf)
  refuse({ process: 1 }, anyOf)
  refuse({ process: 4_194_305 }, /^ERR_OFFHEAP_DISPOSED$/)
  for (const descriptor of [0, 1, 2, file, 1_000_000, 2 ** 31 - 1]) refuse({ descriptor }, /^ERR_OFFHEAP_DISPOSED$/)
  closeSync(file)
  buffer.dispose()
})

sharing('mutilated handles are refused, or open what they name', (t, pool) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(1000, { zeroFill: true })
  const text = JSON.stringify(shm.exportHandle(buffer))
  const next = random(7)
  const below = (count: number): number => Math.floor(next() * count)
  const pieces = ['0', '9', '-', '.', 'e', '"', ',', '{', '}', 'null', 'true', 'false', '1e308', '00', 'f', 'key', 'size', '\\u0000', ' ']
  const outcomes = new Map<string, number>()
  for (let round = 0; round < 5000; round += 1) {
    let mutilated = text
    for (let change = 0; change <= below(3); change += 1) {
      const at = below(mutilated.length)
      mutilated = mutilated.slice(0, at) + (below(2) === 0 ? '' : pieces[below(pieces.length)]!) + mutilated.slice(at + below(4))
    }
    let handle: SharedMemoryHandle
    try {
      handle = JSON.parse(mutilated) as SharedMemoryHandle
    } catch {
      continue
    }
    let outcome = 'opened'
    try {
      const opened = shm.open(handle)
      t.is(opened.size, handle.length)
      t.true(handle.offset + handle.length <= 4096)
      if (opened.isMutable) opened.fill(1)
      opened.asUint8Array().fill(2)
      opened.dispose()
    } catch (error) {
      outcome = (error as { code: string }).code
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  t.deepEqual([...outcomes.keys()].filter((outcome) => !['opened', 'ERR_OFFHEAP_INVALID_ARGUMENT', 'ERR_OFFHEAP_DISPOSED', 'ERR_OFFHEAP_NOT_SUPPORTED', 'ERR_OFFHEAP_DEVICE_UNAVAILABLE'].includes(outcome)), [])
  t.true(outcomes.get('opened')! > 10 && outcomes.get('ERR_OFFHEAP_INVALID_ARGUMENT')! > 500, JSON.stringify([...outcomes]))
  buffer.dispose()
})

sharing('handles of what is gone are refused', async (t, pool, start) => {
  const manager = shm.device().memoryManagerOf(pool)
  const buffer = manager.allocateBuffer(100)
  const handle = shm.exportHandle(buffer)
  buffer.dispose()
  throwsCode(t, () => shm.open(handle), 'ERR_OFFHEAP_DISPOSED')
  // The descriptor is another's now.
  const next = manager.allocateBuffer(100)
  t.is(shm.exportHandle(next).descriptor, handle.descriptor)
  throwsCode(t, () => shm.open(handle), 'ERR_OFFHEAP_DISPOSED')
  next.dispose()

  const { stdout } = await runNode([child, 'make', '100'])
  throwsCode(t, () => shm.open(JSON.parse(stdout) as SharedMemoryHandle), 'ERR_OFFHEAP_DISPOSED')

  // A buffer that moves takes its handle's memory with it.
  const moving = pool.allocateResizableBuffer(4096)
  moving.fill(1)
  const old = shm.exportHandle(moving)
  moving.resize(1 << 20)
  throwsCode(t, () => shm.open(old), 'ERR_OFFHEAP_DISPOSED')
  const peer = start()
  const { index } = await peer.ask<Opened>('open', shm.exportHandle(moving))
  t.is(await peer.ask('read', index, 4095), 1)
  moving.dispose()
  // And what was opened stays.
  t.is(await peer.ask('read', index, 4095), 1)
})

sharing('every address is a multiple of 64, or of what is asked for', (t, pool) => {
  const manager = shm.device().memoryManagerOf(pool)
  for (const size of [1, 63, 64, 65, 4031, 4032, 4033, 4096, 100_000]) {
    const buffer = manager.allocateBuffer(size)
    buffer.fill(size & 255)
    const opened = shm.open(shm.exportHandle(buffer))
    t.true(buffer.checkAlignment(64) && opened.checkAlignment(64))
    t.is(opened.size, size)
    t.is(opened.at(-1), size & 255)
    buffer.dispose()
    opened.dispose()
  }
  for (const alignment of [1, 128, 4096, 1 << 16, 1 << 21]) {
    const buffer = manager.allocateBuffer(100, { alignment })
    t.true(buffer.checkAlignment(alignment), String(alignment))
    shm.open(shm.exportHandle(buffer)).dispose()
    buffer.dispose()
  }
})

sharing('a buffer of no bytes is a buffer', async (t, pool, start) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(0)
  const handle = shm.exportHandle(buffer)
  t.deepEqual([handle.offset, handle.length], [0, 0])
  const opened = shm.open(handle)
  t.deepEqual([opened.size, opened.asUint8Array().length, opened.toHex()], [0, 0, ''])
  opened.fill(1)
  const peer = start()
  t.is((await peer.ask<Opened>('open', handle)).size, 0)
  const full = shm.device().memoryManagerOf(pool).allocateBuffer(100)
  const end = full.slice(100)
  const none = shm.open(shm.exportHandle(end))
  t.is(none.size, 0)
  shm.seal(buffer)
  shm.revoke(buffer)
  for (const each of [buffer, opened, full, end, none]) each.dispose()
})

sharing('more than there is, is an error with figures', (t, pool) => {
  const manager = shm.device().memoryManagerOf(pool)
  for (const size of [2 ** 46, 2 ** 52, 2 ** 53 - 64]) {
    const error = throwsCode(t, () => manager.allocateBuffer(size), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.is((error as OutOfMemoryError).requested, size)
  }
  for (const size of [-1, 1.5, NaN, 2 ** 53, '5', null]) throwsCode(t, () => manager.allocateBuffer(size as number), 'ERR_OFFHEAP_INVALID_ARGUMENT')

  const limited = pool.limit(10_000, { name: 'small' })
  const small = shm.device().memoryManagerOf(limited)
  const buffer = small.allocateBuffer(6000)
  const error = throwsCode(t, () => small.allocateBuffer(4001), 'ERR_OFFHEAP_OUT_OF_MEMORY', "pool 'small' cannot allocate 4001 bytes")
  t.deepEqual([(error as OutOfMemoryError).limit, (error as OutOfMemoryError).allocated], [10_000, 6000])
  throwsCode(t, () => buffer.copyTo(small), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  // What is opened is counted by who made it.
  const opened = shm.open(shm.exportHandle(buffer))
  t.is(limited.bytesAllocated, 6000)
  opened.dispose()
  buffer.dispose()
  small.allocateBuffer(10_000).dispose()

  const failing = pool.failing()
  throwsCode(t, () => shm.device().memoryManagerOf(failing).allocateBuffer(1), 'ERR_OFFHEAP_OUT_OF_MEMORY')
})

sharing('running out of memory anywhere leaves nothing behind', async (t) => {
  const report = await sweepOutOfMemory(
    (pool) => {
      const manager = shm.device().memoryManagerOf(pool)
      using buffer = manager.allocateBuffer(1000)
      using slice = buffer.slice(5)
      const handle = shm.exportHandle(slice)
      using opened = shm.open(handle)
      using copy = opened.copyTo(manager)
      using writable = shm.open(shm.exportHandle(copy))
      shm.seal(copy)
      writable.asUint8Array()[0] = 1
      shm.revoke(buffer)
    },
    { pool: shm.memoryPool() },
  )
  t.true(report.isClean, report.text)
  t.true(report.injected > 10, report.text)
})

sharing('pools over pools of shared memory export the right bytes', (t, pool) => {
  for (const make of [() => pool.track(), () => pool.debug({ quarantine: 0 }), () => pool.debug({ quarantine: 0 }).track().limit(1e6), () => pool.hook({ onMalloc() {}, onFree() {} })]) {
    const over = make()
    const buffer = shm.device().memoryManagerOf(over).allocateBuffer(500)
    buffer.fill(3)
    const opened = shm.open(shm.exportHandle(buffer))
    t.deepEqual([opened.size, opened.at(0), opened.at(-1)], [500, 3, 3], String(make))
    opened.fill(4)
    t.is(buffer.at(250), 4)
    opened.dispose()
    buffer.dispose()
    over.close()
  }
})

sharing('the memory goes with the last buffer, slice and view', async (t, pool) => {
  const maps = mapped().maps
  const manager = shm.device().memoryManagerOf(pool)
  const handles: SharedMemoryHandle[] = []
  {
    using buffer = manager.allocateBuffer(5000)
    handles.push(shm.exportHandle(buffer))
    t.is(mapped().maps, maps + 1)
  }
  t.is(mapped().maps, maps)
  const buffer = manager.allocateBuffer(5000)
  const handle = shm.exportHandle(buffer)
  {
    using opened = shm.open(handle)
    t.is(mapped().maps, maps + 2)
    t.is(opened.size, 5000)
  }
  t.is(mapped().maps, maps + 1)
  for (const options of [{ readOnly: false }, { readOnly: true }]) {
    const opened = shm.open(handle, options)
    const slice = opened.slice(10)
    const view = slice.asUint8Array()
    opened.dispose()
    t.is(mapped().maps, maps + 2, 'a slice keeps it')
    slice.dispose()
    t.is(view.length, 0)
    t.is(mapped().maps, maps + 1, 'dispose unmaps it in the call')
  }
  // What is forgotten goes with the collector.
  const forget = (): void => {
    const forgotten = shm.open(handle)
    forgotten.slice(5).asUint8Array()[0] = 1
  }
  forget()
  t.is(mapped().maps, maps + 2)
  t.true(await collectUntil(() => mapped().maps === maps + 1))
  const peerless = buffer.slice(0, 1)
  buffer.dispose()
  shm.open(handle).dispose() // a slice of the original keeps it open to others
  peerless.dispose()
  throwsCode(t, () => shm.open(handle), 'ERR_OFFHEAP_DISPOSED')
  t.true(await collectUntil(() => mapped().maps === maps))
})

sharing('memory that work in flight uses waits for its end', async (t, pool) => {
  const folder = mkdtempSync(join(tmpdir(), 'offheap-shm-'))
  const path = join(folder, 'fifo')
  execFileSync('mkfifo', [path])
  const fifo = openSync(path, 'r+')
  const maps = mapped().maps
  const made = shm.device().memoryManagerOf(pool).allocateBuffer(5000, { zeroFill: true })
  const handle = shm.exportHandle(made)
  for (const options of [{ readOnly: false }, { readOnly: true }]) {
    const opened = shm.open(handle, options)
    const reading = promisify(read)(fifo, opened.asUint8Array(), 0, 5, null)
    await turns()
    opened.dispose()
    t.is(mapped().maps, maps + 2, 'it was unmapped under the read')
    writeSync(fifo, 'later')
    await reading
    await turns(2)
    t.is(mapped().maps, maps + 1)
    t.is(made.at(0), options.readOnly ? 0 : 'l'.charCodeAt(0))
    made.fill(0)
  }
  // The maker's, too.
  const reading = promisify(read)(fifo, made.asUint8Array(), 0, 5, null)
  await turns()
  const other = shm.open(handle)
  made.dispose()
  t.is(pool.bytesAllocated, 0)
  t.is(mapped().maps, maps + 2)
  writeSync(fifo, 'later')
  await reading
  await turns(2)
  t.is(mapped().maps, maps + 1)
  t.is(other.toString().slice(0, 5), 'later')
  other.dispose()
  closeSync(fifo)
  rmSync(folder, { recursive: true })
})

sharing('a SharedArrayBuffer over it is the same memory, where there are any', async (t, pool) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(64, { zeroFill: true })
  const show = (): void => {
    if (!capabilities().sharedBuffers) return
    for (const readOnly of [false, true]) {
      using opened = shm.open(shm.exportHandle(buffer), { readOnly })
      Atomics.store(new Int32Array(opened.asSharedArrayBuffer()), readOnly ? 1 : 0, 7)
    }
    t.deepEqual([...buffer.asInt32Array(0, 2)], [7, 0])
  }
  const { maps } = mapped()
  show()
  // It cannot be ended: the collector ends it.
  t.true(await collectUntil(() => mapped().maps === maps))
  buffer.dispose()
})

sharing('a pinned buffer stays', (t, pool) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(10)
  const opened = shm.open(shm.exportHandle(buffer))
  const pin = opened.pin()
  throwsCode(t, () => opened.dispose(), 'ERR_OFFHEAP_BUSY')
  pin.dispose()
  opened.dispose()
  opened.dispose()
  throwsCode(t, () => opened.asUint8Array(), 'ERR_OFFHEAP_DISPOSED')
  buffer.dispose()
})

sharing('a child that is killed leaves nothing here', async (t, pool, start) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(1 << 20, { zeroFill: true })
  const handle = shm.exportHandle(buffer)
  const before = mapped()
  for (let round = 0; round < 3; round += 1) {
    const peer = start()
    const { index } = await peer.ask<Opened>('open', handle)
    await peer.ask('write', index, round, 1)
    const made = await peer.ask<{ handle: SharedMemoryHandle }>('make', 1 << 20, 7)
    const opened = shm.open(made.handle)
    await peer.end('SIGKILL')
    t.is(buffer.at(round), 1)
    // Its memory lives on here, and is written and read as before.
    t.is(opened.at(0), 7)
    opened.fill(8)
    t.is(opened.asUint8Array()[1 << 19], 8)
    throwsCode(t, () => shm.open(made.handle), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => shm.open(shm.exportHandle(opened)), 'ERR_OFFHEAP_DISPOSED')
    opened.dispose()
    t.deepEqual(mapped(), before)
  }
  buffer.dispose()
})

sharing('a maker that is killed leaves its memory to who has it', async (t, _pool, start) => {
  const maker = start()
  const user = start()
  const { handle } = await maker.ask<{ handle: SharedMemoryHandle }>('make', 100_000, 42)
  const { index } = await user.ask<Opened>('open', handle)
  const opened = shm.open(handle)
  await maker.end('SIGKILL')
  opened.fill(1)
  t.is(await user.ask('readView', index, 99_999), 1)
  await user.ask('write', index, 5, 2)
  t.is(opened.at(5), 2)
  await t.throwsAsync(user.ask('open', handle), { code: 'ERR_OFFHEAP_DISPOSED' })
  t.deepEqual(await user.ask('mapped'), { maps: 1, descriptors: 0 })
  await user.ask('dispose', index)
  t.deepEqual(await user.ask('mapped'), { maps: 0, descriptors: 0 })
  opened.dispose()
})

sharing('opening costs no descriptor, and a thousand openings leave nothing', (t, pool) => {
  const buffer = shm.device().memoryManagerOf(pool).allocateBuffer(100)
  const handle = shm.exportHandle(buffer)
  const before = mapped()
  const all = Array.from({ length: 100 }, (_, index) => shm.open(handle, { readOnly: index % 2 === 0 }))
  t.deepEqual(mapped(), { maps: before.maps + 100, descriptors: before.descriptors })
  for (const opened of all) opened.dispose()
  for (let round = 0; round < 1000; round += 1) {
    shm.open(handle).dispose()
    t.throws(() => shm.open({ ...handle, key: handle.key.replace(/^(.{99})./, '$1x') }))
  }
  t.deepEqual(mapped(), before)
  buffer.dispose()
})

sharing('without descriptors, making memory is an error that says so', async (t) => {
  const script = `
    const shm = require('offheap/shm')
    const buffers = []
    let error
    try { for (;;) buffers.push(shm.memoryManager().allocateBuffer(10)) } catch (thrown) { error = thrown }
    const made = buffers.length
    console.log(made > 10, made === shm.memoryPool().liveAllocations, error.code, error.reason ?? '')
    buffers.pop().dispose()
    shm.memoryManager().allocateBuffer(10)
    console.log(shm.memoryPool().liveAllocations === made)`
  const node = spawn('sh', ['-c', 'ulimit -n 80 && exec "$0" -e "$1"', process.execPath, script], { cwd: root, env: cleanEnvironment(), stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  node.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk))
  const [code] = (await once(node, 'close')) as [number]
  t.is(output, 'true true ERR_OFFHEAP_DEVICE_UNAVAILABLE descriptors\ntrue\n')
  t.is(code, 0)
})

sharing('where views are copies, they are', async (t) => {
  const script = `
    const shm = require('offheap/shm')
    const made = shm.memoryManager().allocateBuffer(100, { zeroFill: true })
    const opened = shm.open(shm.exportHandle(made))
    const view = opened.asUint8Array()
    view[0] = 5
    console.log(made.at(0))
    opened.flush()
    console.log(made.at(0))
    const readOnly = shm.open(shm.exportHandle(made), { readOnly: true })
    readOnly.asUint8Array()[0] = 9
    try { readOnly.flush() } catch (error) { console.log(error.code, made.at(0)) }`
  const { stdout, stderr, code } = await runNode(['-e', script], { env: cleanEnvironment({ OFFHEAP_NO_EXTERNAL_BUFFERS: '1' }) })
  t.deepEqual({ stdout, stderr, code }, { stdout: '0\n5\nERR_OFFHEAP_IMMUTABLE 5\n', stderr: '', code: 0 })
})

// Freed shared memory is unmapped at once: work that were not waited for would end the process.
for (const row of [
  'fs.read, callback',
  'fs.write, callback',
  '32 reads at once, disposed of at random',
  'zlib.deflate',
  'gzip stream',
  'crypto.randomFill',
  'net write, slow reader',
  'worker.terminate() during 4 reads',
  'synchronous calls whose argument disposes',
]) {
  const run = linux ? test.serial : test.serial.skip
  run(`it is unmapped under nobody: ${row}`, async (t) => checkSafe(t, await attack(row, 'guarded', { OFFHEAP_ATTACK_POOL: 'shm' })))
}

test.serial('the subpath is there for import and require, alone and first', async (t) => {
  const required = createRequire(import.meta.url)('offheap/shm') as Record<string, unknown>
  t.deepEqual(Object.keys(shm).sort(), ['device', 'exportHandle', 'memoryManager', 'memoryPool', 'open', 'revoke', 'seal'])
  t.deepEqual(Object.keys(required).sort(), Object.keys(shm).sort())
  for (const [name, value] of Object.entries(shm)) t.is(value, required[name] as never, name)
  for (const [flag, load] of [
    ['--input-type=module', "import * as shm from 'offheap/shm'; import { MemoryBuffer } from 'offheap'"],
    ['--input-type=commonjs', "const shm = require('offheap/shm'); const { MemoryBuffer } = require('offheap')"],
  ] as const) {
    const script = `${load}
      const buffer = shm.memoryManager().allocateBuffer(8)
      console.log(buffer instanceof MemoryBuffer, shm.device().typeName)`
    const { stdout, stderr, code } = await runNode([flag, '-e', script])
    t.deepEqual({ stdout, stderr, code }, { stdout: 'true shm\n', stderr: '', code: 0 })
  }
})
