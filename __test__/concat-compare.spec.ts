import test from 'ava'
import { defaultMemoryPool, MemoryBuffer } from 'offheap'
import { detachedBytes, eachPool, held, random, throwsCode, withPool } from './support.js'

const text = 'abcdefghijklmnopqrstuvwxyz'

eachPool('#23 equal content is equal', (t, pool) => {
  const buffers = [0, 1].map(() => MemoryBuffer.from(text, { pool }))
  const [first, second] = buffers as [MemoryBuffer, MemoryBuffer]
  t.true(first.equals(second))
  t.true(first.equals(second, 26))
  t.true(first.equals(second, 0))
  t.false(first.equals(second, 27))
  const other = MemoryBuffer.from(text.replace('z', '!'), { pool })
  t.false(first.equals(other))
  t.true(first.equals(other, 25))
  t.false(first.equals(other, 26))
  const shorter = MemoryBuffer.from(text.slice(0, 25), { pool })
  t.false(first.equals(shorter))
  t.true(first.equals(shorter, 25))
  t.false(first.equals(shorter, 26))
  for (const buffer of [first, second, other, shorter]) buffer.dispose()
})

eachPool('#24 a buffer equals itself and its whole slice', (t, pool) => {
  const buffer = MemoryBuffer.from(text, { pool })
  const slice = buffer.slice(0)
  t.true(buffer.equals(buffer))
  t.true(buffer.equals(slice))
  t.true(buffer.equals(buffer, 26))
  t.false(buffer.equals(buffer, 27))
  const part = buffer.slice(1)
  t.false(buffer.equals(part))
  for (const each of [buffer, slice, part]) each.dispose()
})

eachPool('#27 #118 toHex is upper case', (t, pool) => {
  const buffer = MemoryBuffer.from('\u0007\u0030\u0068', { pool })
  t.is(buffer.toHex(), '073068')
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
  const all = MemoryBuffer.from(bytes, { pool })
  t.is(all.toHex(), Buffer.from(bytes).toString('hex').toUpperCase())
  buffer.dispose()
  all.dispose()
})

