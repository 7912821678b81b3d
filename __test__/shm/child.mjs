// A process that makes and opens shared memory as it is told: by messages of its parent, or, for processes that are nobody's
// child, by its arguments: `child.mjs sum <handle as JSON>`, `child.mjs make <bytes>`.
import * as shm from 'offheap/shm'
import { mapped } from './mapped.mjs'

const buffers = []

const commands = {
  make(size, first) {
    const buffer = shm.memoryManager().allocateBuffer(size, { zeroFill: true })
    if (size > 0) buffer.asUint8Array()[0] = first
    buffers.push(buffer)
    return { index: buffers.length - 1, handle: shm.exportHandle(buffer) }
  },
  open(handle, options) {
    const buffer = shm.open(handle, options)
    buffers.push(buffer)
    const { size, isMutable, alignment } = buffer
    return { index: buffers.length - 1, size, isMutable, alignment }
  },
  read: (index, at) => buffers[index].at(at),
  readView: (index, at) => buffers[index].asUint8Array()[at],
  write: (index, at, byte) => void buffers[index].fill(byte, at, at + 1),
  writeView: (index, at, byte) => void (buffers[index].asUint8Array()[at] = byte),
  sum: (index) => buffers[index].asFloat64Array().reduce((sum, value) => sum + value, 0),
  seal: (index) => shm.seal(buffers[index]),
  revoke: (index) => shm.revoke(buffers[index]),
  handle: (index) => shm.exportHandle(buffers[index]),
  dispose: (index) => buffers[index].dispose(),
  mapped,
}

const [what, argument] = process.argv.slice(2)
if (what === 'sum') {
  const buffer = shm.open(JSON.parse(argument))
  console.log(buffer.asFloat64Array().reduce((sum, value) => sum + value, 0))
} else if (what === 'make') {
  const buffer = shm.memoryManager().allocateBuffer(Number(argument))
  buffer.fill(9)
  console.log(JSON.stringify(shm.exportHandle(buffer)))
} else if (process.send !== undefined) {
  process.on('message', ([command, ...args]) => {
    try {
      process.send({ value: commands[command](...args) })
    } catch (error) {
      process.send({ error: { code: error.code, name: error.name, message: error.message } })
    }
  })
}
