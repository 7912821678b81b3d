// Where things are, and the name napi-rs gives to the platform we run on.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the repository. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** The root package.json, parsed. */
export const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** The C library of a Linux system: `gnu` or `musl`. */
function libc() {
  return process.report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl'
}

/** What napi-rs calls this platform: `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`, … */
export const platform = `${process.platform}-${process.arch}${
  { linux: `-${process.platform === 'linux' ? libc() : ''}`, win32: '-msvc' }[process.platform] ?? ''
}`

/** The path of the native library that `npm run build:native` makes for this platform. */
export const nativeLibrary = join(root, `${manifest.napi.binaryName}.${platform}.node`)

/** The Rust crate behind the native library. */
export const nativeCrate = join(root, 'crates', 'offheap-node', 'Cargo.toml')

/** The path of an executable that a dev dependency installs, to be run by Node itself. */
export function tool(name, bin = name.split('/').at(-1)) {
  const folder = join(root, 'node_modules', name)
  if (!existsSync(folder)) throw new Error(`${name} is not installed: run \`npm ci\` first`)
  const { bin: bins } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  return join(folder, typeof bins === 'string' ? bins : bins[bin])
}
