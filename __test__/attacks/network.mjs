// Attacks through sockets: net, tls, dgram, http, WebSocket, fetch, child processes.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import dgram from 'node:dgram'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import tls from 'node:tls'
import { FOREIGN, INPUT, isNode, KIB, OWN, turn } from './harness.mjs'

const SIZE = 256 * KIB

const listening = (server, ...where) => new Promise((resolve) => server.listen(...where, resolve))
const closed = (server) => new Promise((resolve) => server.close(resolve))

/** What a stream gave until it ended, broke or was closed. */
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

/** Resolves when a writable has taken all, or has failed. */
const ended = (stream) =>
  new Promise((resolve, reject) => {
    stream.on('finish', resolve)
    stream.on('close', resolve)
    stream.on('error', reject)
  })

/**
 * One connection a round to a reader that does not read before the buffers are disposed of, so that most of what was
 * written waits. `open` gives a connected pair; `write` writes the leases to the first of it and ends it.
 */
async function slowReader(attack, open, write, { size = SIZE, count = 4 } = {}) {
  for await (const round of attack.rounds()) {
    const [writer, reader] = await open()
    const leases = Array.from({ length: count }, () => round.lease(size))
    if (round.late) await turn()
    const done = ended(writer)
    write(writer, leases)
    await round.dispose(...leases)
    await turn()
    const bytes = received(reader) // reads only now
    await round.settle(done)
    round.sent(await bytes, { length: size * count })
    writer.destroy()
    reader.destroy()
  }
}

/** Makes connected pairs: a client socket and the server's end of it. */
async function pairs(server, path, connect) {
  await listening(server, path)
  const event = server instanceof tls.Server ? 'secureConnection' : 'connection'
  return {
    close: () => closed(server),
    async open() {
      const client = connect(path)
      client.on('error', () => {})
      const connected = once(client, client instanceof tls.TLSSocket ? 'secureConnect' : 'connect')
      const [[peer]] = await Promise.all([once(server, event), connected])
      peer.on('error', () => {})
      return [client, peer]
    },
  }
}

async function netRow(attack, write, options) {
  const { open, close } = await pairs(net.createServer({ pauseOnConnect: true }), attack.socket(), (path) => net.connect(path))
  await slowReader(attack, open, write, options)
  await close()
}

const writeAll = (writer, leases) => {
  for (const { bytes } of leases) writer.write(bytes)
  writer.end()
}

const psk = {
  ciphers: 'PSK-AES128-GCM-SHA256',
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.2',
  checkServerIdentity: () => undefined,
}
const key = Buffer.alloc(16, 7)

/** An http server on a pipe that keeps what it is told to. */
async function httpServer(attack, handler) {
  const server = http.createServer(handler)
  const path = attack.socket()
  await listening(server, path)
  return { server, path, close: () => (server.closeAllConnections?.(), closed(server)) }
}

