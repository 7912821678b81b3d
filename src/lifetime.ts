/**
 * What `dispose()` must know before memory that JavaScript has seen is freed: was the view made in this same
 * synchronous stretch, and is something under way that the event loop's request count cannot see (http2).
 *
 * A *stretch* is JavaScript that runs without a microtask checkpoint. No I/O completes in one, so the number of
 * requests in flight can only grow: when native code finds it unchanged since the view was made in the same stretch,
 * nobody has been given the pointer, and the bytes can go at once even while the loop is busy with other work.
 *
 * @module
 */

import diagnosticsChannel from 'node:diagnostics_channel'
import { isNode, native, nodeVersion, words } from './native.js'

/** The word in which native code reads, when the event loop is idle, whether an http2 stream is open. */
const HOLD_WORD = 31

/** Bits of the `state` that native dispose functions take. */
const SAME_STRETCH = 1
const HOLD = 2

const enqueueMicrotask = queueMicrotask

let stretch = 1
let endIsQueued = false

function endStretch(): void {
  endIsQueued = false
  stretch += 1
}

/** The number of the current stretch, which ends at the next microtask checkpoint. Call it when a view is made. */
export function currentStretch(): number {
  if (!endIsQueued) {
    endIsQueued = true
    enqueueMicrotask(endStretch)
  }
  return stretch
}

/** The state to dispose with, for views of which the oldest was made in stretch `madeIn`. */
export function viewState(madeIn: number): number {
  return (madeIn === stretch ? SAME_STRETCH : 0) | (http2Busy() ? HOLD : 0)
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
  // Streams that were open before offheap was loaded were never announced to it. When there can be any, hold for good.
  if (http2IsLoaded(0) && process.getActiveResourcesInfo().some((name) => /^(TCPSocket|TLS|Pipe)Wrap$/.test(name))) words[HOLD_WORD] = count += 1
  return () => count > 0
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

/** Releases the memory of buffer handles that were forgotten. An id whose handle was disposed is stale: a no-op. */
export const forgottenBuffers = new FinalizationRegistry<number>((id) => native.bufferRelease(id))

/** The buffer that an object owns and replaces over its life; 0 for none. */
export interface OwnedBuffer {
  id: number
}

/** Releases what builders that were forgotten still own. */
export const forgottenOwners = new FinalizationRegistry<OwnedBuffer>((owned) => {
  if (owned.id !== 0) native.bufferRelease(owned.id)
})
