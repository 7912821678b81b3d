import { inspect } from 'node:util'
import test from 'ava'
import { defaultMemoryPool, MemoryBuffer, systemMemoryPool } from 'offheap'
import { collectUntil, eachBackend, eachPool, held, throwsCode, withPool } from './support.js'

eachPool('#17 #128 allocateBuffer: mutable, of its pool, without parent', (t, pool) => {
  const buffer = pool.allocateBuffer(1024)
  t.is(buffer.size, 1024)
  t.is(buffer.capacity, 1024)
  t.is(buffer.pool, pool)
  t.true(buffer.isCpu)
  t.true(buffer.isMutable)
  t.false(buffer.isResizable)
  t.is(buffer.parent, undefined)
  t.false(buffer.disposed)
  t.is(typeof buffer.address, 'bigint')
  t.true(buffer.address > 0n)
  buffer.dispose()
  t.true(buffer.disposed)
})

eachBackend('#17 a buffer may outlive every handle of its pool', async (t, pool) => {
  const buffers: MemoryBuffer[] = []
  ;(() => buffers.push(pool.limit(5000, { name: 'short-lived' }).allocateBuffer(5000)))()
  await collectUntil(() => false, 3)
  const [buffer] = buffers
  t.is(buffer!.pool!.name, 'short-lived')
  t.is(buffer!.pool!.bytesAllocated, 5000)
  t.is(buffer!.fill(3).at(-1), 3)
  buffer!.dispose()
  t.is(pool.bytesAllocated, 0)
})

eachPool('the capacity is the size rounded up to 64, and the padding is zero', (t, pool) => {
  for (const [size, capacity] of [
    [1, 64],
    [63, 64],
    [64, 64],
    [65, 128],
    [100, 128],
    [1000, 1024],
    [1_000_001, 1_000_064],
  ] as const) {
    pool.allocateBuffer(capacity).fill(0xff).dispose()
    const buffer = pool.allocateResizableBuffer(size)
    t.is(buffer.capacity, capacity)
    // The padding comes into view when the size grows into it.
    buffer.fill(0xee)
    buffer.resize(capacity, { shrinkToFit: false })
    t.true(
      buffer.asUint8Array().every((byte, index) => byte === (index < size ? 0xee : 0)),
      `padding of ${size}`,
    )
    buffer.dispose()
  }
})

eachPool('#35 buffers of no bytes share one address and count no byte', (t, pool) => {
  const before = held(pool)
  const count = pool.numAllocations
  const first = pool.allocateBuffer(0)
  const second = pool.allocateBuffer(0)
  t.is(first.size, 0)
  t.is(first.capacity, 0)
  t.true(first.address > 0n)
  t.is(first.address % 64n, 0n)
  t.is(first.address, second.address)
  t.is(pool.bytesAllocated, before.bytes)
  t.is(pool.liveAllocations, before.allocations + 2)
  t.is(pool.numAllocations, count + 2)
  t.is(first.asUint8Array().length, 0)
  t.is(first.arrayBuffer.byteLength, 0)
  t.true(first.equals(second))
  t.is(first.toHex(), '')
  t.is(first.toString(), '')
  throwsCode(t, () => first.at(0), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => first.at(-1), 'ERR_OFFHEAP_OUT_OF_RANGE')
  first.fill(1).zeroPadding()
  first.slice(0).dispose()
  first.dispose()
  second.dispose()
})

test('#20 from a string: a copy, as UTF-8', (t) => {
  using buffer = MemoryBuffer.from('hello, wörld ☃ 🎉')
  t.is(buffer.toString(), 'hello, wörld ☃ 🎉')
  t.is(buffer.size, Buffer.byteLength('hello, wörld ☃ 🎉'))
  t.false(buffer.isMutable)
  t.is(buffer.pool, defaultMemoryPool())
  using empty = MemoryBuffer.from('')
  t.is(empty.size, 0)
  // A lone surrogate becomes U+FFFD, as everywhere in Node.
  using lone = MemoryBuffer.from('a\ud800b')
  t.is(lone.toString(), 'a\ufffdb')
})

