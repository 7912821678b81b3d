// Attacks through http2, whose session keeps raw pointers that no request shows.
//
// http2 is loaded when a row runs: where Node publishes nothing (20), dispose() waits for good once it is.
import { once } from 'node:events'
import net from 'node:net'
import { KIB, turn } from './harness.mjs'

const SIZE = 256 * KIB

async function open(attack, onStream) {
  const http2 = await import('node:http2')
  const server = http2.createServer()
  server.on('sessionError', () => {})
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    onStream(stream, headers)
  })
  const path = attack.socket()
  await new Promise((resolve) => server.listen(path, resolve))
  const client = http2.connect('http://localhost', { createConnection: () => net.connect(path) })
  client.on('error', () => {})
  await once(client, 'connect')
  return {
    client,
    async close() {
      await new Promise((resolve) => client.close(resolve))
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function received(stream) {
  return new Promise((resolve) => {
    const chunks = []
    stream.on('data', (chunk) => chunks.push(chunk))
    const end = () => resolve(Buffer.concat(chunks))
    stream.on('end', end)
    stream.on('close', end)
    stream.on('error', end)
    stream.resume()
  })
}

/** Lets frames go both ways until the window is closed. */
async function windowCloses() {
  for (let count = 0; count < 4; count += 1) await turn()
}

/** The server writes more than the client's window holds, and the client reads only after the buffers are gone. */
async function serverWrites(attack, write) {
  let serve
  const { client, close } = await open(attack, (stream) => serve(stream))
  for await (const round of attack.rounds()) {
    const leases = [round.lease(SIZE), round.lease(SIZE)]
    if (round.late) await turn()
    const served = new Promise((resolve) => {
      serve = async (stream) => {
        stream.respond({ ':status': 200 })
        await write(stream, leases)
        await round.dispose(...leases)
        resolve()
      }
    })
    const request = client.request({ ':path': '/' })
    request.on('error', () => {})
    await served
    await turn()
    const bytes = received(request)
    attack.outcome('completed')
    round.sent(await bytes, { length: leases.length * SIZE })
  }
  await close()
}

export const rows = {
  'http2 server write, window closed': (attack) =>
    serverWrites(attack, async (stream, leases) => {
      for (const { view } of leases) stream.write(view)
      stream.end()
      await windowCloses()
    }),

  'http2 server end(view), disposed of in the same tick': (attack) =>
    serverWrites(attack, (stream, leases) => {
      stream.write(leases[0].view)
      stream.end(leases[1].view)
    }),

  'http2 client write, window closed': async (attack) => {
    let read
    const { client, close } = await open(attack, (stream) => read(stream))
    for await (const round of attack.rounds()) {
      const leases = [round.lease(SIZE), round.lease(SIZE)]
      if (round.late) await turn()
      const bytes = new Promise((resolve) => {
        read = async (stream) => {
          await disposed
          await turn()
          resolve(await received(stream))
          stream.respond({ ':status': 200 })
          stream.end()
        }
      })
      const request = client.request({ ':path': '/', ':method': 'POST' })
      request.on('error', () => {})
      request.resume()
      for (const { view } of leases) request.write(view)
      request.end()
      let release
      const disposed = new Promise((resolve) => (release = resolve))
      if (round.number % 2 === 0) await windowCloses()
      await round.dispose(...leases)
      release()
      attack.outcome('completed')
      round.sent(await bytes, { length: leases.length * SIZE })
      await turn()
    }
    await close()
  },

  // Both sides' streams are long over when the others are attacked: the hold must end with them.
  'http2 streams that ended hold nothing': async (attack) => {
    const { client, close } = await open(attack, (stream) => {
      stream.respond({ ':status': 200 })
      stream.end('x')
    })
    for await (const round of attack.rounds()) {
      const request = client.request({ ':path': '/' })
      await received(request)
      for (let count = 0; count < 4; count += 1) await turn()
      const lease = round.lease(64 * KIB)
      lease.dispose()
      attack.outcome(lease.view.length === 0 ? 'freed at once' : 'parked')
    }
    await close()
  },
}
