/**
 * JavaScript stacks, taken right after the native call that they are of: as text, one frame a line, the innermost first,
 * `function (file:line:column)`. Every stack is put into words once; after that it is a walk through a tree.
 *
 * Nothing of the program is retained: a captured `Error` that nobody read keeps its receivers and closures alive
 * (V8 formats it only then), so the stack is read at once and only text is kept. The program's own
 * `Error.prepareStackTrace` and `Error.stackTraceLimit` are put aside meanwhile and put back as they were.
 *
 * @module
 */

import { sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import { native } from './native.js'

/** As they were when offheap was loaded: programs replace them. */
const ErrorClass = Error
const captureStackTrace: typeof Error.captureStackTrace | undefined = Error.captureStackTrace
const { defineProperty, deleteProperty, getOwnPropertyDescriptor } = Reflect

/** The most frames of a program that are taken. */
export const DEEPEST_STACK = 64
/** Room for offheap's own frames, which are left out. */
const OWN_FRAMES = 6

/** One frame in the tree of all stacks: its parent is the frame that it called. */
class Node {
  /** The number that native code knows the stack by that ends here; 0: none yet. */
  id = 0
  /** Frames that call this one, by file and position. */
  readonly callers = new Map<string, Map<number, Node>>()

  constructor(
    readonly callee: Node | undefined,
    readonly text: string,
  ) {}
}

/** Nodes beyond this start a new tree: what is known of stacks is bounded. */
const MOST_NODES = 65_536

let root = new Node(undefined, '')
let nodes = 0
let forgetStacks: () => void = () => {}

/** Calls `forget` whenever the numbers of stacks given so far end. */
export function onStacksForgotten(forget: () => void): void {
  forgetStacks = forget
}

/** The methods of a CallSite that are used. JavaScriptCore has not all of them. */
interface CallSite {
  getScriptNameOrSourceURL?(): string | null | undefined
  getFileName(): string | null | undefined
  getPosition?(): number
  toString(): string
}

/** A frame as V8 writes it, as `function (place)`: an anonymous one has no function there. */
function frameText(site: CallSite): string {
  const text = site.toString()
  if (text.endsWith(')')) return text
  return text.startsWith('async ') ? `async <anonymous> (${text.slice(6)})` : `<anonymous> (${text})`
}

/** Where offheap's own frames are, as paths and as URLs. In a bundle they are in the program's own file: nowhere. */
const ownFolders: readonly string[] = /[\\/]stacks\.[cm]?[jt]s$/.test(__filename) ? [__dirname + sep, `${pathToFileURL(__dirname).href}/`] : []

function isOwn(file: string | null | undefined): boolean {
  return typeof file === 'string' && ownFolders.some((folder) => file.startsWith(folder))
}

function fileOf(site: CallSite): string | null | undefined {
  return typeof site.getScriptNameOrSourceURL === 'function' ? site.getScriptNameOrSourceURL() : site.getFileName()
}

function callerOf(node: Node, site: CallSite, file: string | null | undefined): Node {
  // What has no file or position (built-in functions, eval) is known by its text.
  const position = typeof file === 'string' && typeof site.getPosition === 'function' ? site.getPosition() : -1
  const key = position < 0 || typeof file !== 'string' ? frameText(site) : file
  let sameFile = node.callers.get(key)
  if (sameFile === undefined) node.callers.set(key, (sameFile = new Map()))
  let caller = sameFile.get(position)
  if (caller === undefined) {
    sameFile.set(position, (caller = new Node(node, frameText(site))))
    nodes += 1
  }
  return caller
}

function textOf(stack: Node): string {
  const frames: string[] = []
  for (let node = stack; node.callee !== undefined; node = node.callee) frames.push(node.text)
  return frames.toReversed().join('\n')
}

/** How many frames the capture under way wants, and what it found. */
let wanted = 0
let found: Node | undefined

function prepare(_error: Error, sites: unknown): string {
  let node = root
  let depth = 0
  let inside = true
  for (const site of sites as CallSite[]) {
    const file = fileOf(site)
    if (inside && isOwn(file)) continue
    inside = false
    if (depth === wanted) break
    node = callerOf(node, site, file)
    depth += 1
  }
  found = node
  return ''
}

type Aside = PropertyDescriptor | 'absent' | 'fixed'

/** Gives `Error` a property for a moment; says how to put it back. */
function putAside(key: 'prepareStackTrace' | 'stackTraceLimit', value: unknown): Aside {
  const before = getOwnPropertyDescriptor(ErrorClass, key)
  if (before?.writable === true) {
    ;(ErrorClass as unknown as Record<string, unknown>)[key] = value
    return before
  }
  const isSet = defineProperty(ErrorClass, key, { value, writable: true, configurable: true, enumerable: false })
  return isSet ? (before ?? 'absent') : 'fixed'
}

function putBack(key: 'prepareStackTrace' | 'stackTraceLimit', before: Aside): void {
  if (before === 'fixed') return
  if (before === 'absent') deleteProperty(ErrorClass, key)
  else if (before.writable === true) (ErrorClass as unknown as Record<string, unknown>)[key] = before.value
  else defineProperty(ErrorClass, key, before)
}

/** The frames of a stack that V8 or the program's own code wrote: where `Error` is frozen, and on other engines. */
function parsed(stack: unknown, depth: number): Node {
  let node = root
  if (typeof stack !== 'string') return node
  let taken = 0
  let inside = true
  for (const line of stack.split('\n')) {
    const match = /^\s+at (?:(.*?) \((.*)\)|(.*))$/.exec(line)
    if (match === null) continue
    const place = match[2] ?? match[3] ?? ''
    if (inside && isOwn(place)) continue
    inside = false
    if (taken === depth) break
    const text = `${match[1] ?? '<anonymous>'} (${place})`
    node = callerOf(node, { getFileName: () => undefined, toString: () => text }, undefined)
    taken += 1
  }
  return node
}

let isCapturing = false

function capture(depth: number, from: (...args: never[]) => unknown): Node | undefined {
  if (isCapturing || depth === 0) return undefined
  isCapturing = true
  wanted = Math.min(depth, DEEPEST_STACK)
  found = undefined
  const limit = putAside('stackTraceLimit', wanted + OWN_FRAMES)
  const prepareBefore = putAside('prepareStackTrace', prepare)
  try {
    const holder: { stack?: unknown } = {}
    if (captureStackTrace === undefined) holder.stack = new ErrorClass().stack
    else captureStackTrace(holder, from)
    const { stack } = holder
    return found ?? parsed(stack, wanted)
  } catch {
    return undefined // a prepareStackTrace that cannot be put aside threw
  } finally {
    putBack('prepareStackTrace', prepareBefore)
    putBack('stackTraceLimit', limit)
    isCapturing = false
  }
}

/** The text of the stack of `from`'s caller, at most `depth` frames of the program; '' for none. */
export function captureText(depth: number, from: (...args: never[]) => unknown): string {
  const stack = capture(depth, from)
  return stack === undefined ? '' : textOf(stack)
}

/** As {@link captureText}, as a number that native code knows the text by; 0 for none. */
export function captureStack(depth: number, from: (...args: never[]) => unknown): number {
  if (nodes > MOST_NODES) {
    root = new Node(undefined, '')
    nodes = 0
    forgetStacks()
  }
  const stack = capture(depth, from)
  if (stack === undefined || stack === root) return 0
  if (stack.id === 0) stack.id = native.originsStack(textOf(stack))
  return stack.id
}
