// What pyarrow and NumPy say of our structs, and we of theirs. Run by scripts/test-arrow-judge.mjs.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import test from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MemoryBuffer, systemMemoryPool } from 'offheap'
import * as arrow from 'offheap/arrow'
import * as cuda from 'offheap/cuda'
import * as shm from 'offheap/shm'

const python = createRequire(import.meta.url)(process.env.OFFHEAP_JUDGE)
const run = (code) => void python.run(code)
/** What Python says, as JSON. */
const ask = (expression) => JSON.parse(python.evaluate(`json.dumps(${expression})`))
const code = (name) => ({ code: `ERR_OFFHEAP_${name}` })

run(`
import ctypes, gc, json, sys, threading
import numpy as np
import pyarrow as pa

api = ctypes.pythonapi
api.PyCapsule_New.restype = ctypes.py_object
api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_GetName.restype = ctypes.c_char_p
api.PyCapsule_GetName.argtypes = [ctypes.py_object]

NAMES = {False: b'dltensor_versioned', True: b'dltensor'}
USED = {False: b'used_dltensor_versioned', True: b'used_dltensor'}

class Tensor:
    """A tensor by its address, as an object of the array API; what nobody consumed is deleted with it."""
    def __init__(self, address, legacy=False, device=(1, 0)):
        self.address, self.legacy, self.device = address, legacy, device
        self.capsule = api.PyCapsule_New(address, NAMES[legacy], None)
    def __dlpack__(self, **kwargs):
        return self.capsule
    def __dlpack_device__(self):
        return self.device
    def close(self):
        # The name says whether a consumer took it.
        if api.PyCapsule_GetName(self.capsule) == NAMES[self.legacy]:
            at = self.address + (56 if self.legacy else 16)
            deleter = ctypes.c_void_p.from_address(at).value
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(deleter)(self.address)

def give(array, **kwargs):
    """The address of a tensor that the caller has to delete."""
    capsule = array.__dlpack__(**kwargs)
    name = api.PyCapsule_GetName(capsule)
    legacy = name == NAMES[True]
    address = api.PyCapsule_GetPointer(capsule, name)
    api.PyCapsule_SetName(capsule, USED[legacy])
    return [address, legacy]
`)

const doubles = Float64Array.from({ length: 10 }, (_, index) => index / 2)

function bufferOf(values, pool) {
  return MemoryBuffer.from(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), { pool })
}

/** Places for an `ArrowDeviceArray` and an `ArrowSchema` that another library fills. */
function places() {
  const memory = systemMemoryPool().allocateBuffer(256, { zeroFill: true })
  return { memory, array: memory.address, schema: memory.address + 128n }
}

const types = {
  c: [Int8Array, 'int8'],
  C: [Uint8Array, 'uint8'],
  s: [Int16Array, 'int16'],
  S: [Uint16Array, 'uint16'],
  i: [Int32Array, 'int32'],
  I: [Uint32Array, 'uint32'],
  l: [BigInt64Array, 'int64'],
  L: [BigUint64Array, 'uint64'],
  f: [Float32Array, 'float32'],
  g: [Float64Array, 'float64'],
}
const numbers = (Type) => Type.from([1, 2, 3, 100, 5], (n) => (Type.name.startsWith('Big') ? BigInt(n) : n))

test('pyarrow imports every format, from the device struct and from the plain one', () => {
  const pool = systemMemoryPool().proxy()
  for (const [format, [Type, name]] of Object.entries(types)) {
    for (const how of ['_import_from_c_device', '_import_from_c']) {
      const buffer = bufferOf(numbers(Type), pool)
      const handle = arrow.toArrowDevice(buffer, format, { offset: 1 })
      run(`a = pa.Array.${how}(${handle.arrayAddress}, ${handle.schemaAddress}); a.validate(full=True)`)
      assert.equal(handle.consumed, true)
      assert.deepEqual(ask(`[a.type == pa.${name}(), a.to_pylist(), a.null_count, a.buffers()[1].address]`), [true, [2, 3, 100, 5], 0, Number(buffer.address)])
      buffer.dispose()
      run('del a')
      assert.equal(pool.bytesAllocated, 0, format)
    }
  }
})

