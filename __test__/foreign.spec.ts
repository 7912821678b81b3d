import test, { type ExecutionContext } from 'ava'
import { capabilities, defaultMemoryPool, MemoryBuffer, totalAllocatedBytes } from 'offheap'
import { collectUntil, detachedArrayBuffer, detachedBytes, rejectsCode, throwsCode, turns } from './support.js'

test('#30 wrap: what is written to the buffer is in the ArrayBuffer', (t) => {
  const bytes = new Uint8Array(16)
  const before = totalAllocatedBytes()
  const buffer = MemoryBuffer.wrap(bytes)
  t.is(buffer.size, 16)
  t.is(buffer.capacity, 16)
  t.true(buffer.isMutable)
  t.false(buffer.isResizable)
  t.true(buffer.isCpu)
  t.is(buffer.pool, undefined)
  t.is(buffer.parent, undefined)
  buffer.fill(3, 4, 8)
  t.deepEqual([...bytes], [0, 0, 0, 0, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0])
  for (const [start, end] of [
    [0, 17],
    [17, undefined],
    [-1, 4],
    [5, 4],
  ] as const) {
    throwsCode(t, () => buffer.fill(9, start, end), 'ERR_OFFHEAP_OUT_OF_RANGE')
  }
  throwsCode(t, () => buffer.copySlice(10, 7), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => buffer.at(16), 'ERR_OFFHEAP_OUT_OF_RANGE')
  throwsCode(t, () => buffer.asUint8Array(10, 7), 'ERR_OFFHEAP_OUT_OF_RANGE')
  t.deepEqual([...bytes], [0, 0, 0, 0, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0])
  buffer.getWriter().write('abc')
  t.is(Buffer.from(bytes).subarray(0, 3).toString(), 'abc')
  const slice = buffer.sliceMutable(8)
  slice.fill(9)
  t.is(bytes[15], 9)
  t.is(slice.parent, buffer)
  t.is(totalAllocatedBytes(), before)
  buffer.dispose()
  t.is(bytes.length, 16)
  t.is(bytes[15], 9)
  throwsCode(t, () => buffer.size, 'ERR_OFFHEAP_DISPOSED')
  slice.dispose()
})

test('#22 #71 the memory lives as long as a handle on it, whatever happens to the source', async (t) => {
  const buffers: MemoryBuffer[] = []
  ;(() => {
    const source = Buffer.from('some memory that nobody else holds')
    buffers.push(MemoryBuffer.wrap(source).slice(5, 6))
    buffers.push(MemoryBuffer.from(source).slice(5, 6))
  })()
  await collectUntil(() => false, 5)
  for (const buffer of buffers) {
    t.is(buffer.toString(), 'memory')
    buffer.dispose()
  }
})

test('#115 wrap takes an ArrayBuffer or a view of one, nothing else', (t) => {
  const bytes = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])
  for (const [source, hex] of [
    [bytes, '0102030405060708'],
    [bytes.buffer, '0102030405060708'],
    [bytes.subarray(2, 4), '0304'],
    [new DataView(bytes.buffer, 6), '0708'],
    [new Float64Array(bytes.buffer), '0102030405060708'],
    [Buffer.from([1, 2]), '0102'],
    [new SharedArrayBuffer(2), '0000'],
    [new Uint8Array(0), ''],
  ] as const) {
    using buffer = MemoryBuffer.wrap(source)
    t.is(buffer.toHex(), hex)
    t.true(buffer.isMutable)
  }
  const buffer = defaultMemoryPool().allocateBuffer(1)
  for (const source of [undefined, null, 5, 'text', [1, 2], {}, { byteLength: 4, buffer: bytes.buffer }, Symbol('x'), buffer, () => 1]) {
    throwsCode(t, () => MemoryBuffer.wrap(source as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'source')
  }
  buffer.dispose()
  throwsCode(t, () => MemoryBuffer.wrap(detachedArrayBuffer()), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => MemoryBuffer.wrap(detachedBytes()), 'ERR_OFFHEAP_DISPOSED')
  const view = new DataView(new ArrayBuffer(8), 4)
  structuredClone(view.buffer, { transfer: [view.buffer] })
  throwsCode(t, () => MemoryBuffer.wrap(view), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => MemoryBuffer.from(view), 'ERR_OFFHEAP_DISPOSED')
})

