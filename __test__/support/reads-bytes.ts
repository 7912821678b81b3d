/**
 * What each method of a buffer is about: its bytes, or only where they are. A spec of a device runs both tables over that device's
 * memory: the first must refuse it, each with an error that says where the memory is and what to do; the second must work.
 * Nothing of ava's.
 */
import { devNull } from 'node:os'
import { open } from 'node:fs/promises'
import { inspect } from 'node:util'
import {
  BinaryBufferBuilder,
  BufferBuilder,
  BufferOutputStream,
  BufferReader,
  type Device,
  FixedSizeBufferWriter,
  MemoryBuffer,
  type MemoryManager,
  MockOutputStream,
  revokeShared,
} from 'offheap'

/** Something that is done with a buffer. */
type Act = (buffer: MemoryBuffer) => unknown

/** One act or more by the public name that they are of. */
export type Acts = Readonly<Record<string, Act | readonly Act[]>>

async function withFile<Result>(flags: string, body: (file: Awaited<ReturnType<typeof open>>) => Promise<Result>): Promise<Result> {
  const file = await open(devNull, flags)
  try {
    return await body(file)
  } finally {
    await file.close()
  }
}

/** Does something with an object that is given back afterwards. */
function using<Resource extends { dispose(): void }>(resource: Resource, act: (resource: Resource) => unknown): unknown {
  try {
    return act(resource)
  } finally {
    resource.dispose()
  }
}

const cpuBytes = (): MemoryBuffer => MemoryBuffer.wrap(new Uint8Array(200))

/** What reads or writes bytes, tried on a mutable buffer of 100 bytes. All of it must be refused where the CPU cannot reach them. */
export const readsBytes: Acts = {
  'MemoryBuffer.from': (buffer) => MemoryBuffer.from(buffer),
  'MemoryBuffer.concat': [(buffer) => MemoryBuffer.concat([buffer]), (buffer) => MemoryBuffer.concat([new Uint8Array(3), buffer, buffer])],
  'MemoryBuffer#arrayBuffer': (buffer) => buffer.arrayBuffer,
  'MemoryBuffer#copySlice': [(buffer) => buffer.copySlice(0), (buffer) => buffer.copySlice(3, 4), (buffer) => buffer.copySlice(5, 0)],
  'MemoryBuffer#asUint8Array': [(buffer) => buffer.asUint8Array(), (buffer) => buffer.asUint8Array(1, 2), (buffer) => buffer.asUint8Array(5, 0)],
  'MemoryBuffer#asUint8ClampedArray': (buffer) => buffer.asUint8ClampedArray(),
  'MemoryBuffer#asInt8Array': (buffer) => buffer.asInt8Array(),
  'MemoryBuffer#asInt16Array': (buffer) => buffer.asInt16Array(),
  'MemoryBuffer#asUint16Array': (buffer) => buffer.asUint16Array(),
  'MemoryBuffer#asInt32Array': (buffer) => buffer.asInt32Array(),
  'MemoryBuffer#asUint32Array': (buffer) => buffer.asUint32Array(),
  'MemoryBuffer#asBigInt64Array': (buffer) => buffer.asBigInt64Array(0, 1),
  'MemoryBuffer#asBigUint64Array': (buffer) => buffer.asBigUint64Array(0, 1),
  'MemoryBuffer#asFloat32Array': (buffer) => buffer.asFloat32Array(),
  'MemoryBuffer#asFloat64Array': (buffer) => buffer.asFloat64Array(0, 1),
  'MemoryBuffer#asDataView': (buffer) => buffer.asDataView(),
  'MemoryBuffer#asBuffer': (buffer) => buffer.asBuffer(),
  'MemoryBuffer#asSharedArrayBuffer': (buffer) => buffer.asSharedArrayBuffer(),
  'MemoryBuffer#flush': (buffer) => buffer.flush(),
  'MemoryBuffer#refresh': (buffer) => buffer.refresh(),
  'MemoryBuffer#equals': [
    (buffer) => buffer.equals(buffer),
    (buffer) => buffer.equals(buffer, 5),
    (buffer) => buffer.equals(buffer, 0),
    (buffer) => buffer.equals(new Uint8Array(100)),
    (buffer) => buffer.equals(new Uint8Array(1)),
    (buffer) => cpuBytes().equals(buffer),
    (buffer) => cpuBytes().equals(buffer, 5),
  ],
  'MemoryBuffer#compare': [(buffer) => buffer.compare(buffer), (buffer) => buffer.compare(new Uint8Array(5)), (buffer) => cpuBytes().compare(buffer)],
  'MemoryBuffer#toHex': (buffer) => buffer.toHex(),
  'MemoryBuffer#toString': [(buffer) => buffer.toString(), (buffer) => buffer.toString('hex'), (buffer) => String(buffer)],
  'MemoryBuffer#at': [(buffer) => buffer.at(0), (buffer) => buffer.at(-1)],
  'MemoryBuffer#fill': [(buffer) => buffer.fill(1), (buffer) => buffer.fill(1, 3, 5), (buffer) => buffer.fill(1, 3, 3)],
  'MemoryBuffer#zeroPadding': (buffer) => buffer.zeroPadding(),
  'MemoryBuffer#readFrom': [
    (buffer) => withFile('r', (file) => buffer.readFrom(file)),
    (buffer) => withFile('r', (file) => buffer.readFrom(file, { length: 0 })),
  ],
  'MemoryBuffer#writeTo': [
    (buffer) => withFile('w', (file) => buffer.writeTo(file)),
    (buffer) => withFile('w', (file) => buffer.writeTo(file, { length: 0 })),
  ],
  'MemoryBuffer#getReader': (buffer) => buffer.getReader(),
  'MemoryBuffer#getWriter': (buffer) => buffer.getWriter(),
  'MemoryBuffer#pin': (buffer) => buffer.pin(),
  'new BufferReader': (buffer) => new BufferReader(buffer),
  'new FixedSizeBufferWriter': (buffer) => new FixedSizeBufferWriter(buffer),
  'FixedSizeBufferWriter#write': (buffer) => cpuBytes().getWriter().write(buffer),
  'FixedSizeBufferWriter#writeAt': (buffer) => cpuBytes().getWriter().writeAt(0, buffer),
  'BufferBuilder#append': (buffer) => using(new BufferBuilder(), (builder) => builder.append(buffer)),
  'BinaryBufferBuilder#append': (buffer) => using(new BinaryBufferBuilder(), (builder) => builder.append(buffer)),
  'BinaryBufferBuilder#appendValues': (buffer) => using(new BinaryBufferBuilder(), (builder) => builder.appendValues(['a', buffer])),
  'BufferOutputStream#write': (buffer) => using(new BufferOutputStream(), (stream) => stream.write(buffer)),
}

