import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import * as imported from 'offheap'
import { root, runNode, runScript } from './support.js'

const require = createRequire(import.meta.url)
const required = require('offheap') as Record<string, unknown>

test('import and require give the same names and the same things', (t) => {
  t.deepEqual(Object.keys(imported).sort(), Object.keys(required).sort())
  for (const [name, value] of Object.entries(imported)) t.is(value, required[name] as never, name)
  t.true(Object.keys(imported).length > 30)
})

test('there is one instance: pools, buffers and errors of one are those of the other', (t) => {
  const { MemoryBuffer, defaultMemoryPool } = required as typeof imported
  t.is(defaultMemoryPool(), imported.defaultMemoryPool())
  const buffer = MemoryBuffer.from('x')
  t.true(buffer instanceof imported.MemoryBuffer)
  t.is(buffer.pool, imported.defaultMemoryPool())
  buffer.dispose()
  t.throws(() => buffer.size, { instanceOf: imported.DisposedError })
})

test('ES modules can import every name, and TypeScript has a type for each', (t) => {
  const names = Object.keys(required)
  const module = readFileSync(join(root, 'dist', 'index.mjs'), 'utf8')
  const types = readFileSync(join(root, 'dist', 'index.d.ts'), 'utf8')
  for (const name of names) {
    t.regex(module, new RegExp(`\\b${name}\\b`))
    t.regex(types, new RegExp(`\\b${name}\\b`))
  }
})

test('an ES module imports names from the package', async (t) => {
  const { stdout, stderr, code } = await runNode([
    '--input-type=module',
    '-e',
    `import { MemoryBuffer, defaultMemoryPool, TypedBufferBuilder } from 'offheap'
     import * as all from 'offheap'
     const buffer = MemoryBuffer.from('esm')
     console.log(String(buffer), buffer.pool === defaultMemoryPool(), all.TypedBufferBuilder === TypedBufferBuilder)`,
  ])
  t.deepEqual({ stdout, code }, { stdout: 'esm true true\n', code: 0 }, stderr)
})

test('CommonJS requires it', async (t) => {
  const { stdout, stderr, code } = await runScript(`console.log(String(offheap.MemoryBuffer.from('cjs')), typeof offheap.Arena)`)
  t.deepEqual({ stdout, code }, { stdout: 'cjs function\n', code: 0 }, stderr)
})

test('nothing of the inside can be imported', async (t) => {
  for (const path of ['offheap/dist/native.js', 'offheap/dist/token.js', 'offheap/index.js', 'offheap/src/index.ts']) {
    // From a loader's thread the error is not an instance of this realm's Error.
    const error = await import(path).then(
      () => undefined,
      (thrown: { code: string }) => thrown,
    )
    t.is(error?.code, 'ERR_PACKAGE_PATH_NOT_EXPORTED', path)
  }
  t.is(((await import('offheap/package.json', { with: { type: 'json' } })) as { default: { name: string } }).default.name, 'offheap')
  for (const name of ['native', 'INTERNAL', 'bufferInternals', 'poolInternals', 'makeError', 'words']) t.false(name in imported, name)
})

test('loading it twice, by another path, still is one process: pools count together', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    const path = require('path')
    const file = path.join(process.cwd(), 'dist', 'index.js')
    const first = require(file)
    for (const key of Object.keys(require.cache)) if (key.includes(path.sep + 'dist' + path.sep)) delete require.cache[key]
    const second = require(file)
    console.log(first === second)
    const a = first.systemMemoryPool().allocateBuffer(100)
    const b = second.systemMemoryPool().allocateBuffer(100)
    console.log(second.systemMemoryPool().bytesAllocated)
    a.dispose(); b.dispose()
    console.log(first.systemMemoryPool().bytesAllocated)
    try { second.BufferBuilder.prototype.append.call(new second.BufferBuilder(), first.MemoryBuffer.from('x')) } catch (error) { console.log(error.code) }
    let code
    try { first.systemMemoryPool().limit(1).allocateBuffer(2) } catch (error) { code = error.code }
    console.log(code)
    try { second.systemMemoryPool().limit(1).allocateBuffer(2) } catch (error) { code = error.code }
    console.log(code)
  `)
  t.is(code, 0, stderr)
  t.deepEqual(stdout.trim().split('\n'), ['false', '200', '0', 'ERR_OFFHEAP_INVALID_ARGUMENT', 'ERR_OFFHEAP_OUT_OF_MEMORY', 'ERR_OFFHEAP_OUT_OF_MEMORY'], stderr)
})

test('a process that ends with everything alive ends well', async (t) => {
  const { stdout, stderr, code, signal } = await runScript(`
    const { BufferBuilder, MemoryBuffer, TypedBufferBuilder, Arena, defaultMemoryPool, setDefaultMemoryPool, supportedMemoryBackends } = offheap
    for (const name of supportedMemoryBackends()) {
      const pool = offheap[name + 'MemoryPool']().limit(10000000, { name })
      setDefaultMemoryPool(pool)
      const buffer = pool.allocateResizableBuffer(100000)
      globalThis[name] = [buffer, buffer.asUint8Array(), buffer.slice(5).asUint8Array(), buffer.pin(), buffer.share(), pool.share(), MemoryBuffer.from('x'),
        MemoryBuffer.wrap(new Uint8Array(5)), MemoryBuffer.unsafeForeign(buffer.address, 100, buffer).asUint8Array(), buffer.getReader().asReadable()]
      const builder = new BufferBuilder()
      builder.append('x')
      const typed = new TypedBufferBuilder('bool')
      typed.append(true)
      globalThis[name].push(builder, typed, new Arena().alloc(5))
    }
    process.on('exit', () => console.log(offheap.totalAllocatedBytes() > 0))
  `)
  t.deepEqual({ stdout, stderr, code, signal }, { stdout: 'true\n', stderr: '', code: 0, signal: null })
})

test('loading prints nothing, starts no thread and keeps no process alive', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    const fs = require('fs')
    if (process.platform === 'linux') console.log(fs.readdirSync('/proc/self/task').length <= 24)
    else console.log(true)
  `)
  t.deepEqual({ stdout, stderr, code }, { stdout: 'true\n', stderr: '', code: 0 })
})

