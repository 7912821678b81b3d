/**
 * Calls everything that the package exports with everything that could be wrong. What is called is found by reflection,
 * so a new export is covered by itself. The same seed makes the same calls.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { devNull } from 'node:os'
import { type Readable, Stream } from 'node:stream'
import { inspect, types } from 'node:util'
import * as offheap from 'offheap'
import { backendPool, backends, detachedArrayBuffer, detachedBytes, random } from './fixtures.js'

type AnyFunction = (...values: unknown[]) => unknown
type AnyClass = (new (...values: unknown[]) => object) & { prototype: object }

/** What can be called: an exported function, a constructor, a static, a method or a getter. */
interface Target {
  /** As a reader would write it: `MemoryBuffer#slice()`. */
  readonly name: string
  readonly kind: 'function' | 'constructor' | 'static' | 'method' | 'getter'
  /** The class, for the receivers of methods and getters. */
  readonly owner: string | undefined
  readonly arity: number
  readonly call: (receiver: unknown, values: readonly unknown[]) => unknown
}

/** How a run ended. */
export interface FuzzReport {
  readonly seed: number
  readonly targets: number
  readonly calls: number
  readonly values: number
  readonly errors: Readonly<Record<string, number>>
  /** Outcomes that are neither a value nor an error with a code. */
  readonly failures: readonly string[]
  /** What the pools held before, and after everything was disposed. */
  readonly before: unknown
  readonly after: unknown
}

export interface FuzzOptions {
  readonly seed: number
  /** At most so many single calls; all there are when absent. */
  readonly calls?: number
  /** So many sequences of calls on the same objects. */
  readonly walks: number
  /** Where the current call is noted, so that a crash can be told. */
  readonly journal?: string
}

const isClass = (value: unknown): value is AnyClass => typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value))

const show = (key: PropertyKey): string => (typeof key === 'symbol' ? `[${String(key.description)}]` : String(key))

/** Everything that the package exports. */
function findTargets(): Target[] {
  const targets: Target[] = []
  for (const [name, value] of Object.entries(offheap as Record<string, unknown>)) {
    if (!isClass(value)) {
      if (typeof value === 'function') {
        targets.push({ name, kind: 'function', owner: undefined, arity: value.length, call: (receiver, values) => Reflect.apply(value, receiver, values) as unknown })
      }
      continue
    }
    targets.push({ name: `new ${name}`, kind: 'constructor', owner: name, arity: value.length, call: (_, values) => Reflect.construct(value, values) as unknown })
    for (const key of Reflect.ownKeys(value)) {
      const member = Reflect.getOwnPropertyDescriptor(value, key)!.value as unknown
      if (typeof member !== 'function' || key === 'prototype') continue
      targets.push({
        name: `${name}.${show(key)}`,
        kind: 'static',
        owner: name,
        arity: member.length,
        call: (receiver, values) => Reflect.apply(member, receiver === undefined ? value : receiver, values) as unknown,
      })
    }
    for (const key of Reflect.ownKeys(value.prototype)) {
      if (key === 'constructor') continue
      const { get, value: method } = Reflect.getOwnPropertyDescriptor(value.prototype, key)!
      if (get !== undefined) {
        targets.push({ name: `${name}#${show(key)}`, kind: 'getter', owner: name, arity: 0, call: (receiver) => Reflect.apply(get, receiver, []) as unknown })
      } else if (typeof method === 'function') {
        targets.push({
          name: `${name}#${show(key)}`,
          kind: 'method',
          owner: name,
          arity: (method as AnyFunction).length,
          call: (receiver, values) => Reflect.apply(method as AnyFunction, receiver, values),
        })
      }
    }
  }
  return targets
}

/**
 * The exceptions, each with its reason. Everything else must be a value or an error whose code is ours.
 */
