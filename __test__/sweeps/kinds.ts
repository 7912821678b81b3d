/** The objects that operations are tried on. */
import {
  Arena,
  BinaryBufferBuilder,
  BufferBuilder,
  BufferOutputStream,
  BufferReader,
  type ElementOf,
  type ElementType,
  FixedSizeBufferWriter,
  MemoryBuffer,
  type MemoryPool,
  OutOfMemoryError,
  type Pin,
  TypedBufferBuilder,
} from 'offheap'
import type { Kind } from './harness.js'

/** Bytes that are all different for a while. */
export function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + 1) & 255)
}

/** Makes something of a buffer; without it, the buffer goes. */
function orDispose<Value>(buffer: MemoryBuffer, make: (buffer: MemoryBuffer) => Value): Value {
  try {
    return make(buffer)
  } catch (error) {
    buffer.dispose()
    throw error
  }
}

function filled(buffer: MemoryBuffer): MemoryBuffer {
  return orDispose(buffer, () => {
    const writer = buffer.getWriter()
    writer.write(pattern(buffer.size))
    return buffer
  })
}

function seen(buffer: MemoryBuffer): unknown {
  if (buffer.disposed) return 'disposed'
  const { size, capacity, isMutable, isResizable } = buffer
  const address = buffer.pool === undefined ? undefined : buffer.address
  return { size, capacity, isMutable, isResizable, address, hex: buffer.toHex() }
}

const contents = (buffer: MemoryBuffer): unknown => {
  if (buffer.disposed) return 'disposed'
  const { size, isMutable, isResizable } = buffer
  // Through a view, which must still be there to be had; what was not written holds anything.
  return { size, isMutable, isResizable, hex: Buffer.from(buffer.asUint8Array(0, Math.min(size, 100))).toString('hex') }
}

function bufferKind(make: (pool: MemoryPool) => MemoryBuffer): Kind<MemoryBuffer> {
  return { make: (pool) => make(pool), look: seen, contents, dispose: (buffer) => buffer.dispose() }
}

/** The pool itself. */
export const pool: Kind<MemoryPool> = {
  make: (pool) => pool,
  look: ({ name, backendName, limitBytes, closed }) => ({ name, backendName, limitBytes, closed }),
  contents: () => undefined,
  dispose: () => undefined,
}

/** 100 mutable bytes. */
export const buffer = bufferKind((pool) => filled(pool.allocateBuffer(100)))
export const resizable = bufferKind((pool) => filled(pool.allocateResizableBuffer(100)))
export const immutable = bufferKind((pool) => MemoryBuffer.from(pattern(100), { pool }))
export const wrapped = bufferKind(() => MemoryBuffer.wrap(pattern(100)))

/** A buffer of which a view is in somebody's hands. */
export interface Shown {
  readonly buffer: MemoryBuffer
  readonly view: Uint8Array
}

/** 100 resizable bytes with a view, which a failure must not end. */
export const shown: Kind<Shown> = {
  make: (pool) => {
    const buffer = resizable.make(pool)
    return orDispose(buffer, () => ({ buffer, view: buffer.asUint8Array() }))
  },
  look: ({ buffer, view }) => ({ buffer: seen(buffer), view: Buffer.from(view).toString('hex'), isCurrent: buffer.arrayBuffer === view.buffer }),
  contents: ({ buffer, view }) => ({ buffer: contents(buffer), viewed: view.byteLength }),
  dispose: ({ buffer }) => buffer.dispose(),
}

/** Two buffers of 100 bytes. */
export const buffers: Kind<readonly MemoryBuffer[]> = {
  make: (pool) => {
    const first = buffer.make(pool)
    return orDispose(first, () => [first, immutable.make(pool)])
  },
  look: (both) => both.map(seen),
  contents: (both) => both.map(contents),
  dispose: (both) => {
    for (const one of both) one.dispose()
  },
}

/** A builder with 60 bytes and room for 64. */
export const builder: Kind<BufferBuilder> = {
  make: (pool) => {
    const builder = new BufferBuilder({ pool, capacity: 64 })
    builder.append(pattern(60))
    return builder
  },
  look: lookAtBuilder,
  contents: finishBuilder,
  dispose: (builder) => builder.dispose(),
}
/** One without memory. */
export const emptyBuilder: Kind<BufferBuilder> = { ...builder, make: (pool) => new BufferBuilder({ pool }) }

function lookAtBuilder(builder: BufferBuilder): unknown {
  return builder.disposed ? 'disposed' : { length: builder.length, capacity: builder.capacity }
}

function finishBuilder(builder: { disposed: boolean; finish(options: { shrinkToFit: boolean }): MemoryBuffer }): unknown {
  if (builder.disposed) return 'disposed'
  const buffer = builder.finish({ shrinkToFit: false })
  const hex = buffer.toHex()
  buffer.dispose()
  return hex
}

function typedKind<Type extends ElementType>(
  type: Type,
  options: { elements: number; capacity: number; element: (index: number) => ElementOf<Type> },
): Kind<TypedBufferBuilder<Type>> {
  return {
    make: (pool) => {
      const { elements, capacity, element } = options
      const builder = new TypedBufferBuilder<Type>(type, { pool, capacity })
      for (let index = 0; index < elements; index += 1) builder.append(element(index))
      return builder
    },
    look: (builder) => {
      if (builder.disposed) return 'disposed'
      const { length, capacity, lengthInBytes } = builder
      return { length, capacity, lengthInBytes, falses: type === 'bool' ? builder.falseCount : 0 }
    },
    contents: finishBuilder,
    dispose: (builder) => builder.dispose(),
  }
}

