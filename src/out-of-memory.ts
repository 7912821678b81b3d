/**
 * Who is asked before a request for memory fails: callbacks of `offheap/cuda`, which sets them up, for requests that are made here.
 *
 * @module
 */

import { OutOfMemoryError } from './errors.js'

/** Where a request was made: the native id of a pool or of a manager. */
export type Asked = 'pool' | 'manager'

/** Has room made for a request that was refused `attempt` times before; true when it is worth another try. */
type MakeRoom = (asked: Asked, id: number, error: OutOfMemoryError, attempt: number) => boolean

let makeRoom: MakeRoom | undefined

/** Asks `how` from now on; nobody when it is `undefined`. */
export function setMakeRoom(how: MakeRoom | undefined): void {
  makeRoom = how
}

/** Whether a request that failed is to be tried again. Runs callbacks of the user's, which may dispose of anything and throw. */
export function isRetried(asked: Asked, id: number, error: unknown, attempt: number): boolean {
  return makeRoom !== undefined && error instanceof OutOfMemoryError && makeRoom(asked, id, error, attempt)
}

/** What `make` gives, which is tried again as long as {@link isRetried} says so. (Where a closure costs too much, the caller has the loop.) */
export function retried<Made>(asked: Asked, id: number, make: () => Made): Made {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return make()
    } catch (error) {
      if (!isRetried(asked, id, error, attempt)) throw error
    }
  }
}
