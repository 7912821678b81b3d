/**
 * Without a GPU or a driver `offheap/cuda` can be imported, says why there is nothing, and refuses everything else with an error
 * that has the reason. Each library path is a process of its own: what was found stays as long as the process.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { CudaStatus, UnavailableReason } from 'offheap/cuda'
import { cleanEnvironment, runNode } from './support.js'
import { isDouble } from './support/cuda.js'
import { buildDouble } from './support/double.js'

/** What a process found. */
interface Found {
  status: CudaStatus
  isAvailable: boolean
  devices: number
  /** By the call: what it threw, or rejected with. */
  outcomes: Record<string, { code: string; reason: string; message: string; isSync: boolean }>
}

/** Every call that is not one of `status`, `isAvailable` and `devices`, with arguments that could be right. */
const program = `
  const handle = { device: '00000000-0000-0000-0000-000000000000', handle: '00'.repeat(64), offset: 0, length: 64 }
  const buffer = offheap.defaultMemoryPool().allocateBuffer(64)
  const calls = {
    device: () => cuda.device(),
    'device(1)': () => cuda.device(1),
    copy: () => cuda.copy(buffer, buffer),
    'copy of JavaScript’s bytes': () => cuda.copy(new Uint8Array(8), new Uint8Array(8)),
    fill: () => cuda.fill(buffer, 1),
    exportMemory: () => cuda.exportMemory(buffer),
    openMemory: () => cuda.openMemory(handle),
    openEvent: () => cuda.openEvent(handle),
    registerHost: () => cuda.registerHost(buffer),
  }
  const outcomes = {}
  const note = (name, isSync) => (error) => (outcomes[name] = { code: error.code, reason: error.reason, message: error.message, isSync })
  for (const [name, call] of Object.entries(calls)) {
    try {
      const result = call()
      await result.then(() => note(name, false)({ message: 'resolved' }), note(name, false))
    } catch (error) {
      note(name, true)(error)
    }
  }
  const status = cuda.status()
  console.log(JSON.stringify({ status, isAvailable: cuda.isAvailable(), devices: cuda.devices().length, outcomes }))
`

const commonJs = `const offheap = require('offheap'); const cuda = require('offheap/cuda'); (async () => {${program}})()`
const esModule = `import * as offheap from 'offheap'; import * as cuda from 'offheap/cuda'; ${program}`

async function find(t: ExecutionContext, env: Record<string, string>, isModule: boolean): Promise<Found> {
  const { code, signal, stdout, stderr } = await runNode(isModule ? ['--input-type=module', '-e', esModule] : ['-e', commonJs], { env: cleanEnvironment(env) })
  t.is(stderr, '', 'nothing is written, no panic above all')
  t.deepEqual({ code, signal }, { code: 0, signal: null }, stdout)
  return JSON.parse(stdout) as Found
}

/** What each call does without a GPU. */
const kinds: Record<string, 'throws' | 'rejects'> = {
  device: 'throws',
  'device(1)': 'throws',
  copy: 'rejects',
  'copy of JavaScript’s bytes': 'rejects',
  fill: 'rejects',
  exportMemory: 'throws',
  openMemory: 'throws',
  openEvent: 'throws',
  registerHost: 'throws',
}

async function isUnavailable(t: ExecutionContext, env: Record<string, string>, reason: UnavailableReason, message: RegExp): Promise<CudaStatus> {
  const [required, imported] = [await find(t, env, false), await find(t, env, true)]
  t.deepEqual(imported, required)
  const { status, isAvailable, devices, outcomes } = required
  t.is(status.available === false && status.reason, reason)
  t.regex(status.available ? '' : status.message, message)
  t.false(isAvailable)
  t.is(devices, 0)
  t.deepEqual(Object.keys(outcomes), Object.keys(kinds))
  for (const [call, outcome] of Object.entries(outcomes)) {
    t.is(outcome.code, 'ERR_OFFHEAP_DEVICE_UNAVAILABLE', `${call}: ${outcome.message}`)
    t.is(outcome.reason, reason, call)
    t.is(outcome.isSync ? 'throws' : 'rejects', kinds[call]!, call)
    t.regex(outcome.message, message, call)
  }
  return status
}

const onLinux = process.platform === 'linux' ? test.serial : test.skip
const scratch = mkdtempSync(join(tmpdir(), 'offheap-cuda-'))
test.after.always(() => rmSync(scratch, { recursive: true, force: true }))

/** A folder for the library path that has a libcuda. */
function folderOf(library: string, name = 'libcuda.so'): string {
  const folder = mkdtempSync(join(scratch, 'path-'))
  copyFileSync(library, join(folder, name))
  return folder
}

/** The double on the library path, with something that is wrong about it. */
function onPath(extra: Record<string, string> = {}, name = 'libcuda.so'): Record<string, string> {
  return { LD_LIBRARY_PATH: folderOf(buildDouble()!, name), ...extra }
}

