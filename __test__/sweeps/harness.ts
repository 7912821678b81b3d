/**
 * What is done to each public operation: its requests for memory fail in turn, and after each failure its object must be
 * as it was, and work. Nothing of ava's, so that a worker can run it.
 */
import { inspect, isDeepStrictEqual } from 'node:util'
import {
  Arena,
  BinaryBufferBuilder,
  BufferBuilder,
  BufferOutputStream,
  MemoryBuffer,
  MemoryPool,
  OutOfMemoryError,
  Pin,
  TypedBufferBuilder,
  defaultMemoryPool,
  isOffheapError,
  revokeShared,
  setDefaultMemoryPool,
  sweepOutOfMemory,
  type Ticket,
  totalAllocatedBytes,
} from 'offheap'
import { backendPool, backends, turns } from '../fixtures.js'

/** A kind of object that operations are tried on. */
export interface Kind<Subject> {
  /** A fresh one, whose memory is `pool`'s. When it throws, nothing may be left of it. */
  make(pool: MemoryPool): Subject
  /** What can be seen of it, which nothing is changed by. */
  look(subject: Subject): unknown
  /** What it holds, in the end: it may be used up by that. */
  contents(subject: Subject): unknown
  /** Gives all of it back. */
  dispose(subject: Subject): void
}

/** An operation on an object of one kind. */
export interface Operation {
  /** Whether it needs memory. Where it does not, it must succeed while every request fails, and make none. */
  readonly asks: boolean
  begin(pool: MemoryPool): Attempt
}

/** One object, and the operation on it. */
interface Attempt {
  act(): unknown
  look(): unknown
  contents(): unknown
  dispose(): void
}

/**
 * An operation that asks for memory. What it returns is compared and disposed; apart from that it leaves nothing. Where
 * it fails, it has done nothing yet: one call, or all but the last undone.
 */
export function on<Subject>(kind: Kind<Subject>, act: (subject: Subject, pool: MemoryPool) => unknown): Operation {
  return {
    asks: true,
    begin(pool) {
      const subject = kind.make(pool)
      return {
        act: () => act(subject, pool),
        look: () => kind.look(subject),
        contents: () => kind.contents(subject),
        dispose: () => kind.dispose(subject),
      }
    },
  }
}

/** An operation that asks for no memory: it must succeed while every request fails. */
export function calm<Subject>(kind: Kind<Subject>, act: (subject: Subject, pool: MemoryPool) => unknown): Operation {
  return { ...on(kind, act), asks: false }
}

/** A pool that is put over the failing one, and the operations over that. */
export interface Dress {
  over(pool: MemoryPool): MemoryPool
  /** Ends what the pool that `over` made has to end. */
  end?(pool: MemoryPool): void
}

/** The operation with a pool that is put over the failing one. */
function dressed(operation: Operation, { over, end }: Dress): Operation {
  return {
    asks: operation.asks,
    begin(under) {
      const pool = over(under)
      try {
        const attempt = operation.begin(pool)
        return {
          ...attempt,
          look: () => ({ object: attempt.look(), pool: figures(pool) }),
          dispose() {
            attempt.dispose()
            end?.(pool)
          },
        }
      } catch (error) {
        end?.(pool)
        throw error
      }
    },
  }
}

/** Operations by the public name that they are of. */
export type Operations = Readonly<Record<string, Operation | readonly Operation[]>>

/** Says what is wrong. */
class Wrong extends Error {}

const show = (value: unknown): string => inspect(value, { depth: 5, maxStringLength: 300, breakLength: Infinity })

function same(is: unknown, was: unknown, what: string): void {
  if (!isDeepStrictEqual(is, was)) throw new Wrong(`${what}: ${show(was)} became ${show(is)}`)
}

function figures(pool: MemoryPool): unknown {
  return { bytes: pool.bytesAllocated, allocations: pool.liveAllocations }
}

/** What everything holds. */
function held(): unknown {
  const pools = backends.map((name) => {
    const { bytesAllocated, liveAllocations, parkedBytes } = backendPool(name).stats()
    return { name, bytesAllocated, liveAllocations, parkedBytes }
  })
  return { pools, total: totalAllocatedBytes() }
}

