// Attacks through node:crypto and WebCrypto.
import { createHash, generateKeyPairSync, hkdf, pbkdf2, randomFill, scrypt, sign, verify, webcrypto } from 'node:crypto'
import { called, KIB, OWN, turn } from './harness.mjs'

const SIZE = 256 * KIB
const own = Buffer.alloc(SIZE, OWN)

/** Runs `start` on two views; `check` compares what came out with what the bytes of the buffer give. */
async function digesting(attack, start, right) {
  for await (const round of attack.rounds({ threads: true })) {
    const leases = [round.lease(SIZE), round.lease(SIZE)]
    if (round.late) await turn()
    const work = leases.map(({ view }) => start(view))
    await round.dispose(...leases)
    for (const one of work) {
      const value = await round.settle(one)
      // These copy their input in the call: the result is right, whenever the buffer went.
      if (value !== undefined && !(await right(Buffer.from(value)))) attack.result.foreignBytesSent += 1
    }
  }
}

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const salt = Buffer.alloc(16, 1)
const iv = Buffer.alloc(12, 2)

async function same(start) {
  const expected = Buffer.from(await start(own))
  return (value) => value.equals(expected)
}

export const rows = {
  'crypto.randomFill': async (attack) => {
    for await (const round of attack.rounds({ threads: true })) {
      const leases = Array.from({ length: 4 }, () => round.lease(SIZE))
      if (round.late) await turn()
      const work = leases.map(({ view }) => called((done) => randomFill(view, done)))
      await round.dispose(...leases)
      await Promise.all(work.map((one) => round.settle(one)))
    }
  },

  'crypto.scrypt': async (attack) => {
    const start = (view) => called((done) => scrypt(view, salt, 32, { N: 64 }, done))
    await digesting(attack, start, await same(start))
  },

  'crypto.pbkdf2': async (attack) => {
    const start = (view) => called((done) => pbkdf2(view, salt, 10, 32, 'sha256', done))
    await digesting(attack, start, await same(start))
  },

  'crypto.hkdf': async (attack) => {
    const start = (view) => called((done) => hkdf('sha256', view, salt, 'info', 32, done))
    await digesting(attack, start, await same(start))
  },

  'crypto.sign': (attack) =>
    digesting(
      attack,
      (view) => called((done) => sign('sha256', view, privateKey, done)),
      (signature) => verify('sha256', own, publicKey, signature),
    ),

  'subtle.digest': async (attack) => {
    const start = (view) => webcrypto.subtle.digest('SHA-256', view)
    await digesting(attack, start, await same(start))
  },

  'subtle.encrypt': async (attack) => {
    const key = await webcrypto.subtle.importKey('raw', salt, 'AES-GCM', false, ['encrypt'])
    const start = (view) => webcrypto.subtle.encrypt({ name: 'AES-GCM', iv }, key, view)
    await digesting(attack, start, await same(start))
  },

  'hash stream': async (attack) => {
    const start = (view) =>
      new Promise((resolve, reject) => {
        const hash = createHash('sha256')
        hash.on('error', reject)
        hash.on('data', resolve)
        hash.end(view)
      })
    await digesting(attack, start, await same(start))
  },
}