test('#120 wrap is of contiguous bytes by nature: lengths that lie are not believed', (t) => {
  const bytes = new Uint8Array(8)
  Object.defineProperty(bytes, 'byteLength', { value: 1_000_000 })
  Object.defineProperty(bytes, 'byteOffset', { value: 4 })
  Object.defineProperty(bytes, 'buffer', { value: new ArrayBuffer(2 ** 20) })
  using buffer = MemoryBuffer.wrap(bytes)
  t.is(buffer.size, 8)
  buffer.fill(1)
  t.deepEqual([...bytes], [1, 1, 1, 1, 1, 1, 1, 1])
  class Liar extends Uint8Array {
    override get length(): number {
      return 1_000_000
    }
  }
  using copy = MemoryBuffer.from(new Liar(4))
  t.is(copy.size, 4)
  using second = MemoryBuffer.concat([new Liar(4)])
  t.is(second.size, 4)
})

/** Everything that reads or writes the bytes of a wrapped buffer. */
const uses: Record<string, (buffer: MemoryBuffer) => unknown> = {
  at: (buffer) => buffer.at(0),
  toHex: (buffer) => buffer.toHex(),
  toString: (buffer: MemoryBuffer) => buffer.toString(),
  equals: (buffer) => buffer.equals(new Uint8Array(16)),
  equalsBytes: (buffer) => buffer.equals(new Uint8Array(16), 1),
  equalsOther: (buffer) => MemoryBuffer.from(new Uint8Array(16)).equals(buffer),
  compare: (buffer) => buffer.compare(new Uint8Array(16)),
  fill: (buffer) => buffer.fill(1),
  fillNothing: (buffer) => buffer.fill(1, 0, 0),
  zeroPadding: (buffer) => buffer.zeroPadding(),
  arrayBuffer: (buffer) => buffer.arrayBuffer,
  asUint8Array: (buffer) => buffer.asUint8Array(),
  asFloat64Array: (buffer) => buffer.asFloat64Array(),
  asDataView: (buffer) => buffer.asDataView(),
  asBuffer: (buffer) => buffer.asBuffer(),
  viewOfNothing: (buffer) => buffer.asUint8Array(0, 0),
  copySlice: (buffer) => buffer.copySlice(0, 4),
  ensureAlignment: (buffer) => buffer.ensureAlignment(8),
  from: (buffer) => MemoryBuffer.from(buffer),
  concat: (buffer) => MemoryBuffer.concat([buffer]),
  slice: (buffer) => buffer.slice(0, 4).at(0),
  reader: (buffer) => buffer.getReader().readInto(new Uint8Array(4)),
  readerSlice: (buffer) => buffer.getReader().read(4).toHex(),
  readerPeek: (buffer) => buffer.getReader().peek(4),
  writer: (buffer) => buffer.getWriter().write('a'),
  writerAt: (buffer) => buffer.getWriter().writeAt(0, 'a'),
}

function gone(t: ExecutionContext, buffer: MemoryBuffer, what: string): void {
  const before = totalAllocatedBytes()
  for (const [name, use] of Object.entries(uses)) {
    t.notThrows(() => throwsCode(t, () => use(buffer), 'ERR_OFFHEAP_DISPOSED'), `${name} of ${what}`)
  }
  // What asks for no bytes still answers, and the handle can be disposed.
  t.is(typeof buffer.size, 'number')
  buffer.dispose()
  t.true(totalAllocatedBytes() - before <= 16, 'a use that failed kept memory')
}

