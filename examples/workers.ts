/**
 * One pool and one buffer for several workers. What crosses `postMessage` is a ticket, a small object; the bytes stay
 * where they are, and all workers count against the same limit.
 */

import assert from 'node:assert/strict'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { defaultMemoryPool, MemoryBuffer, MemoryPool, revokeShared, type Ticket } from 'offheap'

interface Task {
  readonly numbers: Ticket
  readonly pool: Ticket
  readonly first: number
  readonly count: number
}

interface Answer {
  readonly sum: number
  /** What the shared pool held while the worker had its scratch memory. */
  readonly seen: number
}

const WORKERS = 4
const COUNT = 1_000_000
const SCRATCH = 65_536

if (isMainThread) await main()
else work(workerData as Task)

async function main(): Promise<void> {
  using pool = defaultMemoryPool().limit(16 * 2 ** 20, { name: 'all workers' })
  using numbers = pool.allocateBuffer(COUNT * 8)
  numbers.asFloat64Array().forEach((_, index, values) => (values[index] = index))

  const tickets = { numbers: numbers.share(), pool: pool.share() }
  const share = COUNT / WORKERS
  const answers = await Promise.all(Array.from({ length: WORKERS }, (_, index) => run({ ...tickets, first: index * share, count: share })))
  // A ticket keeps what it stands for alive until it is revoked.
  revokeShared(tickets.numbers)
  revokeShared(tickets.pool)

  const sum = answers.reduce((total, answer) => total + answer.sum, 0)
  console.log(`${WORKERS} workers summed ${COUNT.toLocaleString('en')} numbers in place: ${sum.toLocaleString('en')}`)
  assert.equal(sum, (COUNT * (COUNT - 1)) / 2)
  // The workers wrote their sums over the first number of their part: one memory, no copies.
  const values = numbers.asFloat64Array()
  answers.forEach((answer, index) => assert.equal(values[index * share], answer.sum))
  for (const { seen } of answers) assert.ok(seen >= numbers.size + SCRATCH && seen <= pool.limitBytes!)
  numbers.dispose()
  console.log(`the pool holds ${pool.bytesAllocated} bytes; its peak over all workers was ${pool.peakBytes.toLocaleString('en')}`)
  assert.equal(pool.bytesAllocated, 0)
  console.log('workers: ok')
}

function run(task: Task): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: task })
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

function work(task: Task): void {
  const pool = MemoryPool.fromShared(task.pool)
  using numbers = MemoryBuffer.fromShared(task.numbers)
  using scratch = pool.allocateBuffer(SCRATCH)
  scratch.fill(0)
  const part = numbers.asFloat64Array(task.first, task.count)
  let sum = 0
  for (const value of part) sum += value
  part[0] = sum
  parentPort!.postMessage({ sum, seen: pool.bytesAllocated } satisfies Answer)
}
