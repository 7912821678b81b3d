// Memory of a GPU: copied to, computed on by nobody here, and back, without blocking the event loop. Without a GPU it says why.
import { strict as assert } from 'node:assert'
import { MemoryBuffer, defaultCpuMemoryManager } from 'offheap'
import * as cuda from 'offheap/cuda'

const status = cuda.status()
if (status.available) {
  console.log(`CUDA ${status.driverVersion}: ${cuda.devices().map(({ name }) => name).join(', ')}`)
  await useGpu()
} else {
  console.log(`no GPU: ${status.reason}: ${status.message}`)
}
console.log('gpu: ok')

async function useGpu(): Promise<void> {
  const gpu = cuda.device(0)

  // Memory of the GPU is a MemoryBuffer that the CPU cannot read.
  const words = MemoryBuffer.from('one two three')
  const there = words.copyTo(gpu)
  assert.throws(() => there.toString(), { code: 'ERR_OFFHEAP_NOT_SUPPORTED' })
  const slice = there.slice(4, 3)
  assert.equal(slice.copyTo(defaultCpuMemoryManager()).toString(), 'two')

  // Page-locked memory is copied by the GPU while timers go on.
  const stream = gpu.createStream()
  const numbers = gpu.allocateHostBuffer(8 * 1_000_000)
  numbers.asFloat64Array().forEach((_, index, all) => (all[index] = index))
  const [column, back] = [gpu.memoryManager.on(stream).allocateBuffer(numbers.size), gpu.allocateHostBuffer(numbers.size)]
  void cuda.copy(column, numbers, { stream })
  await cuda.copy(back, column, { stream })
  assert.equal(back.asFloat64Array()[999_999], 999_999)

  // A limit of one's own on the GPU's memory.
  const pool = gpu.memoryManager.pool!.limit(16 << 20, { name: 'a request' })
  assert.throws(() => gpu.memoryManagerOf(pool).allocateBuffer(17 << 20), { code: 'ERR_OFFHEAP_OUT_OF_MEMORY' })

  const { requested, reserved } = gpu.memoryManager.stats()
  console.log(`${requested.current} bytes in use, ${reserved.current} taken from the driver`)
  for (const buffer of [words, there, slice, numbers, column, back]) buffer.dispose()
  stream.dispose()
}
