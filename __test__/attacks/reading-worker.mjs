// Starts four reads on views of offheap buffers, disposes of some of the buffers, and waits to be terminated.
import { openSync, read } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { systemMemoryPool } from '../../dist/index.mjs'

const size = 1 << 20
const fd = openSync(workerData.path, 'r')
const buffers = Array.from({ length: 4 }, () => systemMemoryPool().allocateBuffer(size))
for (const buffer of buffers) {
  const view = buffer.asUint8Array()
  const again = () => read(fd, view, 0, view.length, 0, again)
  if (workerData.leave === 2) again()
  else read(fd, view, 0, size, 0, () => {})
  if (workerData.leave > 0) buffer.dispose()
}
parentPort.postMessage({ size })
setInterval(() => {}, 1000)
