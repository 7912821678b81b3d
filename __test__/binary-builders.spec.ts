import test from 'ava'
import { makeData, makeVector, LargeUtf8, Utf8 } from 'apache-arrow'
import { BinaryBufferBuilder, type BinaryBuffers, type ByteSource, MemoryBuffer } from 'offheap'
import { collectUntil, eachPool, held, random, throwsCode, withPool } from './support.js'

/** The values of a column as bytes, and its end. Gives the buffers back. */
function read({ offsets, data }: BinaryBuffers, type: 'int32' | 'int64' = 'int32'): Buffer[] {
  const at = type === 'int32' ? [...offsets.asInt32Array()] : [...offsets.asBigInt64Array()].map(Number)
  const bytes = data.asUint8Array()
  const values = at.slice(1).map((end, index) => Buffer.from(bytes.subarray(at[index], end)))
  if (at[0] !== 0 || at.at(-1) !== data.size) throw new Error(`offsets from ${at[0]} to ${at.at(-1)} of ${data.size} bytes`)
  offsets.dispose()
  data.dispose()
  return values
}

const texts = (columns: BinaryBuffers, type?: 'int32' | 'int64'): string[] => read(columns, type).map(String)

eachPool('strings and bytes become one column', (t, pool) => {
  for (const type of ['int32', 'int64'] as const) {
    const builder = new BinaryBufferBuilder({ pool, offsets: type })
    t.is(builder.offsetType, type)
    using buffer = MemoryBuffer.from('a buffer', { pool })
    const shared = new SharedArrayBuffer(2)
    new Uint8Array(shared).fill(0x53)
    builder.append('text')
    builder.append('')
    builder.append('☃ é \u{1f3a9}')
    builder.append(Buffer.from('bytes'))
    builder.append(new Uint8Array(0))
    builder.append(new DataView(new Uint8Array([0, 0x44, 0]).buffer, 1, 1))
    builder.append(shared)
    builder.append(buffer)
    builder.append(MemoryBuffer.wrap(Buffer.from('wrapped')).slice(2))
    t.is(builder.length, 9)
    t.is(builder.lengthInBytes, 4 + 11 + 5 + 1 + 2 + 8 + 5)
    const column = builder.finish()
    t.is(column.offsets.size, 10 * (type === 'int32' ? 4 : 8))
    t.is(column.data.size, 36)
    t.true(column.data.isMutable && column.offsets.isMutable)
    t.is(column.data.pool, pool)
    t.deepEqual(texts(column, type), ['text', '', '☃ é \u{1f3a9}', 'bytes', '', 'D', 'SS', 'a buffer', 'apped'])
    builder.dispose()
  }
})

withPool('every string becomes what TextEncoder makes of it, at every length and every place in the window', (t, pool) => {
  const next = random(5)
  const units = ['a', 'z', '\0', '\x7f', '\x80', 'é', '߿', 'ࠀ', '☃', '\uffff', '\u{1f3a9}', '\ud800', '\udc00']
  const strings: string[] = []
  for (let length = 0; length < 70; length += 1) {
    const ascii = Array.from({ length }, (_, index) => String.fromCharCode(0x20 + (index % 0x5f))).join('')
    strings.push(ascii)
    // One unit that is not ASCII, first, last and in the middle; a string cut out of another one; a rope.
    for (const unit of units) strings.push(unit + ascii, ascii + unit, ascii.slice(0, length >> 1) + unit + ascii.slice(length >> 1))
    strings.push(`xx${ascii}`.slice(2), ascii + String(length))
  }
  for (let count = 0; count < 500; count += 1) {
    strings.push(Array.from({ length: Math.floor(next() * 60) }, () => units[Math.floor(next() * units.length)]).join(''))
  }
  const encoder = new TextEncoder()
  const expected = strings.map((text) => Buffer.from(encoder.encode(text)))
  for (const type of ['int32', 'int64'] as const) {
    const builder = new BinaryBufferBuilder({ pool, offsets: type })
    for (const text of strings) builder.append(text)
    t.deepEqual(read(builder.finish(), type), expected)
    // One byte of room less than needed, and exactly as much.
    for (const missing of [1, 0]) {
      for (const [index, bytes] of expected.entries()) {
        if (bytes.length === 0 || index % 7 !== 0) continue
        const filler = 64 - ((bytes.length - missing) % 64)
        builder.append('f'.repeat(filler))
        builder.append(strings[index]!)
        const [, value] = read(builder.finish(), type)
        if (!value!.equals(bytes)) t.fail(`${JSON.stringify(strings[index])} became ${value!.toString('hex')}`)
      }
    }
    builder.dispose()
  }
})