test('pyarrow imports bits, halves, fixed-size bytes, decimals, dates and times', () => {
  const pool = systemMemoryPool().proxy()
  const cases = [
    ['b', 10, 'bool'],
    ['e', 4, 'halffloat'],
    ['w:5', 3, 'fixed_size_binary[5]'],
    ['d:38,2', 2, 'decimal128(38, 2)'],
    ['d:50,2,256', 1, 'decimal256(50, 2)'],
    ['d:9,2,32', 4, 'decimal32(9, 2)'],
    ['d:18,2,64', 2, 'decimal64(18, 2)'],
    ['tdD', 4, 'date32[day]'],
    ['tdm', 2, 'date64[ms]'],
    ['tts', 4, 'time32[s]'],
    ['ttu', 2, 'time64[us]'],
    ['tsn:UTC', 2, 'timestamp[ns, tz=UTC]'],
    ['tDm', 2, 'duration[ms]'],
    ['tin', 1, 'month_day_nano_interval'],
  ]
  for (const [format, length, name] of cases) {
    const handle = arrow.toArrowDevice(bufferOf(new Uint8Array(32), pool), format, { length })
    run(`a = pa.Array._import_from_c_device(${handle.arrayAddress}, ${handle.schemaAddress}); a.validate(full=True)`)
    assert.deepEqual(ask('[str(a.type), len(a), a.nbytes]'), [name, length, Number(ask('a.nbytes'))], format)
    run('del a')
  }
})

test('what pyarrow has lives on when the buffer is disposed, and goes with it, from any thread', () => {
  const pool = systemMemoryPool().proxy()
  const buffer = bufferOf(doubles, pool)
  const handle = arrow.toArrowDevice(buffer, 'g', { offset: 2, length: 5 })
  run(`a = pa.Array._import_from_c_device(${handle.arrayAddress}, ${handle.schemaAddress}); b = a.slice(1); del a`)
  buffer.dispose()
  handle.dispose()
  assert.equal(pool.bytesAllocated, 80)
  assert.deepEqual(ask('[b.to_pylist(), pa.compute.sum(b).as_py() if hasattr(pa, "compute") else sum(b.to_pylist())]'), [[1.5, 2, 2.5, 3], 9])
  run(`
box = [b]
del b
thread = threading.Thread(target=box.clear)
thread.start()
thread.join()`)
  assert.equal(pool.bytesAllocated, 0)
})

test('an array is for one consumer, whoever is the first', () => {
  const pool = systemMemoryPool().proxy()
  const buffer = bufferOf(doubles, pool)
  const handle = arrow.toArrowDevice(buffer, 'g')
  run(`a = pa.Array._import_from_c_device(${handle.arrayAddress}, ${handle.schemaAddress})`)
  assert.throws(() => arrow.fromArrowDevice(handle), { ...code('INVALID_ARGUMENT'), message: /released ArrowArray/ })
  assert.throws(() => run(`pa.Array._import_from_c_device(${handle.arrayAddress}, ${handle.schemaAddress})`), /released/)
  run('del a')
  const other = arrow.toArrowDevice(buffer, 'g')
  const found = arrow.fromArrowDevice(other)
  assert.throws(() => run(`pa.Array._import_from_c_device(${other.arrayAddress}, ${other.schemaAddress})`), /released/)
  found.buffer.dispose()
  // A consumer that raises: what it has not taken is still there to be released.
  const third = arrow.toArrowDevice(buffer, 'g')
  assert.throws(() => run(`pa.Array._import_from_c_device(${third.arrayAddress}, ${handle.schemaAddress})`), /released/)
  third.dispose()
  buffer.dispose()
  assert.equal(pool.bytesAllocated, 0)
})