/** What work in flight holds goes when the loop is idle; SharedArrayBuffers, and all with SAFE_DISPOSE, with a collection. */
async function settle(isDone: () => boolean): Promise<void> {
  for (let turn = 0; turn < 60 && !isDone(); turn += 1) {
    await turns()
    if (turn > 5) globalThis.gc!()
  }
}

/** A result in values that can be compared. Gives it back. */
function finishResult(result: unknown): unknown {
  if (Array.isArray(result)) return result.map(finishResult)
  if (result instanceof MemoryBuffer) {
    const { isMutable, isResizable, size } = result
    const seen = { isMutable, isResizable, size, hex: result.toHex() }
    result.dispose()
    return seen
  }
  if (result instanceof BinaryBufferBuilder || result instanceof BufferBuilder || result instanceof TypedBufferBuilder) {
    const { length } = result
    result.dispose()
    return { length }
  }
  if (result instanceof BufferOutputStream || result instanceof Arena || result instanceof Pin) {
    result.dispose()
    return result.constructor.name
  }
  if (result instanceof MemoryPool) return 'a pool'
  if (ArrayBuffer.isView(result)) return { name: result.constructor.name, bytes: result.byteLength }
  if (result instanceof ArrayBuffer) return { bytes: result.byteLength }
  if (typeof (result as Partial<Ticket> | null)?.secret === 'string') return revokeShared(result as Ticket)
  return typeof result === 'object' && result !== null ? result.constructor.name : result
}

function checkError(error: unknown): OutOfMemoryError {
  if (!(error instanceof OutOfMemoryError)) throw error
  if (!isOffheapError(error) || error.code !== 'ERR_OFFHEAP_OUT_OF_MEMORY') throw new Wrong('an OutOfMemoryError without its code')
  if (!Number.isSafeInteger(error.requested) || error.requested < 0) throw new Wrong(`requested: ${error.requested}`)
  return error
}

/** Tries the operation; after a refusal everything must be as before, and the error is returned. */
async function refused(attempt: Attempt, pool: MemoryPool): Promise<{ error: OutOfMemoryError } | { result: unknown }> {
  const look = attempt.look()
  const account = figures(pool)
  const outcome = await Promise.resolve()
    .then(() => attempt.act())
    .then(
      (result) => ({ result }),
      (error: unknown) => ({ error: checkError(error) }),
    )
  if ('error' in outcome) {
    same(attempt.look(), look, 'the failed operation changed its object')
    same(figures(pool), account, 'the failed operation changed the figures of its pool')
  }
  return outcome
}

/** What comes of an operation in the end: its result and what the object holds. */
function outcomeOf(attempt: Attempt, result: unknown): unknown {
  return { result: finishResult(result), contents: attempt.contents() }
}

/** Runs `body` with `pool` as the default pool. */
async function asDefault<Result>(pool: MemoryPool, body: () => Promise<Result>): Promise<Result> {
  const before = defaultMemoryPool()
  setDefaultMemoryPool(pool)
  try {
    return await body()
  } finally {
    setDefaultMemoryPool(before)
  }
}

/** Once or for ever, each request in turn; then nothing fails any more, and the same operation must succeed. */
async function sweepWithRecovery(operation: Operation, expected: unknown, base: MemoryPool): Promise<number> {
  let failures = 0
  // The control blocks of buffers count with the pool's requests.
  const pool = base.failing({ domain: 'object' })
  await asDefault(pool, async () => {
    for (const count of [1, undefined]) {
      for (let after = 0; ; after += 1) {
        pool.disarm()
        const attempt = operation.begin(pool)
        try {
          pool.rearm({ after, count })
          const outcome = await refused(attempt, pool)
          const met = pool.failingCounts!.failures
          pool.disarm()
          failures += met
          const result = 'error' in outcome ? await attempt.act() : outcome.result
          same(outcomeOf(attempt, result), expected, `after ${met} refusals from request ${after + 1}, where nothing failed any more`)
          if (met === 0) break
        } finally {
          pool.disarm()
          attempt.dispose()
        }
        if (after > 1000) throw new Wrong('more than a thousand requests: make the operation smaller')
      }
    }
  })
  await settle(() => pool.liveAllocations === 0)
  const { liveBytes, liveAllocations } = pool.close()
  same({ liveBytes, liveAllocations }, { liveBytes: 0, liveAllocations: 0 }, 'left in the failing pool')
  return failures
}

