/**
 * What tests and the processes that they start share: the pools of this build, wrong values, luck that is the same in
 * every run. Nothing of ava's.
 */
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { jemallocMemoryPool, mappedMemoryPool, type MemoryPool, mimallocMemoryPool, supportedMemoryBackends, systemMemoryPool } from 'offheap'

/** The root of the repository. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** The backends of this build. */
export const backends: readonly string[] = supportedMemoryBackends()

/** The pool of a backend by its name. */
export function backendPool(name: string): MemoryPool {
  switch (name) {
    case 'mimalloc':
      return mimallocMemoryPool()
    case 'jemalloc':
      return jemallocMemoryPool()
    case 'system':
      return systemMemoryPool()
    case 'mapped':
      return mappedMemoryPool()
    default:
      throw new Error(`the tests do not know the backend ${name}: teach fixtures.ts`)
  }
}

/** What a pool holds. */
export function held(pool: MemoryPool): { bytes: number; allocations: number } {
  return { bytes: pool.bytesAllocated, allocations: pool.liveAllocations }
}

/** Waits for `turns` turns of the event loop. */
export async function turns(count = 1): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

/** Collects garbage, with turns in between, until `done`, for at most `rounds` rounds. */
export async function collectUntil(done: () => boolean, rounds = 50): Promise<boolean> {
  for (let round = 0; round < rounds; round += 1) {
    if (done()) return true
    // What `done` looked at through a WeakRef stays alive until the end of its job.
    await turns()
    globalThis.gc!()
    await turns()
  }
  return done()
}

/** A detached ArrayBuffer. */
export function detachedArrayBuffer(bytes = 16): ArrayBuffer {
  const arrayBuffer = new ArrayBuffer(bytes)
  structuredClone(arrayBuffer, { transfer: [arrayBuffer] })
  return arrayBuffer
}

/** A Uint8Array whose ArrayBuffer was detached. */
export function detachedBytes(bytes = 16): Uint8Array {
  const view = new Uint8Array(bytes)
  structuredClone(view.buffer, { transfer: [view.buffer] })
  return view
}

/** Numbers that are the same in every run: a linear congruential generator of 32 bits. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
