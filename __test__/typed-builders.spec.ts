import test from 'ava'
import { defaultMemoryPool, type ElementType, type MemoryBuffer, type MemoryPool, TypedBufferBuilder } from 'offheap'
import { collectUntil, detachedBytes, eachPool, held, random, throwsCode, withPool } from './support.js'

type AnyArray = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array | BigInt64Array | BigUint64Array

const arrays = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const
const types = Object.keys(arrays) as (keyof typeof arrays)[]

/** A builder whose element type is not known to the compiler. */
interface AnyBuilder extends Omit<TypedBufferBuilder, 'append' | 'appendValues' | 'appendCopies'> {
  append(value: unknown): void
  appendValues(values: unknown): void
  appendCopies(value: unknown, count: number): void
}

function make(type: ElementType, pool?: MemoryPool, capacity?: number): AnyBuilder {
  return new TypedBufferBuilder(type, { pool, capacity })
}

function element(type: keyof typeof arrays, value: number): number | bigint {
  return type.endsWith('64') && type !== 'float64' ? BigInt(value) : value
}

function show(buffer: MemoryBuffer, type: keyof typeof arrays): AnyArray {
  const method = `as${arrays[type].name}` as 'asInt8Array'
  return buffer[method]() as AnyArray
}

eachPool('#42 one element of each type: the first capacity is 64 bytes', (t, pool) => {
  for (const type of types) {
    const builder = make(type, pool)
    t.is(builder.type, type)
    t.is(builder.length, 0)
    t.is(builder.capacity, 0)
    builder.append(element(type, 1))
    t.is(builder.length, 1)
    t.is(builder.capacity, 64 / arrays[type].BYTES_PER_ELEMENT)
    t.is(builder.lengthInBytes, arrays[type].BYTES_PER_ELEMENT)
    builder.append(element(type, 2))
    builder.append(element(type, 4))
    const buffer = builder.finish()
    t.deepEqual(
      [...show(buffer, type)],
      [1, 2, 4].map((value) => element(type, value)),
    )
    t.is(buffer.size, 3 * arrays[type].BYTES_PER_ELEMENT)
    t.is(buffer.address % 64n, 0n)
    t.is(buffer.pool, pool)
    t.true(buffer.isMutable)
    buffer.dispose()
    builder.dispose()
  }
})

eachPool('#43 appendCopies', (t, pool) => {
  for (const type of types) {
    const builder = make(type, pool)
    builder.appendCopies(element(type, 1), 13)
    builder.appendCopies(element(type, 0), 17)
    t.is(builder.length, 30)
    const buffer = builder.finish()
    t.deepEqual(
      [...show(buffer, type)],
      Array.from({ length: 30 }, (_, index) => element(type, index < 13 ? 1 : 0)),
    )
    buffer.dispose()
    builder.dispose()
  }
})

function bits(buffer: MemoryBuffer, count: number): boolean[] {
  return Array.from({ length: count }, (_, bit) => ((buffer.at(bit >> 3) >> (bit & 7)) & 1) === 1)
}

eachPool('#44 bool: bits, the least significant first, and a count of falses', (t, pool) => {
  const builder = make('bool', pool)
  builder.append(false)
  builder.append(true)
  t.is(builder.capacity, 512)
  t.is(builder.falseCount, 1)
  // Arrow appends bytes of which all but 0 are true.
  builder.appendValues(new Uint8Array([0, 1, 2, 3]))
  t.is(builder.length, 6)
  t.is(builder.falseCount, 2)
  t.is(builder.lengthInBytes, 1)
  const buffer = builder.finish()
  t.is(buffer.size, 1)
  t.is(buffer.toHex(), '3A')
  t.deepEqual(bits(buffer, 6), [false, true, false, true, true, true])
  t.is(builder.falseCount, 0)
  buffer.dispose()
  builder.dispose()
})

eachPool('#45 bool: appendCopies', (t, pool) => {
  const builder = make('bool', pool)
  builder.appendCopies(true, 13)
  builder.appendCopies(false, 17)
  t.is(builder.falseCount, 17)
  t.is(builder.length, 30)
  const buffer = builder.finish()
  t.is(buffer.size, 4)
  t.is(buffer.toHex(), 'FF1F0000')
  buffer.dispose()
  builder.dispose()
})