/** The driver's own sweep, in which the making of the object fails, too, and requests of every domain. */
async function sweepWithDriver(operation: Operation, expected: unknown, base: MemoryPool): Promise<number> {
  const report = await sweepOutOfMemory(
    async (pool) => {
      const attempt = operation.begin(pool)
      try {
        const outcome = await refused(attempt, pool)
        if ('result' in outcome) return same(outcomeOf(attempt, outcome.result), expected, 'the outcome')
        const again = await refused(attempt, pool)
        if ('result' in again) same(outcomeOf(attempt, again.result), expected, 'the outcome of the second try')
        throw outcome.error
      } finally {
        attempt.dispose()
      }
    },
    { pool: base, domains: ['raw', 'mem', 'object'], maxRuns: 5000 },
  )
  if (!report.isClean) {
    const [wrong] = report.wrongErrors
    throw new Wrong(`the sweep: ${report.text}${wrong === undefined ? '' : `\n${inspect(wrong.error)}`}`)
  }
  return report.injected
}

async function checkCalm(operation: Operation, expected: unknown, base: MemoryPool): Promise<void> {
  const pool = base.failing({ domain: 'object' })
  pool.disarm()
  const attempt = operation.begin(pool)
  await asDefault(pool, async () => {
    try {
      pool.rearm()
      const result = await attempt.act()
      const { requests } = pool.failingCounts!
      if (requests > 0) throw new Wrong(`it asked for memory ${requests} times: list it with on(), not with calm()`)
      pool.disarm()
      same(outcomeOf(attempt, result), expected, 'the outcome where every request would fail')
    } finally {
      pool.disarm()
      attempt.dispose()
    }
  })
  pool.close()
}

/** The outcome where nothing fails. In a function of its own, whose frame keeps no view alive. */
async function undisturbed(operation: Operation, pool: MemoryPool): Promise<unknown> {
  const attempt = operation.begin(pool)
  try {
    return outcomeOf(attempt, await attempt.act())
  } finally {
    attempt.dispose()
  }
}

/** What a sweep of one operation met. */
export interface Swept {
  readonly refusals: number
}

/** Sweeps one operation. Throws when something is wrong. */
export async function sweep(operation: Operation): Promise<Swept> {
  const base = defaultMemoryPool().track({ stackDepth: 0 })
  const start = held()
  await undisturbed(operation, base)
  await settle(() => isDeepStrictEqual(held(), start))

  // What is made once and kept is not of this operation.
  const before = held()
  const expected = await undisturbed(operation, base)
  let refusals = 0
  if (operation.asks) {
    const first = await sweepWithRecovery(operation, expected, base)
    if (first === 0) throw new Wrong('it asked for no memory: make it do so, or list it with calm()')
    refusals = first + (await sweepWithDriver(operation, expected, base))
  } else {
    await checkCalm(operation, expected, base)
  }
  await settle(() => isDeepStrictEqual(held(), before))
  same(held(), before, 'what all pools hold')
  return { refusals }
}

/** Sweeps all of them; what is wrong, by name. */
export async function sweepAll(operations: Operations, dress?: Dress): Promise<{ wrong: string[]; refusals: number; operations: number }> {
  const wrong: string[] = []
  let refusals = 0
  let count = 0
  for (const [name, given] of Object.entries(operations)) {
    for (const operation of Array.isArray(given) ? (given as Operation[]) : [given as Operation]) {
      count += 1
      try {
        refusals += (await sweep(dress === undefined ? operation : dressed(operation, dress))).refusals
      } catch (error) {
        wrong.push(`${name}: ${error instanceof Wrong ? error.message : inspect(error)}`)
      }
    }
  }
  return { wrong, refusals, operations: count }
}
