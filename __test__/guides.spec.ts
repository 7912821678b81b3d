/**
 * The programs of the guides run, as a reader would run them, and print what the guides say that they print; so do those
 * of the README that have a name.
 *
 * In a guide, a block of TypeScript is a file: its first line is a comment with the name. A `console` block has commands
 * (`$ NAME=value node file.ts`) and what they print, on stdout and stderr together, without the folder of the files; `…`
 * stands for what varies, on a line of its own for any lines. A command that fails is followed by `$ echo $?`. Blocks
 * of C are pieces of the examples; blocks of Rust are doc tests of the crate `pep445`.
 */

import { mkdirSync, mkdtempSync, openSync, closeSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import test from 'ava'
import { cleanEnvironment, root, runNode } from './support.js'

const guides = ['docs/debugging.md', 'docs/devices.md', 'docs/domains.md', 'docs/shared-memory.md']

interface Block {
  readonly language: string
  readonly text: string
  readonly line: number
}

interface Command {
  readonly line: number
  readonly text: string
  readonly file: string
  readonly flags: readonly string[]
  readonly env: Record<string, string>
  readonly expected: string
  readonly status: number
}

function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(({ 1: language = '', 2: text = '', index }) => ({
    language,
    text,
    line: markdown.slice(0, index).split('\n').length + 1,
  }))
}

/** The commands of a block, each with the lines under it. */
function commandsOf({ text, line }: Block): Command[] {
  const found: Command[] = []
  let at = line
  for (const part of text.split(/^(?=\$ )/m)) {
    const [first = '', ...output] = part.split('\n')
    const command = /^\$ (.*)$/.exec(first)?.[1]
    if (command === undefined) throw new Error(`line ${at}: output without a command: ${first}`)
    if (command === 'echo $?') {
      const last = found.pop()
      if (last === undefined) throw new Error(`line ${at}: no command before ${command}`)
      found.push({ ...last, status: Number(output[0]) })
    } else {
      const words = /^((?:[A-Z_]+=\S+ )*)node ((?:--\S+ )*)(\S+\.ts)$/.exec(command)
      if (words === null) throw new Error(`line ${at}: not a command that can be tested: ${command}`)
      const [, env = '', flags = '', file = ''] = words
      const list = (text: string): string[] => text.split(' ').filter((word) => word !== '')
      found.push({
        line: at,
        text: command,
        file,
        flags: list(flags),
        env: Object.fromEntries(list(env).map((pair) => pair.split('=') as [string, string])),
        expected: output.join('\n').trimEnd(),
        status: 0,
      })
    }
    at += part.split('\n').length - 1
  }
  return found
}

const escape = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')

/** What output has to look like. */
function pattern(expected: string): RegExp {
  const lines = expected.split('\n').map((line) => (line.trim() === '…' ? '(?:.*\n)*?' : `${line.split('…').map(escape).join('.*?')}\n`))
  return new RegExp(`^${lines.join('')}$`)
}

/** A folder with the programs of all guides, in which `offheap` is the built package. */
function install(programs: ReadonlyMap<string, string>): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'offheap-guides-')))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'offheap'), 'junction')
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n')
  for (const [name, text] of programs) writeFileSync(join(folder, name), text)
  return folder
}

let runs = 0

/** Runs a command; stdout and stderr go to one file, as to one terminal. */
async function run(folder: string, { flags, file, env }: Command): Promise<{ status: number; output: string }> {
  const path = join(folder, `output-${(runs += 1)}`)
  const output = openSync(path, 'w')
  // Node 20 takes TypeScript by a loader only.
  const loader = pathToFileURL(fileURLToPath(import.meta.resolve('@oxc-node/core/register'))).href
  const child = spawn(process.execPath, ['--import', loader, ...flags, file], { cwd: folder, env: cleanEnvironment(env), stdio: ['ignore', output, output] })
  const status = await new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(signal === null ? (code ?? -1) : 128 + constants.signals[signal]))
  })
  closeSync(output)
  return { status, output: readFileSync(path, 'utf8').replaceAll(pathToFileURL(folder).href + '/', '').replaceAll(join(folder, '/'), '') }
}

const programs = new Map<string, string>()
const commands: (Command & { guide: string })[] = []
const pieces: (Block & { guide: string })[] = []
for (const guide of [...guides, 'README.md']) {
  for (const block of blocksOf(readFileSync(join(root, guide), 'utf8'))) {
    if (block.language === 'console') {
      for (const command of commandsOf(block)) commands.push({ ...command, guide })
    } else if (block.language === 'ts') {
      const name = /^\/\/ (\S+\.ts)\n/.exec(block.text)?.[1]
      if (name !== undefined) programs.set(name, block.text)
      else if (guides.includes(guide)) programs.set(`line ${block.line} of ${guide}, which has no name`, block.text)
    } else if (guides.includes(guide)) pieces.push({ ...block, guide })
  }
}
const folder = install(programs)
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

test('there are programs, and each of them is run', (t) => {
  t.true(programs.size >= 8, `${programs.size} programs`)
  const run = new Set(commands.map(({ file }) => file))
  t.deepEqual(
    [...programs.keys()].filter((name) => !run.has(name)),
    [],
  )
})

for (const command of commands) {
  test.serial(`${command.guide}:${command.line}: ${command.text}`, async (t) => {
    const { status, output } = await run(folder, command)
    const text = output === '' || output.endsWith('\n') ? output : `${output}\n`
    t.true(pattern(command.expected).test(text), `printed:\n${text}\nwhere the guide says:\n${command.expected}`)
    t.is(status, command.status, output)
  })
}

test('the programs have the types of the package', async (t) => {
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      extends: join(root, 'tsconfig.test.json'),
      compilerOptions: { rootDir: '/', typeRoots: [join(root, 'node_modules', '@types')], paths: { offheap: [join(root, 'src', 'index.ts')], 'offheap/shm': [join(root, 'src', 'shm', 'index.ts')] } },
      include: ['*.ts'],
    }),
  )
  const { code, stdout } = await runNode([join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '--project', folder])
  t.is(code, 0, stdout)
})

test('C is from the examples, Rust is run by doc tests, and no other language looks like a program', (t) => {
  const examples = join(root, 'examples', 'pep445')
  const sources = readdirSync(join(examples, 'c')).map((name) => readFileSync(join(examples, 'c', name), 'utf8'))
  const docTests = readFileSync(join(examples, 'src', 'lib.rs'), 'utf8')
  for (const { guide, line, language, text } of pieces) {
    const where = `${guide}:${line}`
    if (language === 'c') {
      for (const piece of text.split(/^ *\/\* … \*\/\n/m)) t.true(sources.some((source) => source.includes(piece.trim())), `${where} is in no example:\n${piece}`)
    } else if (language === 'rust') t.true(docTests.includes(guide), `${where} is not run`)
    else t.true(['text', 'sh'].includes(language), `${where}: '${language}' is not tested`)
  }
})
