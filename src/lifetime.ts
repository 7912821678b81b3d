/**
 * What `dispose()` must know before memory that JavaScript has seen is freed: was the view made in this same
 * synchronous stretch, and is something under way that the event loop's request count cannot see (http2).
 *
 * A *stretch* is JavaScript that runs without a microtask checkpoint. No I/O completes in one, so the number of
 * requests in flight can only grow: when native code finds it unchanged since the view was made in the same stretch,
 * nobody has been given the pointer, and the bytes can go at once even while the loop is busy with other work.
 *
 * One thing breaks the rule: when a callback throws and the program handles the exception, Node goes on to the next
 * completion without a checkpoint. From such an exception until a checkpoint has really been reached there is no stretch.
 * As a second guard a stretch belongs to one callback of the event loop, told by its async id.
 *
 * @module
 */

import { executionAsyncId } from 'node:async_hooks'
import diagnosticsChannel from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { isNode, native, nodeVersion, words } from './native.js'

/** The word in which native code reads, when the event loop is idle, whether an http2 stream is open. */
const HOLD_WORD = 31

/** Bits of the `state` that native dispose functions take. */
const SAME_STRETCH = 1
const HOLD = 2

const enqueueMicrotask = queueMicrotask

/** What is never the current stretch. */
const NO_STRETCH = 0

let stretch = 1
let endIsQueued = false
/** The callback that the stretch belongs to. */
let asyncId = -1
/** True from a caught exception until a checkpoint was reached. */
let isBroken = false

function endStretch(): void {
  endIsQueued = false
  isBroken = false
  stretch += 1
}

function queueEnd(): void {
  if (!endIsQueued) {
    endIsQueued = true
    enqueueMicrotask(endStretch)
  }
}

if (isNode) {
  process.on('uncaughtExceptionMonitor', () => {
    isBroken = true
    queueEnd()
  })
}

/** The number of the current stretch, which ends at the next microtask checkpoint. Call it when a view is made. */
export function currentStretch(): number {
  if (isBroken) return NO_STRETCH
  const id = executionAsyncId()
  if (id !== asyncId) {
    asyncId = id
    stretch += 1
  }
  queueEnd()
  return stretch
}

/** The state to dispose with, for views of which the oldest was made in stretch `madeIn`. */
export function viewState(madeIn: number): number {
  const isSame = madeIn === stretch && !isBroken && executionAsyncId() === asyncId
  return (isSame ? SAME_STRETCH : 0) | (http2Busy() ? HOLD : 0)
}

/** True while an http2 stream may hold raw pointers that the loop's request count does not show. */
const http2Busy: () => boolean = !isNode ? () => false : hasHttp2Channels() ? countHttp2Streams() : watchForHttp2()

function hasHttp2Channels(): boolean {
  const [major, minor] = nodeVersion
  return major > 24 || (major === 24 && minor >= 9) || (major === 22 && minor >= 23)
}

/** Node 22.23, 24.9 and later publish the life of every http2 stream: busy while one is open. */
function countHttp2Streams(): () => boolean {
  const open = new WeakSet<object>()
  let count = 0
  const streamOf = (message: unknown): object | undefined => (message as { stream?: object } | undefined)?.stream
  for (const side of ['client', 'server']) {
    diagnosticsChannel.subscribe(`http2.${side}.stream.created`, (message) => {
      const stream = streamOf(message)
      if (stream === undefined || open.has(stream)) return
      open.add(stream)
      words[HOLD_WORD] = count += 1
    })
    diagnosticsChannel.subscribe(`http2.${side}.stream.close`, (message) => {
      const stream = streamOf(message)
      if (stream !== undefined && open.delete(stream)) words[HOLD_WORD] = count -= 1
    })
  }
  // Streams that were open before offheap was loaded were never announced to it: each socket of that time may carry some,
  // so hold until it is closed.
  if (http2IsLoaded(0)) {
    for (const socket of openSockets()) {
      words[HOLD_WORD] = count += 1
      socket.once('close', () => (words[HOLD_WORD] = count -= 1))
    }
  }
  return () => count > 0
}

/**
 * The sockets that are open now, without the process's own stdin, stdout and stderr. (Whatever imports `node:http` as an ES
 * module loads http2 too, so a pipe to the parent process must not count.)
 */
function openSockets(): EventEmitter[] {
  const handles = (process as unknown as { _getActiveHandles?: () => object[] })._getActiveHandles?.() ?? []
  return handles.filter((handle): handle is EventEmitter => {
    const { fd } = handle as { fd?: unknown }
    return handle instanceof EventEmitter && 'remoteAddress' in handle && !(typeof fd === 'number' && fd >= 0 && fd <= 2)
  })
}

/** Node 20 publishes nothing: busy as soon as http2 is loaded. The list only grows, so only its new part is scanned. */
function watchForHttp2(): () => boolean {
  const list = moduleLoadList()
  let scanned = 0
  let loaded = false
  return () => {
    if (loaded || list.length === scanned) return loaded
    loaded = http2IsLoaded(scanned)
    scanned = list.length
    if (loaded) words[HOLD_WORD] = 1
    return loaded
  }
}

function moduleLoadList(): readonly string[] {
  return (process as unknown as { moduleLoadList?: readonly string[] }).moduleLoadList ?? []
}

function http2IsLoaded(from: number): boolean {
  const list = moduleLoadList()
  for (let index = from; index < list.length; index += 1) {
    if (list[index] === 'NativeModule internal/http2/core') return true
  }
  return false
}

/**
 * Sees a buffer handle being forgotten. Only the handle refers to it, so it is collected with it. Watches of handles that
 * were disposed serve the next handles: to register, collect and answer for each handle anew cost as much as all the rest
 * of a slice (measured: 620 instead of 270 ns with its dispose).
 */
export interface Watch {
  /** The native id of the handle; 0 while no handle has this watch. */
  readonly owned: OwnedBuffer
}

const forgotten = new FinalizationRegistry<OwnedBuffer>((owned) => {
  if (owned.id !== 0) native.bufferRelease(owned.id)
})

/** Watches without a handle, and how many of them are kept. */
const idleWatches: Watch[] = []
const MOST_IDLE_WATCHES = 1024

/** Watches the handle with this native id, which must keep the watch and end it in its dispose. */
export function watch(id: number): Watch {
  let watch = idleWatches.pop()
  if (watch === undefined) {
    watch = { owned: { id } }
    forgotten.register(watch, watch.owned)
  }
  watch.owned.id = id
  return watch
}

/** Ends a watch; the handle must drop it. */
export function endWatch(watch: Watch): void {
  watch.owned.id = 0
  if (idleWatches.length < MOST_IDLE_WATCHES) idleWatches.push(watch)
}

/** The buffer that an object owns and replaces over its life; 0 for none. */
export interface OwnedBuffer {
  id: number
}

/** Releases what builders that were forgotten still own. */
export const forgottenOwners = new FinalizationRegistry<OwnedBuffer>((owned) => {
  if (owned.id !== 0) native.bufferRelease(owned.id)
})