eachPool('what finish gives counts its size, its padding is zero, and the builder starts again', (t, pool) => {
  const builder = new BinaryBufferBuilder({ pool, capacity: 1000, capacityInBytes: 10_000 })
  t.true(builder.capacity >= 1000)
  t.true(builder.capacityInBytes >= 10_000)
  builder.append(new Uint8Array(5000).fill(0xff))
  read(builder.finish({ shrinkToFit: false }))
  const before = held(pool)
  builder.append('x'.repeat(100))
  const { offsets, data } = builder.finish()
  t.deepEqual(held(pool), { bytes: before.bytes + 108, allocations: before.allocations + 2 })
  t.is(data.capacity, 128)
  t.is(offsets.capacity, 64)
  data.resize(128)
  t.true(data.asUint8Array(100).every((byte) => byte === 0))
  t.is(builder.length, 0)
  t.is(builder.lengthInBytes, 0)
  t.is(builder.capacity, 0)
  t.is(builder.capacityInBytes, 0)
  builder.append('again')
  t.deepEqual(texts(builder.finish()), ['again'])
  t.is(data.toString(), 'x'.repeat(100) + '\0'.repeat(28))
  offsets.dispose()
  data.dispose()
  builder.dispose()
})

eachPool('a column without values has one offset', (t, pool) => {
  for (const type of ['int32', 'int64'] as const) {
    for (const options of [{}, { capacity: 100 }, { capacityInBytes: 100 }]) {
      const builder = new BinaryBufferBuilder({ pool, offsets: type, ...options })
      for (const shrinkToFit of [true, false]) {
        const { offsets, data } = builder.finish({ shrinkToFit })
        t.is(data.size, 0)
        t.is(offsets.toHex(), '00'.repeat(type === 'int32' ? 4 : 8))
        offsets.dispose()
        data.dispose()
      }
      builder.dispose()
    }
  }
})

eachPool('reserve is exact, and what it made room for does not grow the builder', (t, pool) => {
  for (const [type, width] of [
    ['int32', 4],
    ['int64', 8],
  ] as const) {
    const builder = new BinaryBufferBuilder({ pool, offsets: type, alignment: 4096 })
    builder.reserve(1000, 5000)
    t.is(builder.capacity, Math.ceil((1001 * width) / 64) * (64 / width) - 1)
    t.is(builder.capacityInBytes, 5056)
    const { numAllocations } = pool
    const { capacity, capacityInBytes } = builder
    for (let count = 0; count < 1000; count += 1) builder.append('vwxyz')
    t.deepEqual({ capacity: builder.capacity, capacityInBytes: builder.capacityInBytes }, { capacity, capacityInBytes })
    t.is(pool.numAllocations, numAllocations)
    builder.reserve(0)
    t.is(builder.capacity, capacity)
    const column = builder.finish()
    t.is(column.offsets.address % 4096n, 0n)
    t.is(column.data.address % 4096n, 0n)
    t.deepEqual(texts(column, type), Array.from({ length: 1000 }, () => 'vwxyz'))
    builder.dispose()
  }
})

