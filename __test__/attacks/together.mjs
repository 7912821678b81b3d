// The four kinds of work that most programs do, in flight together while their buffers are disposed of.
import { randomFill } from 'node:crypto'
import { closeSync, openSync, promises, read } from 'node:fs'
import zlib from 'node:zlib'
import { called, KIB, OWN, turn } from './harness.mjs'

const SIZE = 128 * KIB

export const rows = {
  'fs.read, FileHandle.read, zlib and crypto together': async (attack) => {
    const path = attack.file('input', SIZE)
    const fd = openSync(path, 'r')
    const handle = await promises.open(path)
    for await (const round of attack.rounds({ threads: true })) {
      const [one, two, three, four] = Array.from({ length: 4 }, () => round.lease(SIZE))
      if (round.late) await turn()
      const work = [
        called((done) => read(fd, one.view, 0, SIZE, 0, done)),
        handle.read(two.view, 0, SIZE, 0),
        called((done) => zlib.deflate(three.view, { level: 1 }, done)),
        called((done) => randomFill(four.view, done)),
      ]
      await round.dispose(one, two, three, four)
      const [, , compressed] = await Promise.all(work.map((each) => round.settle(each)))
      if (compressed !== undefined) round.sent(zlib.inflateSync(compressed), { length: SIZE })
    }
    closeSync(fd)
    await handle.close()
  },

  // Not an attack: what was disposed of while nothing was in flight is free at once, and goes to the next who asks. It shows
  // that the other rows would see memory that was freed too early.
  'nothing in flight': async (attack) => {
    for await (const round of attack.rounds()) {
      const lease = round.lease(64 * KIB)
      if (round.late) await turn()
      await round.dispose(lease)
      attack.outcome(lease.view.length === 0 ? 'freed at once' : 'parked')
    }
  },

  // Also not one: somebody overwrites memory that is not theirs, and the harness must say so.
  'a write into foreign memory': async (attack) => {
    const { MemoryBuffer } = await import('../../dist/index.mjs')
    for await (const round of attack.rounds()) {
      const lease = round.lease(4 * KIB)
      lease.dispose()
      const other = round.others.at(round.number % round.others.length)
      const late = MemoryBuffer.unsafeForeign(other.address, other.size, other)
      late.fill(OWN, round.number, round.number + 1)
      late.dispose()
    }
  },
}