eachPool('#21 the alignment asked for is the alignment given', (t, pool) => {
  for (const size of [1, 1024, 100_000]) {
    const buffer = pool.allocateBuffer(size, { alignment: 1024 })
    t.is(buffer.address % 1024n, 0n)
    t.true(buffer.alignment >= 1024)
    t.true(buffer.checkAlignment(1024))
    buffer.dispose()
    const resizable = pool.allocateResizableBuffer(size, { alignment: 1024 })
    t.is(resizable.address % 1024n, 0n)
    resizable.dispose()
  }
})

test('#31 a buffer from a string cannot be written', (t) => {
  using buffer = MemoryBuffer.from('hello, world')
  t.false(buffer.isMutable)
  throwsCode(t, () => buffer.fill(0), 'ERR_OFFHEAP_IMMUTABLE')
  t.is(buffer.toString(), 'hello, world')
})

test('#47 isMutable of everything that makes a buffer', (t) => {
  const pool = defaultMemoryPool()
  const mutable = pool.allocateBuffer(10)
  const made: [MemoryBuffer, boolean, boolean][] = [
    [mutable, true, false],
    [pool.allocateResizableBuffer(10), true, true],
    [pool.allocateBitmap(10), true, false],
    [pool.allocateEmptyBitmap(10), true, false],
    [MemoryBuffer.from('abc'), false, false],
    [MemoryBuffer.from(new Uint8Array(3)), false, false],
    [MemoryBuffer.wrap(new ArrayBuffer(3)), true, false],
    [MemoryBuffer.concat([mutable]), true, false],
    [mutable.slice(1), false, false],
    [mutable.subarray(1), false, false],
    [mutable.sliceMutable(1), true, false],
    [mutable.copySlice(1), true, false],
    [mutable.slice(1).copySlice(1), true, false],
    [mutable.ensureAlignment(64), true, false],
    [mutable.slice(0).ensureAlignment(64), false, false],
    [pool.allocateBuffer(10).freeze(), false, false],
    [pool.allocateResizableBuffer(10).freeze(), false, false],
  ]
  for (const [index, [buffer, isMutable, isResizable]] of made.entries()) {
    t.deepEqual([buffer.isMutable, buffer.isResizable], [isMutable, isResizable], `number ${index}`)
  }
  for (const [buffer] of made) buffer.dispose()
})

test('#115 from bytes: any view, array or buffer is copied; anything else is refused', (t) => {
  const bytes = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])
  const shared = new SharedArrayBuffer(4)
  new Uint8Array(shared).set([9, 8, 7, 6])
  using original = MemoryBuffer.from(bytes)
  for (const [source, hex] of [
    [bytes, '0102030405060708'],
    [bytes.buffer, '0102030405060708'],
    [bytes.subarray(2, 5), '030405'],
    [new DataView(bytes.buffer, 1, 2), '0203'],
    [new Uint16Array(bytes.buffer, 2, 1), '0304'],
    [Buffer.from('ab'), '6162'],
    [shared, '09080706'],
    [new Uint8Array(shared, 1, 2), '0807'],
    [[0, 255, 16], '00FF10'],
    [[], ''],
    [original, '0102030405060708'],
    [original.slice(1, 2), '0203'],
  ] as const) {
    using copy = MemoryBuffer.from(source as Uint8Array)
    t.is(copy.toHex(), hex)
    t.false(copy.isMutable)
  }
  bytes.fill(0)
  t.is(original.toHex(), '0102030405060708')
  for (const source of [undefined, null, 5, 5n, {}, { length: 3 }, Symbol('x'), () => 1, new Map(), new Date(0)]) {
    throwsCode(t, () => MemoryBuffer.from(source as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'source')
  }
  for (const value of [-1, 256, 1.5, Number.NaN, '1', null, undefined, 1n]) {
    throwsCode(t, () => MemoryBuffer.from([1, value] as number[]), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'source[1]')
  }
})

