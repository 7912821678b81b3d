// Attacks through node:zlib and CompressionStream.
import zlib from 'node:zlib'
import { called, FOREIGN, isNode, KIB, MIB, nodeMajor, OWN, turn } from './harness.mjs'

const SIZE = MIB

/** What came out may be cut short, but must hold nobody else's bytes. */
function checkCompressed(round, output, inflate) {
  if (output === undefined) return
  let plain
  try {
    plain = inflate(output)
  } catch {
    round.attack.outcome('output cut short')
    return
  }
  round.sent(plain, { length: SIZE })
}

async function compressing(attack, start, inflate) {
  for await (const round of attack.rounds({ threads: true })) {
    const leases = [round.lease(SIZE), round.lease(SIZE)]
    if (round.late) await turn()
    const work = leases.map(start)
    await round.dispose(...leases)
    for (const one of work) checkCompressed(round, await round.settle(one), inflate)
  }
}

/** Everything that a stream gives, until its end or error. */
function gathered(stream) {
  return new Promise((resolve, reject) => {
    const chunks = []
    stream.on('data', (chunk) => chunks.push(chunk))
    stream.on('end', () => resolve(Buffer.concat(chunks)))
    stream.on('error', reject)
  })
}

const finishSync = { finishFlush: zlib.constants.Z_SYNC_FLUSH }

export const rows = {
  'zlib.deflate': (attack) => compressing(attack, ({ view }) => called((done) => zlib.deflate(view, done)), zlib.inflateSync),

  'zlib.brotliCompress': (attack) =>
    compressing(
      attack,
      ({ view }) => called((done) => zlib.brotliCompress(view, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } }, done)),
      zlib.brotliDecompressSync,
    ),

  'zlib.inflate': async (attack) => {
    // Stored, not compressed: as many bytes in as out.
    const compressed = zlib.deflateSync(Buffer.alloc(SIZE, OWN), { level: 0 })
    for await (const round of attack.rounds({ threads: true })) {
      const lease = round.lease(compressed.length)
      lease.view.set(compressed)
      if (round.late) await turn()
      const work = called((done) => zlib.inflate(lease.view, done))
      await round.dispose(lease)
      const output = await round.settle(work)
      // An error means that it was given something else than was put in.
      if (output === undefined) attack.result.foreignBytesSent += 1
      else round.sent(output, { length: SIZE })
    }
  },

  'gzip stream': (attack) =>
    compressing(
      attack,
      ({ view }) => {
        const gzip = zlib.createGzip({ level: 1 })
        const output = gathered(gzip)
        gzip.write(view.subarray(0, SIZE / 2))
        gzip.end(view.subarray(SIZE / 2))
        return output
      },
      (bytes) => zlib.gunzipSync(bytes, finishSync),
    ),

  // The stream has filled its output and waits to be read: no request is in flight, and it goes on with the rest of its
  // input later.
  'zlib stream paused by backpressure': async (attack) => {
    for await (const round of attack.rounds()) {
      const lease = round.lease(512 * KIB)
      const deflate = zlib.createDeflate({ level: 0, highWaterMark: 16 * KIB })
      deflate.write(lease.view)
      // Wait until it is full, and nothing is in flight.
      await new Promise((resolve) => setTimeout(resolve, 5))
      lease.dispose()
      const output = gathered(deflate)
      deflate.end()
      const bytes = await round.settle(output)
      if (bytes === undefined) continue
      let plain
      try {
        plain = zlib.inflateSync(bytes, finishSync)
      } catch {
        round.attack.outcome('output cut short')
        if (bytes.includes(Buffer.alloc(16, FOREIGN))) round.attack.result.foreignBytesSent += 16
        continue
      }
      round.sent(plain, { length: lease.size })
    }
  },

  CompressionStream: (attack) =>
    compressing(
      attack,
      async ({ view }) => {
        const stream = new CompressionStream('gzip')
        const writer = stream.writable.getWriter()
        // A chunk that was detached before the stream took it out of its queue is refused; Node 20 then never ends the
        // readable side.
        const written = Promise.all([writer.write(view), writer.close()])
        const reading = (async () => {
          const chunks = []
          for await (const chunk of stream.readable) chunks.push(chunk)
          return Buffer.concat(chunks)
        })()
        reading.catch(() => {})
        await written
        return reading
      },
      (bytes) => zlib.gunzipSync(bytes, finishSync),
    ),
}

if (zlib.zstdCompress !== undefined) {
  rows['zlib.zstdCompress'] = (attack) =>
    compressing(attack, ({ view }) => called((done) => zlib.zstdCompress(view, done)), zlib.zstdDecompressSync)
}
if (!isNode) delete rows['zlib stream paused by backpressure']

/** Node 18 and 20 abort when a stream's input is detached while it waits; later versions emit an error. */
export const pausedStreamAborts = isNode && nodeMajor < 22