test('wrap: an ArrayBuffer that is transferred by structuredClone is gone, never read stale', (t) => {
  const bytes = new Uint8Array(16).fill(1)
  const buffer = MemoryBuffer.wrap(bytes)
  const slice = buffer.sliceMutable(0)
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  gone(t, buffer, 'a transferred ArrayBuffer')
  gone(t, slice, 'a slice of a transferred ArrayBuffer')
})

test('wrap: an ArrayBuffer that is posted away is gone', async (t) => {
  const bytes = new Uint8Array(16)
  const buffer = MemoryBuffer.wrap(bytes)
  const { port1, port2 } = new MessageChannel()
  port1.postMessage(bytes.buffer, [bytes.buffer])
  gone(t, buffer, 'a posted ArrayBuffer')
  port1.close()
  port2.close()
  await turns()
})

test('wrap: transfer() takes the bytes away', (t) => {
  const bytes = new Uint8Array(16)
  if (!('transfer' in ArrayBuffer.prototype)) {
    t.log('this runtime has no ArrayBuffer.prototype.transfer')
    t.pass()
    return
  }
  for (const length of [undefined, 16, 8, 1000, 0]) {
    const source = new ArrayBuffer(16)
    const buffer = MemoryBuffer.wrap(source)
    ;(source as unknown as { transfer(length?: number): ArrayBuffer }).transfer(length)
    gone(t, buffer, `transfer(${length})`)
  }
  t.is(bytes.length, 16)
})

test('wrap: a resizable ArrayBuffer that shrinks is gone where it no longer reaches, and back when it grows', (t) => {
  const Resizable = ArrayBuffer as unknown as new (size: number, options: { maxByteLength: number }) => ArrayBuffer & { resize(size: number): void }
  const source = new Resizable(16, { maxByteLength: 64 })
  const whole = MemoryBuffer.wrap(source)
  const start = MemoryBuffer.wrap(new Uint8Array(source, 0, 8))
  const end = MemoryBuffer.wrap(new Uint8Array(source, 8, 8))
  const tracking = MemoryBuffer.wrap(new Uint8Array(source, 4))
  start.fill(7)
  source.resize(8)
  t.is(start.toHex(), '0707070707070707')
  throwsCode(t, () => whole.at(0), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => end.at(0), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => tracking.at(0), 'ERR_OFFHEAP_DISPOSED')
  source.resize(64)
  t.is(whole.size, 16)
  t.is(whole.subarray(6, 10).toHex(), '07070000')
  source.resize(0)
  gone(t, whole, 'a shrunk ArrayBuffer')
  gone(t, start, 'a shrunk ArrayBuffer')
})

test('wrap: WebAssembly.Memory.grow detaches the old bytes', (t) => {
  interface Memory {
    readonly buffer: ArrayBuffer
    grow(pages: number): number
  }
  const { WebAssembly } = globalThis as unknown as { WebAssembly: { Memory: new (pages: { initial: number; maximum: number }) => Memory } }
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 3 })
  const buffer = MemoryBuffer.wrap(new Uint8Array(memory.buffer, 0, 16))
  const all = MemoryBuffer.wrap(memory.buffer)
  buffer.fill(5)
  t.is(all.at(15), 5)
  memory.grow(1)
  gone(t, buffer, 'a grown WebAssembly.Memory')
  throwsCode(t, () => all.at(0), 'ERR_OFFHEAP_DISPOSED')
  using now = MemoryBuffer.wrap(memory.buffer)
  t.is(now.at(15), 5)
})

test('wrap: a SharedArrayBuffer that grows stays', (t) => {
  const Growable = SharedArrayBuffer as unknown as new (size: number, options: { maxByteLength: number }) => SharedArrayBuffer & { grow(size: number): void }
  const source = new Growable(16, { maxByteLength: 64 })
  using buffer = MemoryBuffer.wrap(source)
  source.grow(64)
  t.is(buffer.size, 16)
  t.is(buffer.fill(1).at(15), 1)
})

