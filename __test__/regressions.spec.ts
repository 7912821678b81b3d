/**
 * Defects that a hostile review found, each as the program that showed it. Every program runs in a process of its own: what
 * it did before was corrupt memory.
 */
import { join } from 'node:path'
import test from 'ava'
import { root, runNode } from './support.js'

const library = JSON.stringify(join(root, 'dist', 'index.js'))

/** A program with `offheap`, `fs`, a pool and a FIFO whose reads stay pending until something is written. */
const prelude = `
  const offheap = require(${library})
  const fs = require('node:fs')
  const path = require('node:path')
  const pool = offheap.systemMemoryPool().proxy()
  const folder = fs.mkdtempSync(path.join(require('node:os').tmpdir(), 'offheap-'))
  const fifo = path.join(folder, 'fifo')
  require('node:child_process').execFileSync('mkfifo', [fifo])
  const fd = fs.openSync(fifo, fs.constants.O_RDWR)
  process.on('exit', () => fs.rmSync(folder, { recursive: true }))
  const isHit = (buffer) => Buffer.from(buffer.asUint8Array()).includes('LATE')
  const later = () => setTimeout(() => fs.writeSync(fd, 'LATE'.repeat(8)), 50)
  // Both completions lie in the queue before either callback runs.
  const block = () => { const end = Date.now() + 100; while (Date.now() < end); }
`

/** Runs a program that must print `ok` and live. */
function survives(title: string, body: string): void {
  test(title, async (t) => {
    const child = await runNode(['--expose-gc', '-e', prelude + body])
    t.is(child.stdout.trim().split('\n').at(-1), 'ok', child.stderr)
    t.is(child.code, 0, `${child.signal} ${child.stderr}`)
  })
}

const verdict = `(error) => { console.log(victims.some(isHit) ? 'a late read hit another buffer' : 'ok'); process.exit() }`
const victims = `const victims = Array.from({ length: 4 }, () => { const v = pool.allocateBuffer(65536); v.fill(46); return v })`

survives('a caught exception ends the synchronous stretch: dispose in the next completion does not free what is being read', `
  let buffer
  process.on('uncaughtException', () => {})
  fs.stat('/', () => {
    buffer = pool.allocateBuffer(65536)
    fs.read(fd, buffer.asUint8Array(), 0, 4096, null, ${verdict})
    throw new Error('the program')
  })
  let victims = []
  fs.stat('/', () => { buffer.dispose(); { ${victims}; globalThis.kept = victims }; victims = globalThis.kept; later() })
  block()
`)

survives('the same for a view made in the exception handler itself', `
  let buffer
  let victims = []
  process.on('uncaughtException', () => {
    buffer = pool.allocateBuffer(65536)
    fs.read(fd, buffer.asUint8Array(), 0, 4096, null, ${verdict})
  })
  fs.stat('/', () => { throw new Error('the program') })
  fs.stat('/', () => { buffer.dispose(); { ${victims}; globalThis.kept = victims }; victims = globalThis.kept; later() })
  block()
`)

const asm = `
  function Asm(stdlib, foreign, heap) { 'use asm'; var H = new stdlib.Uint8Array(heap); function f(i) { i = i | 0; return H[i >> 0] | 0 } return { f: f } }
  const pin = (array) => Asm(globalThis, {}, array.buffer) // its ArrayBuffer cannot be detached any more
`

survives('an ArrayBuffer that cannot be detached never shows freed memory after resize', `
  ${asm}
  const buffer = pool.allocateResizableBuffer(65536)
  const view = buffer.asUint8Array()
  pin(view)
  buffer.resize(1 << 20)
  buffer.fill(1)
  const others = Array.from({ length: 40 }, () => { const other = pool.allocateBuffer(60000); other.fill(2); return other })
  view.fill(0x21)
  console.log([buffer, ...others].some((other) => Buffer.from(other.asUint8Array()).includes(0x21)) ? 'corrupted' : 'ok')
`)

