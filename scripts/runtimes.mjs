// Installs JavaScript runtimes from npm into a folder outside the repository and prints the paths of their binaries,
// one a line, in the order asked for.
//
//   node scripts/runtimes.mjs node@22 node@24.9.0 bun deno@2
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { platform } from './platform.mjs'

const folder = process.env.OFFHEAP_RUNTIMES ?? join(tmpdir(), 'offheap-runtimes')
const os = process.platform === 'win32' ? 'windows' : process.platform
const nodeOs = process.platform === 'win32' ? 'win' : process.platform
const arch = { node: process.arch, bun: process.arch === 'arm64' ? 'aarch64' : process.arch }
const musl = platform.endsWith('-musl')

/** The npm package that carries a runtime's binary for this platform, and where it lies in there. */
const packages = {
  node: { name: `node-${nodeOs}-${arch.node}`, binary: 'bin/node' },
  bun: { name: `@oven/bun-${os}-${arch.bun}${musl ? '-musl' : ''}`, binary: 'bin/bun' },
  deno: {
    name: `@deno/${process.platform}-${process.arch}${process.platform === 'linux' ? '-glibc' : ''}`,
    binary: 'deno',
  },
}

/**
 * Makes sure that a runtime is installed and gives the path of its binary.
 *
 * @param {string} wanted a name and optionally a version: `node@22`, `bun`, `deno@2.9.6`
 */
export function runtime(wanted) {
  const [name, version = 'latest'] = wanted.split('@')
  if (!(name in packages)) throw new Error(`unknown runtime ${wanted}; there are: ${Object.keys(packages).join(', ')}`)
  const { name: carrier, binary } = packages[name]
  const home = join(folder, `${name}-${version}`)
  const path = join(home, 'node_modules', carrier, process.platform === 'win32' ? `${binary}.exe` : binary)
  if (existsSync(path)) return path
  mkdirSync(home, { recursive: true })
  writeFileSync(join(home, 'package.json'), '{ "private": true }\n')
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  execFileSync(npm, ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error', `${carrier}@${version}`], {
    cwd: home,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
  if (!existsSync(path)) {
    const { version: installed } = JSON.parse(readFileSync(join(home, 'node_modules', carrier, 'package.json'), 'utf8'))
    throw new Error(`${carrier}@${installed} has no ${binary}`)
  }
  return path
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const wanted = process.argv.slice(2)
  if (wanted.length === 0) {
    console.error('usage: node scripts/runtimes.mjs node@22 node@24 node@26 bun deno')
    process.exitCode = 2
  }
  for (const name of wanted) console.log(runtime(name))
}