/** Builders with room for four elements more, or four bits. */
export const int32s = typedKind('int32', { elements: 12, capacity: 16, element: (index) => index * 1001 })
export const int64s = typedKind('int64', { elements: 4, capacity: 8, element: (index) => BigInt(index) * 10n ** 15n })
export const bools = typedKind('bool', { elements: 508, capacity: 512, element: (index) => index % 3 === 0 })
export const emptyInt32s = typedKind('int32', { elements: 0, capacity: 0, element: () => 0 })
/** Much more room than elements. */
export const roomyInt32s = typedKind('int32', { elements: 12, capacity: 1000, element: (index) => index * 1001 })
export const roomyBools = typedKind('bool', { elements: 100, capacity: 10_000, element: (index) => index % 3 === 0 })
export const roomyBuilder: Kind<BufferBuilder> = {
  ...builder,
  make: (pool) => {
    const builder = new BufferBuilder({ pool, capacity: 1000 })
    builder.append(pattern(60))
    return builder
  },
}

function binaryKind(make: (pool: MemoryPool) => BinaryBufferBuilder): Kind<BinaryBufferBuilder> {
  return {
    make,
    look: (builder) => {
      if (builder.disposed) return 'disposed'
      const { length, lengthInBytes, capacity, capacityInBytes, offsetType } = builder
      return { length, lengthInBytes, capacity, capacityInBytes, offsetType }
    },
    contents: (builder) => {
      if (builder.disposed) return 'disposed'
      const { offsets, data } = builder.finish({ shrinkToFit: false })
      const hex = [offsets.toHex(), data.toHex()]
      offsets.dispose()
      data.dispose()
      return hex
    },
    dispose: (builder) => builder.dispose(),
  }
}

/** 15 values of 4 bytes: room for no more value, and for 4 bytes more. */
export const strings = binaryKind((pool) => {
  const builder = new BinaryBufferBuilder({ pool, capacity: 15, capacityInBytes: 64 })
  for (let index = 0; index < 15; index += 1) builder.append(`v${index}`.padEnd(4, '-'))
  return builder
})
export const emptyStrings = binaryKind((pool) => new BinaryBufferBuilder({ pool }))
/** Much more room than values. */
export const roomyStrings = binaryKind((pool) => {
  const builder = new BinaryBufferBuilder({ pool, offsets: 'int64', capacity: 1000, capacityInBytes: 1000 })
  builder.appendValues(['one', 'two', pattern(20)])
  return builder
})

/** An arena with one chunk of 1024 bytes, of which 100 are in use. */
export interface Used {
  readonly arena: Arena
  readonly array: Uint8Array
}

export const arena: Kind<Used> = {
  make: (pool) => {
    const arena = new Arena({ pool, chunkSize: 1024 })
    const array = arena.alloc(100)
    array.set(pattern(100))
    return { arena, array }
  },
  look: lookAtArena,
  contents: ({ arena, array }) => ({ array: Buffer.from(array).toString('hex'), used: arena.disposed ? -1 : arena.used }),
  dispose: ({ arena }) => arena.dispose(),
}

function lookAtArena({ arena, array }: Used): unknown {
  const text = Buffer.from(array).toString('hex')
  return arena.disposed ? { text } : { text, used: arena.used, bytesAllocated: arena.bytesAllocated }
}

/** A stream with 60 bytes and room for 64. */
export const output: Kind<BufferOutputStream> = {
  make: (pool) => {
    const stream = new BufferOutputStream({ pool, capacity: 64 })
    stream.write(pattern(60))
    return stream
  },
  look: (stream) => ({ position: stream.tell(), capacity: stream.capacity, closed: stream.closed }),
  contents: (stream) => {
    try {
      return finishBuilder({ disposed: false, finish: (options) => stream.finish(options) })
    } catch (error) {
      if (error instanceof OutOfMemoryError) throw error
      return 'finished' // or disposed
    }
  },
  dispose: (stream) => stream.dispose(),
}

/** A reader over 100 bytes, at the tenth. */
export const reader: Kind<{ reader: BufferReader; buffer: MemoryBuffer }> = {
  make: (pool) => {
    const made = buffer.make(pool)
    return orDispose(made, () => {
      const reader = new BufferReader(made)
      reader.seek(10)
      return { reader, buffer: made }
    })
  },
  look: ({ reader, buffer }) => [seen(buffer), reader.closed ? 'closed' : reader.tell()],
  contents: ({ reader, buffer }) => [contents(buffer), reader.closed ? 'closed' : reader.tell()],
  dispose: ({ buffer }) => buffer.dispose(),
}

/** A writer into 100 bytes, at the tenth. */
export const writer: Kind<{ writer: FixedSizeBufferWriter; buffer: MemoryBuffer }> = {
  make: (pool) => {
    const made = buffer.make(pool)
    return orDispose(made, () => {
      const writer = new FixedSizeBufferWriter(made)
      writer.seek(10)
      return { writer, buffer: made }
    })
  },
  look: ({ writer, buffer }) => [seen(buffer), writer.closed ? 'closed' : writer.tell()],
  contents: ({ writer, buffer }) => [contents(buffer), writer.closed ? 'closed' : writer.tell()],
  dispose: ({ buffer }) => buffer.dispose(),
}

/** A buffer that is pinned once. */
export const pinned: Kind<{ pin: Pin; buffer: MemoryBuffer }> = {
  make: (pool) => {
    const made = buffer.make(pool)
    return orDispose(made, () => ({ pin: made.pin(), buffer: made }))
  },
  look: ({ pin, buffer }) => [seen(buffer), pin.disposed],
  contents: ({ pin, buffer }) => [contents(buffer), pin.disposed],
  dispose: ({ pin, buffer }) => {
    pin.dispose()
    buffer.dispose()
  },
}