test('we take what pyarrow makes: in place, alive after it, released with the last slice', () => {
  for (const how of ['_export_to_c_device', '_export_to_c']) {
    for (const [format, [Type, name]] of Object.entries(types)) {
      const { memory, array, schema } = places()
      run(`
before = pa.total_allocated_bytes()
a = pa.array([1, 2, 3, 100, 5], pa.${name}()).slice(1)
address = a.buffers()[1].address
a.${how}(${array}, ${schema})
del a
held = pa.total_allocated_bytes() - before`)
      if (how === '_export_to_c') memory.asInt32Array()[22] = 1
      const found = arrow.unsafeFromArrowDevice(array, schema)
      assert.deepEqual([found.format, found.length], [format, 4])
      assert.equal(found.buffer.address, BigInt(ask('address')) + BigInt(Type.BYTES_PER_ELEMENT))
      const bytes = Uint8Array.from(found.buffer.asUint8Array())
      assert.deepEqual([...new Type(bytes.buffer)].map(Number), [2, 3, 100, 5])
      const slice = found.buffer.slice(1)
      found.buffer.dispose()
      // Its type is released, its memory is not.
      const now = ask('pa.total_allocated_bytes() - before')
      assert.ok(now >= 5 * Type.BYTES_PER_ELEMENT && now < ask('held'), `${now}`)
      slice.dispose()
      assert.equal(ask('pa.total_allocated_bytes() - before'), 0)
      assert.throws(() => arrow.unsafeFromArrowDevice(array, schema), code('INVALID_ARGUMENT'))
    }
  }
})

test('bits of pyarrow keep their place', () => {
  const { array, schema } = places()
  run(`pa.array([i % 3 == 0 for i in range(40)]).slice(11, 20)._export_to_c_device(${array}, ${schema})`)
  const { buffer, format, length, bitOffset } = arrow.unsafeFromArrowDevice(array, schema)
  assert.deepEqual([format, length, bitOffset], ['b', 20, 3])
  const bits = Array.from({ length }, (_, index) => (buffer.at((bitOffset + index) >> 3) >> ((bitOffset + index) & 7)) & 1)
  assert.deepEqual(bits, Array.from({ length }, (_, index) => Number((index + 11) % 3 === 0)))
})

test('what we refuse of pyarrow is released', () => {
  const cases = ['pa.array([1, None, 3])', "pa.array(['a', 'b'])", 'pa.array([[1], [2]])', "pa.array(['a', 'a']).dictionary_encode()", 'pa.array([None, None])', 'pa.array([{"a": 1}])']
  for (const made of cases) {
    const { array, schema } = places()
    run(`before = pa.total_allocated_bytes(); a = ${made}; a._export_to_c_device(${array}, ${schema}); del a`)
    assert.throws(() => arrow.unsafeFromArrowDevice(array, schema), code('NOT_SUPPORTED'), made)
    assert.equal(ask('pa.total_allocated_bytes() - before'), 0, made)
  }
  const { array, schema } = places()
  run(`pa.array([], pa.int32())._export_to_c_device(${array}, ${schema})`)
  assert.equal(arrow.unsafeFromArrowDevice(array, schema).buffer.size, 0)
})

test('around: ours through pyarrow is ours again, at the same address', () => {
  const pool = systemMemoryPool().proxy()
  const buffer = bufferOf(doubles, pool)
  const handle = arrow.toArrowDevice(buffer, 'g')
  const { array, schema } = places()
  run(`a = pa.Array._import_from_c_device(${handle.arrayAddress}, ${handle.schemaAddress}); a.slice(3)._export_to_c_device(${array}, ${schema}); del a`)
  const found = arrow.unsafeFromArrowDevice(array, schema).buffer
  assert.equal(found.address, buffer.address + 24n)
  buffer.dispose()
  assert.equal(pool.bytesAllocated, 80)
  found.dispose()
  assert.equal(pool.bytesAllocated, 0)
})

run(`
streams = ctypes.CDLL(${JSON.stringify(process.env.OFFHEAP_JUDGE_STREAMS)})
streams.error.restype = ctypes.c_char_p
streams.allocated.restype = ctypes.c_int64
streams.consume.argtypes = [ctypes.c_size_t, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_double)]
streams.produce.argtypes = [ctypes.c_size_t, ctypes.c_int64, ctypes.c_int]

def consume(address):
    chunks, total = ctypes.c_int64(), ctypes.c_double()
    if streams.consume(address, chunks, total):
        raise ValueError(streams.error().decode())
    return [chunks.value, total.value]

def produce(address, chunks, strings=0):
    if streams.produce(address, chunks, strings):
        raise ValueError(streams.error().decode())
`)

