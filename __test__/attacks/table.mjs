// Every attack by name, and what is known of it.
import { rows as compression, pausedStreamAborts } from './compression.mjs'
import { rows as cryptography } from './crypto.mjs'
import { rows as files } from './files.mjs'
import { rows as http2 } from './http2.mjs'
import { rows as network, stdoutRow } from './network.mjs'
import { rows as objects } from './objects.mjs'
import { rows as reentrancy } from './reentrancy.mjs'
import { rows as together } from './together.mjs'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('stdout-writer.mjs', import.meta.url))

export const groups = {
  together,
  files,
  compression,
  crypto: cryptography,
  network: { ...network, "the process's stdout, a pipe": (attack) => stdoutRow(attack, program) },
  http2,
  objects,
  reentrancy,
}

export const rows = Object.assign({}, ...Object.values(groups))

/**
 * The rows that dispose() alone does not make safe, because nobody can see that the work is under way. They are safe with
 * a pin, and with OFFHEAP_SAFE_DISPOSE=1. What happens without: `bytes` of others are read or written, the process
 * `aborts`, or an `error` reaches the program.
 */
export const open = {
  'net onread buffer': 'bytes',
  'v8.Deserializer': 'bytes',
  "another addon's own thread": 'bytes',
  'zlib stream paused by backpressure': pausedStreamAborts ? 'aborts' : 'error',
  'http request.write, queued in JavaScript': 'error',
  'Buffer methods whose argument disposes': 'bytes',
  'dgram send to an address': 'error',
  'dgram send to a name': 'error',
}

/** Rows that are open on Bun besides: Bun knows only of its own work. */
export const openOnBun = ["another addon's async work"]

/**
 * The rows in which the naked mode, a real use after free, must be seen as harm: the API keeps the address for a while. The
 * others copy or finish in the call.
 */
export const keepsAddress = [
  'fs.read, FileHandle.read, zlib and crypto together',
  'fs.read, callback',
  'FileHandle.read',
  'fs.readv',
  'fs.read from a FIFO',
  'fs.write, callback',
  'FileHandle.write',
  'fs.writev',
  'fs.writeFile, callback',
  'fs.promises.writeFile',
  'fs.createWriteStream',
  '32 reads at once, disposed of at random',
  'zlib.deflate',
  'zlib.brotliCompress',
  'zlib.inflate',
  'gzip stream',
  'zlib stream paused by backpressure',
  'CompressionStream',
  'crypto.randomFill',
  'net write, slow reader',
  'net cork and writev, slow reader',
  'net write before connect',
  'tls write, slow reader',
  'net onread buffer',
  'http response.write, slow reader',
  'http request.write',
  'http request.write, queued in JavaScript',
  'dgram send to an address',
  'dgram send to a name',
  "a child's stdin",
  "the process's stdout, a pipe",
  'fetch, body a stream of views',
  'http2 server write, window closed',
  'http2 server end(view), disposed of in the same tick',
  'http2 client write, window closed',
  'v8.Deserializer',
  'BYOB reader',
  "another addon's async work",
  "another addon's own thread",
  'synchronous calls whose argument disposes',
  'Buffer methods whose argument disposes',
]
