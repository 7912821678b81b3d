/**
 * The system has no more addresses: what cannot be had is an error, and the process goes on. Each program runs in a process of
 * its own, whose address space is limited while it runs (Linux; `prlimit` of util-linux does it).
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { backends, root, runNode } from './support.js'

const library = JSON.stringify(join(root, 'dist', 'index.js'))

const prelude = `
  const assert = require('node:assert')
  const { execFileSync } = require('node:child_process')
  const { readFileSync } = require('node:fs')
  const offheap = require(${library})
  const MiB = 2 ** 20
  const used = () => Number(/^VmSize:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))[1]) * 1024
  const limitTo = (bytes) => execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + bytes + ':'])
  const refused = (action) => {
    try {
      action()
    } catch (error) {
      assert.strictEqual(error.code, 'ERR_OFFHEAP_OUT_OF_MEMORY', String(error))
      assert(error instanceof offheap.OutOfMemoryError)
      return error
    }
    return undefined
  }
`

/** Runs a program that must print `ok` and live. */
function survives(title: string, body: string): void {
  const hasPrlimit = process.platform === 'linux' && spawnSync('prlimit', ['--version']).status === 0
  const run = hasPrlimit ? test : test.skip
  for (const backend of backends) {
    run(`${title} (${backend})`, async (t) => {
      const pool = `const pool = offheap.${backend}MemoryPool().proxy()\n`
      const child = await runNode(['--expose-gc', '-e', prelude + pool + body])
      t.is(child.stdout.trim().split('\n').at(-1), 'ok', child.stderr)
      t.is(child.code, 0, `${child.signal} ${child.stderr}`)
    })
  }
}

survives('no more addresses: allocateBuffer and resize throw, and everything is as it was', `
  const room = 400 * MiB
  limitTo(used() + room)
  const buffers = []
  let error
  while (buffers.length < 1000 && error === undefined) {
    const before = pool.stats()
    error = refused(() => buffers.push(pool.allocateResizableBuffer(16 * MiB)))
    if (error === undefined) buffers.at(-1).fill(buffers.length)
    else {
      assert.strictEqual(error.requested, 16 * MiB)
      for (const name of ['bytesAllocated', 'peakBytes', 'totalBytesAllocated', 'numAllocations', 'liveAllocations'])
        assert.strictEqual(pool.stats()[name], before[name], name)
    }
  }
  assert(error !== undefined && buffers.length > 10, String(buffers.length))
  for (const [index, buffer] of buffers.entries()) {
    assert(refused(() => buffer.resize(room)) !== undefined)
    assert.strictEqual(buffer.size, 16 * MiB)
    assert.strictEqual(buffer.at(0), index + 1)
    assert.strictEqual(buffer.at(-1), index + 1)
  }
  assert.strictEqual(pool.bytesAllocated, buffers.length * 16 * MiB)
  for (const buffer of buffers.splice(0, buffers.length / 2)) buffer.dispose()
  const again = pool.allocateBuffer(16 * MiB, { zeroFill: true })
  assert.strictEqual(again.at(-1), 0)
  again.dispose()
  for (const buffer of buffers) buffer.dispose()
  assert.strictEqual(pool.bytesAllocated, 0)
  limitTo('unlimited')
  const large = pool.allocateBuffer(room)
  large.fill(1)
  large.dispose()
  console.log('ok')
`)

survives('no more addresses: a builder that cannot grow throws and keeps what it has', `
  const values = Float64Array.from({ length: 2 ** 17 }, (_, i) => i)
  const builder = new offheap.TypedBufferBuilder('float64', { pool })
  builder.appendValues(values)
  limitTo(used() + 300 * MiB)
  let error
  for (let i = 0; i < 1000 && error === undefined; i++) {
    const length = builder.length
    error = refused(() => builder.appendValues(values))
    if (error !== undefined) assert.strictEqual(builder.length, length)
  }
  assert(error !== undefined)
  assert(builder.length >= 16 * values.length, String(builder.length))
  const length = builder.length
  limitTo('unlimited')
  builder.appendValues(values)
  assert.strictEqual(builder.length, length + values.length)
  const buffer = builder.finish()
  assert.strictEqual(buffer.size, (length + values.length) * 8)
  const view = buffer.asFloat64Array()
  for (let i = 0; i < view.length; i += 509) assert.strictEqual(view[i], i % values.length)
  buffer.dispose()
  builder.dispose()
  assert.strictEqual(pool.bytesAllocated, 0)
  console.log('ok')
`)
