import test from 'ava'
import { BufferBuilder, defaultMemoryPool, MemoryBuffer, systemMemoryPool } from 'offheap'
import { collectUntil, detachedBytes, eachPool, held, random, throwsCode, withPool } from './support.js'

eachPool('#38 resize and reserve of a builder', (t, pool) => {
  const builder = new BufferBuilder({ pool })
  builder.append('some data')
  t.is(builder.length, 9)
  builder.resize(128)
  t.is(builder.capacity, 128)
  t.is(builder.length, 9)
  builder.resize(64, { shrinkToFit: false })
  t.is(builder.capacity, 128)
  builder.resize(64)
  t.is(builder.capacity, 64)
  t.is(builder.length, 9)
  // 9 + 60 are more than 64. Arrow doubles here, too.
  builder.reserve(60)
  t.is(builder.capacity, 128)
  const buffer = builder.finish()
  t.is(buffer.toString(), 'some data')
  buffer.dispose()
  builder.dispose()
})

eachPool('#39 the alignment of a builder holds through growth, shrinking and finish', (t, pool) => {
  for (const alignment of [64, 512, 4096]) {
    const builder = new BufferBuilder({ pool, alignment })
    for (let round = 0; round < 12; round += 1) builder.append(new Uint8Array(100 * 2 ** round).fill(round))
    builder.resize(builder.length)
    const { length } = builder
    const buffer = builder.finish()
    t.is(buffer.size, length)
    t.is(buffer.address % BigInt(alignment), 0n)
    t.is(buffer.at(-1), 11)
    buffer.dispose()
    const small = new BufferBuilder({ pool, alignment, capacity: 1 })
    small.append('x')
    const result = small.finish({ shrinkToFit: false })
    t.is(result.address % BigInt(alignment), 0n)
    result.dispose()
    builder.dispose()
    small.dispose()
  }
})

eachPool('#40 finish hands over what was appended, and the builder starts again', (t, pool) => {
  for (const shrinkToFit of [true, false]) {
    const builder = new BufferBuilder({ pool })
    builder.append('some data')
    builder.append('some data')
    t.is(builder.length, 18)
    builder.reserve(1024)
    t.true(builder.capacity >= 1024)
    const buffer = builder.finish({ shrinkToFit })
    t.is(buffer.size, 18)
    t.is(buffer.capacity, shrinkToFit ? 64 : 1088)
    t.is(buffer.toString(), 'some datasome data')
    t.true(buffer.isMutable)
    t.is(buffer.pool, pool)
    t.is(builder.length, 0)
    t.is(builder.capacity, 0)
    builder.append('again')
    const second = builder.finish({ shrinkToFit })
    t.is(second.toString(), 'again')
    t.is(buffer.toString(), 'some datasome data')
    buffer.dispose()
    second.dispose()
    builder.dispose()
  }
})

eachPool('#41 finish of nothing', (t, pool) => {
  for (const [shrinkToFit, capacity] of [
    [true, 0],
    [false, 1024],
  ] as const) {
    const builder = new BufferBuilder({ pool })
    const empty = builder.finish({ shrinkToFit })
    t.is(empty.size, 0)
    t.is(empty.capacity, 0)
    t.true(empty.address > 0n)
    builder.reserve(1024)
    t.is(builder.capacity, 1024)
    const reserved = builder.finish({ shrinkToFit })
    t.is(reserved.size, 0)
    t.is(reserved.capacity, capacity)
    empty.dispose()
    reserved.dispose()
    builder.dispose()
  }
})

eachPool('what finish gives is a buffer like any other: it counts its size, its padding is zero', (t, pool) => {
  const before = held(pool)
  const builder = new BufferBuilder({ pool, capacity: 10_000 })
  builder.appendCopies(0xff, 5000)
  builder.rewind(100)
  const buffer = builder.finish()
  t.is(pool.bytesAllocated - before.bytes, 100)
  t.is(pool.liveAllocations - before.allocations, 1)
  t.is(buffer.capacity, 128)
  t.is(buffer.parent, undefined)
  if (buffer.isResizable) {
    buffer.resize(128)
    t.true(buffer.asUint8Array(100).every((byte) => byte === 0))
  }
  buffer.dispose()
  builder.dispose()
})

