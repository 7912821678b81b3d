/**
 * What shared memory costs: `npm run bench:shm`. Medians; the figures of docs/shared-memory.md are from here.
 *
 * A child gets a column of doubles, sums it, and answers: by a handle, and by the messages that Node has for it.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { defaultMemoryPool, type MemoryBuffer } from 'offheap'
import * as shm from 'offheap/shm'

const manager = shm.memoryManager()

function median(figures: number[]): number {
  return figures.toSorted((a, b) => a - b)[figures.length >> 1]!
}

/** Microseconds of one call, the median of `runs`; `end` is not counted. */
function time<Result>(runs: number, body: () => Result, end: (result: Result) => void): number {
  const figures: number[] = []
  for (let run = -10; run < runs; run += 1) {
    const start = performance.now()
    const result = body()
    const took = (performance.now() - start) * 1000
    end(result)
    if (run >= 0) figures.push(took)
  }
  return median(figures)
}

const dispose = (buffer: MemoryBuffer): void => buffer.dispose()

function line(what: string, micros: number): void {
  console.log(`${what.padEnd(64)} ${micros >= 1000 ? `${(micros / 1000).toFixed(1)} ms` : `${micros.toFixed(1)} us`}`)
}

function sum(values: Float64Array): number {
  let total = 0
  for (let index = 0; index < values.length; index += 1) total += values[index]!
  return total
}

async function main(): Promise<void> {
  for (const size of [4096, 1 << 20, 64 << 20]) {
    const name = `${size / 1024} KiB`
    const pool = defaultMemoryPool()
    line(`make and free ${name} of the default pool, nothing touched`, time(200, () => pool.allocateBuffer(size).dispose(), () => {}))
    line(`make ${name} of shared memory`, time(200, () => manager.allocateBuffer(size), dispose))
    using made = manager.allocateBuffer(size)
    const handle = shm.exportHandle(made)
    line(`  free it`, median(Array.from({ length: 200 }, () => timeOf(() => manager.allocateBuffer(size), dispose))))
    line(`  fill it the first time`, time(size > 1 << 20 ? 10 : 100, () => manager.allocateBuffer(size).fill(1), dispose) - time(100, () => manager.allocateBuffer(size), dispose))
    made.fill(1)
    line(`  exportHandle`, time(1000, () => shm.exportHandle(made), () => {}))
    line(`  open`, time(1000, () => shm.open(handle), dispose))
    line(`  open, read-only`, time(1000, () => shm.open(handle, { readOnly: true }), dispose))
    line(`  dispose what was opened`, median(Array.from({ length: 500 }, () => timeOf(() => shm.open(handle), dispose))))
    line(`  open and read one byte of each page`, time(size > 1 << 20 ? 20 : 200, () => touched(shm.open(handle)), dispose))
  }
  for (const count of [1000, 100_000, 1_000_000, 10_000_000]) await send(count)
}

function timeOf<Result>(make: () => Result, body: (result: Result) => void): number {
  const made = make()
  const start = performance.now()
  body(made)
  return (performance.now() - start) * 1000
}

function touched(buffer: MemoryBuffer): MemoryBuffer {
  const view = buffer.asUint8Array()
  let total = 0
  for (let at = 0; at < view.length; at += 4096) total += view[at]!
  if (total === 0) throw new Error('nothing was there')
  return buffer
}

/** A column to a child and the sum back, by each way. */
async function send(count: number): Promise<void> {
  using column = manager.allocateBuffer(count * 8)
  const values = column.asFloat64Array()
  for (let index = 0; index < count; index += 1) values[index] = index
  const name = `${count.toLocaleString('en')} doubles to a child, its sum back`
  const runs = count > 1_000_000 ? 5 : count > 1000 ? 20 : 500
  for (const serialization of ['advanced', 'json'] as const) {
    const child = fork(fileURLToPath(import.meta.url), ['child'], { serialization, execArgv: process.execArgv })
    await once(child, 'message')
    if (serialization === 'advanced') line(`${name}: by handle`, await rounds(child, runs, () => ({ handle: shm.exportHandle(column) })))
    // The copy is what the caller's data would be without this: an array of JavaScript.
    const copy = serialization === 'advanced' ? values.slice() : Array.from(values)
    line(`${name}: by a message, ${serialization}`, await rounds(child, runs, () => ({ values: copy })))
    child.disconnect()
  }
}

async function rounds(child: ChildProcess, runs: number, message: () => object): Promise<number> {
  const figures: number[] = []
  for (let run = -Math.max(2, runs / 4); run < runs; run += 1) {
    const start = performance.now()
    const answer = once(child, 'message')
    child.send(message())
    const [total] = (await answer) as [number]
    if (run >= 0) figures.push((performance.now() - start) * 1000)
    if (total <= 0) throw new Error(`the child says ${total}`)
  }
  return median(figures)
}

if (process.argv[2] === 'child') {
  process.on('message', ({ handle, values }: { handle?: shm.SharedMemoryHandle; values?: Float64Array | number[] }) => {
    if (handle === undefined) process.send!(sum(Float64Array.from(values!)))
    else {
      using column = shm.open(handle, { readOnly: true })
      process.send!(sum(column.asFloat64Array()))
    }
  })
  process.send!('ready')
} else await main()