survives('nor does it change a frozen buffer, or live past dispose in somebody else\'s memory', `
  ${asm}
  const frozen = pool.allocateBuffer(65536, { zeroFill: true })
  const view = frozen.asUint8Array()
  pin(view)
  frozen.freeze()
  view[0] = 77
  const gone = pool.allocateBuffer(65536)
  const stale = gone.asUint8Array()
  pin(stale)
  gone.dispose()
  ${victims}
  stale.fill(0x21)
  console.log(frozen.at(0) === 0 && !victims.some((v) => v.at(0) === 0x21) ? 'ok' : 'changed')
`)

survives('a replaced TypedArray.prototype.set never gets hold of a builder\'s window', `
  const typed = Object.getPrototypeOf(Uint8Array.prototype)
  const kept = []
  for (const name of ['set', 'fill', 'subarray']) { const original = typed[name]; typed[name] = function (...rest) { kept.push(this); return original.apply(this, rest) } }
  const bytes = new offheap.BufferBuilder({ pool })
  bytes.append(new Uint8Array([1, 2, 3])); bytes.appendCopies(4, 5); bytes.append('text'); bytes.append('\\u00fc'.repeat(50)); bytes.advance(100)
  const doubles = new offheap.TypedBufferBuilder('float64', { pool })
  doubles.appendValues(new Float64Array(10)); doubles.appendCopies(1, 10)
  const bits = new offheap.TypedBufferBuilder('bool', { pool })
  bits.appendCopies(true, 100)
  for (const builder of [bytes, doubles, bits]) builder.finish().dispose()
  console.log(kept.some((array) => array.buffer.byteLength === 0 || array.buffer.byteLength % 64 === 0) ? 'the window was seen' : 'ok')
`)

survives('a replaced species never gets hold of the words that native code writes', `
  let seen
  Object.defineProperty(Float64Array, Symbol.species, { configurable: true, get() { return class extends Float64Array { constructor(...rest) { seen ??= rest[0]; super(...rest) } } } })
  const iterate = Float64Array.prototype[Symbol.iterator]
  Float64Array.prototype[Symbol.iterator] = function () { seen ??= this; return iterate.call(this) }
  offheap.memoryOverview()
  console.log(seen === undefined ? 'ok' : 'seen')
`)

survives('pools nest 100,000 deep and let go without a stack overflow', `
  let pool2 = pool
  for (let depth = 0; depth < 100000; depth += 1) pool2 = pool2.proxy()
  console.log(pool2.name.length < 100 ? 'ok' : 'the names grow')
`)

survives('freezing slices of a large block does not tell the collector of the whole block each time', `
  const block2 = pool.allocateBuffer(64 << 20)
  const before = process.memoryUsage().external
  const slices = Array.from({ length: 200 }, (_, index) => { const slice = block2.slice(index * 64, 64); slice.freeze(); return slice })
  offheap.memoryOverview()
  const grown = process.memoryUsage().external - before
  for (const slice of slices) slice.dispose()
  console.log(grown < 128 << 20 ? 'ok' : 'told of ' + grown)
`)

survives('a builder uses a limit to its last byte, and a stream opens under a small one', `
  const limited = pool.limit(1000)
  const doubles = new offheap.TypedBufferBuilder('float64', { pool: limited })
  let count = 0
  try { for (;;) { doubles.append(count); count += 1 } } catch (error) { if (error.code !== 'ERR_OFFHEAP_OUT_OF_MEMORY') throw error }
  const buffer = doubles.finish()
  const size = buffer.size
  buffer.dispose()
  new offheap.BufferOutputStream({ pool: limited }).dispose()
  console.log(count === 125 && size === 1000 && limited.bytesAllocated === 0 ? 'ok' : [count, size, limited.bytesAllocated].join())
`)

survives('an arena goes on after somebody transferred the ArrayBuffer of one of its chunks', `
  const arena = new offheap.Arena({ pool })
  const array = arena.alloc(100)
  array.buffer.transfer ? array.buffer.transfer() : structuredClone(array.buffer, { transfer: [] })
  const next = arena.alloc(100)
  arena.reset()
  const last = arena.alloc(100)
  console.log(next.length === 100 && last.length === 100 ? 'ok' : 'broken')
`)
