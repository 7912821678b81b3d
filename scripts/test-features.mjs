// Runs the pool and buffer tests against a native library for each set of backends other than the default one, and the tests of
// memory that the CPU cannot reach against a library with test devices.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { nativeCrate, root, tool } from './platform.mjs'
import { runSteps } from './steps.mjs'

const specs = readdirSync(join(root, '__test__'))
  .filter((name) => /^(pool|buffer)[\w-]*\.spec\.ts$/.test(name))
  .map((name) => join('__test__', name))
if (specs.length === 0) throw new Error('there are no __test__/pool*.spec.ts or __test__/buffer*.spec.ts')
const substitute = pathToFileURL(join(root, 'scripts', 'substitute-library.mjs')).href
const host = execFileSync('rustc', ['-vV']).toString().match(/^host: (.+)$/m)[1]

/** The sets; both is the default. jemalloc's build does not support MSVC, where mimalloc alone is the default. */
const sets = process.platform === 'win32' ? [''] : ['', 'jemalloc', 'mimalloc']

/** Builds the addon with some features, and gives the path of the library. */
function build(features) {
  const args = ['build', '--manifest-path', nativeCrate, '--release', '--no-default-features', '--features', features]
  console.log(`\n── cargo ${args.join(' ')}`)
  // The target and the flags of build-native.mjs: allocators that are built for one are built for all.
  const output = execFileSync('cargo', [...args, '--target', host, '--message-format', 'json-render-diagnostics'], {
    cwd: root,
    env: { ...process.env, RUSTFLAGS: `${process.env.RUSTFLAGS ?? ''}${process.platform === 'win32' ? '' : ' -C link-arg=-s'}` },
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  })
  return output
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter(({ reason, target }) => reason === 'compiler-artifact' && target.kind.includes('cdylib'))
    .flatMap(({ filenames }) => filenames)
    .find((file) => /\.(so|dylib|dll)$/.test(file))
}

/** What each library is tested with: its name, its features, the tests. */
const libraries = [
  ...sets.map((features) => ({ name: features || 'none', features, specs })),
  { name: 'test-devices', features: [sets.at(-1), 'test-devices'].filter(Boolean).join(), specs: [join('__test__', 'device-memory.spec.ts')] },
]

const scratch = mkdtempSync(join(tmpdir(), 'offheap-features-'))
try {
  const steps = libraries.map(({ name, features, specs }) => {
    const library = join(scratch, `${name}.node`)
    copyFileSync(build(features), library)
    return {
      name: `features: ${name}`,
      command: [process.execPath, tool('ava'), ...specs],
      env: {
        NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import ${substitute}`.trim(),
        OFFHEAP_TEST_LIBRARY: library,
      },
    }
  })
  await runSteps(steps)
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
