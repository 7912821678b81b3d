import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import { PassThrough, Readable } from 'node:stream'
import test from 'ava'
import { BufferOutputStream, BufferReader, defaultMemoryPool, FixedSizeBufferWriter, MemoryBuffer, MockOutputStream } from 'offheap'
import { collectUntil, detachedBytes, eachPool, held, random, throwsCode, turns, withPool } from './support.js'

function text(buffer: MemoryBuffer): string {
  const result = buffer.toString()
  buffer.dispose()
  return result
}

// ---- BufferOutputStream

eachPool('#57 what was written is there after close', (t, pool) => {
  const stream = new BufferOutputStream({ pool })
  for (let round = 0; round < 100; round += 1) t.is(stream.write('0123456789'), 10)
  t.is(stream.tell(), 1000)
  stream.close()
  t.true(stream.closed)
  const buffer = stream.finish()
  t.is(buffer.size, 1000)
  t.is(buffer.toString(), '0123456789'.repeat(100))
  buffer.dispose()
})

eachPool('#58 finish gives the size that was written, and shrinks where Arrow keeps the capacity', (t, pool) => {
  const before = held(pool)
  const stream = new BufferOutputStream({ pool, capacity: 1_000_000 })
  t.is(stream.capacity, 1_000_000)
  for (let round = 0; round < 100; round += 1) stream.write('0123456789')
  const buffer = stream.finish()
  t.is(buffer.size, 1000)
  t.is(buffer.capacity, 1024)
  t.is(pool.bytesAllocated - before.bytes, 1000)
  buffer.dispose()
  const keeping = new BufferOutputStream({ pool, capacity: 10_000 })
  keeping.write('x')
  const kept = keeping.finish({ shrinkToFit: false })
  t.is(kept.size, 1)
  t.true(kept.capacity >= 10_000)
  kept.dispose()
})

withPool('#59 #131 a closed stream refuses to be written', (t, pool) => {
  const stream = new BufferOutputStream({ pool })
  for (let round = 0; round < 10; round += 1) stream.write(new Uint8Array(1000))
  stream.close()
  throwsCode(t, () => stream.write('x'), 'ERR_OFFHEAP_CLOSED')
  throwsCode(t, () => stream.write(''), 'ERR_OFFHEAP_CLOSED')
  throwsCode(t, () => stream.asWritable(), 'ERR_OFFHEAP_CLOSED')
  stream.close()
  t.is(stream.tell(), 10_000)
  using buffer = stream.finish()
  t.is(buffer.size, 10_000)
  throwsCode(t, () => stream.write('x'), 'ERR_OFFHEAP_CLOSED')
  // Arrow follows a null pointer here.
  throwsCode(t, () => stream.finish(), 'ERR_OFFHEAP_CLOSED')
  t.is(buffer.size, 10_000)
})

eachPool('#60 reset: the stream can be used again', (t, pool) => {
  const stream = new BufferOutputStream({ pool })
  stream.write('abc')
  const first = stream.finish()
  stream.reset({ capacity: 100 })
  t.false(stream.closed)
  t.is(stream.tell(), 0)
  t.is(stream.capacity, 128)
  stream.write('second')
  stream.reset()
  t.is(stream.tell(), 0)
  stream.write('third')
  const third = stream.finish()
  t.is(text(first), 'abc')
  t.is(text(third), 'third')
  stream.dispose()
})

eachPool('an output stream that is disposed keeps nothing and refuses everything', (t, pool) => {
  const before = held(pool)
  const stream = new BufferOutputStream({ pool })
  stream.write('x')
  stream.dispose()
  stream.dispose()
  t.deepEqual(held(pool), before)
  t.true(stream.closed)
  for (const use of [
    () => stream.write('x'),
    () => stream.finish(),
    () => stream.tell(),
    () => stream.capacity,
    () => stream.reset(),
    () => stream.asWritable(),
  ]) {
    throwsCode(t, use, 'ERR_OFFHEAP_DISPOSED')
  }
})

withPool('an output stream grows by doubling, and what fails leaves what was written', (t, pool) => {
  const limited = pool.limit(10_000)
  const stream = new BufferOutputStream({ pool: limited, capacity: 100 })
  const capacities = new Set<number>()
  throwsCode(
    t,
    () => {
      for (;;) {
        stream.write('0123456789')
        capacities.add(stream.capacity)
      }
    },
    'ERR_OFFHEAP_OUT_OF_MEMORY',
  )
  // By doubling, until twice as much is more than the limit has; then by what is needed, to the last byte of the limit.
  const list = [...capacities]
  for (let index = 1; index < list.length && 2 * list[index - 1]! <= 10_000; index += 1) t.true(list[index]! >= 2 * list[index - 1]!, String(list))
  const written = stream.tell()
  t.is(written, 10_000)
  using buffer = stream.finish()
  t.is(buffer.toString(), '0123456789'.repeat(written / 10))
})

