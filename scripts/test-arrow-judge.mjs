// offheap/arrow before two judges that did not grow up with it: pyarrow (Arrow C++) for the C Data and C Device interfaces and
// DLPack, NumPy for DLPack. Both run in the same process as Node, over the same memory.
//
//   node scripts/test-arrow-judge.mjs
//
// Needs Linux or macOS, a C compiler (`cc`, or CC) and a Python with pyarrow, NumPy 2.1 and a shared libpython: `python3`, or
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
  'shared': bool(get('Py_ENABLE_SHARED')),
  'versions': f'Python {sys.version.split()[0]}, pyarrow {pyarrow.__version__}, NumPy {numpy.__version__}',
}))`

function fail(why) {
  console.error(`test:arrow-judge cannot run: ${why}`)
  console.error('It needs a Python with pyarrow, NumPy 2.1 and a shared libpython (OFFHEAP_PYTHON names one), and a C compiler.')
  process.exit(1)
}

const asked = spawnSync(python, ['-c', question], { encoding: 'utf8' })
if (asked.status !== 0) fail(`${python}: ${asked.error?.message ?? asked.stderr.trim().split('\n').at(-1)}`)
const { home, path, library, shared, versions } = JSON.parse(asked.stdout)
if (!shared) fail(`${python} has no shared libpython`)

const folder = mkdtempSync(join(tmpdir(), 'offheap-judge-'))
try {
  const addon = join(folder, 'python.node')
  const platform = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-ldl']
  try {
    const source = join(root, '__test__', 'judge', 'python.c')
    execFileSync(process.env.CC ?? 'cc', ['-std=gnu11', '-Wall', '-Werror', '-O1', '-shared', '-fPIC', '-o', addon, source, ...platform], { stdio: 'inherit' })
  } catch (error) {
    fail(error.message)
  }
  console.log(`judges: ${versions}`)
  const env = { ...process.env, PYTHONHOME: home, PYTHONPATH: path, OFFHEAP_LIBPYTHON: library, OFFHEAP_JUDGE: addon }
  const judged = spawnSync(process.execPath, ['--expose-gc', join(root, '__test__', 'judge', 'judge.mjs')], { cwd: root, env, stdio: 'inherit' })
  process.exitCode = judged.status ?? 1
} finally {
  rmSync(folder, { recursive: true })
}