test('#121 the address is that of the bytes, and of nobody else', (t) => {
  const pool = defaultMemoryPool()
  const buffers = Array.from({ length: 1000 }, (_, index) => pool.allocateBuffer(index))
  const ranges = buffers
    .filter((buffer) => buffer.size > 0)
    .map((buffer) => [buffer.address, buffer.address + BigInt(buffer.size)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  for (let index = 1; index < ranges.length; index += 1) t.true(ranges[index]![0] >= ranges[index - 1]![1])
  const [first] = buffers.slice(100)
  // Equal bytes do not make an equal address, the same bytes do.
  using slice = first!.slice(0)
  t.is(slice.address, first!.address)
  using copy = first!.copySlice(0)
  t.not(copy.address, first!.address)
  for (const buffer of buffers) buffer.dispose()
})

withPool('#125 a buffer is a key by identity, not by its bytes', (t, pool) => {
  using first = MemoryBuffer.from('same', { pool })
  using second = MemoryBuffer.from('same', { pool })
  t.true(first.equals(second))
  const map = new Map<MemoryBuffer, number>([[first, 1]])
  t.is(map.get(second), undefined)
  t.is(map.get(first), 1)
})

test('#126 immutable is respected by everything that writes', async (t) => {
  using buffer = MemoryBuffer.from('read only')
  const { open } = await import('node:fs/promises')
  const file = await open(new URL('buffers.spec.ts', import.meta.url))
  try {
    throwsCode(t, () => buffer.fill(1), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => buffer.zeroPadding(), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => buffer.sliceMutable(0), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => buffer.slice(0).sliceMutable(0), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => buffer.getWriter(), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => buffer.resize(1), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => buffer.reserve(1), 'ERR_OFFHEAP_IMMUTABLE')
    throwsCode(t, () => buffer.flush(), 'ERR_OFFHEAP_IMMUTABLE')
    await t.throwsAsync(buffer.readFrom(file), { code: 'ERR_OFFHEAP_IMMUTABLE' })
  } finally {
    await file.close()
  }
  t.is(buffer.toString(), 'read only')
})

test('#130 buffers are made by functions only', (t) => {
  const Constructor = MemoryBuffer as unknown as new (...values: unknown[]) => MemoryBuffer
  throwsCode(t, () => new Constructor(), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'MemoryBuffer')
  throwsCode(t, () => new Constructor(Symbol('offheap.internal'), 1, 1), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  throwsCode(t, () => Reflect.construct(Object, [], MemoryBuffer).size, 'ERR_OFFHEAP_INVALID_ARGUMENT')
  const forged = Object.create(MemoryBuffer.prototype) as MemoryBuffer
  throwsCode(t, () => forged.size, 'ERR_OFFHEAP_INVALID_ARGUMENT', 'MemoryBuffer')
  throwsCode(t, () => forged.dispose(), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'MemoryBuffer')
})

withPool('#132 asking for views again and again keeps nothing', (t, pool) => {
  const buffer = pool.allocateBuffer(1000)
  const { arrayBuffer } = buffer
  for (let round = 0; round < 10; round += 1) {
    t.is(buffer.arrayBuffer, arrayBuffer)
    t.is(buffer.asUint8Array().buffer, arrayBuffer)
    t.is(buffer.asBuffer().buffer, arrayBuffer)
    t.is(buffer.asFloat64Array().buffer, arrayBuffer)
    t.is(buffer.slice(0).dispose(), undefined)
  }
  t.deepEqual(held(pool), { bytes: 1000, allocations: 1 })
  buffer.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('#123 at: every byte from both ends, and nothing else', (t) => {
  using buffer = MemoryBuffer.from([10, 20, 30])
  t.deepEqual([0, 1, 2, -1, -2, -3].map((index) => buffer.at(index)), [10, 20, 30, 30, 20, 10])
  for (const index of [3, -4, 100, -100, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]) {
    throwsCode(t, () => buffer.at(index), 'ERR_OFFHEAP_OUT_OF_RANGE', String(index))
  }
  for (const index of [1.5, Number.NaN, Infinity, '1', null, undefined, 1n, 2 ** 53]) {
    throwsCode(t, () => buffer.at(index as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'index')
  }
})

eachPool('fill: all, from, to, and nothing outside', (t, pool) => {
  const buffer = pool.allocateBuffer(10, { zeroFill: true })
  t.is(buffer.fill(7), buffer)
  t.is(buffer.toHex(), '07070707070707070707')
  buffer.fill(1, 8)
  buffer.fill(2, 0, 2)
  buffer.fill(3, 5, 5)
  buffer.fill(255, 10)
  t.is(buffer.toHex(), '02020707070707070101')
  for (const [start, end] of [
    [-1, undefined],
    [11, undefined],
    [0, 11],
    [5, 4],
    [0, -1],
  ] as const) {
    throwsCode(t, () => buffer.fill(9, start, end), 'ERR_OFFHEAP_OUT_OF_RANGE')
  }
  for (const byte of [-1, 256, 1.5, Number.NaN, '1', null, undefined, {}, 1n]) {
    throwsCode(t, () => buffer.fill(byte as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'byte')
  }
  t.is(buffer.toHex(), '02020707070707070101')
  buffer.dispose()
})

test('toString knows the encodings of Buffer', (t) => {
  using buffer = MemoryBuffer.from([0x68, 0xe4, 0xc3, 0xa4, 0xff])
  const node = Buffer.from([0x68, 0xe4, 0xc3, 0xa4, 0xff])
  for (const encoding of ['utf8', 'utf-8', 'latin1', 'binary', 'ascii', 'hex', 'base64', 'base64url', 'utf16le', 'ucs2'] as const) {
    t.is(buffer.toString(encoding), node.toString(encoding), encoding)
  }
  t.is(String(buffer), node.toString())
  for (const encoding of ['nonsense', '', 5, null, {}, Symbol('utf8')]) {
    throwsCode(t, () => buffer.toString(encoding as BufferEncoding), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'encoding')
  }
})

test('freeze ends the views and makes it immutable for good', (t) => {
  const buffer = defaultMemoryPool().allocateBuffer(4)
  const view = buffer.asUint8Array().fill(6)
  t.is(buffer.freeze(), buffer)
  t.is(view.length, 0)
  t.false(buffer.isMutable)
  t.is(buffer.toHex(), '06060606')
  t.is(buffer.asUint8Array()[0], 6)
  buffer.freeze()
  throwsCode(t, () => buffer.fill(1), 'ERR_OFFHEAP_IMMUTABLE')
  buffer.dispose()
})

test('freeze of a handle is of that handle: a mutable slice still writes', (t) => {
  const buffer = defaultMemoryPool().allocateBuffer(4).fill(1)
  const slice = buffer.sliceMutable(0)
  buffer.freeze()
  slice.fill(2)
  t.is(buffer.toHex(), '02020202')
  slice.dispose()
  buffer.dispose()
})

test('after dispose every member says so, and dispose itself does nothing', (t) => {
  const buffer = defaultMemoryPool().allocateResizableBuffer(10)
  buffer.dispose()
  buffer.dispose()
  buffer[Symbol.dispose]()
  t.true(buffer.disposed)
  const descriptors = Object.getOwnPropertyDescriptors(MemoryBuffer.prototype)
  const exempt = new Set(['constructor', 'dispose', 'disposed', 'readFrom', 'writeTo'])
  for (const [name, { get, value }] of Object.entries(descriptors)) {
    if (exempt.has(name)) continue
    const use = get ?? (value as (...values: unknown[]) => unknown)
    const values = name === 'toString' ? ['utf8'] : [0, 0]
    throwsCode(t, () => use.apply(buffer, values) as unknown, 'ERR_OFFHEAP_DISPOSED')
  }
  t.is(inspect(buffer), 'MemoryBuffer { disposed }')
  t.is(Object.prototype.toString.call(buffer), '[object MemoryBuffer]')
})

test('console.log shows size, kind and the first bytes, and never throws', (t) => {
  const pool = defaultMemoryPool()
  using buffer = pool.allocateResizableBuffer(20)
  buffer.fill(0xab)
  t.regex(inspect(buffer), /^MemoryBuffer \{ 20 bytes of 64 at 0x[0-9a-f]+, resizable <(ab ){16}…> \}$/)
  using text = MemoryBuffer.from('hi')
  t.regex(inspect(text), /2 bytes of 64 .*immutable <68 69>/)
  t.notThrows(() => inspect(MemoryBuffer.prototype))
  t.notThrows(() => inspect(Object.create(MemoryBuffer.prototype)))
  t.regex(inspect(pool), /^MemoryPool \{ /)
})

test('a gigabyte that nobody touches', (t) => {
  const pool = systemMemoryPool().proxy()
  const buffer = pool.allocateBuffer(2 ** 30)
  t.is(pool.bytesAllocated, 2 ** 30)
  const view = buffer.asUint8Array()
  view[2 ** 30 - 1] = 1
  t.is(buffer.at(-1), 1)
  buffer.dispose()
  t.is(view.length, 0)
  t.is(pool.bytesAllocated, 0)
})