export const rows = {
  'net write, small': (attack) => netRow(attack, writeAll, { size: 4 * KIB, count: 4 }),

  'net write, slow reader': (attack) => netRow(attack, writeAll),

  'net cork and writev, slow reader': (attack) =>
    netRow(attack, (writer, leases) => {
      writer.cork()
      for (const { bytes } of leases) writer.write(bytes)
      writer.uncork()
      writer.end()
    }),

  'net write before connect': async (attack) => {
    const server = net.createServer()
    const path = attack.socket()
    await listening(server, path)
    for await (const round of attack.rounds()) {
      const leases = [round.lease(SIZE), round.lease(SIZE)]
      if (round.late) await turn()
      const connection = once(server, 'connection')
      const client = net.connect(path)
      const done = ended(client)
      writeAll(client, leases)
      await round.dispose(...leases)
      const [peer] = await connection
      const bytes = received(peer)
      await round.settle(done)
      round.sent(await bytes, { length: 2 * SIZE })
      client.destroy()
    }
    await closed(server)
  },

  'tls write, slow reader': async (attack) => {
    const server = tls.createServer({ ...psk, pskCallback: () => key, pauseOnConnect: true })
    const { open, close } = await pairs(server, attack.socket(), (path) =>
      tls.connect({ ...psk, path, pskCallback: () => ({ psk: key, identity: 'offheap' }) }),
    )
    await slowReader(attack, open, writeAll)
    await close()
  },

  // The socket reads into the view by itself, whenever something comes: nothing is in flight meanwhile.
  'net onread buffer': async (attack) => {
    const server = net.createServer()
    const path = attack.socket()
    await listening(server, path)
    for await (const round of attack.rounds()) {
      const lease = round.lease(64 * KIB)
      if (round.late) await turn()
      const connection = once(server, 'connection')
      const client = net.connect({ path, onread: { buffer: lease.bytes, callback: () => true } })
      client.on('error', () => {})
      const [[peer]] = await Promise.all([connection, once(client, 'connect')])
      await round.dispose(lease)
      await turn()
      const closing = once(client, 'close')
      peer.end(Buffer.alloc(lease.size, INPUT))
      await round.settle(closing)
      peer.destroy()
    }
    await closed(server)
  },

  'http response.write, slow reader': async (attack) => {
    for await (const round of attack.rounds()) {
      const leases = Array.from({ length: 4 }, () => round.lease(SIZE))
      let done
      let disposed
      const { path, close } = await httpServer(attack, (_request, response) => {
        done = ended(response)
        response.writeHead(200, { 'content-length': 4 * SIZE })
        for (const { view } of leases) response.write(view)
        response.end()
        disposed = round.dispose(...leases)
      })
      if (round.late) await turn()
      const request = http.get({ socketPath: path, agent: false })
      request.on('error', () => {})
      const [response] = await once(request, 'response')
      await disposed
      await turn()
      const bytes = received(response)
      await round.settle(done)
      round.sent(await bytes, { length: 4 * SIZE })
      await close()
    }
  },

  'http request.write': async (attack) => {
    let bytes
    let got
    const { path, close } = await httpServer(attack, (request, response) => {
      request.pause()
      setTimeout(async () => {
        bytes = await received(request)
        response.end()
        got()
      }, 2)
    })
    for await (const round of attack.rounds()) {
      const all = new Promise((resolve) => (got = resolve))
      const leases = [round.lease(SIZE), round.lease(SIZE), round.lease(SIZE)]
      if (round.late) await turn()
      const request = http.request({ socketPath: path, method: 'POST', agent: false })
      const done = new Promise((resolve, reject) => {
        request.on('response', (response) => response.resume().on('end', resolve))
        request.on('error', reject)
      })
      for (const { view } of leases) request.write(view)
      request.end()
      await round.dispose(...leases)
      await round.settle(done)
      await Promise.race([all, new Promise((resolve) => setTimeout(resolve, 200))])
      if (bytes !== undefined) round.sent(bytes, { length: 3 * SIZE })
      bytes = undefined
    }
    await close()
  },

  // The agent's only socket is taken, so the chunks wait in JavaScript while nothing is in flight.
  'http request.write, queued in JavaScript': async (attack) => {
    let answer
    let bytes
    const { path, close } = await httpServer(attack, async (request, response) => {
      if (request.method === 'GET') {
        answer = () => response.end('x')
        return
      }
      bytes = await received(request)
      response.end()
    })
    for await (const round of attack.rounds()) {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
      const lease = round.lease(16 * KIB)
      if (round.late) await turn()
      const first = http.get({ socketPath: path, agent }, (response) => response.resume())
      first.on('error', () => {})
      const request = http.request({ socketPath: path, agent, method: 'POST' })
      const done = new Promise((resolve, reject) => {
        request.on('response', (response) => response.resume().on('end', resolve))
        request.on('error', reject)
      })
      request.write(lease.view)
      request.end()
      while (answer === undefined) await turn()
      await turn()
      const failed = new Promise((_resolve, reject) => process.once('uncaughtException', reject))
      await round.dispose(lease)
      await turn()
      answer()
      answer = undefined
      await round.settle(Promise.race([done, failed]))
      if (bytes !== undefined) round.sent(bytes, { length: lease.size })
      bytes = undefined
      agent.destroy()
      await turn()
    }
    await close()
  },

  'dgram send to an address': (attack) => datagrams(attack, '127.0.0.1'),

  'dgram send to a name': (attack) => datagrams(attack, 'localhost'),

  "a child's stdin": async (attack) => {
    const script = `setTimeout(() => process.stdin.pipe(process.stdout), 5)`
    for await (const round of attack.rounds({ most: 16 })) {
      const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
      child.stdin.on('error', () => {})
      const leases = Array.from({ length: 4 }, () => round.lease(SIZE))
      if (round.late) await turn()
      const done = ended(child.stdin)
      writeAll(child.stdin, leases)
      await round.dispose(...leases)
      const bytes = received(child.stdout)
      await round.settle(done)
      round.sent(await bytes, { length: 4 * SIZE })
    }
  },

  'fetch, body a view': async (attack) => {
    let bytes
    const { server, close } = await httpServerOnPort(async (request, response) => {
      bytes = await received(request)
      response.end()
    })
    const url = `http://127.0.0.1:${server.address().port}/`
    for await (const round of attack.rounds()) {
      const lease = round.lease(SIZE)
      if (round.late) await turn()
      const work = fetch(url, { method: 'POST', body: lease.view }).then((response) => response.arrayBuffer())
      await round.dispose(lease)
      await round.settle(work)
      if (bytes !== undefined) round.sent(bytes, { complete: true, length: lease.size })
      bytes = undefined
    }
    await close()
  },

  'fetch, body a stream of views': async (attack) => {
    let bytes
    const { server, close } = await httpServerOnPort(async (request, response) => {
      bytes = await received(request)
      response.end()
    })
    const url = `http://127.0.0.1:${server.address().port}/`
    for await (const round of attack.rounds()) {
      const leases = Array.from({ length: 4 }, () => round.lease(64 * KIB))
      if (round.late) await turn()
      const body = new ReadableStream({
        start(controller) {
          for (const { view } of leases) controller.enqueue(view)
          controller.close()
        },
      })
      const work = fetch(url, { method: 'POST', body, duplex: 'half' }).then((response) => response.arrayBuffer())
      await round.dispose(...leases)
      await round.settle(work)
      if (bytes !== undefined) round.sent(bytes, { length: 256 * KIB })
      bytes = undefined
    }
    await close()
  },
}