test('wrap: bytes that vanish while the caller’s own code runs are missed, not taken for none', (t) => {
  /** Options and an element whose reading detaches `bytes`. */
  const hostile = (bytes: Uint8Array<ArrayBuffer>) => ({
    get pool(): undefined {
      structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
      return undefined
    },
  })
  const calls: Record<string, (bytes: Uint8Array<ArrayBuffer>, buffer: MemoryBuffer) => unknown> = {
    copySlice: (bytes, buffer) => buffer.copySlice(0, 16, hostile(bytes)),
    ensureAlignment: (bytes, buffer) => buffer.ensureAlignment(8, hostile(bytes)),
    from: (bytes) => MemoryBuffer.from(bytes, hostile(bytes)),
    fromBuffer: (bytes, buffer) => MemoryBuffer.from(buffer, hostile(bytes)),
    concat: (bytes, buffer) => MemoryBuffer.concat([bytes, buffer], hostile(bytes)),
    concatElement: (bytes) => MemoryBuffer.concat(Object.defineProperty([bytes], 1, { get: () => (hostile(bytes).pool, new Uint8Array(1)) })),
  }
  for (const [name, call] of Object.entries(calls)) {
    const bytes = new Uint8Array(16).fill(1)
    using buffer = MemoryBuffer.wrap(bytes)
    t.notThrows(() => throwsCode(t, () => call(bytes, buffer), 'ERR_OFFHEAP_DISPOSED'), name)
  }
})

