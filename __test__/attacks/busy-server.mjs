// A busy http server: for each request it reads a file into a buffer, deflates it, answers, and disposes of the buffers in
// `finally`, with requests of other connections always in flight. A client in a process of its own keeps 32 connections
// busy. Prints what the server saw as one line of JSON.
//
//   node --expose-gc __test__/attacks/busy-server.mjs [milliseconds = 5000] [connections = 32]
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, read, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import zlib from 'node:zlib'

const SIZE = 256 * 1024
const [, , first, second] = process.argv

/** What is served: not all the same byte, so that deflate has something to do. */
const body = () => Buffer.alloc(SIZE).map((_, index) => (index * 7 + (index >> 8)) & 63)

if (first === 'client') await client(Number(second), Number(process.argv[4]), Number(process.argv[5]))
else await serve(Number(first ?? 5000), Number(second ?? 32))

async function serve(milliseconds, connections) {
  const { capabilities, defaultMemoryPool } = await import('../../dist/index.mjs')
  const folder = mkdtempSync(join(tmpdir(), 'offheap-server-'))
  const path = join(folder, 'body')
  writeFileSync(path, body())
  const fd = openSync(path, 'r')
  const pool = defaultMemoryPool().limit(64 * 1024 * 1024, { name: 'server' })
  const rss = () => process.memoryUsage.rss()
  const seen = { requests: 0, errors: [], maxParkedBytes: 0, maxRss: 0, disposals: 0, stillAttached: 0 }

  function handle(_request, response) {
    const input = pool.allocateBuffer(SIZE)
    const view = input.asBuffer()
    const end = (error, output) => {
      if (error) {
        seen.errors.push(String(error))
        response.statusCode = 500
      }
      response.end(output)
      // Only the deflated copy is sent, so the buffer can go; to the loop it is one of many in use.
      input.dispose()
      seen.disposals += 1
      if (view.length > 0) seen.stillAttached += 1
      seen.requests += 1
      const { parkedBytes } = pool.stats()
      seen.maxParkedBytes = Math.max(seen.maxParkedBytes, parkedBytes)
      if (seen.requests % 16 === 0) seen.maxRss = Math.max(seen.maxRss, rss())
    }
    read(fd, view, 0, SIZE, 0, (error, length) => {
      if (error || length !== SIZE) return end(error ?? new Error(`read ${length} bytes`))
      zlib.deflate(view, { level: 1 }, end)
    })
  }

  const server = http.createServer(handle)
  server.keepAliveTimeout = 60_000
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const startRss = rss()
  const child = fork(fileURLToPath(import.meta.url), ['client', String(server.address().port), String(milliseconds), String(connections)])
  const [report] = await once(child, 'message')
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  // Idle now: what was parked goes in the next check phase.
  for (let turns = 0; turns < 100 && pool.stats().parkedBytes > 0; turns += 1) {
    if (capabilities().gate === 'collect') globalThis.gc()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  rmSync(folder, { recursive: true })
  const { parkedBytes, bytesAllocated, peakBytes } = pool.stats()
  console.log(
    JSON.stringify({ gate: capabilities().gate, ...seen, startRss, client: report, parkedAtEnd: parkedBytes, allocatedAtEnd: bytesAllocated, peakBytes }),
  )
  process.exit(0)
}

async function client(port, milliseconds, connections) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections })
  const expected = body()
  const report = { responses: 0, errors: [], wrong: 0 }
  const end = Date.now() + milliseconds
  const get = () =>
    new Promise((resolve, reject) => {
      http
        .get({ port, host: '127.0.0.1', agent }, (response) => {
          const chunks = []
          response.on('data', (chunk) => chunks.push(chunk))
          response.on('end', () => resolve(Buffer.concat(chunks)))
          response.on('error', reject)
        })
        .on('error', reject)
    })
  async function connection(number) {
    while (Date.now() < end) {
      try {
        const got = await get()
        report.responses += 1
        // Inflating all would slow the server's machine down more than the server.
        if ((report.responses + number) % 50 === 0 && !zlib.inflateSync(got).equals(expected)) report.wrong += 1
      } catch (error) {
        report.errors.push(String(error))
      }
    }
  }
  await Promise.all(Array.from({ length: connections }, (_, number) => connection(number)))
  agent.destroy()
  process.send(report, () => process.disconnect())
}
