// Compiles src/ to dist/ (CommonJS), then gives every entry that package.json exports an ES module beside it. The
// ES module only re-exports the names of the CommonJS build: the pools live there, and there must be one of each.
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'
import { manifest, nativeLibrary, root, tool } from './platform.mjs'

const dist = join(root, 'dist')
rmSync(dist, { recursive: true, force: true })
const { status } = spawnSync(process.execPath, [tool('typescript', 'tsc'), '--project', join(root, 'tsconfig.json')], {
  cwd: root,
  stdio: 'inherit',
})
if (status !== 0) process.exit(status ?? 1)

/** Whether a name is exported as a type only, somewhere on its way from its declaration. */
function isTypeOnly(checker, symbol) {
  for (let at = symbol; at; ) {
    if (at.declarations?.some((declaration) => ts.isTypeOnlyImportOrExportDeclaration(declaration))) return true
    at = at.flags & ts.SymbolFlags.Alias ? checker.getImmediateAliasedSymbol(at) : undefined
  }
  return false
}

/** The names of the values that a declaration file exports. */
function valueExports(file) {
  const program = ts.createProgram([file], {
    module: ts.ModuleKind.Node16,
    moduleResolution: ts.ModuleResolutionKind.Node16,
    target: ts.ScriptTarget.ES2022,
    skipLibCheck: true,
  })
  const checker = program.getTypeChecker()
  const module = checker.getSymbolAtLocation(program.getSourceFile(file))
  if (!module) throw new Error(`${relative(root, file)} is not a module`)
  return checker
    .getExportsOfModule(module)
    .filter((symbol) => {
      if (isTypeOnly(checker, symbol)) return false
      const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
      return (target.flags & ts.SymbolFlags.Value) !== 0
    })
    .map((symbol) => symbol.name)
    .filter((name) => name !== 'default' && name !== 'export=')
    .toSorted()
}

for (const [subpath, conditions] of Object.entries(manifest.exports)) {
  if (typeof conditions === 'string') continue
  const commonjs = join(root, conditions.require.default)
  const module = join(root, conditions.import.default)
  if (!existsSync(commonjs)) throw new Error(`package.json exports ${subpath} from a file that was not built: ${commonjs}`)
  const names = valueExports(join(root, conditions.require.types))
  const from = `./${commonjs.slice(dist.length + 1).split(/[\\/]/).at(-1)}`
  const header = '// Written by scripts/build-ts.mjs: the same module instance as the CommonJS build.\n'
  writeFileSync(module, `${header}export {\n${names.map((name) => `  ${name},\n`).join('')}} from '${from}'\n`)
  writeFileSync(join(root, conditions.import.types), `${header}export * from '${from}'\n`)

  // The types are the promise, the running module is the truth. They can only be compared where the addon is built.
  if (!existsSync(nativeLibrary)) continue
  const declared = new Set(names)
  const imported = new Set(Object.keys(await import(pathToFileURL(module).href)))
  const required = new Set(Object.keys((await import(pathToFileURL(commonjs).href)).default))
  required.delete('__esModule')
  const missing = names.filter((name) => !imported.has(name) || !required.has(name))
  const untyped = [...required].filter((name) => !declared.has(name))
  if (missing.length > 0 || untyped.length > 0) {
    throw new Error(`${subpath}: declared but not exported: [${missing}]; exported but not declared: [${untyped}]`)
  }
}
