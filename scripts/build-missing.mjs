// Builds what is missing or older than its sources, and nothing else: a fresh clone becomes runnable, a built one
// starts at once.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { nativeLibrary, root } from './platform.mjs'

/** When the newest of these files and folders was changed; 0 when there is none. */
function newest(paths, skip = () => false) {
  let latest = 0
  for (const path of paths) {
    if (!existsSync(path) || skip(path)) continue
    const stat = statSync(path)
    latest = Math.max(latest, stat.isDirectory() ? newest(readdirSync(path).map((name) => join(path, name)), skip) : stat.mtimeMs)
  }
  return latest
}

/** When a file was written; -1 when it is not there. */
const written = (path) => (existsSync(path) ? statSync(path).mtimeMs : -1)

function build(what, script) {
  console.error(`offheap: ${what}: building (npm run build:${script})`)
  const { status } = spawnSync(process.execPath, [join(root, 'scripts', `build-${script}.mjs`)], { cwd: root, stdio: 'inherit' })
  if (status === 0) return
  const hint = script === 'native' ? ' It needs a Rust toolchain (rustup.rs) and a C compiler.' : ''
  console.error(`offheap: the ${script === 'native' ? 'native library' : 'TypeScript layer'} could not be built.${hint}`)
  process.exit(status ?? 1)
}

// Test and benchmark sources of the crates end up in no addon.
const untouched = (path) => /[\\/]crates[\\/][^\\/]+[\\/](tests|benches|examples|proptest-regressions)$/.test(path)
const native = newest(['crates', 'Cargo.toml', 'Cargo.lock'].map((name) => join(root, name)), untouched)
const outputs = [nativeLibrary, join(root, 'index.js'), join(root, 'index.d.ts')]
if (outputs.some((path) => written(path) < 0)) build('no native library for this platform', 'native')
else if (written(nativeLibrary) < native) build('the Rust sources are newer than the native library', 'native')

const typescript = newest(['src', 'tsconfig.json', 'index.d.ts', 'scripts/build-ts.mjs'].map((name) => join(root, name)))
const dist = written(join(root, 'dist', 'index.mjs'))
if (dist < 0) build('dist/ is missing', 'ts')
else if (dist < typescript) build('the TypeScript sources are newer than dist/', 'ts')