test('arguments of an output stream', (t) => {
  using stream = new BufferOutputStream()
  for (const value of [undefined, null, 5, {}, [1], Symbol('x'), 5n]) {
    throwsCode(t, () => stream.write(value as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  throwsCode(t, () => stream.write(detachedBytes()), 'ERR_OFFHEAP_DISPOSED')
  for (const capacity of [-1, 1.5, Number.NaN, 2 ** 53, '1', null, {}]) {
    throwsCode(t, () => new BufferOutputStream({ capacity: capacity as number }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'capacity')
    throwsCode(t, () => stream.reset({ capacity: capacity as number }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'capacity')
  }
  throwsCode(t, () => new BufferOutputStream({ alignment: 3 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  throwsCode(t, () => new BufferOutputStream({ alignment: 'x' as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  throwsCode(t, () => new BufferOutputStream({ pool: 5 as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  throwsCode(t, () => new BufferOutputStream({ capacity: 2 ** 50 }), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  using aligned = new BufferOutputStream({ alignment: 4096 })
  aligned.write('x')
  using buffer = aligned.finish()
  t.true(buffer.checkAlignment(4096))
})

test('a forgotten output stream frees its memory', async (t) => {
  const pool = defaultMemoryPool().proxy()
  ;(() => {
    for (let index = 0; index < 50; index += 1) new BufferOutputStream({ pool }).write('x')
  })()
  t.is(pool.liveAllocations, 50)
  t.true(await collectUntil(() => pool.liveAllocations === 0), `${pool.liveAllocations} are left`)
})

// ---- FixedSizeBufferWriter

eachPool('#34 getWriter writes into the buffer; an immutable one has none', (t, pool) => {
  const buffer = pool.allocateBuffer(10, { zeroFill: true })
  const writer = buffer.getWriter()
  t.is(writer.size, 10)
  t.is(writer.write('some'), 4)
  t.is(writer.writeAt(6, 'data'), 4)
  t.is(writer.tell(), 4)
  t.is(buffer.toString(), 'some\0\0data')
  const immutable = MemoryBuffer.from('x', { pool })
  throwsCode(t, () => immutable.getWriter(), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => new FixedSizeBufferWriter(immutable), 'ERR_OFFHEAP_IMMUTABLE')
  buffer.dispose()
  immutable.dispose()
})

eachPool('#61 a writer tells, seeks, and refuses what does not fit', (t, pool) => {
  const buffer = pool.allocateBuffer(1024, { zeroFill: true })
  const writer = new FixedSizeBufferWriter(buffer)
  t.is(writer.tell(), 0)
  writer.write('data123456')
  t.is(writer.tell(), 10)
  writer.seek(4)
  t.is(writer.tell(), 4)
  writer.seek(1024)
  t.is(writer.tell(), 1024)
  throwsCode(t, () => writer.write('1'), 'ERR_OFFHEAP_OUT_OF_RANGE')
  t.is(writer.write(''), 0)
  for (const position of [-1, 1025, Number.MAX_SAFE_INTEGER]) {
    throwsCode(t, () => writer.seek(position), 'ERR_OFFHEAP_OUT_OF_RANGE')
    t.is(writer.tell(), 1024)
  }
  writer.seek(1020)
  throwsCode(t, () => writer.write('12345'), 'ERR_OFFHEAP_OUT_OF_RANGE')
  t.is(writer.tell(), 1020)
  t.is(buffer.at(1020), 0, 'part of what did not fit was written')
  writer.write('1234')
  writer.flush()
  t.is(buffer.asBuffer(1020).toString(), '1234')
  buffer.dispose()
})

withPool('#62 writes at places that do not exist are refused whole', (t, pool) => {
  const buffer = pool.allocateBuffer(10, { zeroFill: true })
  const writer = buffer.getWriter()
  for (const position of [7, 10, 11, 1e9, Number.MAX_SAFE_INTEGER]) {
    throwsCode(t, () => writer.writeAt(position, 'data'), 'ERR_OFFHEAP_OUT_OF_RANGE')
  }
  throwsCode(t, () => writer.writeAt(11, ''), 'ERR_OFFHEAP_OUT_OF_RANGE')
  t.is(writer.writeAt(10, ''), 0)
  throwsCode(t, () => writer.writeAt(-1, 'x'), 'ERR_OFFHEAP_OUT_OF_RANGE', 'position -1')
  for (const position of [1.5, Number.NaN, 2 ** 53, '1', null, undefined, 1n, {}]) {
    throwsCode(t, () => writer.writeAt(position as number, 'x'), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'position')
  }
  for (const bytes of [undefined, null, 5, {}, [1], Symbol('x')]) {
    throwsCode(t, () => writer.write(bytes as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
  throwsCode(t, () => writer.write(detachedBytes()), 'ERR_OFFHEAP_DISPOSED')
  t.is(buffer.toHex(), '00'.repeat(10))
  buffer.dispose()
  throwsCode(t, () => writer.write('x'), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => writer.writeAt(0, ''), 'ERR_OFFHEAP_DISPOSED')
})

withPool('a writer writes text, views, buffers, and over itself', (t, pool) => {
  const buffer = pool.allocateBuffer(16, { zeroFill: true })
  const writer = buffer.getWriter()
  using source = MemoryBuffer.from('BC', { pool })
  writer.write('a')
  writer.write(source)
  writer.write(source.asUint8Array(1))
  writer.write(new Uint8Array([0x64]).buffer)
  writer.write(new DataView(Uint8Array.of(0x65, 0x66).buffer, 1))
  using slice = buffer.slice(0, 6)
  writer.write(slice)
  writer.writeAt(1, slice)
  t.is(buffer.toString('latin1'), 'aaBCCdfBCCdf\0\0\0\0')
  buffer.dispose()
})

withPool('a closed writer refuses everything but close: Arrow writes on', (t, pool) => {
  const buffer = pool.allocateBuffer(10, { zeroFill: true })
  const writer = buffer.getWriter()
  writer.close()
  writer.close()
  t.true(writer.closed)
  for (const use of [
    () => writer.write('x'),
    () => writer.write(''),
    () => writer.writeAt(0, 'x'),
    () => writer.seek(0),
    () => writer.tell(),
    () => writer.size,
    () => writer.flush(),
    () => writer.asWritable(),
  ]) {
    throwsCode(t, use, 'ERR_OFFHEAP_CLOSED')
  }
  t.is(buffer.toHex(), '00'.repeat(10))
  buffer.dispose()
})

withPool('a writer over a wrapped ArrayBuffer', (t) => {
  const bytes = new Uint8Array(4)
  const writer = new FixedSizeBufferWriter(bytes)
  writer.write('abcd')
  t.is(Buffer.from(bytes).toString(), 'abcd')
  using source = MemoryBuffer.from('xy')
  writer.writeAt(1, source)
  t.is(Buffer.from(bytes).toString(), 'axyd')
  throwsCode(t, () => writer.write('e'), 'ERR_OFFHEAP_OUT_OF_RANGE')
})

withPool('#73 a large write is whole: 3 MiB and an odd bit', (t, pool) => {
  const next = random(73)
  const source = Uint8Array.from({ length: 3 * 2 ** 20 + 12_345 }, () => Math.floor(next() * 256))
  const buffer = pool.allocateBuffer(source.length + 7)
  const writer = buffer.getWriter()
  writer.seek(7)
  t.is(writer.write(source), source.length)
  using part = buffer.slice(7)
  t.true(part.equals(source))
  buffer.dispose()
})

// ---- BufferReader

eachPool('#33 getReader reads at any position', (t, pool) => {
  const buffer = MemoryBuffer.from('some data to read', { pool })
  const reader = buffer.getReader()
  t.is(text(reader.readAt(5, 4)), 'data')
  t.is(reader.tell(), 0)
  const target = new Uint8Array(4)
  t.is(reader.readIntoAt(5, target), 4)
  t.is(Buffer.from(target).toString(), 'data')
  t.is(reader.size, 17)
  buffer.dispose()
})

withPool('#63 #114 a reader over bytes: read, seek, tell, close', (t) => {
  for (const source of [Buffer.from('some sample data'), new Uint8Array(Buffer.from('some sample data')).buffer, MemoryBuffer.from('some sample data')]) {
    const reader = new BufferReader(source)
    t.is(reader.size, 16)
    t.is(text(reader.read(4)), 'some')
    t.is(reader.tell(), 4)
    reader.seek(12)
    t.is(text(reader.read(100)), 'data')
    t.is(text(reader.read(100)), '')
    reader.seek(5)
    const target = Buffer.alloc(6)
    t.is(reader.readInto(target), 6)
    t.is(target.toString(), 'sample')
    t.is(reader.readInto(Buffer.alloc(100)), 5)
    t.is(reader.readInto(target), 0)
    reader.close()
    for (const use of [
      () => reader.read(1),
      () => reader.readInto(target),
      () => reader.readAt(0, 1),
      () => reader.readIntoAt(0, target),
      () => reader.peek(1),
      () => reader.seek(0),
      () => reader.tell(),
      () => reader.size,
      () => reader.getStream(0, 1),
      () => reader.asReadable(),
    ]) {
      throwsCode(t, use, 'ERR_OFFHEAP_CLOSED')
    }
    reader.close()
    t.true(reader.closed)
  }
  for (const source of [undefined, null, 5, 'text', {}, [1], Symbol('x')]) {
    throwsCode(t, () => new BufferReader(source as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

withPool('#64 a reader over nothing has size 0', (t, pool) => {
  using empty = pool.allocateBuffer(0)
  for (const source of [empty, new Uint8Array(0), new ArrayBuffer(0)]) {
    const reader = new BufferReader(source)
    t.is(reader.size, 0)
    t.is(text(reader.read(10)), '')
    t.is(reader.peek(10).length, 0)
    reader.seek(0)
    throwsCode(t, () => reader.seek(1), 'ERR_OFFHEAP_OUT_OF_RANGE')
  }
})

withPool('#65 seek: to the end, not behind it, and the position stays', (t, pool) => {
  using buffer = MemoryBuffer.from('0123456789', { pool })
  const reader = buffer.getReader()
  reader.seek(9)
  t.is(reader.tell(), 9)
  reader.seek(10)
  t.is(reader.tell(), 10)
  t.is(text(reader.read(1)), '')
  for (const position of [11, -1, Number.MAX_SAFE_INTEGER]) {
    throwsCode(t, () => reader.seek(position), 'ERR_OFFHEAP_OUT_OF_RANGE')
    t.is(reader.tell(), 10)
  }
})

withPool('#66 peek is clamped, and moves nothing', (t, pool) => {
  using buffer = MemoryBuffer.from('some data', { pool })
  const reader = buffer.getReader()
  t.is(Buffer.from(reader.peek(4)).toString(), 'some')
  t.is(reader.tell(), 0)
  reader.seek(5)
  const view = reader.peek(1000)
  t.is(Buffer.from(view).toString(), 'data')
  t.is(view.buffer, buffer.arrayBuffer, 'peek copied')
  t.is(reader.peek(0).length, 0)
  reader.seek(9)
  t.is(reader.peek(5).length, 0)
})

withPool('#67 reading memory takes no turn of the event loop', async (t, pool) => {
  using buffer = MemoryBuffer.from('some data', { pool })
  // Arrow's ReadAsync gives a future that is finished already. Here the stream has its data at once.
  const stream = buffer.getReader().asReadable({ chunkSize: 4 })
  t.is((stream.read() as Buffer).toString(), 'some')
  t.is((stream.read() as Buffer).toString(), ' dat')
  stream.destroy()
  await once(stream, 'close')
})

withPool('#68 reads at places that do not exist', (t, pool) => {
  using buffer = MemoryBuffer.from('some data', { pool })
  const reader = buffer.getReader()
  const target = new Uint8Array(1)
  for (const value of [-1, 1.5, Number.NaN, 2 ** 53, '1', null, undefined, 1n, {}]) {
    // A negative length could never be right, a negative position is out of range.
    const code = value === -1 ? 'ERR_OFFHEAP_OUT_OF_RANGE' : 'ERR_OFFHEAP_INVALID_ARGUMENT'
    throwsCode(t, () => reader.read(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    throwsCode(t, () => reader.readAt(value as number, 1), code, 'position')
    throwsCode(t, () => reader.readAt(0, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    throwsCode(t, () => reader.readIntoAt(value as number, target), code, 'position')
    throwsCode(t, () => reader.peek(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    throwsCode(t, () => reader.getStream(value as number, 1), code, 'start')
    throwsCode(t, () => reader.getStream(0, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
  }
  throwsCode(t, () => reader.readAt(10, 1), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => reader.readIntoAt(10, target), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => reader.getStream(10, 1), 'ERR_OFFHEAP_OUT_OF_RANGE')
  t.is(text(reader.readAt(9, 1)), '')
  t.is(text(reader.readAt(5, Number.MAX_SAFE_INTEGER)), 'data')
  for (const value of [undefined, null, 5, 'text', {}, [1], buffer]) {
    throwsCode(t, () => reader.readInto(value as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'target')
  }
  throwsCode(t, () => reader.readInto(detachedBytes()), 'ERR_OFFHEAP_DISPOSED')
  t.is(reader.tell(), 0)
})

eachPool('#69 #114 what a reader gives holds the memory, after the reader and the buffer are gone', async (t, pool) => {
  const slices: MemoryBuffer[] = []
  ;(() => {
    const buffer = MemoryBuffer.from('data1data2', { pool })
    const reader = buffer.getReader()
    slices.push(reader.read(5), reader.read(5), reader.readAt(0, 10))
    t.is(slices[0]!.parent, buffer)
    t.is(slices[0]!.address, buffer.address)
    reader.close()
    buffer.dispose()
  })()
  await collectUntil(() => false, 3)
  t.deepEqual(slices.map(text), ['data1', 'data2', 'data1data2'])
})

withPool('#71 a reader over a buffer that is disposed says so', (t, pool) => {
  const buffer = MemoryBuffer.from('some data', { pool })
  const reader = buffer.getReader()
  const part = reader.getStream(0, 4)
  buffer.dispose()
  for (const each of [reader, part]) {
    throwsCode(t, () => each.read(1), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => each.readInto(new Uint8Array(1)), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => each.readAt(0, 1), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => each.peek(1), 'ERR_OFFHEAP_DISPOSED')
    throwsCode(t, () => each.asReadable(), 'ERR_OFFHEAP_DISPOSED')
    t.is(each.tell(), 0)
  }
  throwsCode(t, () => buffer.getReader(), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => new BufferReader(buffer), 'ERR_OFFHEAP_DISPOSED')
})

withPool('#72 parts of a reader have positions of their own, and close with it', (t, pool) => {
  using buffer = MemoryBuffer.from('just some example data', { pool })
  const reader = buffer.getReader()
  const first = reader.getStream(0, 10)
  const second = reader.getStream(9, 16)
  t.is(first.size, 10)
  t.is(second.size, 13)
  t.is(text(first.read(4)), 'just')
  t.is(text(second.read(5)), ' exam')
  t.is(text(first.read(100)), ' some ')
  t.is(text(first.read(1)), '')
  t.is(text(second.read(100)), 'ple data')
  t.is(reader.tell(), 0)
  throwsCode(t, () => first.seek(11), 'ERR_OFFHEAP_OUT_OF_RANGE')
  first.seek(0)
  const nested = first.getStream(5, 4)
  t.is(text(nested.read(100)), 'some')
  first.close()
  throwsCode(t, () => first.read(1), 'ERR_OFFHEAP_CLOSED')
  throwsCode(t, () => nested.read(1), 'ERR_OFFHEAP_CLOSED')
  t.false(second.closed)
  reader.close()
  t.true(second.closed)
  throwsCode(t, () => second.read(1), 'ERR_OFFHEAP_CLOSED')
})

withPool('the parts that a reader is made of are not for callers', (t, pool) => {
  using buffer = MemoryBuffer.from('0123456789', { pool })
  const Constructor = BufferReader as unknown as new (...values: unknown[]) => BufferReader
  const parent = buffer.getReader()
  for (const [start, size] of [
    [-5, 100],
    [5, 100],
    [Number.NaN, 5],
    ['x', 'y'],
    [2 ** 53, 5],
  ]) {
    // Whatever is passed, no byte outside of the buffer is ever read.
    let reader: BufferReader
    try {
      reader = new Constructor(buffer, start, size, parent)
    } catch (error) {
      t.regex((error as { code: string }).code, /^ERR_OFFHEAP_/)
      continue
    }
    for (const use of [() => text(reader.read(100)), () => reader.peek(100), () => reader.readInto(new Uint8Array(100)), () => text(reader.readAt(0, 100))]) {
      try {
        use()
      } catch (error) {
        t.regex((error as { code: string }).code, /^ERR_OFFHEAP_/, (error as Error).stack)
      }
    }
  }
})

// ---- MockOutputStream

withPool('#133 a mock stream tells the size that the real one has', (t, pool) => {
  const mock = new MockOutputStream()
  const stream = new BufferOutputStream({ pool })
  using buffer = MemoryBuffer.from('buffer', { pool })
  for (const bytes of ['text', '☃ 🎉 \ud800', '', buffer, buffer.asUint8Array(2), new ArrayBuffer(7), new Float64Array(3), new DataView(new ArrayBuffer(5), 1)]) {
    t.is(mock.write(bytes), stream.write(bytes))
    t.is(mock.tell(), stream.tell())
    t.is(mock.size, mock.tell())
  }
  using result = stream.finish()
  t.is(mock.size, result.size)
  t.is(pool.liveAllocations, 2)
  mock.close()
  mock.close()
  t.true(mock.closed)
  t.is(mock.size, result.size)
  throwsCode(t, () => mock.write('x'), 'ERR_OFFHEAP_CLOSED')
  throwsCode(t, () => mock.asWritable(), 'ERR_OFFHEAP_CLOSED')
  for (const value of [undefined, null, 5, {}, [1]]) {
    throwsCode(t, () => new MockOutputStream().write(value as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  }
})

// ---- Node streams

withPool('asReadable: the bytes, in chunks, without a copy, and the buffer pinned meanwhile', async (t, pool) => {
  const buffer = pool.allocateBuffer(300_000)
  const next = random(3)
  const expected = Buffer.from(buffer.asUint8Array().map(() => Math.floor(next() * 256)))
  buffer.asUint8Array().set(expected)
  const reader = buffer.getReader()
  reader.seek(5)
  const stream = reader.asReadable({ chunkSize: 10_000 })
  throwsCode(t, () => buffer.dispose(), 'ERR_OFFHEAP_BUSY')
  const chunks: Buffer[] = []
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    t.true(chunk.length <= 10_000)
    t.is(chunk.buffer, buffer.arrayBuffer)
    chunks.push(chunk)
  }
  t.true(Buffer.concat(chunks).equals(expected.subarray(5)))
  t.is(chunks.length, 30)
  t.true(stream.destroyed)
  buffer.dispose()
})

withPool('asReadable, destroyed half-way or in error: the buffer is free again', async (t, pool) => {
  const buffer = pool.allocateBuffer(100_000)
  const stream = buffer.getReader().asReadable({ chunkSize: 1000 })
  await once(stream, 'readable')
  stream.read(1000)
  stream.destroy()
  await once(stream, 'close')
  buffer.freeze()
  const reader = buffer.getReader()
  const closed = reader.asReadable()
  reader.close()
  const [error] = (await once(closed.resume(), 'error')) as [{ code: string }]
  t.is(error.code, 'ERR_OFFHEAP_CLOSED')
  await turns(2)
  buffer.dispose()
  for (const chunkSize of [0, -1, 1.5, Number.NaN, 2 ** 31, '1', null]) {
    throwsCode(t, () => new BufferReader(new Uint8Array(1)).asReadable({ chunkSize: chunkSize as number }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'chunkSize')
  }
})

withPool('asWritable: a pipeline into memory, and the stream closed at its end', async (t, pool) => {
  const stream = new BufferOutputStream({ pool })
  const mock = new MockOutputStream()
  const parts = Array.from({ length: 1000 }, (_, index) => `line ${index}\n`)
  await pipeline(Readable.from(parts), stream.asWritable())
  await pipeline(Readable.from(parts), mock.asWritable())
  t.true(stream.closed)
  t.true(mock.closed)
  using buffer = stream.finish()
  t.is(buffer.toString(), parts.join(''))
  t.is(mock.size, buffer.size)
})

withPool('asWritable of a fixed writer: too much is an error of the stream', async (t, pool) => {
  const buffer = pool.allocateBuffer(10, { zeroFill: true })
  const writer = buffer.getWriter()
  const writable = writer.asWritable()
  writable.write('12345')
  writable.write('6789')
  await t.throwsAsync(pipeline(Readable.from(['ab']), writable), { code: 'ERR_OFFHEAP_OUT_OF_RANGE' })
  t.is(buffer.toString(), '123456789\0')
  buffer.dispose()
})

withPool('from memory through Node streams into memory', async (t, pool) => {
  using source = MemoryBuffer.from('some data '.repeat(50_000), { pool })
  const stream = new BufferOutputStream({ pool })
  await pipeline(source.getReader().asReadable(), new PassThrough(), stream.asWritable())
  using result = stream.finish()
  t.true(result.equals(source))
})
