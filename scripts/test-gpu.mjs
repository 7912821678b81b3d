// The CUDA suite, Rust and TypeScript, on a GPU where there is one, else on the test double of libcuda.
//
//   node scripts/test-gpu.mjs             the GPU if this machine has one, else the double
//   node scripts/test-gpu.mjs --double    the double, also where there is a GPU
//
// `npm test` runs the same suite on the double. Says at the start and at the end which it was.
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root, tool } from './platform.mjs'
import { runSteps } from './steps.mjs'

const options = process.argv.slice(2)
const unknown = options.filter((option) => option !== '--double')
if (unknown.length > 0) throw new Error(`unknown options: ${unknown.join(' ')}; there is: --double`)

/** What `offheap/cuda` says of this machine, in a process of its own. */
function status(library) {
  const program = `const { status, devices } = require('./dist/cuda/index.js')
    const found = status()
    console.log(JSON.stringify({ ...found, names: devices().map(({ name }) => name) }))`
  const env = { ...process.env, ...(library ? { OFFHEAP_CUDA_LIBRARY: library } : {}) }
  return JSON.parse(execFileSync(process.execPath, ['-e', program], { cwd: root, env }).toString())
}

/** Builds the double, and says where it is. */
function double() {
  const messages = execFileSync('cargo', ['build', '-p', 'offheap-cuda-double', '--message-format', 'json'], {
    cwd: root,
    maxBuffer: 1 << 26,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const files = messages
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter(({ reason, target }) => reason === 'compiler-artifact' && target.name === 'offheap_cuda_double')
    .flatMap(({ filenames }) => filenames)
  return files.find((file) => /\.(so|dylib|dll)$/.test(file))
}

const gpu = options.includes('--double') ? { available: false } : status()
const library = gpu.available ? undefined : double()
const used = gpu.available ? gpu : status(library)
const where = gpu.available
  ? `a GPU: ${used.names.join(', ')}`
  : `the test double of libcuda, not on a GPU${gpu.reason ? ` (${gpu.reason})` : ''}`
console.log(`CUDA tests run on ${where}`)

// Without a word the specs take the double.
const env = library ? { OFFHEAP_CUDA_LIBRARY: library } : { OFFHEAP_TEST_GPU: '1' }
const specs = readdirSync(join(root, '__test__'))
  .filter((name) => /^cuda.*\.spec\.ts$/.test(name))
  .map((name) => join('__test__', name))
await runSteps([
  { name: 'CUDA, Rust', command: ['cargo', 'test', '--no-fail-fast', '-p', 'offheap-cuda'], env },
  { name: 'CUDA, TypeScript', command: [process.execPath, tool('ava'), ...specs], env },
])
console.log(`CUDA tests ran on ${where}`)
