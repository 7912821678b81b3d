/**
 * The main job, from end to end (`npm start`).
 *
 * Reads 200,000 flights, builds three columns in a pool that may hold 64 MiB, lends them to apache-arrow without a copy,
 * checks every value against the Arrow file of the same data, shows where the memory is, and gives all of it back. Then
 * once more with a limit that is too small. Ends with exit code 1 when anything is not as it should be.
 */

import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { type Data, Float32, Int16, makeBuilder, makeData, makeVector, Table, tableFromIPC, type Vector } from 'apache-arrow'
import {
  capabilities,
  defaultMemoryPool,
  type MemoryBuffer,
  type MemoryPool,
  OutOfMemoryError,
  printMemoryOverview,
  TypedBufferBuilder,
} from 'offheap'
import { Progress } from './_progress.ts'

interface Flight {
  /** Minutes late; negative when early. */
  readonly delay: number
  /** Miles. */
  readonly distance: number
  /** Hour of the day, with a fraction. */
  readonly time: number
}

const MIB = 2 ** 20
const ROUNDS = 9
const STEP = 8192

let failures = 0

function check(ok: boolean, what: string): void {
  if (!ok) failures += 1
  console.log(`  ${ok ? 'ok  ' : 'FAIL'} ${what}`)
}

function heading(text: string): void {
  console.log(`\n${text}\n${'-'.repeat(text.length)}`)
}

const data = join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '..', 'data')

async function readFlights(): Promise<Flight[]> {
  const progress = new Progress('read and parse flights-200k.json')
  const file = join(data, 'flights-200k.json')
  const { size } = await stat(file)
  let text = ''
  for await (const chunk of createReadStream(file, 'utf8')) {
    text += chunk
    progress.at((0.7 * text.length) / size)
  }
  const flights = JSON.parse(text) as Flight[]
  progress.done()
  return flights
}

/** Three finished columns, in memory of the pool. */
interface Columns {
  readonly delay: MemoryBuffer
  readonly distance: MemoryBuffer
  readonly time: MemoryBuffer
}

/** Appends row by row. Whatever happens, the builders give back what they did not hand over. */
function buildColumns(flights: readonly Flight[], pool: MemoryPool, progress?: Progress): Columns {
  using delay = new TypedBufferBuilder('int16', { pool })
  using distance = new TypedBufferBuilder('int16', { pool })
  using time = new TypedBufferBuilder('float32', { pool })
  for (let start = 0; start < flights.length; start += STEP) {
    const end = Math.min(start + STEP, flights.length)
    for (let row = start; row < end; row += 1) {
      const flight = flights[row]!
      delay.append(flight.delay)
      distance.append(flight.distance)
      time.append(flight.time)
    }
    progress?.at(end / flights.length)
  }
  return { delay: delay.finish(), distance: distance.finish(), time: time.finish() }
}

/** An apache-arrow table that reads the columns' own memory. */
function tableOver({ delay, distance, time }: Columns) {
  return new Table({
    delay: makeVector(makeData({ type: new Int16(), data: delay.asInt16Array() })),
    distance: makeVector(makeData({ type: new Int16(), data: distance.asInt16Array() })),
    time: makeVector(makeData({ type: new Float32(), data: time.asFloat32Array() })),
  })
}

/** The same table by apache-arrow's own builders. */
function tableByArrow(flights: readonly Flight[]) {
  const delay = makeBuilder({ type: new Int16() })
  const distance = makeBuilder({ type: new Int16() })
  const time = makeBuilder({ type: new Float32() })
  for (const flight of flights) {
    delay.append(flight.delay)
    distance.append(flight.distance)
    time.append(flight.time)
  }
  return new Table({ delay: delay.finish().toVector(), distance: distance.finish().toVector(), time: time.finish().toVector() })
}

/** The one typed array behind a vector that was made from one. */
function valuesOf(vector: Vector): Int16Array | Float32Array {
  const [only] = vector.data as readonly Data[]
  return only!.values as Int16Array | Float32Array
}

