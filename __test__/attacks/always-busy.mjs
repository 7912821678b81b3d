// Shows and disposes of buffers while four reads are always in flight, so that the loop is never idle. Prints what was seen
// as one line of JSON.
//
//   node --expose-gc __test__/attacks/always-busy.mjs [buffers = 20000] [perTurn = 4]
import { execFileSync } from 'node:child_process'
import { constants, mkdtempSync, openSync, read, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { capabilities, defaultMemoryPool } from '../../dist/index.mjs'

const SIZE = 1024 * 1024
const count = Number(process.argv[2] ?? 20_000)
const perTurn = Number(process.argv[3] ?? 4)
const turn = () => new Promise((resolve) => setImmediate(resolve))

const folder = mkdtempSync(join(tmpdir(), 'offheap-busy-'))
const fifo = join(folder, 'fifo')
execFileSync('mkfifo', [fifo])
const fd = openSync(fifo, constants.O_RDWR)
let ended = 0
for (let index = 0; index < 4; index += 1) read(fd, Buffer.alloc(1), 0, 1, null, () => (ended += 1))

const pool = defaultMemoryPool().limit(16 * SIZE, { name: 'busy' })
const startRss = process.memoryUsage.rss()
const seen = { maxParkedBytes: 0, maxRss: 0, stillAttached: 0 }
for (let made = 0; made < count; made += perTurn) {
  const buffers = Array.from({ length: perTurn }, () => pool.allocateBuffer(SIZE))
  const views = buffers.map((buffer) => buffer.asUint8Array())
  for (const view of views) for (let at = 0; at < SIZE; at += 4096) view[at] = 1
  await turn() // another stretch: now anybody could have the pointers
  for (const buffer of buffers) buffer.dispose()
  seen.stillAttached += views.filter((view) => view.length > 0).length
  seen.maxParkedBytes = Math.max(seen.maxParkedBytes, pool.stats().parkedBytes)
  if (made % 64 < perTurn) seen.maxRss = Math.max(seen.maxRss, process.memoryUsage.rss())
  await turn()
}
const endedBefore = ended
writeSync(fd, Buffer.alloc(4)) // let the reads end
for (let turns = 0; turns < 100 && pool.stats().parkedBytes > 0; turns += 1) await new Promise((resolve) => setTimeout(resolve, 5))
rmSync(folder, { recursive: true })
console.log(
  JSON.stringify({
    gate: capabilities().gate,
    count,
    ...seen,
    startRss,
    endedBefore,
    parkedAtEnd: pool.stats().parkedBytes,
    allocatedAtEnd: pool.bytesAllocated,
  }),
)
process.exit(0)