withPool('what isResizable says of a finished buffer is true', (t, pool) => {
  for (const appended of ['', 'some data']) {
    const builder = new BufferBuilder({ pool })
    builder.append(appended)
    using buffer = builder.finish()
    if (buffer.isResizable) {
      buffer.resize(1000)
      t.is(buffer.size, 1000)
    } else {
      throwsCode(t, () => buffer.resize(1000), 'ERR_OFFHEAP_NOT_SUPPORTED')
    }
    builder.dispose()
  }
})

eachPool('append takes text and anything that has bytes', (t, pool) => {
  const builder = new BufferBuilder({ pool })
  const buffer = MemoryBuffer.from('B', { pool })
  const wrapped = MemoryBuffer.wrap(Buffer.from('W'))
  const slice = buffer.slice(0)
  const shared = new SharedArrayBuffer(1)
  new Uint8Array(shared).fill(0x53)
  builder.append('text ☃ ')
  builder.append(Buffer.from('N'))
  builder.append(new Uint8Array([0x55]).buffer)
  builder.append(new DataView(new Uint8Array([0, 0x44, 0]).buffer, 1, 1))
  builder.append(new Uint16Array([0x3231]))
  builder.append(shared)
  builder.append(buffer)
  builder.append(slice)
  builder.append(wrapped)
  builder.append('')
  builder.append(new Uint8Array(0))
  const result = builder.finish()
  t.is(result.toString(), 'text ☃ NUD12SBBW')
  for (const each of [result, buffer, slice, builder]) each.dispose()
})

withPool('append of every kind of text, short and long, at every place in the window', (t, pool) => {
  const kinds = ['', 'a', 'ascii', 'é', 'mixed é ascii', '☃☃☃', '🎉', '\ud800', 'a\udc00b', '\0', '\u007f\u0080', 'x'.repeat(23), 'x'.repeat(24), 'x'.repeat(25), `${'x'.repeat(23)}é`, 'é'.repeat(100), 'long '.repeat(1000)]
  const builder = new BufferBuilder({ pool })
  const model: Buffer[] = []
  const next = random(11)
  for (let round = 0; round < 3000; round += 1) {
    const text = kinds[Math.floor(next() * kinds.length)]!
    builder.append(text)
    model.push(Buffer.from(text, 'utf8'))
    if (builder.length > 100_000) {
      using result = builder.finish()
      t.true(result.equals(Buffer.concat(model)))
      model.length = 0
    }
  }
  using result = builder.finish()
  t.true(result.equals(Buffer.concat(model)))
  builder.dispose()
})

withPool('appending itself piece by piece: what was finished can be appended', (t, pool) => {
  const builder = new BufferBuilder({ pool })
  builder.append('ab')
  for (let round = 0; round < 10; round += 1) {
    using before = builder.finish()
    builder.append(before)
    builder.append(before)
  }
  using result = builder.finish()
  t.is(result.toString(), 'ab'.repeat(1024))
  builder.dispose()
})

eachPool('appendCopies, advance, rewind', (t, pool) => {
  const builder = new BufferBuilder({ pool })
  builder.appendCopies(0x61, 3)
  builder.advance(2)
  builder.appendCopies(0x62, 0)
  builder.append('c')
  t.is(builder.length, 6)
  builder.rewind(5)
  builder.rewind(4)
  builder.append('d')
  t.is(builder.length, 5)
  // What lay there before rewind does not shine through.
  builder.appendCopies(0xff, 200)
  builder.rewind(5)
  builder.advance(3)
  const buffer = builder.finish()
  t.is(buffer.toHex(), '6161610064000000')
  buffer.dispose()
  builder.dispose()
})

eachPool('growth is by doubling at least', (t, pool) => {
  const builder = new BufferBuilder({ pool })
  const capacities = new Set<number>()
  for (let index = 0; index < 100_000; index += 1) {
    builder.append('ab')
    capacities.add(builder.capacity)
  }
  const list = [...capacities]
  for (let index = 1; index < list.length; index += 1) t.true(list[index]! >= 2 * list[index - 1]!, String(list))
  t.true(list.length < 20)
  builder.append(new Uint8Array(1_000_000))
  t.true(builder.capacity >= 1_200_000)
  builder.dispose()
})