function checkNoCopy(columns: Columns, table: ReturnType<typeof tableOver>): void {
  for (const name of ['delay', 'distance', 'time'] as const) {
    const column = columns[name]
    const values = valuesOf(table.getChild(name)!)
    // Same ArrayBuffer, same start; and a byte written through the vector is found at the column's address.
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    const last = bytes.length - 1
    const before = column.at(last)
    bytes[last] = before ^ 0xff
    const seen = column.at(last) === (before ^ 0xff)
    bytes[last] = before
    const same = values.buffer === column.arrayBuffer && values.byteOffset === 0 && values.byteLength === column.size
    const place = `0x${column.address.toString(16)}, ${column.size.toLocaleString('en')} bytes`
    check(same && seen && column.checkAlignment(64), `${name.padEnd(8)} is read by arrow at ${place}`)
  }
}

async function checkValues(table: ReturnType<typeof tableOver>): Promise<void> {
  const reference = tableFromIPC(await readFile(join(data, 'flights-200k.arrow')))
  let compared = 0
  let different = 0
  for (const name of ['delay', 'distance', 'time'] as const) {
    const ours = table.getChild(name)!
    const theirs = reference.getChild(name)!
    if (String(ours.type) !== String(theirs.type) || ours.length !== theirs.length) different += 1
    for (let row = 0; row < theirs.length; row += 1) {
      compared += 1
      if (ours.get(row) !== theirs.get(row)) different += 1
    }
  }
  check(different === 0 && compared === 600_000, `${compared.toLocaleString('en')} values compared with flights-200k.arrow, ${different} differ`)
}

const bands = [
  { name: 'early or on time', below: 1 },
  { name: '1 to 14 min', below: 15 },
  { name: '15 to 59 min', below: 60 },
  { name: '1 to 2 h', below: 120 },
  { name: '2 h and more', below: Infinity },
]

function printSummary(table: ReturnType<typeof tableOver>): void {
  const delays = table.getChild('delay')!.toArray()
  const distances = table.getChild('distance')!.toArray()
  const times = table.getChild('time')!.toArray()
  const sums = bands.map(() => ({ flights: 0, delay: 0, distance: 0, time: 0 }))
  for (let row = 0; row < table.numRows; row += 1) {
    const delay = delays[row]!
    const sum = sums[bands.findIndex((band) => delay < band.below)]!
    sum.flights += 1
    sum.delay += delay
    sum.distance += distances[row]!
    sum.time += times[row]!
  }
  console.log('delay               flights    share   mean delay  mean miles  mean hour')
  bands.forEach(({ name }, index) => {
    const { flights, delay, distance, time } = sums[index]!
    const row = [
      flights.toLocaleString('en').padStart(9),
      `${((100 * flights) / table.numRows).toFixed(1)} %`.padStart(9),
      `${(delay / flights).toFixed(1)} min`.padStart(13),
      (distance / flights).toFixed(0).padStart(12),
      (time / flights).toFixed(1).padStart(11),
    ]
    console.log(`${name.padEnd(18)}${row.join('')}`)
  })
}

/** Both ways of building, in turn; the median of each in milliseconds. */
async function compareTimes(flights: readonly Flight[], pool: MemoryPool): Promise<{ ours: number; theirs: number }> {
  const progress = new Progress(`build both ways, ${ROUNDS} times in turn`)
  const ours: number[] = []
  const theirs: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    let start = performance.now()
    const columns = buildColumns(flights, pool)
    tableOver(columns)
    disposeColumns(columns)
    ours.push(performance.now() - start)
    start = performance.now()
    tableByArrow(flights)
    theirs.push(performance.now() - start)
    progress.at((round + 1) / ROUNDS)
    await turn()
  }
  const median = (times: number[]) => times.toSorted((a, b) => a - b)[times.length >> 1]!
  const result = { ours: median(ours), theirs: median(theirs) }
  progress.done(
    `offheap ${result.ours.toFixed(1)} ms, apache-arrow's builders ${result.theirs.toFixed(1)} ms (${(result.theirs / result.ours).toFixed(1)}x)`,
  )
  return result
}

