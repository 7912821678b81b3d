import test, { type ExecutionContext } from 'ava'
import { backends, runScript } from './support.js'

/** The factory of each backend's pool. */
const factories: Record<string, string> = { mimalloc: 'mimallocMemoryPool', jemalloc: 'jemallocMemoryPool', system: 'systemMemoryPool', mapped: 'mappedMemoryPool' }

/** Runs a script that prints one JSON value. */
async function measure(t: ExecutionContext, script: string, env: Record<string, string> = {}): Promise<Record<string, number>> {
  const { stdout, stderr, code, signal } = await runScript(script, env)
  t.deepEqual({ code, signal }, { code: 0, signal: null }, stderr)
  const figures = JSON.parse(stdout) as Record<string, number>
  t.log(JSON.stringify(figures))
  return figures
}

for (const backend of backends) {
  test.serial(`100,000 buffers of 64 KiB allocated, viewed, written and disposed in one synchronous loop (${backend})`, async (t) => {
    const figures = await measure(
      t,
      `
      const pool = offheap.${factories[backend]!}().proxy()
      const size = 64 * 1024
      const start = process.memoryUsage.rss()
      for (let index = 0; index < 100000; index += 1) {
        const buffer = pool.allocateBuffer(size)
        const view = buffer.asUint8Array()
        for (let at = 0; at < size; at += 4096) view[at] = index
        if (view[size - 4096] !== (index & 255)) throw new Error('not written')
        buffer.dispose()
        if (view.length !== 0) throw new Error('not ended')
      }
      const peak = process.resourceUsage().maxRSS * 1024
      const { peakBytes, numAllocations, bytesAllocated, liveAllocations, parkedBytes } = pool.stats()
      console.log(JSON.stringify({ growth: peak - start, peakBytes, numAllocations, bytesAllocated, liveAllocations, parkedBytes }))
    `,
    )
    t.true(figures['growth']! < 64e6, `${figures['growth']} bytes over the start`)
    t.is(figures['peakBytes'], 64 * 1024, 'more than one buffer was alive at once')
    t.is(figures['numAllocations'], 100_000)
    t.deepEqual([figures['bytesAllocated'], figures['liveAllocations'], figures['parkedBytes']], [0, 0, 0])
  })

  test.serial(`100,000 buffers of 64 KiB forgotten, with turns in between: all are freed (${backend})`, async (t) => {
    const figures = await measure(
      t,
      `
      const pool = offheap.${factories[backend]!}().proxy()
      const size = 64 * 1024
      const turn = () => new Promise((resolve) => setImmediate(resolve))
      function forget(count) {
        for (let index = 0; index < count; index += 1) {
          const view = pool.allocateBuffer(size).asUint8Array()
          for (let at = 0; at < size; at += 4096) view[at] = index
        }
      }
      async function main() {
        for (let round = 0; round < 1000; round += 1) {
          forget(100)
          await turn()
        }
        const { numAllocations } = pool
        for (let round = 0; round < 50 && pool.liveAllocations > 0; round += 1) {
          gc()
          await turn()
        }
        const { peakBytes, bytesAllocated, liveAllocations, parkedBytes } = pool.stats()
        console.log(JSON.stringify({ peakBytes, numAllocations, bytesAllocated, liveAllocations, parkedBytes }))
      }
      main()
    `,
    )
    t.is(figures['numAllocations'], 100_000)
    t.deepEqual([figures['bytesAllocated'], figures['liveAllocations'], figures['parkedBytes']], [0, 0, 0])
    // The collector felt the weight: never was more than a fraction of the 6.5 GB alive.
    t.true(figures['peakBytes']! < 2e9, `${figures['peakBytes']} bytes were alive at once`)
  })
}

test.serial('100,000 buffers of 64 KiB that nobody looks at, forgotten with turns in between', async (t) => {
  const figures = await measure(
    t,
    `
    const pool = offheap.defaultMemoryPool().proxy()
    let round = 0
    function next() {
      for (let index = 0; index < 100; index += 1) pool.allocateBuffer(64 * 1024)
      round += 1
      if (round < 1000) return setImmediate(next)
      setImmediate(function collect() {
        gc()
        round += 1
        if (round < 1050 && pool.liveAllocations > 0) return setImmediate(collect)
        console.log(JSON.stringify({ peakBytes: pool.peakBytes, liveAllocations: pool.liveAllocations }))
      })
    }
    next()
  `,
  )
  t.is(figures['liveAllocations'], 0)
  t.true(figures['peakBytes']! < 2e9, `${figures['peakBytes']} bytes were alive at once`)
})

test.serial('100,000 slices, builders and arenas in one synchronous loop hold nothing', async (t) => {
  const figures = await measure(
    t,
    `
    const pool = offheap.defaultMemoryPool().proxy()
    const start = process.memoryUsage.rss()
    const source = pool.allocateBuffer(1 << 20)
    for (let index = 0; index < 100000; index += 1) {
      const slice = source.slice(index, 1000)
      slice.asUint8Array()
      slice.dispose()
      const builder = new offheap.TypedBufferBuilder('float64', { pool, capacity: 1000 })
      builder.append(index)
      builder.finish().dispose()
      builder.dispose()
      if (index % 10 === 0) {
        const arena = new offheap.Arena({ pool, chunkSize: 4096 })
        arena.alloc(100)[0] = 1
        arena.dispose()
      }
    }
    source.dispose()
    const growth = process.resourceUsage().maxRSS * 1024 - start
    console.log(JSON.stringify({ growth, ...pool.stats() }))
  `,
  )
  t.deepEqual([figures['bytesAllocated'], figures['liveAllocations'], figures['parkedBytes']], [0, 0, 0])
  // Node queues some 350 bytes for each view until the loop turns, and collects what was forgotten of the handles late.
  t.true(figures['growth']! < 200e6, `${figures['growth']} bytes over the start`)
})
