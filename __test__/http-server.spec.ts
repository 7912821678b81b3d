/** Memory stays bounded in programs whose event loop is never idle (`docs/lifetime.md`). */
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { cleanEnvironment, root, runNode, runScript } from './support.js'

const MIB = 1024 * 1024

interface Seen {
  readonly gate: string
  readonly maxParkedBytes: number
  readonly maxRss: number
  readonly startRss: number
  readonly stillAttached: number
  readonly parkedAtEnd: number
  readonly allocatedAtEnd: number
}

interface ServerSeen extends Seen {
  readonly requests: number
  readonly disposals: number
  readonly errors: readonly string[]
  readonly client: { responses: number; errors: readonly string[]; wrong: number }
}

async function runProgram<T extends Seen>(t: ExecutionContext, name: string, args: readonly string[], env: Record<string, string> = {}): Promise<T> {
  const program = join(root, '__test__', 'attacks', name)
  const child = await runNode(['--expose-gc', program, ...args], { env: cleanEnvironment(env) })
  t.is(child.code, 0, child.stderr)
  const seen = JSON.parse(child.stdout) as T
  const mib = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`
  t.log(`parked at most ${mib(seen.maxParkedBytes)}, RSS ${mib(seen.startRss)} at the start and ${mib(seen.maxRss)} at most`)
  t.is(seen.parkedAtEnd, 0)
  t.is(seen.allocatedAtEnd, 0)
  return seen
}

function checkServer(t: ExecutionContext, seen: ServerSeen): void {
  t.log(`${seen.requests} requests`)
  t.true(seen.requests >= 100, 'the server was not busy')
  t.deepEqual(seen.errors, [])
  t.deepEqual(seen.client.errors, [])
  t.is(seen.client.wrong, 0)
  t.is(seen.disposals, seen.requests)
  t.true(seen.maxParkedBytes < 128 * MIB)
}

test.serial('a busy http server that disposes in finally parks less than 128 MiB and answers everything right', async (t) => {
  const seen = await runProgram<ServerSeen>(t, 'busy-server.mjs', ['5000', '32'])
  checkServer(t, seen)
  t.true(seen.stillAttached > seen.requests / 2, 'other requests were in flight at few disposals: this was no test')
})

test.serial('a busy http server with OFFHEAP_SAFE_DISPOSE=1 parks less than 128 MiB too', async (t) => {
  const seen = await runProgram<ServerSeen>(t, 'busy-server.mjs', ['2000', '32'], { OFFHEAP_SAFE_DISPOSE: '1' })
  checkServer(t, seen)
  t.is(seen.stillAttached, seen.requests)
})

test.serial('20,000 buffers of 1 MiB shown and disposed of while four reads never end: parked bytes and RSS stay under 256 MiB', async (t) => {
  const seen = await runProgram<Seen>(t, 'always-busy.mjs', ['20000', '1'])
  t.is(seen.stillAttached, 20_000, 'the loop was idle: this was no test')
  t.true(seen.maxParkedBytes < 256 * MIB)
  t.true(seen.maxRss < 256 * MIB)
})

test.serial('the pages of parked memory beyond 48 MiB go back to the system at once, the bytes stay reserved', async (t) => {
  const child = await runScript(`
    const fs = require('node:fs'), os = require('node:os'), path = require('node:path')
    const turn = () => new Promise((resolve) => setImmediate(resolve))
    async function main() {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'offheap-budget-'))
      require('node:child_process').execFileSync('mkfifo', [folder + '/fifo'])
      const fd = fs.openSync(folder + '/fifo', fs.constants.O_RDWR)
      const ended = new Promise((resolve) => fs.read(fd, Buffer.alloc(1), 0, 1, null, resolve))
      const pool = offheap.defaultMemoryPool().limit(200 << 20)
      const buffers = Array.from({ length: 192 }, () => pool.allocateBuffer(1 << 20))
      const views = buffers.map((buffer) => buffer.asUint8Array().fill(7))
      await turn()
      const full = process.memoryUsage.rss()
      for (const buffer of buffers) buffer.dispose()
      const disposed = process.memoryUsage.rss()
      const { parkedBytes, bytesAllocated, available } = pool.stats()
      const zeros = views.filter((view) => view.length === 1 << 20 && view[1 << 19] === 0).length
      const sevens = views.filter((view) => view.length === 1 << 20 && view[1 << 19] === 7).length
      fs.writeSync(fd, 'x')
      await ended
      while (pool.stats().parkedBytes > 0) await turn()
      console.log(JSON.stringify({ full, disposed, parkedBytes, bytesAllocated, available, zeros, sevens, attached: views.filter((v) => v.length > 0).length }))
      fs.rmSync(folder, { recursive: true })
    }
    main()`)
  t.is(child.code, 0, child.stderr)
  const seen = JSON.parse(child.stdout) as Record<string, number>
  t.is(seen['parkedBytes'], 192 * MIB)
  t.is(seen['bytesAllocated'], 0, 'parked bytes count against no limit')
  t.is(seen['available'], 200 * MIB)
  t.is(seen['attached'], 0, 'what was parked is freed when the read has ended')
  if (process.platform === 'linux') {
    t.is(seen['sevens'], 48, 'up to the budget, nothing is touched')
    t.is(seen['zeros'], 144, 'beyond it, a late reader sees zeros')
    t.true(seen['full']! - seen['disposed']! > 100 * MIB, `RSS went from ${seen['full']} to ${seen['disposed']}`)
  }
})
