/** Makes ava tests of groups of rows of the attack table: a process for each, so that a crash is an answer. */
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { cleanEnvironment, root, runNode } from '../support.js'
import { groups, keepsAddress, open } from './table.mjs'

/** What `run.mjs` prints. */
export interface AttackResult {
  readonly gate: string
  readonly safeDispose: boolean
  readonly disposals: number
  readonly reused: number
  readonly damagedBlocks: number
  readonly foreignBytesSent: number
  readonly truncated: number
  readonly outcomes: Record<string, number>
  readonly uncaught: Record<string, number>
  readonly uncaughtErrors: number
  readonly failures: readonly string[]
  readonly leftBytes: number
  readonly leftParked: number
  readonly harmed: boolean
}

type Mode = 'guarded' | 'pinned' | 'naked'

/** Rounds of a row: every moment, view and pool comes once at least. */
const rounds = Number(process.env['OFFHEAP_ATTACK_ROUNDS'] ?? 16)

/** Runs one row; `undefined` when its process died. */
export async function attack(row: string, mode: Mode, env: Record<string, string> = {}, count = rounds) {
  const program = join(root, '__test__', 'attacks', 'run.mjs')
  const child = await runNode(['--expose-gc', program, row, mode, String(count)], { env: cleanEnvironment(env) })
  const died = child.code !== 0
  const result = died ? undefined : (JSON.parse(child.stdout.trim().split('\n').at(-1)!) as AttackResult)
  return { result, died, how: `exit code ${child.code}, signal ${child.signal}\n${child.stderr}` }
}

/** The row did no harm to anybody, threw nothing at the program, and left nothing. */
export function checkSafe(t: ExecutionContext, { result, how }: Awaited<ReturnType<typeof attack>>): void {
  if (result === undefined) {
    t.fail(how)
    return
  }
  t.is(result.damagedBlocks, 0, 'memory that went to others was written to')
  t.is(result.foreignBytesSent, 0, "others' bytes were read")
  t.deepEqual(result.uncaught, {}, 'an error reached the program')
  t.deepEqual(result.failures, [])
  t.is(result.leftBytes, 0, 'bytes are left allocated')
  t.is(result.leftParked, 0, 'bytes are left parked')
}

/** Rows in which nothing is attacked. */
const controls = new Set(['nothing in flight', 'a write into foreign memory', 'http2 streams that ended hold nothing'])

/** The tests of some groups. */
export function attackTests(...names: readonly (keyof typeof groups)[]): void {
  const rows = names.flatMap((name) => Object.keys(groups[name])).filter((row) => !controls.has(row))
  for (const row of rows) {
    if (row in open) {
      test.serial(`${row}: safe with a pin, and dispose() is ERR_OFFHEAP_BUSY meanwhile`, async (t) => {
        checkSafe(t, await attack(row, 'pinned'))
      })
      test.serial(`${row}: safe with OFFHEAP_SAFE_DISPOSE=1`, async (t) => {
        const run = await attack(row, 'guarded', { OFFHEAP_SAFE_DISPOSE: '1' })
        checkSafe(t, run)
        t.true(run.result?.safeDispose)
      })
    } else {
      test.serial(`${row}: dispose() in between changes and sends nobody else's bytes`, async (t) => {
        checkSafe(t, await attack(row, 'guarded'))
      })
    }
    if (keepsAddress.includes(row)) {
      test.serial(`${row}: the harness sees a use after free`, async (t) => {
        // Freed memory stays mapped, so that a late write does harm to others instead of ending the process. Whether it
        // comes late enough to be seen is a matter of timing: on a loaded machine it takes more rounds.
        const env = { MALLOC_MMAP_THRESHOLD_: '1073741824', MALLOC_TRIM_THRESHOLD_: '4294967296' }
        for (const count of [4, 8, 16, 32, 64]) {
          const run = await attack(row, 'naked', env, count)
          if (run.died || run.result?.harmed) {
            t.pass()
            return
          }
        }
        t.fail('memory was freed under the row and nothing was seen')
      })
    }
  }
}