function disposeColumns(columns: Columns): void {
  columns.delay.dispose()
  columns.distance.dispose()
  columns.time.dispose()
}

async function main(flights: readonly Flight[]): Promise<void> {
  const pool = defaultMemoryPool().limit(64 * MIB, { name: 'flights' })
  heading('Memory before')
  printMemoryOverview()

  heading(`Three columns in '${pool.name}': ${pool.backendName}, at most ${pool.limitBytes! / MIB} MiB`)
  const progress = new Progress('build delay, distance and time')
  const columns = buildColumns(flights, pool, progress)
  progress.done()
  const table = tableOver(columns)
  const asked = columns.delay.size + columns.distance.size + columns.time.size
  const peak = `${(pool.peakBytes / MIB).toFixed(2)} MiB`
  check(pool.bytesAllocated === asked, `the pool holds the ${asked.toLocaleString('en')} bytes that the columns asked for; its peak was ${peak}`)
  checkNoCopy(columns, table)
  await checkValues(table)
  console.log()
  printSummary(table)

  heading('Memory during')
  printMemoryOverview()

  heading('All given back')
  disposeColumns(columns)
  check(pool.bytesAllocated === 0 && pool.liveAllocations === 0, `the pool holds ${pool.bytesAllocated} bytes in ${pool.liveAllocations} allocations`)
  const { gate, safeDispose } = capabilities()
  if (gate === 'collect' || safeDispose) console.log('  --   here the arrays of the table end when they are collected')
  else check(valuesOf(table.getChild('delay')!).length === 0, 'the table sees nothing any more: its arrays have ended')
  await compareTimes(flights, pool)
  const report = pool.close()
  check(report.liveBytes === 0 && report.liveAllocations === 0, `closed: ${report.liveBytes} bytes left alive`)

  heading('Memory after')
  printMemoryOverview()
}

/** The same work where it cannot succeed. */
function tooSmall(flights: readonly Flight[]): void {
  const parent = defaultMemoryPool()
  const bytesBefore = parent.bytesAllocated
  const pool = parent.limit(1 * MIB, { name: 'too small' })
  heading('The same with a limit of 1 MiB')
  try {
    disposeColumns(buildColumns(flights, pool))
    check(false, 'the limit was not kept')
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error
    const { code, requested, limit, allocated, pool: name } = error
    console.log(`  ${error.name}: ${error.message}`)
    console.log(`  ${JSON.stringify({ code, requested, limit, allocated, pool: name })}`)
    check(code === 'ERR_OFFHEAP_OUT_OF_MEMORY' && limit === MIB && name === 'too small', 'the error says who refused, and why')
    check(requested > 0 && allocated! <= MIB && allocated! + requested > MIB, 'its figures add up')
  }
  check(pool.peakBytes <= MIB, `the pool never held more than its limit: peak ${pool.peakBytes.toLocaleString('en')} bytes`)
  const left = `${pool.bytesAllocated} bytes in ${pool.liveAllocations} allocations`
  check(pool.bytesAllocated === 0 && pool.liveAllocations === 0, `nothing is left behind: ${left}`)
  check(parent.bytesAllocated === bytesBefore, 'the pool above it is as before')
  pool.close()
}

console.log(`offheap on Node ${process.versions.node}: 200,000 flights into Arrow columns\n`)
const flights = await readFlights()
check(flights.length === 200_000, `${flights.length.toLocaleString('en')} flights`)
await main(flights)
tooSmall(flights)
console.log(failures === 0 ? '\nall checks passed' : `\n${failures} checks FAILED`)
process.exitCode = failures === 0 ? 0 : 1
