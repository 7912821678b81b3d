import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

let gc: (() => void) | undefined

function findCollector(): () => void {
  const given = (globalThis as { gc?: () => void }).gc
  if (typeof given === 'function') return given
  // Node hides the function, and has no other way to it. The flag changes new contexts alone, which workers are, too: not for long.
  setFlagsFromString('--expose-gc')
  try {
    return runInNewContext('gc') as () => void
  } finally {
    setFlagsFromString('--no-expose-gc')
  }
}

/** Collects garbage, and gives what watches for forgotten objects a turn. Costs as much as a full collection does. */
export async function collectGarbage(): Promise<void> {
  gc ??= findCollector()
  const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))
  // What this turn of the event loop has looked at is not collected before its end.
  await turn()
  gc()
  // Finalizers of JavaScript run in a task of their own after the collection.
  await turn()
  await turn()
}
