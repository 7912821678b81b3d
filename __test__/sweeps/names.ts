/**
 * The names of everything public that can be called or read: by reflection over what the package exports, and from its
 * declarations. The one does not see members without a function behind them, the other none that nobody declared.
 */
import { join } from 'node:path'
import * as offheap from 'offheap'
import * as shm from 'offheap/shm'
import ts from 'typescript'
import { root } from '../fixtures.js'

/** The modules of the package: what names are prefixed with, where the declarations are, and what is there. */
const modules: readonly (readonly [prefix: string, declarations: string, exports: Record<string, unknown>])[] = [
  ['', join('dist', 'index.d.ts'), offheap],
  ['shm.', join('dist', 'shm', 'index.d.ts'), shm],
]

/** `Class#member`, `Class.static`, `new Class` or the name of a function; of another entry of the package, `shm.open`. */
export function reflectedNames(): Set<string> {
  const names = new Set<string>()
  for (const [prefix, , exports] of modules) for (const name of namesOf(exports)) names.add(prefix + name)
  return names
}

function namesOf(exports: Record<string, unknown>): Set<string> {
  const names = new Set<string>()
  for (const [name, value] of Object.entries(exports)) {
    if (typeof value !== 'function' || !/^class\b/.test(Function.prototype.toString.call(value))) {
      names.add(name)
      continue
    }
    names.add(`new ${name}`)
    for (const key of Reflect.ownKeys(value)) if (!['prototype', 'length', 'name'].includes(key as string)) names.add(`${name}.${show(key)}`)
    for (const key of Reflect.ownKeys(value.prototype as object)) if (key !== 'constructor') names.add(`${name}#${show(key)}`)
  }
  return names
}

function show(key: PropertyKey): string {
  if (typeof key !== 'symbol') return String(key)
  // Node 20 has its own symbols for what later ones have as well-known ones.
  return `[${key.description!.replace(/^nodejs\.(?=dispose|asyncDispose)/, 'Symbol.').replace(/^nodejs\.util\.inspect\.custom$/, 'inspect.custom')}]`
}

const SYMBOL_MEMBER = /^__@(.+)@\d+$/

function declared(symbol: ts.Symbol): string {
  const match = SYMBOL_MEMBER.exec(symbol.escapedName as string)
  return match === null ? symbol.name : `[Symbol.${match[1]}]`
}

function isPrivate(symbol: ts.Symbol): boolean {
  if (symbol.name.startsWith('__#') || symbol.name === '#private') return true
  return (symbol.declarations ?? []).some((declaration) => (ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Private) !== 0)
}

/** The same as {@link reflectedNames}, as `dist/index.d.ts` and its like say. Types have no names here. */
export function declaredNames(): Set<string> {
  const names = new Set<string>()
  for (const [prefix, declarations] of modules) for (const name of namesIn(join(root, declarations))) names.add(prefix + name)
  return names
}

function namesIn(file: string): Set<string> {
  const program = ts.createProgram([file], {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.Node16,
    moduleResolution: ts.ModuleResolutionKind.Node16,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'],
    noEmit: true,
    skipLibCheck: true,
  })
  const checker = program.getTypeChecker()
  const source = program.getSourceFile(file)
  if (source === undefined) throw new Error(`${file} is not there: npm run build:ts`)
  const names = new Set<string>()
  for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(source)!)) {
    const symbol = (exported.flags & ts.SymbolFlags.Alias) === 0 ? exported : checker.getAliasedSymbol(exported)
    if ((symbol.flags & ts.SymbolFlags.Value) === 0) continue
    if ((symbol.flags & ts.SymbolFlags.Class) === 0) {
      names.add(exported.name)
      continue
    }
    names.add(`new ${exported.name}`)
    symbol.exports?.forEach((member) => {
      if (member.name !== 'prototype' && !isPrivate(member)) names.add(`${exported.name}.${declared(member)}`)
    })
    // The type's properties, not the symbol's members: those have no `[Symbol.dispose]` yet. Inherited ones are Error's.
    for (const member of checker.getDeclaredTypeOfSymbol(symbol).getProperties()) {
      const isOwn = member.declarations?.some((declaration) => declaration.parent === symbol.valueDeclaration) === true
      if (isOwn && !isPrivate(member)) names.add(`${exported.name}#${declared(member)}`)
    }
  }
  return names
}