test('wrap: never handed to another thread, and no native memory of it', async (t) => {
  using buffer = MemoryBuffer.wrap(new Uint8Array(4))
  throwsCode(t, () => buffer.share(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => buffer.slice(1).share(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => buffer.asSharedArrayBuffer(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => buffer.resize(10), 'ERR_OFFHEAP_NOT_SUPPORTED')
  await rejectsCode(t, buffer.readFrom(5 as never), 'ERR_OFFHEAP_INVALID_ARGUMENT')
})

test('wrap: freeze keeps others from writing through offheap', (t) => {
  const bytes = new Uint8Array(4)
  using buffer = MemoryBuffer.wrap(bytes)
  buffer.freeze()
  throwsCode(t, () => buffer.fill(1), 'ERR_OFFHEAP_IMMUTABLE')
  throwsCode(t, () => buffer.getWriter(), 'ERR_OFFHEAP_IMMUTABLE')
  t.is(bytes.length, 4)
})

test('arrayBuffer of a wrapped whole is the one that was given, of a part it is refused', (t) => {
  const source = new ArrayBuffer(8)
  using whole = MemoryBuffer.wrap(source)
  t.is(whole.arrayBuffer, source)
  t.is(whole.asFloat64Array().buffer, source)
  using part = MemoryBuffer.wrap(new Uint8Array(source, 4))
  throwsCode(t, () => part.arrayBuffer, 'ERR_OFFHEAP_NOT_SUPPORTED')
  t.is(part.asUint32Array().byteOffset, 4)
  throwsCode(t, () => part.asFloat64Array(), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'multiple')
})

/** Memory of a pool of ours, taken for that of another library. */
function foreign(bytes: number) {
  const memory = defaultMemoryPool().allocateBuffer(bytes)
  return { memory, address: memory.address }
}

test('#127 unsafeForeign reads and writes the memory at an address, and counts nothing', (t) => {
  const { memory, address } = foreign(64)
  memory.fill(0x11)
  const before = totalAllocatedBytes()
  const buffer = MemoryBuffer.unsafeForeign(address, 64, memory)
  t.is(totalAllocatedBytes(), before)
  t.is(buffer.address, address)
  t.is(buffer.size, 64)
  t.is(buffer.pool, undefined)
  t.true(buffer.isMutable)
  t.false(buffer.isResizable)
  t.is(buffer.at(63), 0x11)
  buffer.fill(0x22, 0, 1)
  t.is(memory.at(0), 0x22)
  buffer.asUint8Array()[1] = 0x33
  t.is(memory.at(1), 0x33)
  t.is(buffer.asFloat64Array().length, 8)
  throwsCode(t, () => buffer.resize(128), 'ERR_OFFHEAP_NOT_SUPPORTED')
  throwsCode(t, () => buffer.share(), 'ERR_OFFHEAP_NOT_SUPPORTED')
  const slice = buffer.slice(32)
  buffer.dispose()
  t.is(slice.at(0), 0x11)
  slice.dispose()
  t.is(memory.at(63), 0x11)
  // A number will do where it is safe.
  using byNumber = MemoryBuffer.unsafeForeign(Number(address), 64, memory)
  t.is(byNumber.at(1), 0x33)
  memory.dispose()
})

test('#117 #127 the owner of foreign memory is kept by every handle and view, and let go with the last', async (t) => {
  const kept: unknown[] = []
  const owners: WeakRef<object>[] = []
  const memory = defaultMemoryPool().allocateBuffer(64).fill(5)
  const make = () => {
    const owner = { keeps: memory }
    owners.push(new WeakRef(owner))
    return MemoryBuffer.unsafeForeign(memory.address, 64, owner)
  }
  const isGone = () => owners[0]!.deref() === undefined
  ;(() => kept.push(make()))()
  t.false(await collectUntil(isGone, 5), 'the handle did not keep the owner')
  ;(() => {
    const buffer = kept.pop() as MemoryBuffer
    kept.push(buffer.slice(8))
    buffer.dispose()
  })()
  t.false(await collectUntil(isGone, 5), 'the slice did not keep the owner')
  if (capabilities().externalBuffers) {
    ;(() => kept.push((kept.pop() as MemoryBuffer).asUint8Array()))()
    t.false(await collectUntil(isGone, 5), 'the view did not keep the owner')
  }
  kept.length = 0
  t.true(await collectUntil(isGone), 'the owner was never let go')
  ;(() => {
    const buffer = make()
    buffer.asUint8Array()
    buffer.dispose()
  })()
  t.true(await collectUntil(() => owners[1]!.deref() === undefined), 'the owner was not let go after dispose')
  memory.dispose()
})

test('unsafeForeign refuses what cannot be an address', (t) => {
  for (const address of [-1, 1.5, Number.NaN, 2 ** 53, '0x10', null, undefined, {}, -1n, 2n ** 64n, 2n ** 53n, Symbol('x')]) {
    throwsCode(t, () => MemoryBuffer.unsafeForeign(address as never, 8, null), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'address')
  }
  throwsCode(t, () => MemoryBuffer.unsafeForeign(0n, 8, null), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'address')
  for (const size of [-1, 1.5, Number.NaN, 2 ** 53, '8', null, undefined, {}, 8n]) {
    throwsCode(t, () => MemoryBuffer.unsafeForeign(4096n, size as never, null), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'size')
  }
  // A range that would wrap around the end of the address space.
  throwsCode(t, () => MemoryBuffer.unsafeForeign(2 ** 53 - 1, 2 ** 53 - 1, null), 'ERR_OFFHEAP_OUT_OF_RANGE')
})

test('#116 nothing at no address: an empty buffer that still has an address', (t) => {
  const { memory, address } = foreign(8)
  using empty = MemoryBuffer.unsafeForeign(address, 0, memory)
  t.is(empty.size, 0)
  t.is(empty.asUint8Array().length, 0)
  using nothing = defaultMemoryPool().allocateBuffer(0)
  t.true(nothing.address > 0n)
  using text = MemoryBuffer.from('')
  t.true(text.address > 0n)
  memory.dispose()
})
