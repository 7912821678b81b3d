// Adds to package-lock.json the optional platform packages that a registry without them left out: `npm ci` refuses a
// lock file in which they are missing, and on their platforms it could not install them. They are pinned by version;
// their checksums come in when `npm install` runs against a registry that has them.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './platform.mjs'

const file = join(root, 'package-lock.json')
const lock = JSON.parse(readFileSync(file, 'utf8'))

/** The platform that a name ends with: `…-linux-x64-musl`, `…-android-arm-eabi`, `…-wasm32-wasi`. */
function platformOf(name) {
  const match = /-(android|darwin|freebsd|linux|openharmony|sunos|win32)-([a-z0-9]+)(?:-([a-z]+))?$/.exec(name)
  if (!match) return name.endsWith('-wasm32-wasi') ? { cpu: ['wasm32'] } : undefined
  const [, os, cpu, abi = ''] = match
  const libc = os === 'linux' ? { libc: [abi.startsWith('musl') ? 'musl' : 'glibc'] } : {}
  return { cpu: [cpu], ...libc, os: [os] }
}

const added = []
for (const [path, { optionalDependencies = {}, dev }] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    if (`node_modules/${name}` in lock.packages || `${path}/node_modules/${name}` in lock.packages) continue
    const platform = platformOf(name)
    if (!platform || !/^\d+\.\d+\.\d+/.test(version)) throw new Error(`${path} wants ${name}@${version}: not a pinned platform package`)
    const { cpu, ...rest } = platform
    lock.packages[`node_modules/${name}`] = { version, cpu, ...(dev ? { dev } : {}), ...rest, optional: true }
    added.push(`${name}@${version}`)
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : 1)))
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
console.log(`${added.length} added${added.map((name) => `\n  ${name}`).join('')}`)