test('Arrow C++ takes our streams, and releases every array', () => {
  const pool = systemMemoryPool().proxy()
  const exported = (sizes) => {
    const buffer = bufferOf(doubles, pool)
    const handle = arrow.toArrowDeviceStream(sizes.map((size) => buffer.slice(0, size)), 'g')
    buffer.dispose()
    return handle
  }
  for (const [sizes, expected] of [
    [[80, 16, 0, 24], [4, 22.5 + 0.5 + 1.5]],
    [[], [0, 0]],
    [[0], [1, 0]],
  ]) {
    const handle = exported(sizes)
    assert.deepEqual(ask(`consume(${handle.streamAddress})`), expected)
    assert.equal(handle.consumed, true)
    assert.throws(() => ask(`consume(${handle.streamAddress})`), /released/)
    assert.throws(() => arrow.fromArrowDeviceStream(handle), code('INVALID_ARGUMENT'))
  }
  globalThis.gc()
})

test('we take the streams of Arrow C++, to the end or not', () => {
  for (const asked of [4, 2, 0]) {
    run('before = streams.allocated()')
    const { memory, array } = places()
    run(`produce(${array}, 3)`)
    const held = ask('streams.allocated() - before')
    const reader = arrow.unsafeFromArrowDeviceStream(array)
    assert.equal(reader.format, 'g')
    const found = []
    for (let i = 0; i < asked; i += 1) {
      const next = reader.next()
      if (next) found.push(next)
    }
    assert.deepEqual(found.map(({ buffer }) => [...buffer.asFloat64Array()]), [[1], [2, 2], [3, 3, 3]].slice(0, asked))
    assert.ok(held > 0)
    reader.dispose()
    if (found.length > 0) assert.ok(ask('streams.allocated() - before') > 0)
    for (const { buffer } of found) buffer.dispose()
    assert.equal(ask('streams.allocated() - before'), 0)
    memory.dispose()
  }
  run('before = streams.allocated()')
  const { array } = places()
  run(`produce(${array}, 2, 1)`)
  assert.throws(() => arrow.unsafeFromArrowDeviceStream(array), code('NOT_SUPPORTED'))
  assert.equal(ask('streams.allocated() - before'), 0)
})

// The driver has to be started, which offheap/cuda does when it is first asked.
assert.ok(cuda.isAvailable(), cuda.status().message)
run(`
gpu = ctypes.CDLL(${JSON.stringify(process.env.OFFHEAP_JUDGE_GPU)})
gpu.gpu_error.restype = ctypes.c_char_p
gpu.gpu_alive.restype = gpu.gpu_waits.restype = ctypes.c_int64
gpu.gpu_take.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int64), ctypes.c_char_p]
gpu.gpu_make.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int64, ctypes.c_uint8]

def worked(code):
    if code:
        raise ValueError(gpu.gpu_error().decode())

def gpu_take(array, schema):
    length, ends = ctypes.c_int64(), ctypes.create_string_buffer(2)
    worked(gpu.gpu_take(array, schema, length, ends))
    return [length.value, *ends.raw]

worked(gpu.gpu_start(${JSON.stringify(process.env.OFFHEAP_JUDGE_DRIVER)}.encode()))
`)

test('Arrow C++ waits for the event of our GPU memory, and reads what was written before it', async () => {
  const device = cuda.device()
  const pool = device.memoryManager.pool
  const before = pool.bytesAllocated
  const work = device.createStream()
  for (const when of [() => ({ stream: work }), () => ({ event: work.record() })]) {
    const waits = ask('gpu.gpu_waits()')
    const there = device.memoryManager.allocateBuffer(1 << 20)
    const filled = cuda.fill(there, 0x5a, { stream: work })
    const handle = arrow.toArrowDevice(there, 'C', { offset: 10, ...when() })
    there.dispose()
    assert.deepEqual(ask(`gpu_take(${handle.arrayAddress}, ${handle.schemaAddress})`), [(1 << 20) - 10, 0x5a, 0x5a])
    assert.equal(ask('gpu.gpu_waits()'), waits + 1)
    assert.equal(handle.consumed, true)
    await filled
  }
  for (let i = 0; i < 100 && pool.bytesAllocated > before; i += 1) await sleep(10)
  assert.equal(pool.bytesAllocated, before)
  const own = device.memoryManager.allocateBuffer(4096)
  const filled = cuda.fill(own, 7)
  const handle = arrow.toArrowDevice(own, 'C')
  assert.deepEqual(ask(`gpu_take(${handle.arrayAddress}, ${handle.schemaAddress})`), [4096, 7, 7])
  await filled
  own.dispose()
})

