/**
 * Scratch arrays for a hot loop: cut from one chunk, forgotten all at once, no garbage for the collector but the small
 * array objects. Here: the running median of a signal, which needs three arrays per window.
 */

import assert from 'node:assert/strict'
import { Arena, defaultMemoryPool } from 'offheap'

const WINDOW = 32
const signal = Float64Array.from({ length: 50_000 }, (_, index) => Math.sin(index / 50) + ((index * 7919) % 13) / 13)

function medianOf(values: Float64Array): number {
  values.sort()
  return (values[(values.length - 1) >> 1]! + values[values.length >> 1]!) / 2
}

/** The median of each window's distances from the window's median. */
function deviations(float64: (length: number) => Float64Array, windowDone: () => void): Float64Array {
  const result = new Float64Array(signal.length - WINDOW)
  for (let start = 0; start < result.length; start += 1) {
    const sorted = float64(WINDOW)
    sorted.set(signal.subarray(start, start + WINDOW))
    const median = medianOf(sorted)
    const distances = float64(WINDOW)
    for (let index = 0; index < WINDOW; index += 1) distances[index] = Math.abs(signal[start + index]! - median)
    result[start] = medianOf(distances)
    windowDone()
  }
  return result
}

const pool = defaultMemoryPool().limit(2 ** 20, { name: 'scratch' })
using arena = new Arena({ pool, chunkSize: 65_536 })
const withArena = deviations((length) => arena.float64(length), () => arena.reset())
// Once: 64-byte aligned, where the engine puts arrays at multiples of 8.
assert.equal(arena.float64(5).byteOffset % 64, 0)
console.log(`the arena took ${pool.totalBytesAllocated.toLocaleString('en')} bytes from its pool, in ${pool.numAllocations} allocation(s)`)
assert.equal(pool.numAllocations, 1)

const plain = deviations((length) => new Float64Array(length), () => {})
assert.deepEqual(withArena, plain)

arena.dispose()
assert.equal(pool.bytesAllocated, 0)
console.log(`after dispose the pool holds ${pool.bytesAllocated} bytes`)
console.log('arena: ok')
