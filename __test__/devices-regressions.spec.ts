/** What hostile arguments broke once, where no GPU is needed. */
import test from 'ava'
import { defaultMemoryPool, MemoryBuffer } from 'offheap'
import * as arrow from 'offheap/arrow'
import { throwsCode } from './support.js'

test('toArrowDevice: without a length it takes all elements, of every format', (t) => {
  using buffer = defaultMemoryPool().allocateBuffer(1024)
  const widths: Record<string, number> = { b: 1, c: 8, e: 16, i: 32, g: 64, 'w:3': 24, 'w:16': 128, 'd:38,10': 128, 'd:38,-10': 128, 'd:9,2,32': 32, 'd:70,2,256': 256 }
  for (const format of ['tdD', 'tts', 'ttm', 'tiM']) widths[format] = 32
  for (const format of ['tdm', 'ttu', 'ttn', 'tss:', 'tsn:Europe/Oslo', 'tDs', 'tDm', 'tDu', 'tDn', 'tiD']) widths[format] = 64
  widths['tin'] = 128
  for (const [format, bits] of Object.entries(widths)) {
    const all = arrow.fromArrowDevice(arrow.toArrowDevice(buffer, format))
    t.is(all.length, Math.floor((1024 * 8) / bits), format)
    const behind = arrow.fromArrowDevice(arrow.toArrowDevice(buffer, format, { offset: 3 }))
    t.is(behind.length, all.length - 3, format)
    all.buffer.dispose()
    behind.buffer.dispose()
  }
  throwsCode(t, () => arrow.toArrowDevice(buffer, 'w:0'), 'ERR_OFFHEAP_INVALID_ARGUMENT', /length/)
})

test('toArrowDevice: what is no format is said to be none, also where objects have a property of that name', (t) => {
  using buffer = defaultMemoryPool().allocateBuffer(64)
  for (const format of ['__proto__', 'constructor', 'toString', '', 'gg', 'ts', 'd:', 'w:', 'w:-1', 'w:99999999999999999999', 'd:38,10,7']) {
    throwsCode(t, () => arrow.toArrowDevice(buffer, format), 'ERR_OFFHEAP_INVALID_ARGUMENT', /^format must be/)
  }
})

test('toDlpack: a shape or strides with billions of dimensions are refused before one is read', (t) => {
  using buffer = defaultMemoryPool().allocateBuffer(64)
  let reads = 0
  const endless = new Proxy([] as number[], { get: (_, key) => (key === 'length' ? 2 ** 32 - 1 : ((reads += 1), 1)) })
  for (const shape of [endless, Object.assign([] as number[], { length: 2 ** 32 - 1 })]) {
    throwsCode(t, () => arrow.toDlpack(buffer, 'uint8', { shape }), 'ERR_OFFHEAP_INVALID_ARGUMENT', /shape must have at most 64 dimensions/)
    throwsCode(t, () => arrow.toDlpack(buffer, 'uint8', { strides: shape }), 'ERR_OFFHEAP_INVALID_ARGUMENT', /strides must have at most 64 dimensions/)
  }
  t.is(reads, 0)
  let lengths = 0
  const growing = new Proxy([] as number[], { get: (_, key) => (key === 'length' ? ((lengths += 1), lengths === 1 ? 2 : 2 ** 32 - 1) : 2) })
  arrow.toDlpack(buffer, 'uint8', { shape: growing }).dispose()
  t.is(lengths, 1)
})

// Its elements were read, and so made, before one was checked: the heap was full, which ends the process.
test('an array of billions of holes is refused at its first', (t) => {
  const holes = Object.assign([], { length: 2 ** 32 - 1 })
  throwsCode(t, () => MemoryBuffer.from(holes), 'ERR_OFFHEAP_INVALID_ARGUMENT', /source\[0\]/)
  throwsCode(t, () => MemoryBuffer.concat(holes), 'ERR_OFFHEAP_INVALID_ARGUMENT', /buffers\[0\]/)
})
