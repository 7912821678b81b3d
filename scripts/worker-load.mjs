// Loads the library first in a worker that exits, then allocates in the main thread and in another worker; each
// round is a process of its own. (A library that a worker loaded first was once unloaded with it, and some versions
// of mimalloc crash in the next thread that allocates.)
//
//   node scripts/worker-load.mjs [rounds = 30]
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Worker, isMainThread, workerData } from 'node:worker_threads'

/** Allocates from every backend, writes, and gives back. */
async function allocate() {
  const offheap = await import('offheap')
  const pools = offheap.supportedMemoryBackends().map((name) => offheap[`${name}MemoryPool`]())
  for (const shared of [offheap.defaultMemoryPool(), ...pools]) {
    // An account of our own: the other threads allocate from the same backends.
    const pool = shared.proxy()
    for (const size of [0, 1, 64, 4096, 70_000, 3 << 20]) {
      const buffer = pool.allocateBuffer(size)
      if (size > 0) buffer.asUint8Array().fill(0xa5)
      if (pool.bytesAllocated !== size) throw new Error(`${pool.backendName}: ${size} bytes were not counted`)
      buffer.dispose()
      if (pool.bytesAllocated !== 0) throw new Error(`${pool.backendName}: ${size} bytes were not given back`)
    }
  }
}

/** Runs this file in a worker up to its exit. */
function worker(task) {
  return new Promise((resolve, reject) => {
    const thread = new Worker(fileURLToPath(import.meta.url), { workerData: task })
    thread.on('error', reject)
    thread.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`worker "${task}" exited with ${code}`))))
  })
}

if (!isMainThread) {
  if (workerData === 'load') await import('offheap')
  else await allocate()
} else if (process.argv[2] === 'round') {
  await worker(process.argv[3])
  await allocate()
  await worker('allocate')
  await Promise.all([worker('allocate'), allocate(), worker('load')])
} else {
  const rounds = Number(process.argv[2] ?? 30)
  let failed = 0
  for (let round = 0; round < rounds; round++) {
    const first = round % 2 === 0 ? 'load' : 'allocate'
    const { status, signal, stderr, error } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), 'round', first], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    if (status === 0) continue
    failed++
    console.error(`round ${round + 1} (first worker: ${first}): ${error?.message ?? signal ?? `exit code ${status}`}\n${stderr}`)
  }
  console.log(`${rounds - failed} of ${rounds} rounds clean`)
  if (failed > 0) process.exitCode = 1
}