withPool('appendValues takes iterables; what comes before a refused value stays', (t, pool) => {
  const builder = new BinaryBufferBuilder({ pool })
  builder.appendValues(['a', Buffer.from('b')])
  builder.appendValues(new Set(['c']))
  builder.appendValues(
    (function* () {
      yield 'd'
      yield new Uint8Array([0x65])
    })(),
  )
  throwsCode(t, () => builder.appendValues(['f', 7, 'g'] as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'value must be a string')
  throwsCode(t, () => builder.appendValues(new Map([[1, 2]]) as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  for (const wrong of ['a string', Buffer.from('bytes'), 7, null, undefined, {}, { [Symbol.iterator]: 1 }]) {
    throwsCode(t, () => builder.appendValues(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'values must be')
  }
  t.deepEqual(texts(builder.finish()), ['a', 'b', 'c', 'd', 'e', 'f'])
  builder.dispose()
})

withPool('a builder that an iterable uses, finishes or disposes meanwhile stays whole', (t, pool) => {
  const builder = new BinaryBufferBuilder({ pool })
  const columns: BinaryBuffers[] = []
  builder.appendValues(
    (function* () {
      yield 'first'
      columns.push(builder.finish())
      yield 'second'
      builder.append('third')
    })(),
  )
  t.deepEqual(texts(columns[0]!), ['first'])
  t.deepEqual(texts(builder.finish()), ['second', 'third'])
  const disposes = (function* () {
    yield 'a'
    builder.dispose()
    yield 'b'
  })()
  throwsCode(t, () => builder.appendValues(disposes), 'ERR_OFFHEAP_DISPOSED')
})

eachPool('a builder that cannot grow is as it was', (t, pool) => {
  const limited = pool.limit(4096)
  const builder = new BinaryBufferBuilder({ pool: limited })
  builder.append('kept')
  const before = held(limited)
  for (const big of ['x'.repeat(5000), '☃'.repeat(3000), new Uint8Array(5000), MemoryBuffer.wrap(new Uint8Array(5000))] as (string | ByteSource)[]) {
    throwsCode(t, () => builder.append(big), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => builder.appendValues([big]), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.is(builder.length, 1)
    t.is(builder.lengthInBytes, 4)
  }
  throwsCode(t, () => builder.reserve(5000), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  throwsCode(t, () => builder.reserve(0, 5000), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  throwsCode(t, () => builder.reserve(2 ** 53 - 1), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.deepEqual(held(limited), before)
  let count = 1
  throwsCode(
    t,
    () => {
      for (;; count += 1) builder.append('value')
    },
    'ERR_OFFHEAP_OUT_OF_MEMORY',
  )
  t.is(builder.length, count)
  const values = texts(builder.finish({ shrinkToFit: false }))
  t.is(values.length, count)
  t.is(values[0], 'kept')
  t.is(values.at(-1), 'value')
  for (const options of [{ capacity: 5000 }, { capacityInBytes: 5000 }, { capacity: 100, capacityInBytes: 4000 }]) {
    throwsCode(t, () => new BinaryBufferBuilder({ pool: limited, ...options }), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    t.deepEqual(held(limited), { bytes: 0, allocations: 0 }, 'a builder that could not be made holds memory')
  }
  builder.dispose()
  limited.close()
})

withPool('finish while everything fails gives both buffers or leaves the builder', (t, base) => {
  for (let after = 0; after < 12; after += 1) {
    for (const filled of [true, false]) {
      const pool = base.failing()
      pool.disarm()
      const builder = new BinaryBufferBuilder({ pool, capacity: filled ? 1000 : 0, capacityInBytes: filled ? 10_000 : 0 })
      if (filled) builder.appendValues(['one', 'two'])
      pool.rearm({ after })
      let column: BinaryBuffers | undefined
      try {
        column = builder.finish()
      } catch (error) {
        t.is((error as { code?: string }).code, 'ERR_OFFHEAP_OUT_OF_MEMORY')
        t.is(builder.length, filled ? 2 : 0)
      }
      pool.disarm()
      t.deepEqual(texts(column ?? builder.finish()), filled ? ['one', 'two'] : [])
      builder.dispose()
      t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
      pool.close()
    }
  }
})

withPool('int32 offsets end at 2 GiB, and say so before anything is copied', (t, pool) => {
  const builder = new BinaryBufferBuilder({ pool })
  builder.append('ab')
  const huge = new Uint8Array(2 ** 31 - 2) // nothing of it is ever touched
  throwsCode(t, () => builder.append(huge), 'ERR_OFFHEAP_OUT_OF_RANGE', "2 bytes of values and 2147483646 more are over the 2147483647 that the offsets reach: use offsets: 'int64'")
  throwsCode(t, () => builder.reserve(1, 2 ** 31 - 2), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => new BinaryBufferBuilder({ pool, capacityInBytes: 2 ** 31 }), 'ERR_OFFHEAP_OUT_OF_RANGE')
  const limited = pool.limit(100_000)
  const large = new BinaryBufferBuilder({ pool: limited, offsets: 'int64' })
  large.append('ab')
  throwsCode(t, () => large.append(huge), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.deepEqual(texts(large.finish(), 'int64'), ['ab'])
  t.deepEqual(texts(builder.finish()), ['ab'])
  large.dispose()
  builder.dispose()
  limited.close()
})

withPool('reset and dispose', (t, pool) => {
  const builder = new BinaryBufferBuilder({ pool })
  builder.append('dropped')
  builder.reset()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  t.is(builder.length, 0)
  builder.append('kept')
  t.deepEqual(texts(builder.finish()), ['kept'])
  builder.append('again')
  t.false(builder.disposed)
  builder.dispose()
  builder.dispose()
  t.true(builder.disposed)
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
  const uses: (() => unknown)[] = [
    () => builder.append('short'),
    () => builder.append(''),
    () => builder.append('long'.repeat(100)),
    () => builder.append(new Uint8Array(0)),
    () => builder.appendValues([]),
    () => builder.reserve(0),
    () => builder.finish(),
    () => builder.reset(),
    () => builder.length,
    () => builder.lengthInBytes,
    () => builder.capacity,
    () => builder.capacityInBytes,
  ]
  for (const use of uses) throwsCode(t, use, 'ERR_OFFHEAP_DISPOSED')
  t.is(builder.offsetType, 'int32')
  {
    using scoped = new BinaryBufferBuilder({ pool })
    scoped.append('x')
  }
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

test('misuse', (t) => {
  for (const wrong of ['int16', 32, null, {}, true]) {
    throwsCode(t, () => new BinaryBufferBuilder({ offsets: wrong as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', "offsets must be 'int32' or 'int64'")
  }
  for (const key of ['capacity', 'capacityInBytes', 'alignment']) {
    for (const wrong of [-1, 0.5, Number.NaN, '1', null]) throwsCode(t, () => new BinaryBufferBuilder({ [key]: wrong }), 'ERR_OFFHEAP_INVALID_ARGUMENT', key)
  }
  throwsCode(t, () => new BinaryBufferBuilder({ pool: {} as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  using builder = new BinaryBufferBuilder()
  for (const wrong of [7, 7n, null, undefined, true, {}, [1, 2], Symbol('s'), () => 1]) {
    throwsCode(t, () => builder.append(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'value must be')
  }
  for (const wrong of [-1, 0.5, '1', null, undefined]) throwsCode(t, () => builder.reserve(wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'values')
  for (const wrong of [-1, 0.5, '1', null]) throwsCode(t, () => builder.reserve(1, wrong as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'bytes')
  throwsCode(t, () => builder.finish({ shrinkToFit: 1 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'shrinkToFit')
  const detached = new Uint8Array(8)
  structuredClone(detached, { transfer: [detached.buffer] })
  throwsCode(t, () => builder.append(detached), 'ERR_OFFHEAP_DISPOSED')
  t.is(builder.length, 0)
  const names = Object.getOwnPropertyNames(BinaryBufferBuilder.prototype).filter((name) => name !== 'constructor')
  for (const name of names) {
    for (const receiver of [undefined, {}, BinaryBufferBuilder.prototype, Object.create(BinaryBufferBuilder.prototype)] as unknown[]) {
      const { get, value } = Object.getOwnPropertyDescriptor(BinaryBufferBuilder.prototype, name)!
      throwsCode(t, () => Reflect.apply((get ?? value) as () => unknown, receiver, ['x']), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'receiver is not a BinaryBufferBuilder')
    }
  }
})

test.serial('a forgotten builder gives the memory of both blocks back', async (t) => {
  const { defaultMemoryPool } = await import('offheap')
  const pool = defaultMemoryPool().proxy({ name: 'forgotten' })
  ;(() => {
    for (let count = 0; count < 20; count += 1) new BinaryBufferBuilder({ pool }).append('x'.repeat(1000))
  })()
  t.is(pool.liveAllocations, 40)
  t.true(await collectUntil(() => pool.liveAllocations === 0))
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

withPool('apache-arrow reads the columns in place', (t, pool) => {
  const names = ['Ada', '', 'Grace', 'Jürgen', '☃'.repeat(30)]
  using builder = new BinaryBufferBuilder({ pool })
  builder.appendValues(names)
  const small = builder.finish()
  const vector = makeVector(makeData({ type: new Utf8(), length: names.length, nullCount: 0, valueOffsets: small.offsets.asInt32Array(), data: small.data.asUint8Array() }))
  t.deepEqual(vector.toArray(), names)
  t.is((vector.data[0]!.values as Uint8Array).buffer, small.data.arrayBuffer)
  using large = new BinaryBufferBuilder({ pool, offsets: 'int64' })
  large.appendValues(names)
  const big = large.finish()
  const largeVector = makeVector(
    makeData({ type: new LargeUtf8(), length: names.length, nullCount: 0, valueOffsets: big.offsets.asBigInt64Array(), data: big.data.asUint8Array() }),
  )
  t.deepEqual(largeVector.toArray(), names)
  for (const buffer of [small.offsets, small.data, big.offsets, big.data]) buffer.dispose()
})