test.serial('OFFHEAP_CUDA_LIBRARY names a file that is not there: no-library', async (t) => {
  const library = join(scratch, 'nowhere', 'libcuda.so.1')
  const status = await isUnavailable(t, { OFFHEAP_CUDA_LIBRARY: library }, 'no-library', /nowhere/)
  t.deepEqual(status.available ? [] : status.searched, [library])
})

test.serial('OFFHEAP_CUDA_LIBRARY names a file that is no library: no-library', async (t) => {
  const library = join(scratch, 'text.so')
  writeFileSync(library, 'not a library\n')
  await isUnavailable(t, { OFFHEAP_CUDA_LIBRARY: library }, 'no-library', /text\.so/)
})

// Where there is a driver, no library path hides it.
const whereNoDriver = isDouble && process.platform === 'linux' ? test.serial : test.skip
whereNoDriver('no libcuda on the library path: no-library, with the names that were tried', async (t) => {
  mkdirSync(join(scratch, 'empty'))
  const status = await isUnavailable(t, { LD_LIBRARY_PATH: join(scratch, 'empty') }, 'no-library', /libcuda/)
  const searched = status.available ? [] : (status.searched ?? [])
  t.true(searched.includes('libcuda.so') && searched.includes('libcuda.so.1'), String(searched))
})

onLinux('a libcuda without a function that is needed: missing-symbol, by its name', async (t) => {
  const status = await isUnavailable(t, { LD_LIBRARY_PATH: folderOf(buildDouble('without-async-alloc')!) }, 'missing-symbol', /cuMemAllocAsync/)
  t.is(status.available ? '' : status.symbol, 'cuMemAllocAsync')
})

onLinux('the toolkit’s stub stands before the driver: stub-library', async (t) => {
  await isUnavailable(t, onPath({ OFFHEAP_CUDA_DOUBLE_STUB: '1' }), 'stub-library', /stub/)
})

onLinux('a driver without a GPU: no-device', async (t) => {
  await isUnavailable(t, onPath({ OFFHEAP_CUDA_DOUBLE_NO_DEVICE: '1' }), 'no-device', /GPU|device/i)
  await isUnavailable(t, onPath({ OFFHEAP_CUDA_DOUBLE_DEVICES: '0' }), 'no-device', /GPU|device/i)
})

onLinux('a driver older than CUDA 12.2: driver-too-old, with its version', async (t) => {
  const status = await isUnavailable(t, onPath({ OFFHEAP_CUDA_DOUBLE_DRIVER_VERSION: '11040' }), 'driver-too-old', /11\.4/)
  t.is(status.driverVersion, '11.4')
})

onLinux('a driver that says something else: driver-error, with its code', async (t) => {
  const status = await isUnavailable(t, onPath({ OFFHEAP_CUDA_DOUBLE_FAIL: 'cuInit:803' }), 'driver-error', /803/)
  t.is(status.available ? 0 : status.driverCode, 803)
})

for (const [how, env] of [
  ['as libcuda.so on the library path', () => onPath()],
  ['as libcuda.so.1 on the library path', () => onPath({}, 'libcuda.so.1')],
  ['by OFFHEAP_CUDA_LIBRARY', () => ({ OFFHEAP_CUDA_LIBRARY: buildDouble()! })],
] as const) {
  onLinux(`a driver that works, ${how}: available`, async (t) => {
    for (const isModule of [false, true]) {
      const { status, isAvailable, devices, outcomes } = await find(t, env(), isModule)
      t.true(status.available)
      t.true(isAvailable)
      t.is(status.driverVersion, '12.8')
      t.is(devices, 2)
      t.regex(status.available ? status.library : '', /libcuda|offheap_cuda_double/)
      t.deepEqual(Object.keys(outcomes).filter((call) => outcomes[call]!.code === 'ERR_OFFHEAP_DEVICE_UNAVAILABLE'), [])
    }
  })
}

onLinux('nothing is loaded by the import: the driver’s library only by the first call', async (t) => {
  const script = `
    const { readFileSync } = require('node:fs')
    const isLoaded = () => readFileSync('/proc/self/maps', 'utf8').includes('offheap_cuda_double')
    require('offheap')
    const cuda = require('offheap/cuda')
    const before = isLoaded()
    console.log(JSON.stringify([before, cuda.isAvailable(), isLoaded()]))`
  const { code, stdout, stderr } = await runNode(['-e', script], { env: cleanEnvironment({ OFFHEAP_CUDA_LIBRARY: buildDouble()! }) })
  t.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '[false,true,true]\n', stderr: '' })
})

test('status never changes, and is a value of one’s own', async (t) => {
  const { status } = await import('offheap/cuda')
  t.deepEqual(status(), status())
  t.not(status(), status())
})