async function httpServerOnPort(handler) {
  const server = http.createServer(handler)
  await listening(server, 0, '127.0.0.1')
  return { server, close: () => (server.closeAllConnections?.(), closed(server)) }
}

async function datagrams(attack, host) {
  const receiver = dgram.createSocket('udp4')
  await new Promise((resolve) => receiver.bind(0, '127.0.0.1', resolve))
  const got = []
  receiver.on('message', (message) => got.push(message))
  for await (const round of attack.rounds()) {
    const sender = dgram.createSocket('udp4')
    const lease = round.lease(4 * KIB)
    if (round.late) await turn()
    const failed = new Promise((_resolve, reject) => process.once('uncaughtException', reject))
    const done = new Promise((resolve, reject) => {
      sender.send(lease.view, receiver.address().port, host, (error) => (error ? reject(error) : resolve()))
    })
    await round.dispose(lease)
    await round.settle(Promise.race([done, failed]))
    await turn()
    for (const message of got.splice(0)) round.sent(message, { length: lease.size })
    sender.close()
  }
  receiver.close()
}

if (globalThis.WebSocket !== undefined && isNode) {
  rows['WebSocket.send'] = async (attack) => {
    const got = []
    const server = net.createServer((socket) => {
      let open = false
      let rest = Buffer.alloc(0)
      socket.on('error', () => {})
      socket.on('data', (data) => {
        rest = Buffer.concat([rest, data])
        if (!open) {
          const key = /sec-websocket-key: (.*)\r\n/i.exec(rest.toString('latin1'))?.[1]
          if (key === undefined) return
          open = true
          rest = Buffer.alloc(0)
          const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
          socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
          return
        }
        // Frames of 64 KiB and more: 10 bytes of header, 4 of mask.
        while (rest.length >= 14) {
          const length = Number(rest.readBigUInt64BE(2))
          if (rest.length < 14 + length) return
          const mask = rest.subarray(10, 14)
          got.push(rest.subarray(14, 14 + length).map((byte, index) => byte ^ mask[index & 3]))
          rest = rest.subarray(14 + length)
        }
      })
    })
    await listening(server, 0, '127.0.0.1')
    const socket = new WebSocket(`ws://127.0.0.1:${server.address().port}/`)
    await once(socket, 'open')
    for await (const round of attack.rounds()) {
      const leases = [round.lease(SIZE), round.lease(SIZE)]
      if (round.late) await turn()
      for (const { view } of leases) socket.send(view)
      await round.dispose(...leases)
      while (got.length < 2) await turn()
      for (const message of got.splice(0)) round.sent(message, { complete: true, length: SIZE })
      attack.outcome('completed')
    }
    socket.close()
    server.close()
  }
}

/** The writer of the stdout row: a process of its own, whose stdout is a pipe that is read late. */
export const stdoutRow = async (attack, program) => {
  for await (const round of attack.rounds({ most: 12 })) {
    const child = spawn(process.execPath, ['--expose-gc', program, 'writer to stdout', attack.mode, String(round.number)], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    const [verdict] = await Promise.race([once(child, 'message'), once(child, 'exit')])
    const bytes = received(child.stdout)
    round.sent(await bytes, { length: 4 * SIZE })
    attack.outcome(typeof verdict === 'object' && verdict !== null ? 'completed' : `exit ${verdict}`)
    if (typeof verdict === 'object' && verdict !== null) attack.result.damagedBlocks += verdict.damagedBlocks
  }
}

export { FOREIGN, OWN }