function isJustified(target: Target, values: readonly unknown[], error: unknown): boolean {
  const code: unknown = (error as { code?: unknown } | null)?.code
  // The file system's own errors come through: ESPIPE of a pipe, EINVAL of a position that no file has.
  if (/#(readFrom|writeTo)$/.test(target.name)) return typeof code === 'string'
  // Error classes hand message and options to `Error`, which refuses symbols and runs the caller's `toString` and traps.
  if (/^new \w+Error$/.test(target.name)) return values.some((value) => typeof value === 'symbol' || (typeof value === 'object' && value !== null))
  return false
}

/** Calls that take long or print much are made for real only so many times in a run. */
const RARE: readonly [RegExp, number][] = [
  [/#printStats$/, 200],
  [/#releaseUnused$/, 20],
  [/^jemallocStats(Print|String)$/, 40],
]

/** What a builder of strings finishes: a plain object with two buffers. */
function isColumn(value: unknown): value is offheap.BinaryBuffers {
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return false
  return Object.getPrototypeOf(value) === Object.prototype && 'data' in value && value.data instanceof offheap.MemoryBuffer && 'offsets' in value
}

class Fuzz {
  readonly #next: () => number
  readonly #journal: number | undefined
  readonly #targets = findTargets()
  readonly #rarely = new Map<string, number>()
  readonly #own = offheap.defaultMemoryPool().proxy({ name: 'fuzz' })
  readonly #allocators = (['raw', 'mem', 'object'] as const).map((domain) => [domain, offheap.getAllocator(domain)] as const)
  readonly #file: FileHandle
  readonly #errors: Record<string, number> = {}
  readonly #failures: string[] = []
  #calls = 0
  #values = 0
  /** The objects of the current walk. */
  #objects: readonly object[] = []
  /** What is to be given back after the current call or walk. */
  #garbage: unknown[] = []

  constructor(options: FuzzOptions, file: FileHandle) {
    this.#next = random(options.seed)
    this.#file = file
    this.#journal = options.journal === undefined ? undefined : openSync(options.journal, 'w')
  }

  #pick<Value>(list: readonly Value[]): Value {
    return list[Math.floor(this.#next() * list.length)]!
  }

  #keep<Value>(value: Value): Value {
    this.#garbage.push(value)
    return value
  }

  /** One instance of each class, alive. */
  readonly #makers: Record<string, () => object> = {
    MemoryPool: () => this.#pick([() => this.#own.proxy(), () => this.#own.limit(100_000)])(),
    MemoryBuffer: () =>
      this.#pick([
        () => this.#own.allocateBuffer(24, { zeroFill: true }),
        () => this.#own.allocateResizableBuffer(100),
        () => this.#own.allocateBuffer(0),
        () => offheap.MemoryBuffer.from('immutable', { pool: this.#own }),
        () => offheap.MemoryBuffer.wrap(new Uint8Array(32)),
        () => offheap.MemoryBuffer.wrap(new SharedArrayBuffer(8)),
        () => this.#keep(this.#own.allocateBuffer(64)).sliceMutable(3, 40),
        () => this.#keep(this.#own.allocateBuffer(30)).viewOn(offheap.cpuDevice()),
        () => offheap.MemoryBuffer.wrap(new Uint8Array(10)).viewOn(this.#alive('MemoryManager') as offheap.MemoryManager),
        () => this.#shown(),
      ])(),
    Device: () => offheap.cpuDevice(),
    MemoryManager: () => this.#pick([() => offheap.defaultCpuMemoryManager(), () => offheap.cpuMemoryManager(this.#own.limit(100_000))])(),
    Pin: () => this.#keep(this.#own.allocateBuffer(8)).pin(),
    BufferBuilder: () => {
      const builder = new offheap.BufferBuilder({ pool: this.#own })
      if (this.#next() < 0.5) builder.append('some bytes')
      return builder
    },
    BinaryBufferBuilder: () => {
      const builder = new offheap.BinaryBufferBuilder({ pool: this.#own, offsets: this.#pick(['int32', 'int64'] as const) })
      if (this.#next() < 0.5) builder.append('a value')
      return builder
    },
    TypedBufferBuilder: () => {
      const builder = new offheap.TypedBufferBuilder(this.#pick(['int8', 'uint16', 'float64', 'int64', 'bool'] as const), { pool: this.#own })
      if (this.#next() < 0.5) builder.advance(10)
      return builder
    },
    Arena: () => new offheap.Arena({ pool: this.#own, chunkSize: 1024 }),
    BufferReader: () => new offheap.BufferReader(this.#keep(this.#own.allocateBuffer(50, { zeroFill: true }))),
    FixedSizeBufferWriter: () => new offheap.FixedSizeBufferWriter(this.#keep(this.#own.allocateBuffer(50))),
    BufferOutputStream: () => new offheap.BufferOutputStream({ pool: this.#own, capacity: 64 }),
    MockOutputStream: () => new offheap.MockOutputStream(),
  }

  #shown(): offheap.MemoryBuffer {
    const buffer = this.#own.allocateBuffer(40)
    buffer.asUint8Array()
    return buffer
  }

  /** An instance of a class; an error class when there is no other way to make one. */
  #alive(owner: string): object {
    const make = this.#makers[owner]
    if (make !== undefined) return this.#keep(make())
    const made = (offheap as unknown as Record<string, AnyClass>)[owner]!
    if (Object.prototype.isPrototypeOf.call(Error, made)) return Reflect.construct(made, ['message', { requested: 1 }])
    throw new Error(`the fuzz test cannot make a ${owner}: add it to #makers in fuzz-engine.ts`)
  }

  /** An instance whose life is over. */
  #dead(owner: string): object {
    const object = this.#alive(owner) as Partial<{ dispose(): void; close(): void }>
    try {
      if (object.dispose !== undefined) object.dispose()
      else object.close?.()
    } catch {
      // A pool that cannot be closed.
    }
    return object
  }

  readonly #hostile: readonly (() => unknown)[] = [
    () => undefined,
    () => Number.NaN,
    () => -1,
    () => 1.5,
    () => 2 ** 53,
    () => Number.MAX_SAFE_INTEGER,
    () => -Infinity,
    () => -0,
    () => '',
    () => ({}),
    () => [],
    () => null,
    () => detachedArrayBuffer(),
    () => detachedBytes(),
    () => this.#dead('MemoryBuffer'),
    () => this.#keep(backendPool(backends.at(-1)!).proxy().allocateBuffer(8)),
    () => Symbol('hostile'),
    () => 5n,
    () => -(2n ** 70n),
    () => ({
      valueOf() {
        throw new Error('valueOf was called')
      },
    }),
    () => ({
      [Symbol.toPrimitive]() {
        throw new Error('toPrimitive was called')
      },
      toString() {
        throw new Error('toString was called')
      },
    }),
    () => this.#revoked(),
    () => () => 1,
    () => new Date(0),
    () => true,
    () => Object.create(offheap.MemoryBuffer.prototype) as unknown,
    () => Object.create(offheap.MemoryPool.prototype) as unknown,
    () => Object.create(offheap.MemoryManager.prototype) as unknown,
    () => Object.create(offheap.Device.prototype) as unknown,
    () => this.#dead('MemoryPool'),
    () => this.#dead('BufferBuilder'),
    () => this.#own.limit(0),
    () => ({ length: 2 ** 32, byteLength: -1 }),
    () => [undefined, -1, {}, Symbol('in an array')],
    () => ({ id: 1, secret: '0'.repeat(32) }),
    () => new Proxy({}, { get: () => this.#pick([undefined, -1, 'x', null]) }),
    () => globalThis,
  ]

  #revoked(): unknown {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  }

  readonly #harmless: readonly (() => unknown)[] = [
    () => undefined,
    () => 0,
    () => 1,
    () => 7,
    () => 64,
    () => 100,
    () => 4096,
    () => 'text',
    () => 'int32',
    () => 'bool',
    () => 'hex',
    () => 'stats.allocated',
    () => 'mem',
    () => 'object',
    () => true,
    () => false,
    () => 1n,
    () => new Uint8Array([1, 2, 3]),
    () => new Float64Array(4),
    () => new BigInt64Array(2),
    () => new ArrayBuffer(8),
    () => new SharedArrayBuffer(8),
    () => new DataView(new ArrayBuffer(8), 1),
    () => [1, 2, 3],
    () => [true, false],
    () => new Set([1, 2]),
    () => this.#alive('MemoryBuffer'),
    () => [this.#alive('MemoryBuffer'), new Uint8Array(3)],
    () => this.#alive('MemoryPool'),
    () => this.#alive('BufferReader'),
    () => this.#alive('MemoryManager'),
    () => this.#alive('Device'),
    () => this.#file,
    () => this.#keep(this.#own.share()),
    () => this.#keep(this.#keep(this.#own.allocateBuffer(8)).share()),
    () => this.#options(),
  ]

  /** An options object, with something wrong in it now and then. */
  #options(): unknown {
    const value = () => this.#pick(this.#next() < 0.4 ? this.#hostile : this.#harmless)()
    const keys = ['pool', 'capacity', 'capacityInBytes', 'offsets', 'alignment', 'zeroFill', 'name', 'shrinkToFit', 'chunkSize', 'offset', 'length', 'position', 'requested', 'limit', 'allocated', 'domain', 'after', 'count', 'probability', 'minSize', 'stackDepth', 'quarantine', 'maxRuns']
    const options: Record<string, unknown> = {}
    for (const key of keys) if (this.#next() < 0.25) options[key] = key === 'pool' && this.#next() < 0.7 ? this.#own : value()
    if (this.#next() < 0.1) {
      Object.defineProperty(options, this.#pick(keys), {
        get() {
          throw new Error('the getter of an option')
        },
      })
    }
    return options
  }

  /** Code of the caller's that runs in the middle of a call and does something to the objects at hand. */
  #mischief(): void {
    if (this.#objects.length === 0) return
    const object = this.#pick(this.#objects) as Record<string, AnyFunction | undefined>
    const name = this.#pick(['dispose', 'close', 'finish', 'reset', 'freeze', 'pin', 'share', 'arrayBuffer', 'resize', 'reserve', 'append', 'write', 'slice', 'asUint8Array'])
    try {
      this.#keep(object[name]?.(this.#pick([0, 1, 1000])))
    } catch {
      // A code of ours; what matters is what the call in the middle of which this runs does now.
    }
  }

  /** A value that does mischief when it is looked at. */
  #trap(): unknown {
    const get = (target: object, key: PropertyKey): unknown => {
      this.#mischief()
      if (key === Symbol.iterator) {
        let left = 5
        const next = () => {
          this.#mischief()
          left -= 1
          return { done: left === 0, value: this.#pick([1, 1n, true, 0.5]) }
        }
        return () => ({ next })
      }
      if (key === 'read' || key === 'write') {
        return () => {
          this.#mischief()
          return Promise.resolve({ bytesRead: 1, bytesWritten: 1 })
        }
      }
      const own: unknown = Reflect.get(target, key)
      return own ?? this.#pick([undefined, 1, 64, true, this.#own])
    }
    return new Proxy(this.#pick([{}, [1, 2, 3], [new Uint8Array(3), new Uint8Array(4)]]), { get })
  }

  #receivers(target: Target): readonly (() => unknown)[] {
    const { owner, kind } = target
    const wrong = [() => undefined, () => null, () => ({}), () => this.#pick(this.#hostile)(), () => new Proxy(this.#alive('MemoryBuffer'), {})]
    if (owner === undefined) return [() => undefined, ...wrong]
    const { prototype } = (offheap as unknown as Record<string, AnyClass>)[owner]!
    if (kind === 'constructor') return [() => undefined]
    if (kind === 'static') return [() => undefined, ...wrong]
    return [
      () => this.#alive(owner),
      () => this.#alive(owner),
      () => this.#alive(owner),
      () => this.#dead(owner),
      () => this.#dead(owner),
      () => prototype,
      () => Object.create(prototype) as unknown,
      () => new Proxy(this.#alive(owner), {}),
      ...wrong,
    ]
  }

  /**
   * What may not be just anything: addresses are trusted, so only those that are refused, or that are right; logs go
   * nowhere; and debug hooks, whose own way is to end the process, are told to be quiet.
   */
  #trusted(target: Target, values: unknown[]): unknown[] {
    const [first] = values
    if (target.name === 'MemoryPool#log' && (first === undefined || (typeof first === 'string' && first !== ''))) return [devNull, ...values.slice(1)]
    if (target.name === 'MemoryPool#debug' || target.name === 'setupDebugHooks') {
      if (first !== undefined && (typeof first !== 'object' || first === null)) return values
      // Descriptors: a getter that throws is for the call to meet, not for us.
      const given = types.isProxy(first) ? {} : Object.getOwnPropertyDescriptors(first ?? {})
      return [Object.defineProperties({}, { ...given, onError: { value: () => undefined } }), ...values.slice(1)]
    }
    if (target.name !== 'MemoryBuffer.unsafeForeign') return values
    const [address, size, owner] = values
    const isRefused = (typeof address !== 'number' && typeof address !== 'bigint') || address < 0 || address > Number.MAX_SAFE_INTEGER || !Number.isInteger(Number(address))
    if (isRefused) return values
    const memory = this.#keep(this.#own.allocateBuffer(4096))
    return [typeof address === 'bigint' ? memory.address : Number(memory.address), typeof size === 'number' && size > 4096 && Number.isSafeInteger(size) ? 4096 : size, owner ?? memory]
  }

  #isTooRare(target: Target): boolean {
    // Native code prints to the process's own output: only in a process whose output is not seen.
    if (target.name === 'MemoryPool#printStats' && this.#journal === undefined) return true
    const limit = RARE.find(([pattern]) => pattern.test(target.name))?.[1]
    if (limit === undefined) return false
    const count = (this.#rarely.get(target.name) ?? 0) + 1
    this.#rarely.set(target.name, count)
    return count > limit
  }

  #note(target: Target, receiver: unknown, values: readonly unknown[]): string {
    const text = (value: unknown): string => {
      try {
        return inspect(value, { depth: 1, breakLength: Infinity, customInspect: false }).slice(0, 100)
      } catch {
        return typeof value
      }
    }
    return `call ${this.#calls}: ${target.name}(${values.map(text).join(', ')}) on ${text(receiver)}`
  }

  /** Puts back what belongs to the whole process. */
  #restore(target: Target, result: unknown): void {
    if (['setDefaultMemoryPool', 'setAllocator', 'setupDebugHooks'].includes(target.name)) {
      for (const [domain, pool] of this.#allocators) offheap.setAllocator(domain, pool)
    }
    if (target.name === 'setArenaAllocator') offheap.setArenaAllocator(null)
    // A domain may fail with it until it is closed.
    if (target.name === 'MemoryPool#failing') (result as offheap.MemoryPool).close()
  }

  /** Makes one call and judges what comes of it. */
  async #attempt(target: Target, receiver: unknown, given: readonly unknown[]): Promise<unknown> {
    if (this.#isTooRare(target)) return undefined
    const values = this.#trusted(target, [...given])
    this.#calls += 1
    if (this.#journal !== undefined) writeSync(this.#journal, `${this.#note(target, receiver, values)}\n`.padEnd(600).slice(0, 600), 0)
    try {
      let result = target.call(receiver, values)
      if (result instanceof Promise) result = await (result as Promise<unknown>)
      this.#values += 1
      this.#restore(target, result)
      return this.#keep(result)
    } catch (error) {
      const code: unknown = error instanceof Error ? (error as { code?: unknown }).code : undefined
      const isOurs = typeof code === 'string' && code.startsWith('ERR_OFFHEAP_') && code !== 'ERR_OFFHEAP_INTERNAL'
      if (!isOurs && !isJustified(target, values, error)) {
        this.#failures.push(`${this.#note(target, receiver, values)}: ${error instanceof Error ? error.stack : inspect(error)}`)
      }
      const key = typeof code === 'string' ? code : 'justified'
      this.#errors[key] = (this.#errors[key] ?? 0) + 1
      return undefined
    }
  }

  /** Gives back everything that calls gave and took. */
  #clean(): void {
    const garbage = this.#garbage.flatMap((value) => (isColumn(value) ? [value.offsets, value.data] : [value]))
    this.#garbage = []
    const streams = garbage.filter((value) => value instanceof Stream)
    for (const stream of streams) (stream as Readable).on('error', () => undefined).destroy()
    for (const value of garbage) if (value instanceof offheap.Pin) value.dispose()
    for (const value of garbage) {
      if (typeof value !== 'object' || value === null) continue
      if (value instanceof offheap.MemoryBuffer || value instanceof offheap.BufferBuilder || value instanceof offheap.BinaryBufferBuilder || value instanceof offheap.TypedBufferBuilder || value instanceof offheap.Arena || value instanceof offheap.BufferOutputStream) {
        try {
          value.dispose()
        } catch (error) {
          this.#failures.push(`call ${this.#calls}: what was made cannot be disposed: ${(error as Error).stack}`)
        }
      } else if (typeof (value as Partial<offheap.Ticket>).secret === 'string') {
        offheap.revokeShared(value as offheap.Ticket)
      }
    }
  }

  /** Each target with each hostile value in each place, on each kind of receiver. */
  async single(calls: number): Promise<void> {
    const plan: (() => Promise<void>)[] = []
    for (const target of this.#targets) {
      for (const receiver of this.#receivers(target)) {
        const places = target.kind === 'getter' ? 0 : Math.max(target.arity, 1) + 2
        plan.push(async () => void (await this.#attempt(target, receiver(), [])))
        for (let place = 0; place < places; place += 1) {
          for (const hostile of this.#hostile) {
            plan.push(async () => {
              const values = Array.from({ length: place }, () => this.#pick(this.#harmless)())
              await this.#attempt(target, receiver(), [...values, hostile()])
            })
          }
        }
      }
    }
    for (let index = plan.length - 1; index > 0; index -= 1) {
      const other = Math.floor(this.#next() * (index + 1))
      ;[plan[index], plan[other]] = [plan[other]!, plan[index]!]
    }
    for (const step of plan.slice(0, calls)) {
      await step()
      this.#clean()
    }
  }

  /** Sequences of calls on the same few objects, with harmless and hostile values and what came out before. */
  async walks(count: number): Promise<void> {
    const members = this.#targets.filter(({ kind }) => kind === 'method' || kind === 'getter')
    for (let walk = 0; walk < count; walk += 1) {
      const objects: object[] = Object.keys(this.#makers).filter(() => this.#next() < 0.5).map((owner) => this.#alive(owner))
      const results: unknown[] = []
      this.#objects = objects
      for (let step = 0; step < 30 && objects.length > 0; step += 1) {
        const object = this.#pick(objects)
        const owner = Object.prototype.toString.call(object).slice(8, -1)
        const candidates = members.filter((member) => member.owner === owner)
        if (candidates.length === 0) break
        const target = this.#pick(candidates)
        // Lives should not end too early to see something.
        if (/#(dispose|close|freeze|\[Symbol\.dispose\])$/.test(target.name) && this.#next() < 0.8) continue
        const values = Array.from({ length: Math.floor(this.#next() * (target.arity + 2)) }, () => {
          const luck = this.#next()
          if (luck < 0.2 && results.length > 0) return this.#pick(results)
          if (luck < 0.3) return this.#pick(objects)
          if (luck < 0.45) return this.#trap()
          return this.#pick(luck < 0.6 ? this.#hostile : this.#harmless)()
        })
        const result = await this.#attempt(target, object, values)
        if (result !== undefined) results.push(result)
        if (typeof result === 'object' && result !== null && result !== this.#own && Object.prototype.toString.call(result).slice(8, -1) in this.#makers) objects.push(result)
      }
      this.#objects = []
      this.#clean()
    }
  }

  end(): Pick<FuzzReport, 'targets' | 'calls' | 'values' | 'errors' | 'failures'> {
    this.#clean()
    if (this.#journal !== undefined) closeSync(this.#journal)
    return { targets: this.#targets.length, calls: this.#calls, values: this.#values, errors: this.#errors, failures: this.#failures }
  }
}

/** What all pools hold. */
function figures(): unknown {
  return Object.fromEntries(
    backends.map((name) => {
      const { bytesAllocated, liveAllocations, parkedBytes } = backendPool(name).stats()
      return [name, { bytesAllocated, liveAllocations, parkedBytes }]
    }),
  )
}

/** Runs the calls of a seed. */
export async function fuzz(options: FuzzOptions): Promise<FuzzReport> {
  const file = await open(devNull, 'r+')
  const { write } = process.stdout
  const { write: writeError } = process.stderr
  const before = figures()
  const engine = new Fuzz(options, file)
  try {
    // What prints a report by default must not fill this process's output.
    process.stdout.write = () => true
    process.stderr.write = () => true
    await engine.single(options.calls ?? Infinity)
    await engine.walks(options.walks)
  } finally {
    process.stdout.write = write
    process.stderr.write = writeError
    if (backends.includes('jemalloc')) offheap.jemallocSetDecayMs(1000)
  }
  const result = engine.end()
  await file.close()
  // Streams end at the next turn; what is parked goes when the loop is idle. No collection helps out what was not
  // disposed, except where there are SharedArrayBuffers, which nothing else ends.
  for (let turn = 0; turn < 50 && JSON.stringify(figures()) !== JSON.stringify(before); turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    if (offheap.capabilities().sharedBuffers) globalThis.gc!()
  }
  return { seed: options.seed, ...result, before, after: figures() }
}
