import test from 'ava'
import { capabilities, defaultMemoryPool, MemoryBuffer, systemMemoryPool } from 'offheap'
import { collectUntil, eachPool, held, runScript, throwsCode, withPool } from './support.js'

const typed = {
  asInt8Array: Int8Array,
  asUint8Array: Uint8Array,
  asUint8ClampedArray: Uint8ClampedArray,
  asInt16Array: Int16Array,
  asUint16Array: Uint16Array,
  asInt32Array: Int32Array,
  asUint32Array: Uint32Array,
  asFloat32Array: Float32Array,
  asFloat64Array: Float64Array,
  asBigInt64Array: BigInt64Array,
  asBigUint64Array: BigUint64Array,
} as const
const methods = Object.keys(typed) as (keyof typeof typed)[]

eachPool('#119 every view shows the same memory, both ways', (t, pool) => {
  const buffer = pool.allocateBuffer(64, { zeroFill: true })
  const bytes = buffer.asUint8Array()
  for (const method of methods) {
    const view = buffer[method]()
    t.is(view.constructor, typed[method])
    t.is(view.byteLength, 64)
    t.is(view.length, 64 / typed[method].BYTES_PER_ELEMENT)
    t.is(view.buffer, buffer.arrayBuffer)
    const { BYTES_PER_ELEMENT: width } = typed[method]
    if (typeof view[0] === 'bigint') (view as BigInt64Array)[1] = 0x0102030405060708n
    else (view as Float64Array)[1] = 1
    t.true(bytes.subarray(width, 2 * width).some((byte) => byte !== 0), method)
    bytes.fill(0)
    t.true(view[1] === 0 || view[1] === 0n, method)
  }
  buffer.asDataView().setUint16(0, 0x0102)
  t.is(buffer.at(0), 1)
  const node = buffer.asBuffer()
  t.true(Buffer.isBuffer(node))
  node.write('node', 10)
  t.is(buffer.asBuffer(10, 4).toString(), 'node')
  buffer.fill(0x55)
  t.true(bytes.every((byte) => byte === 0x55))
  globalThis.gc!()
  buffer.dispose()
})

test('#119 an ArrayBuffer that is wrapped is shared both ways', (t) => {
  const bytes = new Uint8Array(8)
  using buffer = MemoryBuffer.wrap(bytes)
  bytes[0] = 1
  t.is(buffer.at(0), 1)
  buffer.fill(2, 1, 2)
  t.is(bytes[1], 2)
  buffer.asFloat64Array()[0] = 0.5
  t.is(new Float64Array(bytes.buffer)[0], 0.5)
})

