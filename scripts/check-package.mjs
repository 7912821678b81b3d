// What a user gets: packs the root package and this platform's binary package, installs both tarballs into an empty
// folder with no Rust on the PATH, and runs README's first TypeScript block from ESM, CommonJS and TypeScript.
// Then publint and attw judge the root tarball.
import { spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import ts from 'typescript'
import { manifest, nativeLibrary, platform, root, tool } from './platform.mjs'

const scratch = mkdtempSync(join(tmpdir(), 'offheap-package-'))
/** The modules that the package has. */
const entries = Object.keys(manifest.exports)
  .filter((subpath) => typeof manifest.exports[subpath] !== 'string')
  .map((subpath) => subpath.replace(/^\./, manifest.name))
const windows = process.platform === 'win32'
const results = []

/** Runs a program; throws what it printed when it fails. */
function run(program, args, { cwd = scratch, env = process.env } = {}) {
  const { status, signal, stdout, stderr, error } = spawnSync(program, args, { cwd, env, encoding: 'utf8', shell: windows && program === 'npm' })
  if (error) throw error
  if (status !== 0) throw new Error(`${basename(program)} ${args.join(' ')}: ${signal ?? `exit code ${status}`}\n${stdout}${stderr}`)
  return stdout
}

/** One check of the list at the end. */
function check(name, body) {
  const start = performance.now()
  let problem
  try {
    body()
  } catch (error) {
    problem = error
  }
  results.push({ name, ok: !problem })
  console.log(`${problem ? 'FAIL' : 'PASS'}  ${name}  (${((performance.now() - start) / 1000).toFixed(1)} s)`)
  if (problem) console.log(String(problem.message).replaceAll(/^/gm, '      '))
  return !problem
}

/** README's first TypeScript block, or a stand-in that shows the same. */
function snippet() {
  const readme = join(root, 'README.md')
  const block = existsSync(readme) && /^```(?:ts|typescript)[^\n]*\n(.*?)^```/ms.exec(readFileSync(readme, 'utf8'))
  if (block) return { from: 'README.md', code: block[1] }
  return {
    from: 'the built-in example',
    code: `import { defaultMemoryPool } from 'offheap'

const pool = defaultMemoryPool().limit(1 << 20)
const buffer = pool.allocateBuffer(4096)
buffer.asUint8Array().fill(7)
console.log(pool.backendName, pool.bytesAllocated)
buffer.dispose()
console.log(pool.bytesAllocated)
`,
  }
}

/** Packs a folder and gives the path of the tarball. */
function pack(folder) {
  const [{ filename }] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', scratch], { cwd: folder }))
  return join(scratch, filename)
}

/** An environment whose PATH has Node, npm and a shell, and no Rust. */
function withoutRust() {
  const env = { ...process.env, CI: 'true' }
  for (const name of Object.keys(env)) if (/^(CARGO|RUST|NAPI_RS_|npm_)/i.test(name)) delete env[name]
  const has = (folder) => ['cargo', 'rustc'].some((name) => existsSync(join(folder, windows ? `${name}.exe` : name)))
  if (windows) {
    env.PATH = process.env.PATH.split(delimiter).filter((folder) => !has(folder)).join(delimiter)
    return env
  }
  const bin = join(scratch, 'bin')
  mkdirSync(bin)
  const folders = [dirname(process.execPath), ...process.env.PATH.split(delimiter)]
  for (const name of ['node', 'npm', 'sh', 'env', 'uname', 'ldd', 'dirname', 'sed']) {
    const folder = folders.find((candidate) => existsSync(join(candidate, name)))
    if (folder) symlinkSync(join(folder, name), join(bin, name))
  }
  env.PATH = bin
  for (const name of ['cargo', 'rustc']) {
    if (spawnSync(name, ['--version'], { env }).status === 0) throw new Error(`${name} is still on the PATH`)
  }
  return env
}

try {
  if (!existsSync(nativeLibrary) || !existsSync(join(root, 'dist', 'index.js'))) {
    throw new Error('nothing to pack: run `npm run build` first')
  }
  const env = withoutRust()

  const packageFolder = join(scratch, 'platform')
  cpSync(join(root, 'npm', platform), packageFolder, { recursive: true })
  const platformManifest = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8'))
  copyFileSync(nativeLibrary, join(packageFolder, platformManifest.main))
  const tarballs = [pack(root), pack(packageFolder)]
  for (const tarball of tarballs) console.log(`${basename(tarball)}  ${(statSync(tarball).size / 1024).toFixed(0)} KiB`)

  check('versions and names agree', () => {
    if (platformManifest.version !== manifest.version) throw new Error(`${platformManifest.version} is not ${manifest.version}`)
    if (platformManifest.name !== `${manifest.napi.packageName}-${platform}`) throw new Error(platformManifest.name)
    if (manifest.scripts.install || manifest.scripts.postinstall) throw new Error('there is an install script')
  })
  // What an installation downloads and unpacks. CUDA's part alone is half a megabyte of it.
  check('the platform package stays under 2 MB, and its library under 4', () => {
    const sizes = [statSync(tarballs[1]).size, statSync(nativeLibrary).size]
    if (sizes[0] > 2_000_000 || sizes[1] > 4_000_000) throw new Error(`${sizes.join(' and ')} bytes`)
  })

  const { from, code } = snippet()
  const imports = [...code.matchAll(/^\s*(?:import|export)\b[^'"]*['"]([^'"]+)['"]/gm)].map(([, name]) => name)
  const others = [...new Set(imports)]
    .filter((name) => !/^(offheap|node:|\.)/.test(name) && !builtinModules.includes(name))
    .map((name) => name.split('/').slice(0, name.startsWith('@') ? 2 : 1).join('/'))
    .map((name) => `${name}@${manifest.devDependencies[name] ?? 'latest'}`)

  const home = join(scratch, 'empty')
  mkdirSync(home)
  writeFileSync(join(home, 'package.json'), '{ "name": "empty", "private": true }\n')
  const installed = check(`npm install ${[...tarballs.map((name) => basename(name)), ...others].join(' ')}`, () => {
    run('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', ...tarballs, ...others], { cwd: home, env })
  })

  if (installed) {
    console.log(`the code of ${from}:\n${code.replaceAll(/^/gm, '    ')}`)
    const transpile = (module) =>
      ts.transpileModule(code, {
        compilerOptions: { module, target: ts.ScriptTarget.ES2022, esModuleInterop: true, verbatimModuleSyntax: false },
      }).outputText

    check('runs as an ES module', () => {
      writeFileSync(join(home, 'main.mjs'), transpile(ts.ModuleKind.ESNext))
      console.log(run(process.execPath, ['main.mjs'], { cwd: home, env }).replaceAll(/^(?=.)/gm, '    '))
    })
    check('runs as CommonJS', () => {
      // CommonJS has no top-level await.
      writeFileSync(join(home, 'main.cjs'), `(async () => {\n${transpile(ts.ModuleKind.CommonJS)}\n})()\n`)
      run(process.execPath, ['main.cjs'], { cwd: home, env })
    })
    for (const entry of entries) {
      check(`${entry}: the two are one instance, with the same names`, () => {
        writeFileSync(
          join(home, 'one.mjs'),
          `import { createRequire } from 'node:module'
import * as esm from '${entry}'
const cjs = createRequire(import.meta.url)('${entry}')
const names = Object.keys(cjs).filter((name) => name !== '__esModule').sort()
if (names.length === 0) throw new Error('nothing is exported')
if (names.join() !== Object.keys(esm).sort().join()) throw new Error('different names')
for (const name of names) if (esm[name] !== cjs[name]) throw new Error(name + ' is there twice')
`,
        )
        run(process.execPath, ['one.mjs'], { cwd: home, env })
      })
    }

    // A TypeScript user has Node's types; the shipped ones must hold without skipLibCheck.
    for (const name of ['@types/node', 'undici-types']) {
      cpSync(join(root, 'node_modules', name), join(home, 'node_modules', name), { recursive: true })
    }
    const disposing = `import { defaultMemoryPool, type MemoryPool } from 'offheap'
const parent: MemoryPool = defaultMemoryPool()
const pool: MemoryPool = parent.limit(1 << 20)
function peak(): number {
  using buffer = pool.allocateBuffer(64)
  buffer.asUint8Array()[0] = 1
  return pool.bytesAllocated
}
const held = peak()
if (held !== 64 || pool.bytesAllocated !== 0) throw new Error('\`using\` does not dispose')
`
    const sharing = `import type { MemoryBuffer } from 'offheap'
import { exportHandle, memoryManager, open, type SharedMemoryHandle } from 'offheap/shm'
const made: MemoryBuffer = memoryManager().allocateBuffer(64)
made.fill(7)
const handle: SharedMemoryHandle = JSON.parse(JSON.stringify(exportHandle(made)))
const opened: MemoryBuffer = open(handle)
opened.fill(8, 0, 1)
if (made.at(0) !== 8 || opened.at(63) !== 7) throw new Error('it is not one memory')
`
    const compile = (file, text) => {
      writeFileSync(join(home, file), text)
      const options = ['--module', 'node16', '--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--types', 'node', '--strict']
      run(process.execPath, [tool('typescript', 'tsc'), ...options, '--skipLibCheck', others.length > 0 ? 'true' : 'false', file], {
        cwd: home,
        env,
      })
    }
    check('compiles and runs as TypeScript, ES module', () => {
      compile('typed.mts', code)
      run(process.execPath, ['typed.mjs'], { cwd: home, env })
    })
    check('compiles and runs as TypeScript with `using`, ES module', () => {
      compile('disposing.mts', disposing)
      run(process.execPath, ['disposing.mjs'], { cwd: home, env })
    })
    check('compiles and runs as TypeScript with `using`, CommonJS', () => {
      compile('disposing.cts', disposing)
      run(process.execPath, ['disposing.cjs'], { cwd: home, env })
    })
    check('offheap/shm compiles and runs as TypeScript, ES module and CommonJS', () => {
      for (const [source, program] of [['sharing.mts', 'sharing.mjs'], ['sharing.cts', 'sharing.cjs']]) {
        compile(source, sharing)
        run(process.execPath, [program], { cwd: home, env })
      }
    })
    // Every subpath has types wherever TypeScript looks for them, and none of them is `any`; without a GPU cuda says why.
    const devices = `import type { Device, MemoryBuffer, MemoryManager } from 'offheap'
import * as arrow from 'offheap/arrow'
import * as cuda from 'offheap/cuda'
import * as shm from 'offheap/shm'
type IsAny<T> = 0 extends 1 & T ? true : false
type AnyIn<M> = { [K in keyof M]: IsAny<M[K]> extends true ? K : M[K] extends (...given: never[]) => infer R ? (IsAny<R> extends true ? K : never) : never }[keyof M]
const none: [AnyIn<typeof arrow>, AnyIn<typeof cuda>, AnyIn<typeof shm>, AnyIn<MemoryBuffer>, AnyIn<Device>, AnyIn<cuda.CudaMemoryManager>] extends [never, never, never, never, never, never] ? true : false = true
const manager: MemoryManager = shm.memoryManager()
const made: MemoryBuffer = manager.allocateBuffer(64)
const handle: arrow.ArrowDeviceHandle = arrow.toArrowDevice(made, 'C')
const { length }: arrow.ImportedArray = arrow.fromArrowDevice(handle)
const status: cuda.CudaStatus = cuda.status()
if (!status.available) {
  const reason: cuda.UnavailableReason = status.reason
  if (reason.length === 0 || cuda.devices().length > 0) throw new Error('there is a GPU, or no reason')
}
if (!none || length !== 64) throw new Error('wrong length')
`
    check('all subpaths compile and run as TypeScript, ES module and CommonJS', () => {
      for (const [source, program] of [['devices.mts', 'devices.mjs'], ['devices.cts', 'devices.cjs']]) {
        compile(source, devices)
        run(process.execPath, [program], { cwd: home, env })
      }
    })
    check('all subpaths have types in every kind of resolution, without skipLibCheck', () => {
      writeFileSync(join(home, 'resolved.ts'), devices)
      for (const [module, resolution] of [['nodenext', 'nodenext'], ['esnext', 'bundler'], ['preserve', 'bundler'], ['commonjs', 'node10']]) {
        const options = ['--module', module, '--moduleResolution', resolution, '--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--types', 'node', '--strict']
        run(process.execPath, [tool('typescript', 'tsc'), ...options, '--skipLibCheck', 'false', '--noEmit', 'resolved.ts'], { cwd: home, env })
      }
    })
    check('without the platform package, the error names it', () => {
      rmSync(join(home, 'node_modules', platformManifest.name), { recursive: true })
      const { status, stderr } = spawnSync(process.execPath, ['-e', "require('offheap')"], { cwd: home, env, encoding: 'utf8' })
      if (status === 0) throw new Error('it loaded all the same')
      if (!stderr.includes(platformManifest.name)) throw new Error(`${platformManifest.name} is not in:\n${stderr}`)
    })
  }

  check('publint', () => run(process.execPath, [tool('publint'), '--strict', tarballs[0]]))
  check('attw', () => run(process.execPath, [tool('@arethetypeswrong/cli', 'attw'), tarballs[0]]))
} finally {
  if (!process.env.OFFHEAP_KEEP_PACKAGE) rmSync(scratch, { recursive: true, force: true })
  else console.log(`kept: ${scratch}`)
}

const failed = results.filter(({ ok }) => !ok).length
console.log(`${results.length - failed} passed, ${failed} failed`)
if (failed > 0) process.exitCode = 1