/** What needs no byte, tried on a mutable buffer of 100 bytes that is the act's own. All of it must work wherever they are. */
export const readsNoBytes: Acts = {
  'MemoryBuffer#size': (buffer) => buffer.size,
  'MemoryBuffer#capacity': (buffer) => buffer.capacity,
  'MemoryBuffer#address': (buffer) => buffer.address,
  'MemoryBuffer#alignment': (buffer) => buffer.alignment,
  'MemoryBuffer#isCpu': (buffer) => buffer.isCpu,
  'MemoryBuffer#isMutable': (buffer) => buffer.isMutable,
  'MemoryBuffer#isResizable': (buffer) => buffer.isResizable,
  'MemoryBuffer#disposed': (buffer) => buffer.disposed,
  'MemoryBuffer#parent': (buffer) => buffer.parent,
  'MemoryBuffer#pool': (buffer) => buffer.pool,
  'MemoryBuffer#device': (buffer) => buffer.device,
  'MemoryBuffer#memoryManager': (buffer) => buffer.memoryManager,
  'MemoryBuffer#allocationSite': (buffer) => buffer.allocationSite,
  'MemoryBuffer#[Symbol.toStringTag]': (buffer) => buffer[Symbol.toStringTag],
  'MemoryBuffer#[inspect.custom]': (buffer) => inspect(buffer),
  'MemoryBuffer#slice': (buffer) => using(buffer.slice(3, 4), (slice) => slice.size),
  'MemoryBuffer#sliceMutable': (buffer) => using(buffer.sliceMutable(3, 4), (slice) => slice.size),
  'MemoryBuffer#subarray': (buffer) => using(buffer.subarray(-4), (slice) => slice.size),
  'MemoryBuffer#checkAlignment': (buffer) => buffer.checkAlignment(64),
  'MemoryBuffer#ensureAlignment': (buffer) => using(buffer.ensureAlignment(1), (slice) => slice.size),
  'MemoryBuffer#freeze': (buffer) => buffer.freeze().isMutable,
  'MemoryBuffer#share': (buffer) => {
    const ticket = buffer.share()
    try {
      return using(MemoryBuffer.fromShared(ticket), ({ size }) => size)
    } finally {
      revokeShared(ticket)
    }
  },
  'MemoryBuffer.fromShared': (buffer) => revokeShared(buffer.share()),
  'MemoryBuffer#viewOn': (buffer) => using(buffer.viewOn(buffer.memoryManager), ({ size }) => size),
  'MemoryBuffer#viewOrCopyTo': (buffer) => using(buffer.viewOrCopyTo(buffer.memoryManager), ({ size }) => size),
  'MemoryBuffer#dispose': (buffer) => buffer.dispose(),
  'MemoryBuffer#[Symbol.dispose]': (buffer) => buffer[Symbol.dispose](),
  'MockOutputStream#write': (buffer) => new MockOutputStream().write(buffer),
}

/** Names that are in neither table: why, and which. */
export const elsewhere: readonly (readonly [reason: string, names: readonly string[]])[] = [
  ['has no buffer', ['new MemoryBuffer', 'MemoryBuffer.wrap', 'MemoryBuffer.unsafeForeign']],
  ['is of resizable buffers, which the CPU can always reach', ['MemoryBuffer#resize', 'MemoryBuffer#reserve']],
  ['is what moves bytes between devices', ['MemoryBuffer#copyTo']],
]

/** The acts of a table, one by one, with a title. */
export function actsOf(table: Acts): { title: string; act: Act }[] {
  return Object.entries(table).flatMap(([name, acts]) => (typeof acts === 'function' ? [acts] : acts).map((act) => ({ title: `${name}: ${act}`, act })))
}

/** What bytes are when they have been brought to the CPU. */
export function bytesOf(buffer: MemoryBuffer, cpu: MemoryManager | Device): string {
  return using(buffer.copyTo(cpu), (copy) => copy.toHex()) as string
}
