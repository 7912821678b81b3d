/**
 * What the tests share: pools of every backend with a check that nothing is left behind, the shape of errors, and
 * child processes.
 */
import { spawn, type SpawnOptions } from 'node:child_process'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { defaultMemoryPool, type MemoryPool, type OffheapError } from 'offheap'
import { backendPool, backends, held, root } from './fixtures.js'

export * from './fixtures.js'

/** Every kind of pool that Arrow's typed tests run over: each backend, an account over it, a limit over an account. */
export const poolKinds: readonly { readonly name: string; readonly make: () => MemoryPool }[] = [
  { name: 'default', make: defaultMemoryPool },
  ...backends.flatMap((name) => [
    { name, make: () => backendPool(name) },
    { name: `proxy over ${name}`, make: () => backendPool(name).proxy() },
    { name: `limit over proxy over ${name}`, make: () => backendPool(name).proxy().limit(1e9) },
  ]),
]

type PoolTest = (t: ExecutionContext, pool: MemoryPool, name: string) => void | Promise<void>

/** One test per kind of pool; what it allocates from the pool must be gone at its end. */
export function eachPool(title: string, body: PoolTest): void {
  for (const { name, make } of poolKinds) {
    test.serial(`${title} (${name})`, async (t) => {
      const pool = make()
      const before = held(pool)
      await body(t, pool, name)
      t.deepEqual(held(pool), before, 'something is left in the pool')
    })
  }
}

/** One test per backend over a new account of it; what it allocates must be gone at its end. */
export function eachBackend(title: string, body: PoolTest): void {
  for (const name of backends) {
    test(`${title} (${name})`, async (t) => {
      const pool = backendPool(name).proxy({ name: title })
      await body(t, pool, name)
      t.deepEqual(held(pool), { bytes: 0, allocations: 0 }, 'something is left in the pool')
    })
  }
}

/** One test over a new account of the default pool; what it allocates must be gone at its end. */
export function withPool(title: string, body: (t: ExecutionContext, pool: MemoryPool) => void | Promise<void>): void {
  test(title, async (t) => {
    const pool = defaultMemoryPool().proxy({ name: title })
    await body(t, pool)
    t.deepEqual(held(pool), { bytes: 0, allocations: 0 }, 'something is left in the pool')
  })
}

/** What a built-in error of each code is an instance of besides `Error`. */
const builtIns: Record<string, readonly (new () => Error)[]> = {
  ERR_OFFHEAP_INVALID_ARGUMENT: [TypeError, RangeError],
  ERR_OFFHEAP_OUT_OF_RANGE: [RangeError],
  ERR_OFFHEAP_IMMUTABLE: [TypeError],
}

/** Checks that `action` throws an error with a code, of the right class, whose message matches. */
export function throwsCode(t: ExecutionContext, action: () => unknown, code: string, message?: RegExp | string): OffheapError {
  let error: unknown
  let value: unknown
  try {
    value = action()
  } catch (thrown) {
    error = thrown
  }
  if (error === undefined) {
    t.fail(`expected ${code}, but ${action} gave ${describe(value)}`)
    throw new Error('unreachable: t.fail throws')
  }
  return checkError(t, error, code, message)
}

/** The same as {@link throwsCode} for a promise that must be rejected. */
export async function rejectsCode(t: ExecutionContext, promise: Promise<unknown>, code: string, message?: RegExp | string): Promise<OffheapError> {
  const result = await promise.then(
    (value: unknown) => ({ value, error: undefined }),
    (error: unknown) => ({ value: undefined, error }),
  )
  if (result.error === undefined) {
    t.fail(`expected a rejection with ${code}, got ${describe(result.value)}`)
  }
  return checkError(t, result.error, code, message)
}

function checkError(t: ExecutionContext, error: unknown, code: string, message?: RegExp | string): OffheapError {
  t.true(error instanceof Error, `not an Error: ${describe(error)}`)
  const offheapError = error as OffheapError
  t.is(offheapError.code as string | undefined, code, offheapError.stack)
  const classes = builtIns[code]
  if (classes !== undefined) t.true(classes.some((builtIn) => offheapError instanceof builtIn), `${offheapError.name} has the wrong class`)
  if (message instanceof RegExp) t.regex(offheapError.message, message)
  else if (message !== undefined) t.true(offheapError.message.includes(message), `${JSON.stringify(offheapError.message)} lacks ${JSON.stringify(message)}`)
  return offheapError
}

function describe(value: unknown): string {
  try {
    return String(value)
  } catch {
    return Object.prototype.toString.call(value)
  }
}

/** What a child process left behind. */
export interface ChildResult {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** The options with which ava started this process: TypeScript and `gc()`. */
const nodeArguments = ['--import', '@oxc-node/core/register', '--expose-gc']

/** The environment without what may change offheap's behaviour. */
export function cleanEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const environment = { ...process.env }
  for (const name of Object.keys(environment)) {
    if (/^(OFFHEAP|ARROW|ALKAID)_\w+$/.test(name) && name !== 'OFFHEAP_TEST_LIBRARY') delete environment[name]
  }
  return { ...environment, ...extra }
}

/** Runs `node` with arguments to its end. */
export function runNode(args: readonly string[], options: SpawnOptions = {}): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: root, env: cleanEnvironment(), ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    const output = { stdout: '', stderr: '' }
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => (output.stdout += chunk))
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (output.stderr += chunk))
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, ...output }))
  })
}

/** Runs JavaScript, CommonJS with `offheap` as a variable, in a process of its own. */
export function runScript(script: string, env: Record<string, string> = {}): Promise<ChildResult> {
  return runNode(['--expose-gc', '-e', `const offheap = require('offheap');\n${script}`], { env: cleanEnvironment(env) })
}

/** Runs a TypeScript file of this folder in a process of its own. */
export function runFile(name: string, args: readonly string[] = [], env: Record<string, string> = {}): Promise<ChildResult> {
  return runNode([...nodeArguments, join(root, '__test__', name), ...args], { env: cleanEnvironment(env) })
}