test('we wait for the event of GPU memory of Arrow C++, in the call or on a stream', async () => {
  const device = cuda.device()
  for (const stream of [undefined, device.createStream()]) {
    const { memory, array, schema } = places()
    run(`worked(gpu.gpu_make(${array}, ${schema}, ${1 << 20}, 0x3c))`)
    const { buffer, length, format } = arrow.unsafeFromArrowDevice(array, schema, { stream })
    assert.deepEqual([format, length, buffer.device.typeName], ['C', 1 << 20, 'cuda'])
    const back = device.allocateHostBuffer(1 << 20)
    await cuda.copy(back, buffer)
    assert.deepEqual([back.at(0), back.at(-1)], [0x3c, 0x3c])
    assert.equal(ask('gpu.gpu_alive()'), 1)
    buffer.dispose()
    for (let i = 0; i < 100 && ask('gpu.gpu_alive()') > 0; i += 1) {
      await device.synchronize()
      await sleep(10)
    }
    assert.equal(ask('gpu.gpu_alive()'), 0)
    memory.dispose()
  }
})

test('NumPy imports tensors of every type, strided, of any shape, read-only', () => {
  const pool = systemMemoryPool().proxy()
  for (const [Type, name] of Object.values(types)) {
    const handle = arrow.toDlpack(bufferOf(numbers(Type), pool), name, { shape: [2, 2], offset: Type.BYTES_PER_ELEMENT })
    run(`a = np.from_dlpack(Tensor(${handle.take()}))`)
    assert.deepEqual(ask('[str(a.dtype), a.tolist(), a.flags.writeable]'), [name, [[2, 3], [100, 5]], false])
    run('del a')
  }
  const cases = [
    [{ shape: [3, 2], strides: [1, 3], offset: 8 }, [[0.5, 2], [1, 2.5], [1.5, 3]]],
    [{ shape: [3], strides: [-1], offset: 16 }, [1, 0.5, 0]],
    [{ shape: [2, 2], strides: [0, 1] }, [[0, 0.5], [0, 0.5]]],
    [{ shape: [] }, 0],
    [{ shape: [0, 3] }, []],
    [{}, [...doubles]],
  ]
  for (const [options, expected] of cases) {
    run(`a = np.from_dlpack(Tensor(${arrow.toDlpack(bufferOf(doubles, pool), 'float64', options).take()}))`)
    assert.deepEqual(ask('a.tolist()'), expected)
    run('del a')
  }
})

test('what NumPy has lives on when the buffer is disposed, and goes with it, from any thread', () => {
  const pool = systemMemoryPool().proxy()
  const buffer = bufferOf(doubles, pool)
  run(`a = np.from_dlpack(Tensor(${arrow.toDlpack(buffer, 'float64').take()}))`)
  assert.equal(ask('a.ctypes.data'), Number(buffer.address))
  buffer.dispose()
  assert.equal(pool.bytesAllocated, 80)
  assert.equal(ask('float(a.sum())'), 22.5)
  run(`
box = [a]
del a
thread = threading.Thread(target=box.clear)
thread.start()
thread.join()`)
  assert.equal(pool.bytesAllocated, 0)
})

test('NumPy writes a copy, and takes the struct before 1.0', () => {
  const pool = systemMemoryPool().proxy()
  const buffer = bufferOf(doubles, pool)
  run(`a = np.from_dlpack(Tensor(${arrow.toDlpack(buffer, 'float64', { copy: true }).take()})); a[0] = 77`)
  assert.equal(pool.bytesAllocated, 160)
  run(`b = np.from_dlpack(Tensor(${arrow.toDlpack(buffer, 'float64', { copy: true, legacy: true }).take()}, legacy=True))`)
  assert.deepEqual(ask('[a[0], a[9], b[0], b[9], a.flags.writeable]'), [77, 4.5, 0, 4.5, true])
  assert.equal(buffer.asFloat64Array()[0], 0)
  buffer.dispose()
  run('del a, b')
  assert.equal(pool.bytesAllocated, 0)
})

