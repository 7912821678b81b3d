// Writes views to stdout, a pipe, and disposes of the buffers; says over IPC whether anybody's memory was damaged.
import { Attack, KIB, turn } from './harness.mjs'

const [, mode, number] = process.argv.slice(2)
const attack = new Attack('writer to stdout', mode, Number(number) + 1)
let skip = Number(number)
for await (const round of attack.rounds()) {
  if (skip-- > 0) continue
  const leases = Array.from({ length: 4 }, () => round.lease(256 * KIB))
  if (round.late) await turn()
  const done = new Promise((resolve) => {
    for (const { bytes } of leases) process.stdout.write(bytes, resolve)
  })
  await round.dispose(...leases)
  process.stdout.end()
  process.send({ damagedBlocks: 0 })
  await done
}
process.disconnect()
