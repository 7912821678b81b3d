// Attacks through node:fs.
import { execFileSync } from 'node:child_process'
import { closeSync, constants, createWriteStream, openSync, promises, read, readFileSync, readv, write, writeFile, writeSync, writev } from 'node:fs'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { called, INPUT, isNode, KIB, MIB, turn } from './harness.mjs'

const SIZE = 256 * KIB

/** Starts `start` on four views, disposes of them, and waits. */
async function four(attack, start, { size = SIZE, after } = {}) {
  for await (const round of attack.rounds({ threads: true })) {
    const leases = Array.from({ length: 4 }, () => round.lease(size))
    if (round.late) await turn()
    const work = leases.map((lease, index) => start(lease, index))
    await round.dispose(...leases)
    await Promise.all(work.map((one) => round.settle(one)))
    await after?.(round)
  }
}

async function reading(attack, start) {
  const fd = openSync(attack.file('input', SIZE), 'r')
  await four(attack, (lease) => start(fd, lease))
  closeSync(fd)
}

async function writing(attack, start) {
  const path = attack.file('output', 4 * SIZE, 0)
  const fd = openSync(path, 'r+')
  await four(attack, (lease, index) => start(fd, lease, index * SIZE), {
    after: (round) => round.sent(readFileSync(path)),
  })
  closeSync(fd)
}

/** Writes into a new file a round. */
async function storing(attack, store) {
  for await (const round of attack.rounds({ threads: true })) {
    const path = join(attack.folder, `stored-${round.number}`)
    const lease = round.lease(2 * MIB)
    if (round.late) await turn()
    const work = store(path, lease)
    await round.dispose(lease)
    await round.settle(work)
    round.sent(readFileSync(path), { length: lease.size })
  }
}

export const rows = {
  'fs.read, callback': (attack) => reading(attack, (fd, { view }) => called((done) => read(fd, view, 0, view.length, 0, done))),

  'FileHandle.read': async (attack) => {
    const handle = await promises.open(attack.file('input', SIZE))
    await four(attack, ({ view }) => handle.read(view, 0, view.length, 0))
    await handle.close()
  },

  'fs.readv': (attack) =>
    reading(attack, (fd, { view }) => called((done) => readv(fd, [view.subarray(0, 1000), view.subarray(1000)], 0, done))),

  'fs.read from a FIFO': async (attack) => {
    const path = join(attack.folder, 'fifo')
    execFileSync('mkfifo', [path])
    // Open for reading and writing, so that neither side waits for the other.
    const fd = openSync(path, constants.O_RDWR)
    for await (const round of attack.rounds()) {
      const lease = round.lease(32 * KIB)
      if (round.late) await turn()
      const work = called((done) => read(fd, lease.view, 0, lease.size, null, done))
      await round.dispose(lease)
      writeSync(fd, Buffer.alloc(lease.size, INPUT)) // the read ends only now
      await round.settle(work)
    }
    closeSync(fd)
  },

  'fs.write, callback': (attack) =>
    writing(attack, (fd, { view }, position) => called((done) => write(fd, view, 0, view.length, position, done))),

  'FileHandle.write': async (attack) => {
    const path = attack.file('output', 4 * SIZE, 0)
    const handle = await promises.open(path, 'r+')
    await four(attack, ({ view }, index) => handle.write(view, 0, view.length, index * SIZE), {
      after: (round) => round.sent(readFileSync(path)),
    })
    await handle.close()
  },

  'fs.writev': (attack) =>
    writing(attack, (fd, { view }, position) => called((done) => writev(fd, [view.subarray(0, 1000), view.subarray(1000)], position, done))),

  'fs.writeFile, callback': (attack) => storing(attack, (path, { view }) => called((done) => writeFile(path, view, done))),

  'fs.promises.writeFile': (attack) => storing(attack, (path, { view }) => promises.writeFile(path, view)),

  'fs.createWriteStream': (attack) =>
    storing(attack, async (path, { view }) => {
      const stream = createWriteStream(path)
      const end = finished(stream)
      for (let at = 0; at < view.length; at += SIZE) stream.write(view.subarray(at, at + SIZE))
      stream.end()
      await end
    }),

  '32 reads at once, disposed of at random': async (attack) => {
    const fd = openSync(attack.file('input', SIZE), 'r')
    const random = linear(42)
    for await (const round of attack.rounds()) {
      let open = 0
      const pending = new Set()
      const start = () => {
        const lease = round.lease([4, 64, 256][Math.floor(random() * 3)] * KIB)
        open += 1
        const work = called((done) => read(fd, lease.view, 0, lease.size, 0, done)).then(() => {
          pending.delete(work)
          // A callback that disposes of others, makes new views, and disposes of one at once.
          const victim = waiting[Math.floor(random() * waiting.length)]
          if (victim !== undefined && random() < 0.7) drop(victim)
          if (open < 64) waiting.push(start())
          const untouched = round.lease(64 * KIB)
          untouched.dispose()
        })
        pending.add(work)
        return lease
      }
      const drop = (lease) => {
        waiting.splice(waiting.indexOf(lease), 1)
        lease.dispose()
      }
      const waiting = []
      for (let index = 0; index < 32; index += 1) waiting.push(start())
      while (pending.size > 0) {
        if (waiting.length > 0 && random() < 0.5) drop(waiting[0])
        await Promise.race(pending)
      }
      round.attack.outcome('completed')
      for (const lease of waiting.splice(0)) lease.dispose()
    }
    closeSync(fd)
  },
}

if (!isNode) {
  // Deno opens no file for reading and writing at once through its fs.openSync of a FIFO.
  delete rows['fs.read from a FIFO']
}

/** Numbers that are the same in every run. */
function linear(seed) {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