eachPool('finishWithLength: shorter, as long, longer', (t, pool) => {
  const builder = new BufferBuilder({ pool })
  for (const [length, text] of [
    [4, 'some'],
    [9, 'some data'],
    [12, 'some data\0\0\0'],
    [0, ''],
  ] as const) {
    builder.append('some data')
    const buffer = builder.finishWithLength(length)
    t.is(buffer.toString(), text)
    buffer.dispose()
    t.is(builder.length, 0)
  }
  builder.append('x')
  throwsCode(t, () => builder.finishWithLength(65), 'ERR_OFFHEAP_OUT_OF_RANGE')
  const kept = builder.finishWithLength(1, { shrinkToFit: false })
  t.is(kept.toString(), 'x')
  kept.dispose()
  builder.dispose()
})

eachPool('reset and dispose give the memory back', (t, pool) => {
  const before = held(pool)
  const builder = new BufferBuilder({ pool, capacity: 1000 })
  t.true(pool.bytesAllocated - before.bytes >= 1000)
  builder.append('some data')
  builder.reset()
  t.deepEqual(held(pool), before)
  t.is(builder.length, 0)
  t.is(builder.capacity, 0)
  builder.reset()
  builder.append('again')
  builder.dispose()
  builder.dispose()
  t.deepEqual(held(pool), before)
  t.true(builder.disposed)
  for (const use of [
    () => builder.append('x'),
    () => builder.append(''),
    () => builder.append(new Uint8Array(1)),
    () => builder.append(new Uint8Array(0)),
    () => builder.appendCopies(1, 1),
    () => builder.appendCopies(1, 0),
    () => builder.advance(0),
    () => builder.reserve(0),
    () => builder.resize(0),
    () => builder.rewind(0),
    () => builder.finish(),
    () => builder.finishWithLength(0),
    () => builder.reset(),
    () => builder.length,
    () => builder.capacity,
  ]) {
    throwsCode(t, use, 'ERR_OFFHEAP_DISPOSED')
  }
})

test('a forgotten builder frees its memory', async (t) => {
  const pool = defaultMemoryPool().proxy()
  ;(() => {
    for (let index = 0; index < 100; index += 1) new BufferBuilder({ pool, capacity: 1000 }).append('x')
  })()
  t.is(pool.liveAllocations, 100)
  t.true(await collectUntil(() => pool.liveAllocations === 0), `${pool.liveAllocations} are left`)
})

