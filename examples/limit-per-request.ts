/**
 * A budget for every request: one that asks for too much gets a 413, the others never notice.
 *
 * The server may hold 64 MiB in all and a request 8 MiB of them. The limits nest, so a thousand polite requests cannot
 * exceed the 64 MiB either.
 */

import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { BufferBuilder, defaultMemoryPool, OutOfMemoryError } from 'offheap'

const MIB = 2 ** 20
const server = defaultMemoryPool().limit(64 * MIB, { name: 'server' })
let requests = 0

/** Collects the body outside the JavaScript heap and answers with its size. */
async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  using pool = server.limit(8 * MIB, { name: `request ${(requests += 1)}` })
  using body = new BufferBuilder({ pool })
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) body.append(chunk as Buffer)
    response.end(`${body.length} bytes received, ${pool.bytesAllocated} held`)
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error
    request.resume() // drops what is still to come
    response.writeHead(413).end(error.message)
  }
}

const listener = createServer((request, response) => {
  handle(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)))
})
await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/`

async function post(bytes: number): Promise<number> {
  const response = await fetch(url, { method: 'POST', body: new Uint8Array(bytes) })
  console.log(`${bytes / MIB} MiB -> ${response.status} ${await response.text()}`)
  return response.status
}

const statuses = await Promise.all([post(1 * MIB), post(3 * MIB), post(20 * MIB), post(2 * MIB)])
listener.close()

assert.deepEqual(statuses, [200, 200, 413, 200])
assert.equal(server.bytesAllocated, 0)
console.log(`peak of the server: ${(server.peakBytes / MIB).toFixed(1)} MiB; held now: ${server.bytesAllocated} bytes`)
console.log('limit-per-request: ok')
