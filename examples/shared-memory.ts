/**
 * A column for another process, without a copy: the parent builds a million doubles in shared memory, and a child sums them where
 * they are. What crosses the processes is a handle, a small object of JSON; the answer is written into shared memory, too.
 */

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { TypedBufferBuilder } from 'offheap'
import { exportHandle, memoryPool, open, revoke, seal, type SharedMemoryHandle } from 'offheap/shm'

interface Task {
  readonly column: SharedMemoryHandle
  readonly answer: SharedMemoryHandle
}

const COUNT = 1_000_000

if (process.argv[2] === 'child') work()
else await main()

async function main(): Promise<void> {
  using pool = memoryPool().limit(32 * 2 ** 20, { name: 'for the child' })
  const builder = new TypedBufferBuilder('float64', { pool })
  for (let value = 0; value < COUNT; value += 1) builder.append(value / 2)
  using column = builder.finish().freeze()
  // From here on the system lets nobody open it for writing.
  if (process.platform === 'linux') seal(column)
  using answer = pool.allocateBuffer(64, { zeroFill: true })
  console.log(`a column of ${COUNT.toLocaleString('en')} doubles: ${column.size.toLocaleString('en')} bytes of shared memory`)

  const task: Task = { column: exportHandle(column), answer: exportHandle(answer) }
  console.log(`its handle, as JSON, has ${JSON.stringify(task.column).length < 300 ? 'less' : 'more'} than 300 characters`)
  const child = fork(fileURLToPath(import.meta.url), ['child'])
  child.send(task)
  const [code] = (await once(child, 'exit')) as [number]
  assert.equal(code, 0)

  const [sum, resident] = answer.asFloat64Array() as unknown as [number, number]
  console.log(`the child summed it in place: ${sum.toLocaleString('en')}`)
  assert.equal(sum, (COUNT * (COUNT - 1)) / 4)
  assert.ok(resident < column.size / 10, `the child's own memory grew by ${resident} bytes`)

  // Handles end with the memory, or before.
  revoke(column)
  assert.throws(() => open(task.column), { code: 'ERR_OFFHEAP_DISPOSED' })
  column.dispose()
  answer.dispose()
  console.log(`the pool holds ${pool.bytesAllocated} bytes`)
  assert.equal(pool.bytesAllocated, 0)
  console.log('shared-memory: ok')
}

/** The child: opens the column read-only, as its handle says, and the answer to write it. */
function work(): void {
  process.once('message', ({ column, answer }: Task) => {
    using numbers = open(column)
    using result = open(answer)
    const before = process.memoryUsage()
    let sum = 0
    for (const value of numbers.asFloat64Array()) sum += value
    const after = process.memoryUsage()
    result.asFloat64Array().set([sum, after.heapTotal + after.arrayBuffers - before.heapTotal - before.arrayBuffers])
  })
}