test('arguments of a builder', (t) => {
  using builder = new BufferBuilder()
  for (const value of [undefined, null, 5, {}, [1], Symbol('x'), 5n, true, () => 1]) {
    throwsCode(t, () => builder.append(value as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'value')
  }
  throwsCode(t, () => builder.append(detachedBytes()), 'ERR_OFFHEAP_DISPOSED')
  const gone = defaultMemoryPool().allocateBuffer(1)
  gone.dispose()
  throwsCode(t, () => builder.append(gone), 'ERR_OFFHEAP_DISPOSED')
  for (const value of [-1, 1.5, Number.NaN, 2 ** 53, Infinity, '1', null, undefined, {}, 1n]) {
    throwsCode(t, () => builder.appendCopies(0, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'count')
    throwsCode(t, () => builder.advance(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'count')
    throwsCode(t, () => builder.reserve(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'additional')
    throwsCode(t, () => builder.resize(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'capacity')
    throwsCode(t, () => builder.rewind(value as number), value === -1 ? 'ERR_OFFHEAP_OUT_OF_RANGE' : 'ERR_OFFHEAP_INVALID_ARGUMENT', 'position')
    throwsCode(t, () => builder.finishWithLength(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    if (value !== undefined) throwsCode(t, () => new BufferBuilder({ capacity: value as number }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'capacity')
  }
  for (const byte of [-1, 256, 1.5, '1', null, undefined]) {
    throwsCode(t, () => builder.appendCopies(byte as number, 1), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'byte')
  }
  // More than any address space has. What the system promises without having it (a tebibyte, say) would end the process.
  for (const count of [Number.MAX_SAFE_INTEGER, 2 ** 50]) {
    throwsCode(t, () => builder.appendCopies(0, count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => builder.advance(count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => builder.reserve(count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => builder.resize(count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    throwsCode(t, () => new BufferBuilder({ capacity: count }), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  }
  throwsCode(t, () => new BufferBuilder({ alignment: 3 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  throwsCode(t, () => new BufferBuilder({ pool: {} as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  throwsCode(t, () => new BufferBuilder(5 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  builder.append('abc')
  throwsCode(t, () => builder.rewind(4), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => builder.resize(2), 'ERR_OFFHEAP_OUT_OF_RANGE')
  t.is(builder.length, 3)
})

test('a random program of appends is what Buffer.concat makes of it', (t) => {
  const pool = defaultMemoryPool().proxy()
  const next = random(5)
  const builder = new BufferBuilder({ pool })
  let model = Buffer.alloc(0)
  for (let step = 0; step < 5000; step += 1) {
    const count = Math.floor(next() ** 4 * 5000)
    const byte = step & 0xff
    switch (Math.floor(next() * 8)) {
      case 0:
        builder.append(String.fromCharCode(97 + (step % 26)).repeat(count))
        model = Buffer.concat([model, Buffer.alloc(count, 97 + (step % 26))])
        break
      case 1:
        builder.append(Buffer.alloc(count, byte))
        model = Buffer.concat([model, Buffer.alloc(count, byte)])
        break
      case 2:
        builder.appendCopies(byte, count)
        model = Buffer.concat([model, Buffer.alloc(count, byte)])
        break
      case 3:
        builder.advance(count)
        model = Buffer.concat([model, Buffer.alloc(count)])
        break
      case 4:
        builder.rewind(Math.max(model.length - count, 0))
        model = model.subarray(0, Math.max(model.length - count, 0))
        break
      case 5:
        builder.reserve(count)
        t.true(builder.capacity >= model.length + count)
        break
      case 6:
        builder.resize(model.length + count, { shrinkToFit: next() < 0.5 })
        t.true(builder.capacity >= model.length + count)
        break
      default:
        if (next() < 0.05) {
          const buffer = builder.finish({ shrinkToFit: next() < 0.5 })
          if (!buffer.equals(model)) t.fail(`step ${step}`)
          buffer.dispose()
          model = Buffer.alloc(0)
        }
    }
    if (builder.length !== model.length) t.fail(`step ${step}: ${builder.length} is not ${model.length}`)
  }
  using buffer = builder.finish()
  t.true(buffer.equals(model))
  builder.dispose()
})

test.serial('what debug hooks throw from the middle of a change leaves a builder that stands', (t) => {
  const changes: [string, (builder: BufferBuilder) => unknown][] = [
    ['append', (builder) => builder.append('x'.repeat(2000))],
    ['reserve', (builder) => builder.reserve(1000)],
    ['resize', (builder) => builder.resize(64)],
    ['finish', (builder) => builder.finish()],
    ['finishWithLength', (builder) => builder.finishWithLength(5)],
    ['reset', (builder) => builder.reset()],
    ['dispose', (builder) => builder.dispose()],
  ]
  for (const [name, change] of changes) {
    // Any block that is freed pushes the damaged one out of the quarantine, which finds it.
    const pool = systemMemoryPool().debug({ onError: 'throw', quarantine: 1000, nativeStackDepth: 0 })
    const builder = new BufferBuilder({ pool, capacity: 640 })
    builder.append('0123456789')
    const victim = pool.allocateBuffer(500)
    const { address } = victim
    victim.dispose()
    const foreign = MemoryBuffer.unsafeForeign(address, 500, undefined)
    foreign.fill(1, 0, 8)
    throwsCode(t, () => change(builder), 'ERR_OFFHEAP_CORRUPTION')
    foreign.dispose()
    if (name === 'dispose') t.true(builder.disposed)
    else {
      const kept = ['reserve', 'append', 'resize'].includes(name)
      t.is(builder.length, kept ? 10 : 0, name)
      builder.append('abc')
      const buffer = builder.finish()
      t.is(buffer.toString(), kept ? '0123456789abc' : 'abc', name)
      buffer.dispose()
      builder.dispose()
    }
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 }, name)
  }
})
