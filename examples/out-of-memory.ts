/**
 * Does it survive running out of memory? `sweepOutOfMemory` runs a function again and again, and each time another one of
 * its allocations fails: once, then that and all after it.
 *
 * The first version of the function below loses a buffer when its second allocation fails. No test that merely passes
 * finds that; the sweep names the line.
 */

import assert from 'node:assert/strict'
import { type MemoryBuffer, type MemoryPool, sweepOutOfMemory, TypedBufferBuilder } from 'offheap'

interface Column {
  readonly values: MemoryBuffer
  readonly valid: MemoryBuffer
}

type Build = (numbers: readonly (number | null)[], pool: MemoryPool) => Column

const careless: Build = (numbers, pool) => {
  const values = new TypedBufferBuilder('float64', { pool })
  const valid = new TypedBufferBuilder('bool', { pool })
  for (const number of numbers) {
    values.append(number ?? 0)
    valid.append(number !== null)
  }
  return { values: values.finish(), valid: valid.finish() }
}

const careful: Build = (numbers, pool) => {
  using values = new TypedBufferBuilder('float64', { pool })
  using valid = new TypedBufferBuilder('bool', { pool })
  for (const number of numbers) {
    values.append(number ?? 0)
    valid.append(number !== null)
  }
  const finished = values.finish()
  try {
    return { values: finished, valid: valid.finish() }
  } catch (error) {
    finished.dispose()
    throw error
  }
}

const numbers = Array.from({ length: 1000 }, (_, i) => (i % 7 === 0 ? null : i))

function use(build: Build) {
  return sweepOutOfMemory((pool) => {
    const { values, valid } = build(numbers, pool)
    values.dispose()
    valid.dispose()
  })
}

const found = await use(careless)
console.log(`careless: ${found.runs} runs over ${found.requests} allocations, ${found.leaks.length} leaks`)
const lost = new Set<string>()
for (const { blocks } of found.leaks) {
  for (const { stack } of blocks) {
    const { function: name, line } = stack.find(({ file }) => file?.endsWith('out-of-memory.ts'))!
    lost.add(`${name}, line ${line}`)
  }
}
console.log(`  allocated by: ${[...lost].join('; ')}`)
assert.equal(found.isClean, false)
assert.ok(found.leaks.length > 0 && lost.size > 0)

const report = await use(careful)
console.log(`careful: ${report.text}`)
assert.equal(report.isClean, true, report.text)
assert.ok(report.injected >= report.requests)
console.log('out-of-memory: ok')
