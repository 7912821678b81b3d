// The tests, with the counts of all of them at the end.
//
//   node scripts/test.mjs                   everything
//   node scripts/test.mjs rust              the Rust tests, for each set of backends, and the doc tests
//   node scripts/test.mjs node [ava options and files…]
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root, tool } from './platform.mjs'
import { runSteps } from './steps.mjs'

const [which = 'all', ...options] = process.argv.slice(2)
if (!['all', 'rust', 'node'].includes(which)) throw new Error(`unknown tests: ${which}; there are: all, rust, node`)

/** Every set of allocator backends that the core can be built with; the one without any is without hooks, too. */
const features = {
  none: 'statistics',
  jemalloc: 'jemalloc,hooks,statistics',
  mimalloc: 'mimalloc,hooks,statistics',
  both: 'jemalloc,mimalloc,hooks,statistics',
}
// jemalloc's build does not support MSVC.
if (process.platform === 'win32') for (const name of ['jemalloc', 'both']) delete features[name]

/** The crates of the workspace beside the core and its bindings, whose tests need no feature sets. */
function otherCrates() {
  const metadata = execFileSync('cargo', ['metadata', '--no-deps', '--format-version', '1'], { cwd: root, maxBuffer: 1 << 26 })
  return JSON.parse(metadata.toString())
    .packages.map(({ name }) => name)
    .filter((name) => name !== 'offheap' && name !== 'offheap-node')
}

function rust() {
  const core = Object.entries(features).map(([name, list]) => ({
    name: `Rust, backends: ${name}`,
    command: ['cargo', 'test', '--no-fail-fast', '-p', 'offheap', '--lib', '--tests', '--no-default-features', '--features', list],
  }))
  const others = otherCrates()
  return [
    ...core,
    {
      name: 'Rust, without statistics',
      command: ['cargo', 'test', '-p', 'offheap', '--test', 'without_statistics', '--no-default-features', '--features', 'mimalloc,hooks'],
    },
    {
      name: 'Rust, doc tests',
      command: ['cargo', 'test', '-p', 'offheap', '--doc', '--no-default-features', '--features', Object.values(features).at(-1)],
    },
    {
      name: 'Rust, binding',
      // Hooks are always part of it.
      command: ['cargo', 'test', '-p', 'offheap-node', '--lib', '--no-default-features', '--features', Object.values(features).at(-1).replace(',hooks,statistics', '')],
    },
    ...(others.length > 0 ? [{ name: 'Rust, other crates', command: ['cargo', 'test', '--no-fail-fast', ...others.flatMap((name) => ['-p', name])] }] : []),
  ]
}

function node() {
  return [{ name: 'TypeScript (ava)', command: [process.execPath, tool('ava'), ...options] }]
}

const specs = readdirSync(join(root, '__test__'), { recursive: true }).filter((name) => name.endsWith('.spec.ts'))
if (which !== 'rust' && specs.length === 0) throw new Error('there are no tests in __test__')
await runSteps([...(which === 'node' ? [] : rust()), ...(which === 'rust' ? [] : node())])