eachPool('views of a part: offset and length count elements', (t, pool) => {
  const buffer = pool.allocateBuffer(80, { zeroFill: true })
  buffer.asFloat64Array().set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  t.deepEqual([...buffer.asFloat64Array(2, 3)], [2, 3, 4])
  t.deepEqual([...buffer.asFloat64Array(8)], [8, 9])
  t.deepEqual([...buffer.asFloat64Array(10)], [])
  t.deepEqual([...buffer.asFloat64Array(10, 0)], [])
  t.is(buffer.asDataView(8, 8).getFloat64(0, true), 1)
  t.is(buffer.asBuffer(16, 8).readDoubleLE(), 2)
  for (const method of [...methods, 'asDataView', 'asBuffer'] as const) {
    const elements = 80 / (method in typed ? typed[method as 'asInt8Array'].BYTES_PER_ELEMENT : 1)
    for (const [offset, length] of [
      [0, elements + 1],
      [elements + 1, undefined],
      [elements, 1],
      [1, elements],
      [Number.MAX_SAFE_INTEGER, undefined],
      [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    ] as const) {
      throwsCode(t, () => buffer[method](offset, length), 'ERR_OFFHEAP_OUT_OF_RANGE')
    }
    throwsCode(t, () => buffer[method](-1), 'ERR_OFFHEAP_OUT_OF_RANGE', 'offset -1')
    throwsCode(t, () => buffer[method](0, -1), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    for (const value of [1.5, Number.NaN, 2 ** 53, '0', null, 1n, {}]) {
      throwsCode(t, () => buffer[method](value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'offset')
      throwsCode(t, () => buffer[method](0, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    }
  }
  buffer.dispose()
})

test('a view that does not fit its element is refused, and told what helps', (t) => {
  const pool = defaultMemoryPool()
  const buffer = pool.allocateBuffer(99)
  const slice = buffer.sliceMutable(3, 16)
  for (const method of methods) {
    if (typed[method].BYTES_PER_ELEMENT === 1) continue
    throwsCode(t, () => buffer[method](), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'ensureAlignment')
    throwsCode(t, () => slice[method](), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'ensureAlignment')
    t.is(buffer[method](0, 1).length, 1)
  }
  t.is(slice.asUint8Array().length, 16)
  using aligned = slice.ensureAlignment(8)
  t.is(aligned.asFloat64Array().length, 2)
  slice.dispose()
  buffer.dispose()
})

withPool('views of one handle are one ArrayBuffer, views of its slices are others', (t, pool) => {
  const buffer = pool.allocateBuffer(100)
  const slice = buffer.sliceMutable(10, 20)
  t.is(buffer.asUint8Array().buffer, buffer.arrayBuffer)
  t.not(slice.arrayBuffer, buffer.arrayBuffer)
  t.is(slice.arrayBuffer.byteLength, 20)
  t.is(buffer.arrayBuffer.byteLength, 100)
  slice.dispose()
  buffer.dispose()
})

eachPool('a view ends with its handle: length 0, reads undefined, writes go nowhere', (t, pool) => {
  const buffer = pool.allocateBuffer(1000)
  const { arrayBuffer } = buffer
  const bytes = buffer.asUint8Array()
  const doubles = buffer.asFloat64Array()
  const node = buffer.asBuffer()
  const data = buffer.asDataView()
  buffer.dispose()
  t.deepEqual([arrayBuffer.byteLength, bytes.length, doubles.length, node.length], [0, 0, 0, 0])
  t.true(bytes[0] === undefined)
  bytes[0] = 1
  t.true(bytes[0] === undefined)
  t.throws(() => data.getUint8(0), { instanceOf: TypeError })
  const again = pool.allocateBuffer(1000)
  bytes[0] = 1
  again.dispose()
})

test('an ArrayBuffer that is forgotten does not free the buffer', async (t) => {
  const pool = defaultMemoryPool().proxy()
  const buffer = pool.allocateBuffer(1000)
  ;(() => void buffer.asUint8Array().fill(7))()
  await collectUntil(() => false, 3)
  t.is(buffer.at(-1), 7)
  t.is(buffer.asUint8Array()[0], 7)
  buffer.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('a view outlives a forgotten handle, and frees the memory with itself', async (t) => {
  const pool = defaultMemoryPool().proxy()
  const views: Uint8Array[] = []
  ;(() => void views.push(pool.allocateBuffer(1000).asUint8Array().fill(9)))()
  await collectUntil(() => false, 5)
  t.true(views[0]!.every((byte) => byte === 9))
  t.is(pool.bytesAllocated, 1000)
  views.pop()
  t.true(await collectUntil(() => pool.bytesAllocated === 0), `${pool.bytesAllocated} bytes are left`)
})

test('10,000 forgotten buffers are freed by the collector, shown ones too', async (t) => {
  const pool = systemMemoryPool().proxy()
  ;(() => {
    for (let index = 0; index < 10_000; index += 1) {
      const buffer = pool.allocateBuffer(1000)
      if (index % 2 === 0) buffer.asUint8Array()[0] = 1
      if (index % 3 === 0) buffer.slice(1).asUint8Array()
    }
  })()
  t.is(pool.liveAllocations, 10_000)
  t.true(await collectUntil(() => pool.liveAllocations === 0), `${pool.liveAllocations} allocations are left`)
})

test('the memory of large views is given to JavaScript without a copy', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffer = pool.allocateBuffer(256 * 2 ** 20)
  const before = process.memoryUsage().arrayBuffers
  const view = buffer.asUint8Array()
  t.true(process.memoryUsage().arrayBuffers - before < 2 ** 20)
  t.is(view.byteLength, 256 * 2 ** 20)
  buffer.dispose()
  t.is(pool.bytesAllocated, 0)
})

test('V8 sees what is shown, exactly once, and no longer when it is gone', async (t) => {
  const { stdout, stderr, code } = await runScript(`
    const size = 64 * 2 ** 20
    const buffer = offheap.systemMemoryPool().allocateBuffer(size)
    const before = process.memoryUsage().external
    const seen = () => Math.abs(Math.round((process.memoryUsage().external - before) / 2 ** 20))
    buffer.asUint8Array()
    buffer.asFloat64Array()
    const shown = seen()
    buffer.dispose()
    setImmediate(() => setImmediate(() => console.log(shown, seen())))
  `)
  t.deepEqual({ stdout, code }, { stdout: '64 0\n', code: 0 }, stderr)
})

test('V8 feels the weight of buffers that are never shown: forgotten ones are collected without a call of gc()', async (t) => {
  // In a process of its own, which nobody else makes collect. 400 x 16 MiB, of which no page is touched.
  const { stdout, stderr, code } = await runScript(`
    const pool = offheap.systemMemoryPool().proxy()
    let rounds = 0
    function round() {
      pool.allocateBuffer(16 * 2 ** 20)
      rounds += 1
      if (rounds < 400) setImmediate(round)
      else console.log(pool.peakBytes / 2 ** 20)
    }
    round()
  `)
  t.is(code, 0, stderr)
  t.true(Number(stdout) < 3200, `${stdout} MiB were alive at once`)
})

test('buffers over 4 GiB hand out windows where one view cannot show them', (t) => {
  const { maxViewBytes } = capabilities()
  const pool = systemMemoryPool().proxy()
  const size = 2 ** 32 + 128
  const buffer = pool.allocateBuffer(size)
  t.is(buffer.size, size)
  const window = buffer.asUint8Array(2 ** 32, 128)
  t.is(window.length, 128)
  window.fill(0xcd)
  t.is(buffer.at(-1), 0xcd)
  t.is(buffer.at(2 ** 32), 0xcd)
  t.is(buffer.asUint8Array(2 ** 32, 128)[127], 0xcd)
  t.is(buffer.asFloat64Array(2 ** 29, 16).byteLength, 128)
  using slice = buffer.slice(2 ** 32)
  t.is(slice.asUint8Array()[0], 0xcd)
  if (size > maxViewBytes) {
    for (const whole of [() => buffer.arrayBuffer, () => buffer.asUint8Array(), () => buffer.asDataView()]) {
      throwsCode(t, whole, 'ERR_OFFHEAP_NOT_SUPPORTED', /offset|shorter/)
    }
  } else {
    t.is(buffer.arrayBuffer.byteLength, size)
  }
  buffer.dispose()
  t.is(window.length, 0)
  slice.dispose()
  t.is(pool.bytesAllocated, 0)
})

test('asSharedArrayBuffer works where the runtime can, and says so elsewhere', async (t) => {
  const pool = defaultMemoryPool().proxy()
  const buffer = pool.allocateBuffer(16)
  if (!capabilities().sharedBuffers) {
    throwsCode(t, () => buffer.asSharedArrayBuffer(), 'ERR_OFFHEAP_NOT_SUPPORTED')
    buffer.dispose()
    return
  }
  ;(() => {
    const shared = buffer.asSharedArrayBuffer()
    t.is(shared, buffer.asSharedArrayBuffer())
    new Uint8Array(shared).fill(3)
    t.is(buffer.at(15), 3)
    buffer.dispose()
    t.is(new Uint8Array(shared)[15], 3)
    t.is(pool.bytesAllocated, 16)
  })()
  t.true(await collectUntil(() => pool.bytesAllocated === 0), 'the SharedArrayBuffer was not collected')
})

test('where external ArrayBuffers are forbidden, views are copies with flush and refresh', async (t) => {
  const { stdout, stderr, code } = await runScript(
    `
    const assert = require('assert')
    assert.strictEqual(offheap.capabilities().externalBuffers, false)
    const pool = offheap.defaultMemoryPool().proxy()
    const buffer = pool.allocateResizableBuffer(16, { zeroFill: true })
    const view = buffer.asUint8Array()
    view[3] = 7
    assert.strictEqual(buffer.at(3), 0)
    buffer.flush()
    assert.strictEqual(buffer.at(3), 7)
    buffer.fill(9)
    assert.strictEqual(view[0], 0)
    buffer.refresh()
    assert.strictEqual(view[0], 9)
    buffer.resize(100)
    assert.strictEqual(buffer.at(15), 9)
    const wider = buffer.asUint8Array()
    assert.strictEqual(wider.length, 100)
    wider.fill(4)
    buffer.flush()
    assert.strictEqual(buffer.at(99), 4)
    const builder = new offheap.TypedBufferBuilder('float64', { pool })
    for (let index = 0; index < 1000; index += 1) builder.append(index)
    const column = builder.finish()
    assert.deepStrictEqual([...column.asFloat64Array()], [...Array(1000).keys()])
    const text = new offheap.BufferBuilder({ pool })
    for (let index = 0; index < 1000; index += 1) text.append('ab')
    const bytes = text.finish()
    assert.strictEqual(bytes.toString(), 'ab'.repeat(1000))
    const flags = new offheap.TypedBufferBuilder('bool', { pool })
    for (let index = 0; index < 1000; index += 1) flags.append(index % 3 === 0)
    const bits = flags.finish()
    for (let index = 0; index < 1000; index += 1) assert.strictEqual((bits.at(index >> 3) >> (index & 7)) & 1, index % 3 === 0 ? 1 : 0)
    for (const each of [buffer, column, bytes, bits]) each.dispose()
    assert.strictEqual(pool.bytesAllocated, 0)
    console.log('done')
  `,
    { OFFHEAP_NO_EXTERNAL_BUFFERS: '1' },
  )
  t.deepEqual({ stdout, code }, { stdout: 'done\n', code: 0 }, stderr)
})

test('capabilities say what this runtime can do, and cannot be changed', (t) => {
  const found = capabilities()
  t.is(typeof found.externalBuffers, 'boolean')
  t.is(typeof found.sharedBuffers, 'boolean')
  t.true(['idle', 'detach', 'collect'].includes(found.gate))
  t.true(found.maxViewBytes >= 2 ** 32)
  t.is(found.safeDispose, process.env['OFFHEAP_SAFE_DISPOSE'] === '1')
  t.true(Object.isFrozen(found))
  if (process.versions['bun'] === undefined && process.versions['deno'] === undefined) {
    t.true(found.externalBuffers)
    t.is(found.gate, found.safeDispose ? 'collect' : 'idle')
  }
})