test('#122 equality is of bytes, whatever holds them', (t) => {
  const bytes = new Uint8Array(new Float64Array([1.5, 2.5]).buffer)
  using buffer = MemoryBuffer.from(bytes)
  using wrapped = MemoryBuffer.wrap(bytes)
  const shared = new SharedArrayBuffer(16)
  new Uint8Array(shared).set(bytes)
  for (const other of [bytes, bytes.buffer, new Float64Array(bytes.buffer), new DataView(bytes.buffer), Buffer.from(bytes), wrapped, shared]) {
    t.true(buffer.equals(other))
    t.is(buffer.compare(other), 0)
    t.true(wrapped.equals(other))
    t.true(buffer.equals(other, 10))
  }
  t.false(buffer.equals(new Uint8Array(16)))
  t.false(buffer.equals(bytes.subarray(1)))
  t.true(buffer.equals(bytes.subarray(0, 8), 8))
  for (const other of [undefined, null, 'text', 5, {}, [], [1], Symbol('x'), 5n, () => 1]) {
    throwsCode(t, () => buffer.equals(other as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'other')
    throwsCode(t, () => buffer.equals(other as never, 1), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'other')
    throwsCode(t, () => buffer.compare(other as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'other')
  }
  for (const nbytes of [-1, 1.5, Number.NaN, '1', null, 1n]) {
    throwsCode(t, () => buffer.equals(bytes, nbytes as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'nbytes')
  }
  const detached = detachedBytes()
  throwsCode(t, () => buffer.equals(detached), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => buffer.compare(detached), 'ERR_OFFHEAP_DISPOSED')
  const gone = defaultMemoryPool().allocateBuffer(1)
  gone.dispose()
  throwsCode(t, () => buffer.equals(gone), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => buffer.equals(gone, 1), 'ERR_OFFHEAP_DISPOSED')
})

test('compare orders as Buffer.compare does', (t) => {
  const next = random(7)
  const samples = Array.from({ length: 60 }, () =>
    Uint8Array.from({ length: Math.floor(next() * 5) }, () => [0, 1, 127, 128, 255][Math.floor(next() * 5)]!),
  )
  for (const a of samples) {
    using buffer = MemoryBuffer.from(a)
    for (const b of samples) {
      using other = MemoryBuffer.from(b)
      if (buffer.compare(other) !== Buffer.compare(a, b)) t.fail(`${a} and ${b}`)
      if (buffer.equals(other) !== (Buffer.compare(a, b) === 0)) t.fail(`${a} and ${b}`)
    }
  }
  t.pass()
})

eachPool('#51 concat, also with buffers of no bytes', (t, pool) => {
  const empty = pool.allocateBuffer(0)
  const first = MemoryBuffer.from('hello, ', { pool })
  const second = MemoryBuffer.from('world', { pool })
  const result = MemoryBuffer.concat([first, empty, second, new Uint8Array(0)], { pool })
  t.is(result.toString(), 'hello, world')
  t.is(result.size, 12)
  t.is(result.capacity, 64)
  t.true(result.isMutable)
  t.is(result.pool, pool)
  result.fill(0)
  t.is(first.toString(), 'hello, ')
  const nothing = MemoryBuffer.concat([], { pool })
  t.is(nothing.size, 0)
  const empties = MemoryBuffer.concat([empty, empty], { pool })
  t.is(empties.size, 0)
  for (const each of [empty, first, second, result, nothing, empties]) each.dispose()
})

withPool('concat takes anything that has bytes, and the same buffer twice', (t, pool) => {
  using buffer = MemoryBuffer.from('ab', { pool })
  using slice = buffer.slice(1)
  using wrapped = MemoryBuffer.wrap(Buffer.from('cd'))
  using result = MemoryBuffer.concat([buffer, slice, wrapped, Buffer.from('ef'), new Uint16Array([0x6867]), buffer], { pool })
  t.is(result.toString(), 'abbcdefghab')
})

withPool('concat of 10,000 parts', (t, pool) => {
  const parts = Array.from({ length: 10_000 }, (_, index) => MemoryBuffer.from(`${index},`, { pool }))
  using result = MemoryBuffer.concat(parts, { pool })
  t.is(result.toString(), Array.from({ length: 10_000 }, (_, index) => `${index},`).join(''))
  for (const part of parts) part.dispose()
})

test('concat names the part that is wrong, and keeps nothing', (t) => {
  const pool = defaultMemoryPool().proxy()
  using good = MemoryBuffer.from('good')
  for (const part of [undefined, null, 'text', 5, {}, [], Symbol('x')]) {
    throwsCode(t, () => MemoryBuffer.concat([good, part as never], { pool }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'buffers[1]')
  }
  for (const parts of [undefined, null, 5, 'text', good, {}, new Uint8Array(3), new Set([good])]) {
    throwsCode(t, () => MemoryBuffer.concat(parts as never, { pool }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'buffers')
  }
  throwsCode(t, () => MemoryBuffer.concat([good, detachedBytes()], { pool }), 'ERR_OFFHEAP_DISPOSED')
  // eslint-disable-next-line no-sparse-arrays
  throwsCode(t, () => MemoryBuffer.concat([good, , good] as never, { pool }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'buffers[1]')
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  t.is(pool.numAllocations, 0)
})

eachPool('#74 ensureAlignment: a slice where it is aligned, else a copy', (t, pool) => {
  const buffer = pool.allocateBuffer(1024, { zeroFill: true })
  buffer.fill(7, 1, 100)
  const same = buffer.ensureAlignment(64, { pool })
  t.is(same.address, buffer.address)
  t.is(same.parent, buffer)
  const slice = buffer.slice(1)
  t.false(slice.checkAlignment(8))
  t.true(slice.checkAlignment(1))
  for (const alignment of [8, 64, 256, 2048]) {
    const copy = slice.ensureAlignment(alignment, { pool })
    t.is(copy.address % BigInt(Math.max(alignment, 64)), 0n)
    t.true(copy.checkAlignment(alignment))
    t.true(copy.equals(slice))
    t.is(copy.parent, undefined)
    t.is(copy.pool, pool)
    copy.dispose()
  }
  // Arrow asks for an alignment of more than the buffer's size, too.
  const small = buffer.slice(1, 10)
  const copy = small.ensureAlignment(2048, { pool })
  t.is(copy.address % 2048n, 0n)
  t.is(copy.size, 10)
  const none = slice.ensureAlignment(1, { pool })
  t.is(none.address, slice.address)
  for (const each of [copy, none, small, slice, same, buffer]) each.dispose()
})

test('#75 ensureAlignment names a wrong alignment', (t) => {
  using buffer = MemoryBuffer.from('x')
  for (const alignment of [0, -1, -3, 3, 100, 1.5, Number.NaN, '8', null, undefined, 8n, {}]) {
    const error = throwsCode(t, () => buffer.ensureAlignment(alignment as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
    if (typeof alignment === 'number') t.true(error.message.includes(String(alignment)), error.message)
    throwsCode(t, () => buffer.checkAlignment(alignment as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  }
})

test('ensureAlignment of a wrapped ArrayBuffer, whose address is not known, is a copy', (t) => {
  using wrapped = MemoryBuffer.wrap(Buffer.from('some text'))
  using copy = wrapped.ensureAlignment(8)
  t.is(copy.toString(), 'some text')
  t.is(copy.address % 64n, 0n)
  throwsCode(t, () => wrapped.checkAlignment(8), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => wrapped.address, 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => wrapped.alignment, 'ERR_OFFHEAP_NOT_SUPPORTED')
})

test('what does not fit a string is refused', (t) => {
  const pool = defaultMemoryPool().proxy()
  const buffer = pool.allocateBuffer(2 ** 29 + 100)
  throwsCode(t, () => buffer.toHex(), 'ERR_OFFHEAP_NOT_SUPPORTED', 'slice')
  throwsCode(t, () => buffer.toString('latin1'), 'ERR_OFFHEAP_NOT_SUPPORTED', 'slice')
  throwsCode(t, () => buffer.toString('base64'), 'ERR_OFFHEAP_NOT_SUPPORTED', 'slice')
  buffer.dispose()
  t.is(pool.bytesAllocated, 0)
})
