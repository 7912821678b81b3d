import test from 'ava'
import * as offheap from 'offheap'
import { defaultMemoryPool, isOffheapError, MemoryBuffer, MemoryPool, type OffheapError, OutOfMemoryError } from 'offheap'
import { detachedBytes, throwsCode } from './support.js'

function caught(action: () => unknown): OffheapError {
  try {
    action()
  } catch (error) {
    return error as OffheapError
  }
  throw new Error('nothing was thrown')
}

const pool = defaultMemoryPool()

function disposedBuffer(): MemoryBuffer {
  const buffer = pool.allocateBuffer(1)
  buffer.dispose()
  return buffer
}

function closedPool(): MemoryPool {
  const closed = pool.proxy({ name: 'closed' })
  closed.close()
  return closed
}

const pinned = pool.allocateBuffer(1)
pinned.pin()

/** For each code: the class that is exported, the built-in class, the name, and a way to get one from native code or ours. */
const cases: [OffheapError['code'], new (...values: never[]) => Error, new () => Error, (() => unknown)[]][] = [
  [
    'ERR_OFFHEAP_OUT_OF_MEMORY',
    offheap.OutOfMemoryError,
    Error,
    [() => pool.allocateBuffer(2 ** 50), () => pool.limit(5).allocateBuffer(6), () => new offheap.BufferBuilder({ capacity: 2 ** 52 })],
  ],
  [
    'ERR_OFFHEAP_INVALID_ARGUMENT',
    offheap.InvalidArgumentError,
    TypeError,
    [() => pool.allocateBuffer('1' as never), () => MemoryBuffer.from(5 as never), () => pool.close(), () => new (MemoryPool as never as new () => never)()],
  ],
  [
    'ERR_OFFHEAP_INVALID_ARGUMENT',
    offheap.InvalidArgumentRangeError,
    RangeError,
    [() => pool.allocateBuffer(-1), () => pool.allocateBuffer(1.5), () => pool.allocateBuffer(1, { alignment: 3 }), () => pool.limit(2 ** 53)],
  ],
  [
    'ERR_OFFHEAP_OUT_OF_RANGE',
    offheap.OutOfRangeError,
    RangeError,
    [() => MemoryBuffer.from('x').slice(2), () => MemoryBuffer.from('x').slice(-1), () => MemoryBuffer.from('x').at(1), () => MemoryBuffer.from('x').asUint8Array(2)],
  ],
  [
    'ERR_OFFHEAP_DISPOSED',
    offheap.DisposedError,
    Error,
    [() => disposedBuffer().size, () => disposedBuffer().slice(0), () => MemoryBuffer.wrap(detachedBytes()), () => MemoryBuffer.concat([disposedBuffer()])],
  ],
  [
    'ERR_OFFHEAP_CLOSED',
    offheap.ClosedError,
    Error,
    [
      () => closedPool().allocateBuffer(1),
      () => {
        const stream = new offheap.MockOutputStream()
        stream.close()
        stream.write('x')
      },
    ],
  ],
  ['ERR_OFFHEAP_IMMUTABLE', offheap.ImmutableError, TypeError, [() => MemoryBuffer.from('x').fill(0), () => MemoryBuffer.from('x').sliceMutable(0)]],
  [
    'ERR_OFFHEAP_NOT_SUPPORTED',
    offheap.NotSupportedError,
    Error,
    [() => pool.allocateBuffer(1).resize(2), () => MemoryBuffer.wrap(new Uint8Array(1)).share(), () => MemoryBuffer.wrap(new Uint8Array(1)).address],
  ],
  ['ERR_OFFHEAP_BUSY', offheap.BusyError, Error, [() => pinned.dispose(), () => pinned.freeze()]],
]