test('a consumer that raises has not taken the tensor: it is deleted once', () => {
  const pool = shm.memoryManager().pool
  const before = pool.bytesAllocated
  const shared = shm.memoryManager().allocateBuffer(80)
  const address = arrow.toDlpack(shared, 'float64').take()
  shared.dispose()
  run(`tensor = Tensor(${address})`)
  assert.throws(() => run('np.from_dlpack(tensor)'), /device/i)
  assert.ok(pool.bytesAllocated > before)
  run('tensor.close(); del tensor')
  assert.equal(pool.bytesAllocated, before)
})

test('we take what NumPy and pyarrow give by DLPack: written in place, or not', () => {
  for (const [format, legacy] of [['max_version=(1, 0)', false], ['', true]]) {
    run(`a = np.arange(6, dtype=np.int32).reshape(2, 3); count = sys.getrefcount(a); given = give(a, ${format})`)
    const [address, isLegacy] = ask('given')
    assert.equal(isLegacy, legacy)
    const found = arrow.unsafeFromDlpack(BigInt(address), { legacy })
    assert.deepEqual([found.type, found.shape, found.readOnly, found.copied], ['int32', [2, 3], legacy, false])
    assert.equal(found.buffer.address, BigInt(ask('a.ctypes.data')))
    assert.deepEqual([...found.buffer.asInt32Array()], [0, 1, 2, 3, 4, 5])
    if (!legacy) {
      found.buffer.asInt32Array()[0] = 42
      assert.equal(ask('int(a[0, 0])'), 42)
    }
    assert.equal(ask('sys.getrefcount(a) > count'), true)
    found.buffer.dispose()
    assert.equal(ask('sys.getrefcount(a) == count'), true)
  }
  run('a = np.arange(4.0); a.flags.writeable = False; given = give(a, max_version=(1, 0))')
  const fixed = arrow.unsafeFromDlpack(BigInt(ask('given[0]')))
  assert.deepEqual([fixed.readOnly, fixed.buffer.isMutable], [true, false])
  fixed.buffer.dispose()
  run('given = give(a, max_version=(1, 0), copy=True)')
  const copied = arrow.unsafeFromDlpack(BigInt(ask('given[0]')))
  assert.deepEqual([copied.copied, copied.buffer.address === BigInt(ask('a.ctypes.data'))], [true, false])
  copied.buffer.dispose()
  run('before = pa.total_allocated_bytes(); b = pa.array([1.5, 2.5, 3.5]).slice(1); given = give(b); del b')
  const [address, legacy] = ask('given')
  const found = arrow.unsafeFromDlpack(BigInt(address), { legacy })
  assert.deepEqual([found.type, found.shape, [...found.buffer.asFloat64Array()]], ['float64', [2], [2.5, 3.5]])
  found.buffer.dispose()
  assert.equal(ask('pa.total_allocated_bytes() - before'), 0)
})

test('what we refuse of NumPy is deleted', () => {
  for (const made of ['np.arange(6).reshape(2, 3).T', 'np.arange(6)[::2]', 'np.arange(6)[::-1]', 'np.zeros(3, bool)', 'np.zeros(3, complex)']) {
    run(`base = ${made}; count = sys.getrefcount(base); given = give(base, max_version=(1, 0))`)
    assert.throws(() => arrow.unsafeFromDlpack(BigInt(ask('given[0]'))), code('NOT_SUPPORTED'), made)
    assert.equal(ask('sys.getrefcount(base) == count'), true, made)
  }
})

function forget(pool) {
  const buffer = bufferOf(doubles, pool)
  arrow.toArrowDevice(buffer, 'g')
  arrow.toDlpack(buffer, 'float64')
  const { array, schema } = places()
  run(`pa.array([1.5, 2.5])._export_to_c_device(${array}, ${schema})`)
  arrow.unsafeFromArrowDevice(array, schema)
}

test('what is forgotten is released on both sides', async () => {
  const pool = systemMemoryPool().proxy()
  globalThis.gc()
  await sleep(50)
  run('gc.collect(); before = pa.total_allocated_bytes()')
  for (let i = 0; i < 50; i += 1) forget(pool)
  for (let i = 0; i < 100 && (pool.bytesAllocated > 0 || ask('pa.total_allocated_bytes() - before') > 0); i += 1) {
    globalThis.gc()
    await sleep(20)
  }
  assert.deepEqual([pool.bytesAllocated, ask('pa.total_allocated_bytes() - before')], [0, 0])
})
