/**
 * Stacks in reports: the text that was kept, as frames, with source maps applied.
 *
 * @module
 */

import * as nodeModule from 'node:module'
import { fileURLToPath } from 'node:url'

/** One frame of a stack. */
export interface StackFrame {
  /** The function; `<anonymous>` for one without a name. */
  readonly function: string
  /** The file, or the URL of what is no file; the original one where a source map says so. */
  readonly file?: string
  /** The line, from 1. */
  readonly line?: number
  /** The column, from 1. */
  readonly column?: number
}

interface SourceEntry {
  originalSource?: string
  originalLine?: number
  originalColumn?: number
}

interface SourceMapLike {
  findEntry(line: number, column: number): SourceEntry | object
}

/** Node has source maps when it runs with `--enable-source-maps` (or `process.setSourceMapsEnabled`). Bun and Deno differ. */
const findSourceMap = (nodeModule as { findSourceMap?: (path: string) => SourceMapLike | undefined }).findSourceMap

function pathOf(place: string): string {
  if (!place.startsWith('file://')) return place
  try {
    return fileURLToPath(place)
  } catch {
    return place
  }
}

function original(frame: Required<StackFrame>): StackFrame {
  let map: SourceMapLike | undefined
  try {
    map = findSourceMap?.(frame.file)
  } catch {
    map = undefined // a map that cannot be read
  }
  const generated: StackFrame = { ...frame, file: pathOf(frame.file) }
  if (map === undefined) return generated
  const { originalSource, originalLine, originalColumn } = map.findEntry(frame.line - 1, frame.column - 1) as SourceEntry
  if (originalSource === undefined || originalLine === undefined || originalColumn === undefined) return generated
  return { function: frame.function, file: pathOf(originalSource), line: originalLine + 1, column: originalColumn + 1 }
}

/** Each line was read once: reports repeat their frames. */
const known = new Map<string, StackFrame>()
const MOST_KNOWN = 10_000

function frameOf(line: string): StackFrame {
  const match = /^(.*?) \((.*?)(?::(\d+))?(?::(\d+))?\)$/.exec(line)
  if (match === null) return { function: line }
  const [, name = '', file = '', row, column] = match
  if (row === undefined || column === undefined) return { function: name, file }
  return original({ function: name, file, line: Number(row), column: Number(column) })
}

/** The frames of a stack as it was kept, the innermost first. */
export function framesOf(stack: string): StackFrame[] {
  if (stack === '') return []
  return stack.split('\n').map((line) => {
    let frame = known.get(line)
    if (frame === undefined) {
      if (known.size >= MOST_KNOWN) known.clear()
      known.set(line, (frame = Object.freeze(frameOf(line))))
    }
    return frame
  })
}

/** A frame as `function (file:line:column)`. */
export function formatFrame({ function: name, file, line, column }: StackFrame): string {
  if (file === undefined) return name
  return `${name} (${file}${line === undefined ? '' : `:${line}:${column}`})`
}
