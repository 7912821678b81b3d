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

import { AFTER_HAS_EVENTS, AFTER_HAS_REPORTS, AFTER_WANTS_ORIGIN, IN_CALL_WORD, native, type NativeBinding, RESULT_WORDS, words } from './native.js'
import { captureStack, onStacksForgotten } from './stacks.js'

type NativeFunction = (...args: unknown[]) => unknown
type Functions = Record<keyof NativeBinding, NativeFunction>

/** The functions that are called from in here, or that nothing can follow. */
const NEVER_WRAPPED: ReadonlySet<keyof NativeBinding> = new Set<keyof NativeBinding>([
  'configure',
  'afterCall',
  'takeEvents',
  'eventsStart',
  'takeReports',
  // Their observer is not known yet when they return.
  'poolObserve',
  'domainObserve',
  'arenasObserve',
  'poolDebug',
  'debugSetup',
  'originsWanted',
  'originsStack',
  'originsForgetStacks',
  'originsTell',
  'originsBefore',
])

const functions = native as unknown as Functions
const originals: Readonly<Functions> = { ...functions }
let wrapped: Functions | undefined

/** How many need the calls to be followed; how deep the stacks must be, by who wants them. */
let needs = 0
const depths = new Map<object, number>()
let depth = 0
/** The same for stacks that are taken before the call: hooks decide by them. */
const depthsBefore = new Map<object, number>()
let depthBefore = 0

/** What `observers.ts` puts in: delivers the events that wait. */
let deliverEvents: () => void = () => {}
/** What `debugging.ts` puts in: delivers the reports that wait; the error to be thrown, if one is. */
let deliverReports: () => Error | undefined = () => undefined
/** The tags in force, as text; `tracking.ts` puts it in. */
let currentTags: () => string = () => ''

/** Says who delivers events. */
export function setDelivery(deliver: () => void): void {
  deliverEvents = deliver
}

/** Says who delivers reports. */
export function setReporting(deliver: () => Error | undefined): void {
  deliverReports = deliver
}

/** Says who knows the tags in force. */
export function setTags(tags: () => string): void {
  currentTags = tags
}

onStacksForgotten(() => native.originsForgetStacks())

/** The results of the calls that are being followed now, one inside of the other. */
const saved: Float64Array[] = []
let settling = 0

/** What is to be done after a call. The words are left as they were. The error that the call must end with, if there is one. */
function settle(from: NativeFunction, stack: number): Error | undefined {
  const mask = native.afterCall()
  if (mask === 0) return undefined
  const results = (saved[settling] ??= new Float64Array(RESULT_WORDS))
  settling += 1
  for (let word = 0; word < RESULT_WORDS; word += 1) results[word] = words[word]!
  try {
    if ((mask & AFTER_WANTS_ORIGIN) !== 0) {
      native.originsTell(stack !== 0 && depthBefore >= depth ? stack : captureStack(depth, from), currentTags())
    }
    if ((mask & AFTER_HAS_EVENTS) !== 0) deliverEvents()
    return (mask & AFTER_HAS_REPORTS) === 0 ? undefined : deliverReports()
  } finally {
    settling -= 1
    for (let word = 0; word < RESULT_WORDS; word += 1) words[word] = results[word]!
  }
}

/** Calls whose result is a new buffer: nobody gets it when the call ends with an error after all. */
const MAKES_BUFFER: ReadonlySet<string> = new Set<keyof NativeBinding>([
  'bufferAllocate',
  'bufferFromBytes',
  'bufferForeign',
  'bufferSlice',
  'bufferCopy',
  'bufferConcat',
  'bufferFromShared',
  'managerAllocate',
  'bufferCopyTo',
  'bufferViewOn',
  'bufferViewOrCopyTo',
  'shmOpen',
  'cudaOpenMemory',
])

/** Calls after which their caller has something to note down first: it calls {@link throwHeldBack} then. */
const HOLDS_BACK: ReadonlySet<string> = new Set<keyof NativeBinding>([
  'bufferResize',
  'bufferReserve',
  'bufferFreeze',
  'builderWindow',
  'builderFinish',
])

let heldBack: Error | undefined

/** Whether such a call must end with an error. */
export function isHeldBack(): boolean {
  return heldBack !== undefined
}

/** Throws what the last of such calls must end with. */
export function throwHeldBack(): void {
  if (heldBack === undefined) return
  const error = heldBack
  heldBack = undefined
  throw error
}

function wrap(name: keyof NativeBinding, original: NativeFunction): NativeFunction {
  return function wrapper(...args) {
    const outer = words[IN_CALL_WORD]!
    const stack = depthBefore === 0 ? 0 : captureStack(depthBefore, wrapper)
    if (stack !== 0) native.originsBefore(stack)
    words[IN_CALL_WORD] = 1
    let result: unknown
    let failure: unknown
    let isDone = false
    try {
      result = original(...args)
      isDone = true
    } catch (thrown) {
      failure = thrown
    }
    words[IN_CALL_WORD] = outer
    if (stack !== 0) native.originsBefore(0)
    const error = settle(wrapper, stack)
    // Of two errors the report says more: what was damaged may be why the call failed.
    if (!isDone) throw error ?? failure
    if (error === undefined) return result
    if (HOLDS_BACK.has(name)) {
      heldBack ??= error
      return result
    }
    if (MAKES_BUFFER.has(name)) originals.bufferRelease(result)
    throw error
  }
}

function wrapAll(): Functions {
  const all = { ...originals }
  for (const name of Object.keys(originals) as (keyof NativeBinding)[]) {
    if (!NEVER_WRAPPED.has(name)) all[name] = wrap(name, originals[name])
  }
  return all
}

/** Has every native call followed, until {@link endFollowing} was called as often. */
export function followCalls(): void {
  needs += 1
  if (needs > 1) return
  native.eventsStart(onWake)
  Object.assign(functions, (wrapped ??= wrapAll()))
}

/** What waits and belongs to no call: other threads' events, and what finalizers found. */
function onWake(): void {
  deliverEvents()
  const error = deliverReports()
  if (error !== undefined) throw error
}

/** See {@link followCalls}. */
export function endFollowing(): void {
  needs -= 1
  if (needs > 0) return
  Object.assign(functions, originals)
}

/**
 * Has the stacks of allocations taken until {@link endStacks} is called for the same `owner`: at least `after` frames after
 * each call, and `before` frames before it.
 */
export function wantStacks(owner: object, after: number, before: number): void {
  if (!depths.has(owner)) followCalls()
  depths.set(owner, Math.max(after, depths.get(owner) ?? 0))
  depthsBefore.set(owner, before)
  changeDepth()
}

/** See {@link wantStacks}. */
export function endStacks(owner: object): void {
  if (!depths.delete(owner)) return
  depthsBefore.delete(owner)
  changeDepth()
  endFollowing()
}

function changeDepth(): void {
  depth = Math.max(0, ...depths.values())
  depthBefore = Math.max(0, ...depthsBefore.values())
  native.originsWanted(depth > 0)
}
