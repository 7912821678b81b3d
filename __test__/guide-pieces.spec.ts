/**
 * The TypeScript of the guides that are no programs of their own runs all the same, on a GPU or the double, and has the types
 * of the package. The pieces of a guide follow one another, each in a scope within that of the one before.
 */
import './support/cuda.js'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import test from 'ava'
import { cudaEnvironment, onGpu } from './support/cuda.js'
import { cleanEnvironment, root, runNode } from './support.js'

/** By the guide: what its reader has. Names of modules of one's own are of no piece. */
const preambles: Record<string, string> = {
  'docs/cuda.md': `
    const pieces = [new Uint8Array(1000), new Uint8Array(24)]`,
  'docs/arrow-and-dlpack.md': `
    import * as offheap from 'offheap'
    import * as structs from 'offheap/arrow'
    import * as gpus from 'offheap/cuda'
    const buffer = offheap.defaultMemoryPool().allocateBuffer(64 * 64 * 8)
    const [first, second] = [buffer.slice(0, 80), buffer.slice(80, 160)]
    const given = structs.toArrowDevice(buffer, 'g')
    const { arrayAddress, schemaAddress } = given
    const there = buffer.copyTo(gpus.device())
    const [stream, mine] = [gpus.device().createStream(), gpus.device().createStream()]
    const event = stream.record()
    const u = structs.toDlpack(there, 'float32')
    const streamOfOtherAddon = 1n
    const address = structs.toDlpack(there, 'float32').take()
    const otherAddon = {
      import: (array: bigint, schema: bigint) => structs.unsafeFromArrowDevice(array, schema).buffer.dispose(),
      importStream: (found: bigint) => found > 0n,
      importTensor: (found: bigint) => structs.unsafeFromDlpack(found).buffer.dispose(),
      exportTensor: () => structs.toDlpack(buffer, 'float32').take(),
    }`,
}

/** The pieces as one program. Lines that say `// there` are another process's, and `fileStream` is the reader's. */
function programOf(guide: string): string {
  const pieces = [...readFileSync(join(root, guide), 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, piece = '']) => piece)
  const lines = [preambles[guide]!, ...pieces].map((piece) => piece.split('\n').filter((line) => !/\/\/ there$|fileStream/.test(line)))
  const isImport = (line: string): boolean => line.trimStart().startsWith('import ')
  const scopes = lines.map((piece) => `{\n${piece.filter((line) => !isImport(line)).join('\n')}`)
  return [...lines.flat().filter(isImport), ...scopes, '}'.repeat(scopes.length), "console.log('ran')", ''].join('\n')
}

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'offheap-pieces-')))
test.before(() => {
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'offheap'), 'junction')
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n')
})
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

for (const [index, guide] of Object.keys(preambles).entries()) {
  onGpu(`${guide}: what it shows runs`, async (t) => {
    const file = join(folder, `guide-${index}.ts`)
    writeFileSync(file, programOf(guide))
    const loader = pathToFileURL(fileURLToPath(import.meta.resolve('@oxc-node/core/register'))).href
    const { code, stdout, stderr } = await runNode(['--import', loader, file], { cwd: folder, env: cleanEnvironment(cudaEnvironment) })
    t.deepEqual({ code, stderr }, { code: 0, stderr: '' }, stdout)
    t.is(stdout.trimEnd().split('\n').at(-1), 'ran')
  })
}

onGpu('the pieces have the types of the package', async (t) => {
  const paths = Object.fromEntries(['', '/arrow', '/cuda', '/shm'].map((name) => [`offheap${name}`, [join(root, 'src', name, 'index.ts')]]))
  const compilerOptions = { rootDir: '/', typeRoots: [join(root, 'node_modules', '@types')], paths, noUnusedLocals: false }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ extends: join(root, 'tsconfig.test.json'), compilerOptions, include: ['*.ts'] }))
  const { code, stdout } = await runNode([join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '--project', folder])
  t.is(code, 0, stdout)
})
