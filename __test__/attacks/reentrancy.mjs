// Attacks from inside: an argument of a synchronous call (a getter, a callback, `valueOf`) disposes of the buffer that
// the call works on. Each must end with a value or an error; what it wrote must not land in memory that went to others.
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import v8 from 'node:v8'
import zlib from 'node:zlib'
import { defaultMemoryPool, MemoryBuffer } from '../../dist/index.mjs'
import { INPUT, KIB, turn } from './harness.mjs'

const SIZE = 4 * KIB

/** An object that disposes when it is turned into a number. */
const number = (dispose, value) => ({
  valueOf() {
    dispose()
    return value
  },
})

/** An object that disposes when it is turned into a string. */
const text = (dispose, value) => ({
  toString() {
    dispose()
    return value
  },
})

/** An object whose property `name` disposes when it is read. */
const getting = (dispose, name, value, rest = {}) =>
  Object.defineProperty({ ...rest }, name, {
    enumerable: true,
    get() {
      dispose()
      return value
    },
  })

/** Each gets the lease, a function that disposes of it, and a file. */
const calls = {
  'Uint8Array.prototype.sort': ({ view }, dispose) => view.sort((a, b) => (dispose(), a - b)),
  'Uint8Array.prototype.fill': ({ view }, dispose) => view.fill(number(dispose, INPUT)),
  'Uint8Array.prototype.set from an array': ({ view }, dispose) => view.set([1, number(dispose, 2), 3, 4]),
  'Uint8Array.prototype.set from an object': ({ view }, dispose) => view.set(getting(dispose, 0, 1, { length: 100, 5: 9 })),
  'Uint8Array.prototype.slice': ({ view }, dispose) => view.slice(number(dispose, 0)),
  'Uint8Array.prototype.subarray': ({ view }, dispose) => view.subarray(number(dispose, 1), 10),
  'Uint8Array.prototype.copyWithin': ({ view }, dispose) => view.copyWithin(number(dispose, 0), 100, 1000),
  'Uint8Array.prototype.indexOf': ({ view }, dispose) => view.indexOf(1, number(dispose, 0)),
  'Uint8Array.prototype.map': ({ view }, dispose) => view.map((byte) => (dispose(), byte)),
  'Uint8Array.prototype.join': ({ view }, dispose) => view.join(text(dispose, ',')),
  'Uint8Array.prototype.with': ({ view }, dispose) => view.with(number(dispose, 1), INPUT),
  'Uint8Array.from': ({ view }, dispose) => Uint8Array.from(view, (byte) => (dispose(), byte)),
  'new Uint8Array': ({ view }, dispose) => new Uint8Array(view.buffer, number(dispose, 0), 16).fill(INPUT),
  'ArrayBuffer.prototype.slice': ({ view }, dispose) => view.buffer.slice(number(dispose, 0), SIZE),
  'Atomics.add': ({ view }, dispose) => Atomics.add(new Int32Array(view.buffer), number(dispose, 0), 1),
  'Atomics.store': ({ view }, dispose) => Atomics.store(new Int32Array(view.buffer), 0, number(dispose, INPUT)),
  'DataView.prototype.setInt32': ({ view }, dispose) => new DataView(view.buffer).setInt32(0, number(dispose, INPUT)),
  'JSON.stringify': ({ view }, dispose) => JSON.stringify(view, (_key, value) => (dispose(), value)),
  structuredClone: ({ view }, dispose) => structuredClone(getting(dispose, 'a', 1, { view })),
  'v8.serialize': ({ view }, dispose) => v8.serialize(getting(dispose, 'a', 1, { view })),
  'fs.readSync': ({ view }, dispose, fd) => readSync(fd, view, getting(dispose, 'offset', 0)),
  'fs.writeSync': ({ view }, dispose, fd) => writeSync(fd, view, getting(dispose, 'offset', 0)),
  'zlib.deflateSync': ({ view }, dispose) => zlib.deflateSync(view, getting(dispose, 'level', 1)),
  'TextDecoder.prototype.decode': ({ view }, dispose) => new TextDecoder().decode(view, getting(dispose, 'stream', false)),
  'Buffer.concat': ({ bytes }, dispose) => Buffer.concat(new Proxy([bytes, Buffer.from('x')], { get: (target, key) => (key === '1' && dispose(), target[key]) })),
  'MemoryBuffer.concat': ({ buffer, view }, dispose) =>
    MemoryBuffer.concat(
      new Proxy([view, buffer, new Uint8Array(8)], { get: (target, key) => (key === '2' && dispose(), target[key]) }),
    ).dispose(),
  'MemoryBuffer.prototype.copySlice': ({ buffer }, dispose) => buffer.copySlice(0, SIZE, getting(dispose, 'pool', undefined)).dispose(),
  'MemoryBuffer.prototype.ensureAlignment': ({ buffer }, dispose) =>
    buffer.ensureAlignment(8192, getting(dispose, 'pool', undefined)).dispose(),
  'MemoryBuffer.from': ({ view }, dispose) => MemoryBuffer.from(view, getting(dispose, 'pool', undefined)).dispose(),
  'MemoryPool.prototype.allocateBuffer': (_lease, dispose) =>
    defaultMemoryPool().allocateBuffer(SIZE, getting(dispose, 'alignment', 64)).dispose(),
}

/** Node's own code takes the address first and asks the argument for its number afterwards. */
const nodeCalls = {
  'Buffer.prototype.fill': ({ bytes }, dispose) => bytes.fill(number(dispose, INPUT)),
  'Buffer.prototype.latin1Write': ({ bytes }, dispose) => bytes.latin1Write('x'.repeat(100), number(dispose, 0)),
}

export const reentrantCalls = Object.keys(calls)

export const rows = {
  'synchronous calls whose argument disposes': (attack) => reenter(attack, calls),
  'Buffer methods whose argument disposes': (attack) => reenter(attack, nodeCalls),
}

async function reenter(attack, calls) {
    const fd = openSync(attack.file('input', SIZE * 2), 'r+')
    for (const [name, call] of Object.entries(calls)) {
      let disposals = 0
      const damagedBefore = attack.result.damagedBlocks
      for await (const round of attack.rounds()) {
        const lease = round.lease(SIZE)
        if (round.late) await turn()
        let disposed = false
        const dispose = () => {
          if (disposed) return
          disposed = true
          disposals += 1
          lease.dispose()
        }
        try {
          call(lease, dispose, fd)
          attack.outcome('completed')
        } catch (error) {
          attack.outcome(String(error.code ?? error.name))
        }
        if (!disposed) lease.dispose()
      }
      // Some calls do not look at that argument on every version; the list must not rot unseen.
      if (attack.result.damagedBlocks > damagedBefore) attack.fail(`${name} wrote into memory that was not its own`)
      if (disposals === 0) attack.outcome(`no disposal in ${name}`)
    }
    closeSync(fd)
}