eachPool('#46 bool: after reserve, appending moves nothing', (t, pool) => {
  const builder = make('bool', pool)
  builder.reserve(13 + 17)
  t.is(builder.capacity, 512)
  const { numAllocations } = pool
  builder.appendCopies(true, 13)
  for (let index = 0; index < 17; index += 1) builder.append(false)
  t.is(pool.numAllocations, numAllocations)
  t.is(builder.falseCount, 17)
  const buffer = builder.finish()
  t.is(buffer.toHex(), 'FF1F0000')
  buffer.dispose()
  builder.dispose()
})

eachPool('finish hands the block over without a copy', (t, pool) => {
  const builder = make('float64', pool, 8)
  for (let index = 0; index < 8; index += 1) builder.append(index)
  const { numAllocations, totalBytesAllocated } = pool
  const buffer = builder.finish()
  t.is(pool.numAllocations, numAllocations, 'finish allocated')
  t.is(pool.totalBytesAllocated, totalBytesAllocated)
  t.is(buffer.size, 64)
  buffer.dispose()
  builder.dispose()
})

test('integers wrap, floats round, as in C++ and in typed arrays', (t) => {
  const samples = [0, 1, -1, 127, 128, 255, 256, -129, 65_535, 65_536, 2 ** 31, 2 ** 32, 2 ** 33 + 5, 1.9, -1.9, 1e20, Number.NaN, Infinity, -Infinity, -0, 5e-324]
  for (const type of types) {
    using builder = make(type)
    const values = type.endsWith('64') && type !== 'float64' ? samples.filter((value) => Number.isInteger(value)).map((value) => BigInt(value) * 3n ** 30n) : samples
    for (const value of values) builder.append(value)
    builder.appendValues(values)
    for (const value of values) builder.appendCopies(value, 2)
    using buffer = builder.finish()
    const expected = new (arrays[type] as typeof Float64Array)([...values, ...values, ...values.flatMap((value) => [value, value])] as number[])
    t.true(buffer.equals(expected), type)
  }
})

test('append checks the type and nothing else', (t) => {
  const wrong: unknown[] = [undefined, null, 'text', '1', {}, [], [1], Symbol('x'), () => 1, new Date(), { valueOf: () => 1 }]
  for (const type of [...types, 'bool'] as const) {
    using builder = make(type)
    const right = type === 'bool' ? [true] : type === 'int64' || type === 'uint64' ? [1n] : [1]
    const others = [1, 1n, true].filter((value) => typeof value !== typeof right[0])
    for (const value of [...wrong, ...others]) {
      throwsCode(t, () => builder.append(value), 'ERR_OFFHEAP_INVALID_ARGUMENT', type)
      throwsCode(t, () => builder.appendCopies(value, 1), 'ERR_OFFHEAP_INVALID_ARGUMENT', type)
      throwsCode(t, () => builder.appendValues([value]), 'ERR_OFFHEAP_INVALID_ARGUMENT', type)
    }
    t.is(builder.length, 0)
    builder.append(right[0])
    t.is(builder.length, 1)
  }
})

test('appendValues: typed arrays of numbers convert, iterables go one by one', (t) => {
  const source = [1, 2, 300, -4]
  for (const type of types) {
    const isBig = type === 'int64' || type === 'uint64'
    const expected = new (arrays[type] as typeof Float64Array)(source.map((value) => element(type, value)) as number[])
    const sources: unknown[] = isBig
      ? [new BigInt64Array(source.map(BigInt)), new BigUint64Array(source.map(BigInt))]
      : [new Int16Array(source), new Int32Array(source), new Float32Array(source), new Float64Array(source)]
    const elements = source.map((value) => element(type, value))
    sources.push(elements, new Set(elements), elements.values(), elements[Symbol.iterator](), Object.freeze([...elements]))
    sources.push(
      (function* generate() {
        yield* elements
      })(),
    )
    for (const values of sources) {
      using builder = make(type)
      builder.append(element(type, 7))
      builder.appendValues(values)
      t.is(builder.length, 5)
      using buffer = builder.finish()
      using rest = buffer.slice(arrays[type].BYTES_PER_ELEMENT)
      t.true(rest.equals(expected), `${type} from ${Object.prototype.toString.call(values)}`)
    }
  }
})

