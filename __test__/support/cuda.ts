/**
 * For the specs of `offheap/cuda`: which driver they run on. Import it before anything that looks for one.
 *
 * That is the test double of libcuda, unless `OFFHEAP_TEST_GPU=1` says that this machine's own is to be used, or
 * `OFFHEAP_CUDA_LIBRARY` which (`npm run test:gpu` sets one or the other).
 */
import test, { type ExecutionContext } from 'ava'
import { cleanEnvironment, type ChildResult, runNode } from '../support.js'
import { buildDouble } from './double.js'

const isGpu = process.env['OFFHEAP_TEST_GPU'] === '1'
const library = isGpu ? undefined : (process.env['OFFHEAP_CUDA_LIBRARY'] ?? buildDouble())

/** What child processes need to find the same driver. */
export const cudaEnvironment: Readonly<Record<string, string>> = library === undefined ? {} : { OFFHEAP_CUDA_LIBRARY: library }
Object.assign(process.env, cudaEnvironment)

/** Whether there is something to run on: a GPU or the double. */
export const hasCuda = isGpu || library !== undefined

/** Whether this is the double, which has a log, limits, and failures on demand. */
export const isDouble = library !== undefined

/** A test on a GPU or the double, one after the other: figures of the whole device are looked at. */
export const onGpu = hasCuda ? test.serial : test.skip

/** A test that only the double can do. */
export const onDouble = isDouble ? test.serial : test.skip

/** Runs JavaScript, CommonJS with `offheap` and `cuda` as variables, in a process of its own, on the same driver. */
export function runCuda(script: string, env: Record<string, string> = {}, flags: readonly string[] = []): Promise<ChildResult> {
  const program = `const offheap = require('offheap');\nconst cuda = require('offheap/cuda');\n(async () => {\n${script}\n})()`
  return runNode(['--expose-gc', ...flags, '-e', program], { env: cleanEnvironment({ ...cudaEnvironment, ...env }) })
}

/** Checks that a child process did what it should, and gives what it printed, as JSON. */
export function printed<Value>(t: ExecutionContext, { code, signal, stdout, stderr }: ChildResult): Value {
  t.is(stderr, '')
  t.deepEqual({ code, signal }, { code: 0, signal: null }, stdout)
  return JSON.parse(stdout) as Value
}
