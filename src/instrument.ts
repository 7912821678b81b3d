/**
 * What happens after native calls. No JavaScript ever runs inside of an allocator: while some feature of this environment
 * needs to do something about an allocation (tell an observer, take the JavaScript stack), the native functions are
 * replaced by ones that call the original and then, with all native locks free again and the caller's frames still
 * standing, do it. While nothing needs it, the originals are in place: off costs nothing.
 *
 * ```
 *   allocateBuffer() ─▶ native.bufferAllocate (wrapped) ─▶ the original ─▶ the allocator, which queues
 *         ▲                          └─▶ afterCall() ─▶ stack · events · reports
 *         └──────────────── the result, and the words as the original left them
 * ```
 *
 * @module
 */

import { AFTER_HAS_EVENTS, AFTER_WANTS_ORIGIN, IN_CALL_WORD, native, type NativeBinding, RESULT_WORDS, words } from './native.js'
import { captureStack, onStacksForgotten } from './stacks.js'

type NativeFunction = (...args: unknown[]) => unknown
type Functions = Record<keyof NativeBinding, NativeFunction>

/** The functions that are called from in here, or that nothing can follow. */
const NEVER_WRAPPED: ReadonlySet<keyof NativeBinding> = new Set<keyof NativeBinding>([
  'configure',
  'afterCall',
  'takeEvents',
  'observersStart',
  'originsWanted',
  'originsStack',
  'originsForgetStacks',
  'originsTell',
])

const functions = native as unknown as Functions
const originals: Readonly<Functions> = { ...functions }
let wrapped: Functions | undefined

/** How many need the calls to be followed; how deep the stacks must be, by who wants them. */
let needs = 0
const depths = new Map<object, number>()
let depth = 0

/** What `observers.ts` puts in: delivers the events that wait. */
let deliverEvents: () => void = () => {}
/** The tags in force, as text; `tracking.ts` puts it in. */
let currentTags: () => string = () => ''

/** Says who delivers events. */
export function setDelivery(deliver: () => void): void {
  deliverEvents = deliver
}

/** Says who knows the tags in force. */
export function setTags(tags: () => string): void {
  currentTags = tags
}

onStacksForgotten(() => native.originsForgetStacks())

/** What is to be done after a call. The words are left as they were. */
function settle(from: NativeFunction): void {
  const mask = native.afterCall()
  if (mask === 0) return
  const results = words.slice(0, RESULT_WORDS)
  try {
    if ((mask & AFTER_WANTS_ORIGIN) !== 0) native.originsTell(captureStack(depth, from), currentTags())
    if ((mask & AFTER_HAS_EVENTS) !== 0) deliverEvents()
  } finally {
    words.set(results)
  }
}

function wrap(original: NativeFunction): NativeFunction {
  return function wrapper(...args) {
    const outer = words[IN_CALL_WORD]!
    words[IN_CALL_WORD] = 1
    try {
      return original(...args)
    } finally {
      words[IN_CALL_WORD] = outer
      settle(wrapper)
    }
  }
}

function wrapAll(): Functions {
  const all = { ...originals }
  for (const name of Object.keys(originals) as (keyof NativeBinding)[]) {
    if (!NEVER_WRAPPED.has(name)) all[name] = wrap(originals[name])
  }
  return all
}

/** Has every native call followed, until {@link endFollowing} was called as often. */
export function followCalls(): void {
  needs += 1
  if (needs === 1) Object.assign(functions, (wrapped ??= wrapAll()))
}

/** See {@link followCalls}. */
export function endFollowing(): void {
  needs -= 1
  if (needs > 0) return
  Object.assign(functions, originals)
}

/** Has the stacks of allocations taken, at least `frames` deep, until {@link endStacks} is called for the same `owner`. */
export function wantStacks(owner: object, frames: number): void {
  if (!depths.has(owner)) followCalls()
  depths.set(owner, frames)
  changeDepth()
}

/** See {@link wantStacks}. */
export function endStacks(owner: object): void {
  if (!depths.delete(owner)) return
  changeDepth()
  endFollowing()
}

function changeDepth(): void {
  const isOn = depths.size > 0
  depth = Math.max(0, ...depths.values())
  native.originsWanted(isOn)
}