test('appendValues refuses what it cannot take, and keeps what went before', (t) => {
  using numbers = make('int32')
  for (const values of [undefined, null, 5, {}, Symbol('x'), new DataView(new ArrayBuffer(8)), new ArrayBuffer(8), new BigInt64Array(1), { [Symbol.iterator]: 5 }]) {
    throwsCode(t, () => numbers.appendValues(values), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'values')
  }
  using bigints = make('int64')
  throwsCode(t, () => bigints.appendValues(new Int32Array(1)), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'values')
  throwsCode(t, () => numbers.appendValues(detachedBytes()), 'ERR_OFFHEAP_DISPOSED')
  throwsCode(t, () => numbers.appendValues([1, 2, 'three', 4]), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.is(numbers.length, 2)
  throwsCode(t, () => numbers.appendValues(new Set<unknown>([3, null])), 'ERR_OFFHEAP_INVALID_ARGUMENT')
  t.is(numbers.length, 3)
  // What the caller's own iterator throws is the caller's.
  const error = new Error('mine')
  const broken = {
    *[Symbol.iterator]() {
      yield 4
      throw error
    },
  }
  t.is(
    t.throws(() => numbers.appendValues(broken)),
    error,
  )
  using buffer = numbers.finish()
  t.deepEqual([...buffer.asInt32Array()], [1, 2, 3, 4])
})

test('appendValues survives an iterator that finishes, resets or disposes the builder under it', (t) => {
  const pool = defaultMemoryPool().proxy()
  for (const action of ['finish', 'reset', 'dispose', 'append', 'reserve'] as const) {
    for (const source of ['iterator', 'getter'] as const) {
      const builder = make('int32', pool)
      builder.appendValues([1, 2, 3])
      const results: MemoryBuffer[] = []
      const act = () => {
        if (action === 'finish') results.push(builder.finish())
        else if (action === 'append') builder.appendValues(new Int32Array(10_000))
        else if (action === 'reserve') builder.reserve(100_000)
        else builder[action]()
        return 5
      }
      const values =
        source === 'iterator'
          ? (function* generate() {
              yield 4
              yield act()
              yield 6
            })()
          : Object.defineProperty([4, 5, 6], 1, { get: act })
      if (action === 'dispose') throwsCode(t, () => builder.appendValues(values), 'ERR_OFFHEAP_DISPOSED')
      else builder.appendValues(values)
      if (action === 'finish') t.deepEqual([...results[0]!.asInt32Array()], [1, 2, 3, 4])
      if (action === 'finish' || action === 'reset') t.is(builder.length, 2)
      if (action === 'append') t.is(builder.length, 10_006)
      for (const buffer of results) buffer.dispose()
      builder.dispose()
      t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
    }
  }
})

test('a source that shows the builder’s own finished memory', (t) => {
  using builder = make('float64')
  builder.appendValues([1, 2, 3])
  using first = builder.finish()
  builder.appendValues(first.asFloat64Array())
  builder.appendValues(first.asFloat64Array())
  using second = builder.finish()
  t.deepEqual([...second.asFloat64Array()], [1, 2, 3, 1, 2, 3])
})

eachPool('growth is by doubling at least, and reserve is exact', (t, pool) => {
  for (const type of types) {
    const width = arrays[type].BYTES_PER_ELEMENT
    const builder = make(type, pool)
    let last = 0
    for (let index = 0; index < 10_000; index += 1) {
      builder.append(element(type, index % 100))
      if (builder.capacity !== last) {
        t.true(builder.capacity >= 2 * last && builder.capacity * width <= Math.max(64, 4 * last * width))
        last = builder.capacity
      }
    }
    builder.reset()
    builder.reserve(1000)
    t.is(builder.capacity * width, Math.ceil((1000 * width) / 64) * 64)
    const { capacity } = builder
    builder.appendCopies(element(type, 1), 1000)
    t.is(builder.capacity, capacity)
    builder.reserve(capacity - 1000)
    t.is(builder.capacity, capacity)
    builder.dispose()
  }
})

eachPool('resize, finishWithLength, advance, reset', (t, pool) => {
  for (const type of types) {
    const width = arrays[type].BYTES_PER_ELEMENT
    const builder = make(type, pool)
    builder.appendCopies(element(type, 5), 10)
    builder.resize(1000)
    t.is(builder.capacity * width, Math.ceil((1000 * width) / 64) * 64)
    builder.resize(500, { shrinkToFit: false })
    t.is(builder.capacity * width, Math.ceil((1000 * width) / 64) * 64)
    builder.resize(10)
    t.is(builder.capacity * width, Math.ceil((10 * width) / 64) * 64)
    throwsCode(t, () => builder.resize(9), 'ERR_OFFHEAP_OUT_OF_RANGE')
    builder.advance(2)
    const all = builder.finish()
    t.deepEqual([...show(all, type)], [...Array<number>(10).fill(5), 0, 0].map((value) => element(type, value)))
    all.dispose()
    for (const [length, expected] of [
      [2, [5, 5]],
      [3, [5, 5, 5]],
      [5, [5, 5, 5, 0, 0]],
      [0, []],
    ] as const) {
      builder.appendCopies(element(type, 5), 3)
      const buffer = builder.finishWithLength(length)
      t.deepEqual(
        [...show(buffer, type)],
        expected.map((value) => element(type, value)),
      )
      buffer.dispose()
    }
    builder.append(element(type, 1))
    throwsCode(t, () => builder.finishWithLength(builder.capacity + 1), 'ERR_OFFHEAP_OUT_OF_RANGE')
    builder.reset()
    t.is(builder.length, 0)
    t.is(builder.capacity, 0)
    builder.dispose()
  }
})

eachPool('bool: finishWithLength cuts within a byte, and what was cut is zero', (t, pool) => {
  const builder = make('bool', pool)
  for (const [length, hex] of [
    [3, '07'],
    [8, 'FF'],
    [11, 'FF07'],
    [20, 'FFFF0F'],
    [30, 'FFFF0F00'],
    [0, ''],
  ] as const) {
    builder.appendCopies(true, 20)
    const buffer = builder.finishWithLength(length)
    t.is(buffer.toHex(), hex)
    t.is(builder.falseCount, 0)
    buffer.dispose()
  }
  builder.dispose()
})

test('bool: a random program against an array of booleans', (t) => {
  const pool = defaultMemoryPool().proxy()
  const next = random(2026)
  const builder = make('bool', pool)
  let model: boolean[] = []
  const check = (buffer: MemoryBuffer) => {
    const expected = new Uint8Array(Math.ceil(model.length / 8))
    for (const [bit, value] of model.entries()) if (value) expected[bit >> 3]! |= 1 << (bit & 7)
    if (!buffer.equals(expected)) t.fail(`${model.length} bits differ`)
  }
  for (let step = 0; step < 4000; step += 1) {
    const count = Math.floor(next() ** 3 * 700)
    const value = next() < 0.5
    switch (Math.floor(next() * 7)) {
      case 0:
      case 1:
        builder.append(value)
        model.push(value)
        break
      case 2:
        builder.appendCopies(value, count)
        for (let index = 0; index < count; index += 1) model.push(value)
        break
      case 3: {
        const values = Array.from({ length: count }, () => next() < 0.5)
        builder.appendValues(values)
        model.push(...values)
        break
      }
      case 4: {
        const values = Float64Array.from({ length: count }, () => [0, 1, -0, Number.NaN, 0.5][Math.floor(next() * 5)]!)
        builder.appendValues(values)
        for (const number of values) model.push(Boolean(number))
        break
      }
      case 5:
        if (next() < 0.3) builder.advance(count)
        else builder.reserve(count)
        while (model.length < builder.length) model.push(false)
        break
      default:
        if (next() < 0.2) {
          const length = Math.min(Math.floor(next() * (model.length + 50)), builder.capacity)
          while (model.length < length) model.push(false)
          model = model.slice(0, length)
          const buffer = builder.finishWithLength(length, { shrinkToFit: next() < 0.5 })
          check(buffer)
          buffer.dispose()
          model = []
        } else {
          builder.resize(model.length + count, { shrinkToFit: next() < 0.5 })
        }
    }
    if (builder.length !== model.length) t.fail(`step ${step}: ${builder.length} bits, not ${model.length}`)
    if (step % 20 === 0 && builder.falseCount !== model.filter((bit) => !bit).length) t.fail(`step ${step}: ${builder.falseCount} falses`)
  }
  const buffer = builder.finish()
  check(buffer)
  buffer.dispose()
  builder.dispose()
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

withPool('bool: more than 2^31 bits, where shifts wrap', (t, pool) => {
  const count = 2 ** 31 + 5
  const builder = new TypedBufferBuilder('bool', { pool, capacity: count + 100 })
  builder.appendCopies(false, count - 10)
  builder.appendCopies(true, 8)
  builder.append(false)
  builder.append(true)
  builder.appendValues(new Uint8Array([1, 0, 1]))
  builder.appendValues([false, true])
  t.is(builder.length, count + 5)
  t.is(builder.falseCount, count - 10 + 3)
  using buffer = builder.finish()
  t.is(buffer.size, Math.ceil((count + 5) / 8))
  const last = Array.from({ length: 17 }, (_, index) => count - 12 + index).map((bit) => (buffer.at(Math.floor(bit / 8)) >> (bit % 8)) & 1)
  t.is(last.join(''), '00111111110110101')
  builder.dispose()
})

test('numbers: a random program against an array', (t) => {
  const pool = defaultMemoryPool().proxy()
  for (const type of types) {
    const next = random(type.length)
    const builder = make(type, pool)
    let model: (number | bigint)[] = []
    for (let step = 0; step < 500; step += 1) {
      const count = Math.floor(next() ** 3 * 300)
      const value = element(type, Math.floor(next() * 2 ** 31) - 2 ** 30)
      switch (Math.floor(next() * 6)) {
        case 0:
          builder.append(value)
          model.push(value)
          break
        case 1:
          builder.appendCopies(value, count)
          model.push(...Array.from({ length: count }, () => value))
          break
        case 2:
          builder.appendValues(Array.from({ length: count }, () => value))
          model.push(...Array.from({ length: count }, () => value))
          break
        case 3:
          builder.appendValues(new (arrays[type] as typeof Float64Array)(count).fill(value as number))
          model.push(...Array.from({ length: count }, () => value))
          break
        case 4:
          builder.resize(model.length + count)
          break
        default:
          if (next() < 0.1) {
            using buffer = builder.finish()
            t.true(buffer.equals(new (arrays[type] as typeof Float64Array)(model as number[])), type)
            model = []
          }
      }
    }
    using buffer = builder.finish()
    t.true(buffer.equals(new (arrays[type] as typeof Float64Array)(model as number[])), type)
    buffer.dispose()
    builder.dispose()
  }
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

withPool('a million elements of each type', (t, pool) => {
  const count = 1_000_000
  for (const type of types) {
    const builder = make(type, pool)
    const expected = new (arrays[type] as typeof Float64Array)(count)
    for (let index = 0; index < count; index += 1) {
      const value = element(type, index % 100_000)
      builder.append(value)
      expected[index] = value as number
    }
    using buffer = builder.finish()
    t.true(buffer.equals(expected), type)
    builder.dispose()
  }
})

test('dispose gives everything back and ends the builder', (t) => {
  const pool = defaultMemoryPool().proxy()
  for (const type of [...types, 'bool'] as const) {
    const builder = make(type, pool, 1000)
    t.true(pool.bytesAllocated >= (type === 'bool' ? 125 : 1000))
    builder.dispose()
    builder.dispose()
    builder[Symbol.dispose]()
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
    t.true(builder.disposed)
    const value = type === 'bool' ? true : element(type, 1)
    for (const use of [
      () => builder.append(value),
      () => builder.appendValues([value]),
      () => builder.appendValues([]),
      () => builder.appendValues(new Float64Array(0)),
      () => builder.appendCopies(value, 0),
      () => builder.advance(0),
      () => builder.reserve(0),
      () => builder.resize(0),
      () => builder.finish(),
      () => builder.finishWithLength(0),
      () => builder.reset(),
      () => builder.length,
      () => builder.capacity,
      () => builder.lengthInBytes,
      () => builder.falseCount,
    ]) {
      throwsCode(t, use, 'ERR_OFFHEAP_DISPOSED')
    }
    t.is(builder.type, type)
  }
})

test('a forgotten builder frees its memory', async (t) => {
  const pool = defaultMemoryPool().proxy()
  ;(() => {
    for (let index = 0; index < 100; index += 1) make('float64', pool, 100).append(1)
  })()
  t.is(pool.liveAllocations, 100)
  t.true(await collectUntil(() => pool.liveAllocations === 0), `${pool.liveAllocations} are left`)
})

test('arguments of a typed builder', (t) => {
  for (const type of [undefined, null, 'int', 'Int8', 'float', '', 5, {}, Symbol('int8'), 'constructor', '__proto__', ['int8']]) {
    throwsCode(t, () => new TypedBufferBuilder(type as ElementType), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'type')
  }
  throwsCode(t, () => new TypedBufferBuilder('int8', null as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
  throwsCode(t, () => new TypedBufferBuilder('int8', { pool: 'mimalloc' as never }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'pool')
  throwsCode(t, () => new TypedBufferBuilder('int8', { alignment: 48 }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  using builder = make('float64')
  throwsCode(t, () => builder.falseCount, 'ERR_OFFHEAP_NOT_SUPPORTED')
  for (const value of [-1, 1.5, Number.NaN, 2 ** 53, Infinity, '1', null, undefined, {}, 1n]) {
    throwsCode(t, () => builder.appendCopies(0, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'count')
    throwsCode(t, () => builder.advance(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'count')
    throwsCode(t, () => builder.reserve(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'additional')
    throwsCode(t, () => builder.resize(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'capacity')
    throwsCode(t, () => builder.finishWithLength(value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    if (value !== undefined) throwsCode(t, () => make('int8', undefined, value as number), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'capacity')
  }
  for (const type of [...types, 'bool'] as const) {
    using each = make(type)
    const value = type === 'bool' ? false : element(type, 1)
    for (const count of [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - 63, 2 ** 50]) {
      throwsCode(t, () => each.appendCopies(value, count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
      throwsCode(t, () => each.advance(count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
      throwsCode(t, () => each.reserve(count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
      throwsCode(t, () => each.resize(count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
      throwsCode(t, () => make(type, undefined, count), 'ERR_OFFHEAP_OUT_OF_MEMORY')
    }
    t.is(each.length, 0)
  }
})

test('a detached append or a wrong receiver is refused', (t) => {
  const { append } = TypedBufferBuilder.prototype
  for (const receiver of [undefined, null, 5, {}, Object.create(TypedBufferBuilder.prototype), TypedBufferBuilder.prototype]) {
    throwsCode(t, () => Reflect.apply(append, receiver, [1]), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'TypedBufferBuilder')
  }
})

withPool('#76 #77 bool appends of a whole byte array at every bit offset are right', (t, pool) => {
  // What Arrow's BitmapWordAlign is for: bulk work on bits that do not begin at a word. Ours packs by itself.
  for (let offset = 0; offset < 67; offset += 1) {
    const builder = make('bool', pool)
    builder.appendCopies(true, offset)
    const source = Uint8Array.from({ length: 200 }, (_, index) => (index % 3 === 0 ? 1 : 0))
    builder.appendValues(source)
    builder.appendCopies(true, 70)
    t.is(builder.falseCount, source.filter((byte) => byte === 0).length)
    using buffer = builder.finish()
    t.deepEqual(bits(buffer, offset + 270), [...Array<boolean>(offset).fill(true), ...Array.from(source, Boolean), ...Array<boolean>(70).fill(true)])
    builder.dispose()
  }
})