for (const [code, errorClass, builtIn, actions] of cases) {
  test(`${code}: ${errorClass.name}, which is ${builtIn.name === 'Error' ? 'an Error' : `a ${builtIn.name}`}`, (t) => {
    for (const action of actions) {
      const error = caught(action)
      t.is(error.code, code, error.stack)
      t.true(error instanceof errorClass, error.stack)
      t.true(error instanceof builtIn)
      t.true(error instanceof Error)
      t.is(error.name, errorClass.name)
      t.true(isOffheapError(error))
      t.true(error.message.length > 10 && !/undefined|\[object|NaN/.test(error.message), error.message)
      t.true(error.stack!.includes('errors.spec.ts'), error.stack)
      t.true(Object.keys(error).includes('code'))
      t.is(String(error), `${errorClass.name}: ${error.message}`)
    }
  })
}

test('an out of memory error tells who asked, how much, what is held and what the limit is', (t) => {
  const query = pool.limit(1000, { name: 'query 7' })
  const buffer = query.allocateBuffer(600)
  const error = caught(() => query.allocateBuffer(401)) as unknown as OutOfMemoryError
  t.is(error.requested, 401)
  t.is(error.limit, 1000)
  t.is(error.allocated, 600)
  t.is(error.pool, 'query 7')
  for (const part of ["'query 7'", '401', '600', '1000', '400']) t.true(error.message.includes(part), error.message)
  buffer.dispose()
  const refused = caught(() => pool.allocateBuffer(2 ** 50)) as unknown as OutOfMemoryError
  t.is(refused.requested, 2 ** 50)
  t.is(refused.limit, undefined)
  t.is(typeof refused.allocated, 'number')
  t.is(refused.pool, pool.name)
  t.true(refused.message.includes(String(2 ** 50)))
})

test('an invalid argument names itself and its value, and never calls the value’s own code', (t) => {
  const hostile = {
    valueOf() {
      throw new Error('called')
    },
    toString() {
      throw new Error('called')
    },
    [Symbol.toPrimitive]() {
      throw new Error('called')
    },
  }
  for (const [value, shown] of [
    [-1, '-1'],
    [1.5, '1.5'],
    [Number.NaN, 'NaN'],
    [2 ** 53, '9007199254740992'],
    [-Infinity, '-Infinity'],
    ['text', '"text"'],
    ['x'.repeat(100), '…'],
    [5n, '5n'],
    [Symbol('secret'), 'symbol'],
    [null, 'null'],
    [undefined, 'undefined'],
    [true, 'true'],
    [[], 'array'],
    [{}, 'object'],
    [() => 1, 'function'],
    [hostile, 'object'],
    [new Proxy({}, { get: () => hostile.valueOf(), getPrototypeOf: () => hostile.valueOf() }), 'object'],
  ] as const) {
    const error = throwsCode(t, () => pool.allocateBuffer(value as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'size')
    t.true(error.message.includes(shown), error.message)
    t.true(error.message.length < 200)
  }
  const { proxy, revoke } = Proxy.revocable([], {})
  revoke()
  throwsCode(t, () => pool.allocateBuffer(proxy as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'size')
  throwsCode(t, () => MemoryBuffer.concat(proxy as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'buffers')
})

test('an option whose getter throws is an invalid argument, with what was thrown as its cause', (t) => {
  const mine = new Error('mine')
  const options = {
    get alignment(): never {
      throw mine
    },
  }
  const error = throwsCode(t, () => pool.allocateBuffer(1, options), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'alignment')
  t.is(error.cause, mine)
})

test('isOffheapError never throws', (t) => {
  const trap = () => {
    throw new Error('trapped')
  }
  const { proxy, revoke } = Proxy.revocable(new Error('x'), {})
  revoke()
  const values: unknown[] = [
    undefined,
    null,
    5,
    'ERR_OFFHEAP_BUSY',
    {},
    { code: 'ERR_OFFHEAP_BUSY' },
    new Error('x'),
    Object.assign(new Error('x'), { code: 'EBADF' }),
    Object.assign(new Error('x'), { code: 5 }),
    Object.defineProperty(new Error('x'), 'code', { get: trap }),
    new Proxy(new Error('x'), { getOwnPropertyDescriptor: trap }),
    new Proxy(new Error('x'), { getPrototypeOf: trap }),
    proxy,
  ]
  for (const value of values) t.false(isOffheapError(value))
  t.true(isOffheapError(Object.assign(new Error('x'), { code: 'ERR_OFFHEAP_NEW' })))
})

test('error classes can be made by users, for tests of their own', (t) => {
  const error = new OutOfMemoryError('no memory', { requested: 5 })
  t.is(error.code, 'ERR_OFFHEAP_OUT_OF_MEMORY')
  t.deepEqual([error.requested, error.limit, error.allocated, error.pool], [5, undefined, undefined, undefined])
  t.is(new offheap.DisposedError('gone').message, 'gone')
  t.true(isOffheapError(error))
  throwsCode(t, () => new OutOfMemoryError('x', undefined as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'details')
  throwsCode(t, () => new OutOfMemoryError('x', null as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'details')
})

test('an error changes nothing: the same call with right arguments works afterwards', (t) => {
  const account = pool.proxy()
  for (let round = 0; round < 1000; round += 1) {
    throwsCode(t, () => account.allocateBuffer(-1), 'ERR_OFFHEAP_INVALID_ARGUMENT')
    throwsCode(t, () => account.limit(1).allocateBuffer(2), 'ERR_OFFHEAP_OUT_OF_MEMORY')
  }
  t.deepEqual([account.bytesAllocated, account.numAllocations, account.totalBytesAllocated], [0, 0, 0])
  account.allocateBuffer(1).dispose()
  t.is(account.numAllocations, 1)
})
