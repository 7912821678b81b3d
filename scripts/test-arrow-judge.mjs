// offheap/arrow before judges that did not grow up with it: pyarrow for the C Data and C Device interfaces and DLPack, the Arrow C++ that
// pyarrow brings for streams of arrays, NumPy for DLPack. All run in the same process as Node, over the same memory.
//
//   node scripts/test-arrow-judge.mjs
//
// Needs Linux, compilers of C and C++20 (`cc` and `c++`, or CC and CXX) and a Python with pyarrow, NumPy 2.1 and a shared libpython: `python3`, or
// what OFFHEAP_PYTHON names (`python3 -m venv judge && judge/bin/pip install pyarrow numpy`, OFFHEAP_PYTHON=judge/bin/python).
// Whatever is missing is an error: nothing is skipped.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './platform.mjs'

const python = process.env.OFFHEAP_PYTHON ?? 'python3'
const question = `
import json, os, sys, sysconfig
import numpy, pyarrow
get = sysconfig.get_config_var
print(json.dumps({
  'home': sys.base_prefix,
  'path': os.pathsep.join(entry for entry in sys.path if entry),
  'library': os.path.join(get('LIBDIR'), get('INSTSONAME') or get('LDLIBRARY')),
  'include': pyarrow.get_include(),
  'arrow': next(os.path.join(folder, name) for folder in pyarrow.get_library_dirs() for name in sorted(os.listdir(folder))
                if name.startswith('libarrow.so.')),
  'shared': bool(get('Py_ENABLE_SHARED')),
  'versions': f'Python {sys.version.split()[0]}, pyarrow {pyarrow.__version__}, NumPy {numpy.__version__}',
}))`

function fail(why) {
  console.error(`test:arrow-judge cannot run: ${why}`)
  console.error('It needs a Python with pyarrow, NumPy 2.1 and a shared libpython (OFFHEAP_PYTHON names one), and compilers of C and C++20.')
  process.exit(1)
}

/** The driver of this machine's GPU, else the double, which is built. */
function gpuDriver() {
  const program = "const found = require('./dist/cuda/index.js').status(); console.log(found.available ? found.library : '')"
  const library = execFileSync(process.execPath, ['-e', program], { cwd: root, encoding: 'utf8' }).trim()
  if (library) return { library, double: /double/.test(library) }
  const args = ['build', '--quiet', '-p', 'offheap-cuda-double', '--message-format', 'json-render-diagnostics']
  const built = execFileSync('cargo', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] })
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter(({ reason, target }) => reason === 'compiler-artifact' && target.name === 'offheap_cuda_double')
    .flatMap(({ filenames }) => filenames)
    .find((file) => file.endsWith('.so'))
  if (!built) fail('the test double of libcuda was not built')
  return { library: built, double: true }
}

const asked = spawnSync(python, ['-c', question], { encoding: 'utf8' })
if (asked.status !== 0) fail(`${python}: ${asked.error?.message ?? asked.stderr.trim().split('\n').at(-1)}`)
const { home, path, library, shared, versions, include, arrow } = JSON.parse(asked.stdout)
if (process.platform !== 'linux') fail('it is for Linux only')
if (!shared) fail(`${python} has no shared libpython`)

const folder = mkdtempSync(join(tmpdir(), 'offheap-judge-'))
try {
  const [addon, streams, gpu] = ['python.node', 'streams.so', 'gpu.so'].map((name) => join(folder, name))
  const source = (name) => join(root, '__test__', 'judge', name)
  const flags = ['-Wall', '-Werror', '-O1', '-shared', '-fPIC']
  try {
    execFileSync(process.env.CC ?? 'cc', ['-std=gnu11', ...flags, '-o', addon, source('python.c'), '-ldl'], { stdio: 'inherit' })
    // The very library that pyarrow has loaded.
    for (const [library, file] of [[streams, 'streams.cpp'], [gpu, 'gpu.cpp']]) {
      const cpp = ['-std=c++20', ...flags, '-isystem', include, '-o', library, source(file), arrow, '-ldl']
      execFileSync(process.env.CXX ?? 'c++', cpp, { stdio: 'inherit' })
    }
  } catch (error) {
    fail(error.message)
  }
  console.log(`judges: ${versions}`)
  const driver = gpuDriver()
  console.log(`memory of a GPU: ${driver.double ? 'the test double of libcuda, not a GPU' : 'a GPU'}`)
  const env = { ...process.env, PYTHONHOME: home, PYTHONPATH: path, OFFHEAP_LIBPYTHON: library, OFFHEAP_JUDGE: addon, OFFHEAP_JUDGE_STREAMS: streams, OFFHEAP_JUDGE_GPU: gpu, OFFHEAP_JUDGE_DRIVER: driver.library, OFFHEAP_CUDA_LIBRARY: driver.library }
  const judged = spawnSync(process.execPath, ['--expose-gc', join(root, '__test__', 'judge', 'judge.mjs')], { cwd: root, env, stdio: 'inherit' })
  process.exitCode = judged.status ?? 1
} finally {
  rmSync(folder, { recursive: true })
}
