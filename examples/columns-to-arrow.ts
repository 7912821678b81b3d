/**
 * Columns of numbers, booleans and strings, with nulls, as apache-arrow vectors that read offheap's memory: the layout
 * of Arrow is typed buffers, and those are what the builders make.
 */

import assert from 'node:assert/strict'
import { Bool, Float64, Int64, makeData, makeVector, Table, tableFromIPC, tableToIPC, Utf8 } from 'apache-arrow'
import { BinaryBufferBuilder, defaultMemoryPool, type MemoryBuffer, TypedBufferBuilder } from 'offheap'

const people = [
  { id: 1n, name: 'Ada', height: 1.65, member: true },
  { id: 2n, name: 'Grace', height: null, member: false },
  { id: 3n, name: null, height: 1.8, member: true },
  { id: 4n, name: 'Jürgen', height: 1.93, member: true },
]

const pool = defaultMemoryPool().limit(2 ** 20, { name: 'people' })
const buffers: MemoryBuffer[] = []
/** Finishes a builder; its buffer lives until the end of the program. */
const finish = (builder: { finish(): MemoryBuffer }): MemoryBuffer => {
  const buffer = builder.finish()
  buffers.push(buffer)
  return buffer
}

// Numbers without nulls: one buffer.
const ids = new TypedBufferBuilder('int64', { pool })
for (const { id } of people) ids.append(id)
const idVector = makeVector(makeData({ type: new Int64(), data: finish(ids).asBigInt64Array() }))

// Numbers with nulls: the values, and one bit each that says whether it is there.
const heights = new TypedBufferBuilder('float64', { pool })
const heightIsThere = new TypedBufferBuilder('bool', { pool })
for (const { height } of people) {
  heights.append(height ?? 0)
  heightIsThere.append(height !== null)
}
const heightVector = makeVector(
  makeData({
    type: new Float64(),
    nullCount: heightIsThere.falseCount,
    data: finish(heights).asFloat64Array(),
    nullBitmap: finish(heightIsThere).asUint8Array(),
  }),
)

// Booleans are bits themselves.
const members = new TypedBufferBuilder('bool', { pool })
for (const { member } of people) members.append(member)
const memberVector = makeVector(makeData({ type: new Bool(), length: members.length, data: finish(members).asUint8Array() }))

// Strings: all bytes one after the other, and where each one begins and ends.
const names = new BinaryBufferBuilder({ pool })
const nameIsThere = new TypedBufferBuilder('bool', { pool })
for (const { name } of people) {
  names.append(name ?? '')
  nameIsThere.append(name !== null)
}
const nameBuffers = names.finish()
buffers.push(nameBuffers.offsets, nameBuffers.data)
const nameVector = makeVector(
  makeData({
    type: new Utf8(),
    length: people.length,
    nullCount: nameIsThere.falseCount,
    valueOffsets: nameBuffers.offsets.asInt32Array(),
    data: nameBuffers.data.asUint8Array(),
    nullBitmap: finish(nameIsThere).asUint8Array(),
  }),
)

const table = new Table({ id: idVector, name: nameVector, height: heightVector, member: memberVector })
console.log(table.toString())

const rows = table.toArray().map((row) => row.toJSON())
assert.deepEqual(rows, people)
assert.equal(idVector.data[0]!.values.buffer, buffers[0]!.arrayBuffer)
// Any Arrow reader understands it: here through the IPC format.
assert.deepEqual(tableFromIPC(tableToIPC(table)).toArray().map((row) => row.toJSON()), people)

console.log(`${buffers.length} buffers, ${pool.bytesAllocated} bytes`)
for (const buffer of buffers) buffer.dispose()
assert.equal(pool.bytesAllocated, 0)
console.log('columns-to-arrow: ok')
