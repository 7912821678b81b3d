/**
 * Observers: functions of the program that are told what a pool does.
 *
 * @module
 */

import { endFollowing, followCalls, setDelivery } from './instrument.js'
import { native, shared, words } from './native.js'
import { isObject, property, wrongType } from './validate.js'
import { InvalidArgumentError } from './errors.js'

/** What happened to a block of memory. */
export interface AllocationEvent {
  readonly type: 'malloc' | 'realloc' | 'free'
  /** Where the block is; of a free, where it was. 0 when the request failed. */
  readonly address: bigint
  /** Bytes asked for; of a free, the block's. */
  readonly size: number
  /** The alignment asked for, in bytes. */
  readonly alignment: number
  /** True when the request failed: nothing was changed. */
  readonly failed: boolean
  /** True when the block was asked to be all zero. */
  readonly zeroed: boolean
  /** Of a `realloc`: where the block was. */
  readonly oldAddress?: bigint
  /** Of a `realloc`: its size before, in bytes. */
  readonly oldSize?: number
  /** The thread that asked, numbered from 1 in the order of their first request. */
  readonly thread: number
}

/** Functions that are told what a pool does. At least one. */
export interface AllocationObserver {
  /** A block was allocated. */
  onMalloc?: ((event: AllocationEvent) => void) | undefined
  /** A block was given another size, and may have moved. */
  onRealloc?: ((event: AllocationEvent) => void) | undefined
  /** A block was freed. */
  onFree?: ((event: AllocationEvent) => void) | undefined
}

type Told = (event: AllocationEvent) => void

/** Kinds of events, and the bits beside them. */
const MALLOC = 1
const REALLOC = 2
const FREE = 4
const GONE = 8
const ZEROED = 16
const FAILED = 32
const IN_CALL = 64

/** Numbers in which native code tells one event, and how many events are taken at once. */
const STRIDE = 8
const BATCH = 64

/** Calls code of the program; what it throws is an uncaught exception of the next tick. */
export function guarded(call: () => unknown): void {
  try {
    call()
  } catch (error) {
    process.nextTick(() => {
      throw error
    })
  }
}

class Observer {
  isRunning = false
  /** Events of others that came while it was running. */
  readonly later: AllocationEvent[] = []

  constructor(
    readonly receiver: object,
    readonly told: Readonly<Record<AllocationEvent['type'], Told | undefined>>,
  ) {}

  tell(event: AllocationEvent, isOwn: boolean): void {
    if (this.isRunning) {
      // What an observer allocates itself it is not told of: it would never end.
      if (!isOwn) this.later.push(event)
      return
    }
    this.isRunning = true
    for (let next: AllocationEvent | undefined = event; next !== undefined; next = this.later.shift()) {
      const told = this.told[next.type]
      if (told === undefined) continue
      guarded(() => Reflect.apply(told, this.receiver, [next]))
    }
    this.isRunning = false
  }
}

/** The observers of this environment, by number. All copies of this layer share them, as they share the events. */
const observers = shared('observers', () => new Map<number, Observer>())

const types = { [MALLOC]: 'malloc', [REALLOC]: 'realloc', [FREE]: 'free' } as const

function decode(at: number): AllocationEvent {
  const flags = numbers[at + 1]!
  const type = types[(flags & (MALLOC | REALLOC | FREE)) as keyof typeof types]
  const event = {
    type,
    address: BigInt(numbers[at + 3]!),
    size: numbers[at + 4]!,
    alignment: numbers[at + 7]!,
    failed: (flags & FAILED) !== 0,
    zeroed: (flags & ZEROED) !== 0,
    thread: numbers[at + 2]!,
  }
  return type === 'realloc' ? { ...event, oldAddress: BigInt(numbers[at + 5]!), oldSize: numbers[at + 6]! } : event
}

/** Where native code puts events. What is in it is taken out before anything else runs. */
const numbers = new Float64Array(BATCH * STRIDE)

/** Tells everything that waits. Observers may do anything meanwhile, also what makes events or ends observers. */
function deliver(): void {
  for (let count = BATCH; count === BATCH; ) {
    count = native.takeEvents(numbers.buffer)
    if (count === 1) tellOne(numbers[0]!, numbers[1]!, decode(0))
    else {
      const batch: [number, number, AllocationEvent][] = []
      for (let at = 0; at < count * STRIDE; at += STRIDE) batch.push([numbers[at]!, numbers[at + 1]!, decode(at)])
      for (const [number, flags, event] of batch) tellOne(number, flags, event)
    }
  }
}

function tellOne(number: number, flags: number, event: AllocationEvent): void {
  if ((flags & GONE) !== 0) forget(number)
  else observers.get(number)?.tell(event, (flags & IN_CALL) !== 0)
}

setDelivery(deliver)

function forget(number: number): void {
  if (observers.delete(number)) endFollowing()
  else callbacks.delete(number)
}

/** Callbacks of debug hooks in this environment, which share the numbers of observers. */
export const callbacks = shared('callbacks', () => new Map<number, (found: never) => void>())

function toldOption(observer: object, key: 'onMalloc' | 'onRealloc' | 'onFree', name: string): Told | undefined {
  const told = property(observer, key, `${name}.${key}`)
  if (told === undefined) return undefined
  if (typeof told !== 'function') throw wrongType(`${name}.${key}`, 'a function', told)
  return told as Told
}

/** An observer that was checked, whose functions get `receiver` as their this. */
export function checkObserver(value: unknown, name: string, members = 'onMalloc, onRealloc or onFree', receiver = value): Observer {
  if (!isObject(value) || typeof value === 'function') throw wrongType(name, `an object with ${members}`, value)
  const told = {
    malloc: toldOption(value, 'onMalloc', name),
    realloc: toldOption(value, 'onRealloc', name),
    free: toldOption(value, 'onFree', name),
  }
  if (told.malloc === undefined && told.realloc === undefined && told.free === undefined) {
    throw new InvalidArgumentError(`${name} must have a function ${members}`)
  }
  return new Observer(receiver as object, told)
}

/** An observer that is told of everything by one function. */
export function observerOf(told: Told): Observer {
  return new Observer({}, { malloc: told, realloc: told, free: told })
}

function kindsOf({ told: { malloc, realloc, free } }: Observer): number {
  return (malloc === undefined ? 0 : MALLOC) | (realloc === undefined ? 0 : REALLOC) | (free === undefined ? 0 : FREE)
}

/** What `make` returns: the native id of a pool that tells the observer; word 0 is its key, word 1 the observer's number. */
export function observe(observer: Observer, make: (kinds: number) => number): number {
  const pool = make(kindsOf(observer))
  observers.set(words[1]!, observer)
  followCalls()
  return pool
}

/** Has an observer told of arenas. */
export function observeArenas(observer: Observer): void {
  observers.set(native.arenasObserve(kindsOf(observer)), observer)
  followCalls()
}

/** Ends the observer that is nearest over a pool; false when there is none of this thread. */
export function endObserver(pool: number): boolean {
  const number = native.poolUnobserve(pool)
  if (number === 0) return false
  forget(number)
  return true
}
