// Writes docs/acceptance.md: which test covers which acceptance case, found by the tests' names.
//
//   node scripts/acceptance.mjs            write the file
//   node scripts/acceptance.mjs --check    fail when the file is stale, or a required case has no test
//
// A Rust test covers the cases in its name: `fn case_35_36_zero_size()`. A TypeScript test covers those that its title
// begins with: `test('#35 #36 zero size', …)`. The numbers are those of Apache Arrow's tests in the list below.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './platform.mjs'

const output = join(root, 'docs', 'acceptance.md')
/** Rust's tests: of the core, and on a GPU or the double, whose names begin with `gpu::`. */
const rustFolders = [
  { folder: join(root, 'crates', 'offheap', 'tests', 'all'), prefix: '' },
  { folder: join(root, 'crates', 'offheap-cuda', 'tests', 'gpu'), prefix: 'gpu::' },
]
const typeScriptFolder = join(root, '__test__')

const onlyInRust = 'JavaScript has no allocators'

/**
 * The required cases: number, what Arrow tests there, and why one of the languages has no test. Cases 96 and 97 are of
 * structs and dictionaries, which `offheap/arrow` has none of.
 */
const cases = [
  [1, 'memory tracking'],
  [2, 'out of memory'],
  [3, 'reallocate'],
  [4, 'alignment'],
  [5, 'release unused'],
  [6, 'identity of the default pool'],
  [7, 'statistics'],
  [8, 'logging pool'],
  [9, 'proxy pool'],
  [10, 'jemalloc: decay time'],
  [11, 'jemalloc: figures'],
  [12, 'limit: allocate'],
  [13, 'limit: reallocate'],
  [14, 'devices: basics'],
  [15, 'devices: copy'],
  [16, 'devices: view'],
  [17, 'allocate: basics, and the pool that it came from'],
  [18, 'bitmap'],
  [19, 'empty bitmap'],
  [20, 'from a string'],
  [21, 'alignment of 1024'],
  [22, 'memory that outlives its source'],
  [23, 'equal content'],
  [24, 'the same buffer'],
  [25, 'copySlice'],
  [26, 'copySlice of nothing'],
  [27, 'hexadecimal'],
  [28, 'a slice holds the memory'],
  [29, 'slice out of range'],
  [30, 'wrapped memory is written through'],
  [31, 'a buffer from a string is immutable'],
  [32, 'mutable slice'],
  [33, 'getReader'],
  [34, 'getWriter'],
  [35, 'zero size'],
  [36, 'zero size, resizable'],
  [37, 'resize to zero'],
  [38, 'builder: resize and reserve'],
  [39, 'builder: alignment'],
  [40, 'builder: finish'],
  [41, 'builder: finish of nothing'],
  [42, 'typed builder: basics'],
  [43, 'typed builder: copies'],
  [44, 'bool builder: basics'],
  [45, 'bool builder: copies'],
  [46, 'bool builder: reserve'],
  [47, 'isMutable'],
  [48, 'resize'],
  [49, 'resize of doubles'],
  [50, 'resize out of memory'],
  [51, 'concat, also with nothing'],
  [52, 'registry of devices', { typeScript: 'only native code has devices to register' }],
  [53, 'a pool over an allocator', { typeScript: onlyInRust }],
  [54, 'a collection is counted', { typeScript: onlyInRust }],
  [55, 'a collection that is out of memory', { typeScript: onlyInRust }],
  [56, 'peak of an allocator over a pool', { typeScript: onlyInRust }],
  [57, 'output stream: nothing is lost without close'],
  [58, 'output stream: close sets the size'],
  [59, 'output stream: write after finish'],
  [60, 'output stream: reset'],
  [61, 'fixed writer: basics'],
  [62, 'fixed writer: invalid writes'],
  [63, 'reader of strings'],
  [64, 'reader of nothing'],
  [65, 'reader: seek'],
  [66, 'reader: peek'],
  [67, 'reader: asynchronous reads are done at once'],
  [68, 'reader: invalid reads'],
  [69, 'reader: what was read keeps the memory'],
  [70, 'reader: willNeed', { typeScript: 'the hint is of no use to a reader without files: there is no such method' }],
  [71, 'reader: lifetime'],
  [72, 'reader: streams with positions of their own'],
  [73, 'a copy of some MiB, by several threads'],
  [74, 'ensureAlignment'],
  [75, 'ensureAlignment: invalid arguments'],
  [76, 'bits at aligned places'],
  [77, 'bits at unaligned places'],
  [78, 'GPU: devices'],
  [79, 'GPU: copies in every direction'],
  [80, 'GPU: events'],
  [81, 'GPU: events of others'],
  [82, 'GPU: the default stream'],
  [83, 'GPU: streams'],
  [84, 'GPU: contexts'],
  [85, 'GPU: allocate'],
  [86, 'GPU: copies in parts'],
  [87, 'GPU: slices'],
  [88, 'GPU: memory of another process'],
  [89, 'GPU: page-locked memory'],
  [90, 'GPU: views of page-locked memory'],
  [91, 'GPU: writer'],
  [92, 'GPU: writer, edge cases'],
  [93, 'GPU: reader'],
  [94, 'GPU: reader, willNeed'],
  [95, 'GPU: an array of a primitive type goes around'],
  [98, 'bytes of the default pool and of all'],
  [99, 'a proxy pool that nobody holds'],
  [100, 'a log has as many frees as allocations'],
  [101, 'the default pool is replaced'],
  [102, 'the default backend is a known one'],
  [103, 'release unused, once more'],
  [104, 'the environment chooses the default pool'],
  [105, 'factories of pools'],
  [106, 'supported backends'],
  [107, 'debug pool by the environment: abort'],
  [108, 'debug pool by the environment: trap'],
  [109, 'debug pool by the environment: warn'],
  [110, 'debug pool by the environment: none'],
  [111, 'debug pool by the environment: empty'],
  [112, 'debug pool by the environment: an unknown value'],
  [113, 'printStats'],
  [114, 'reader of bytes'],
  [115, 'buffers from bytes'],
  [116, 'nothing has an address'],
  [117, 'a weakly held owner is let go'],
  [118, 'hexadecimal, once more'],
  [119, 'memory is shared both ways'],
  [120, 'memory that is not contiguous', { rust: 'a slice of bytes is contiguous by its type' }],
  [121, 'address'],
  [122, 'equality is of bytes'],
  [123, 'at, also from the end'],
  [124, 'slices, and slices by JavaScript indexes'],
  [125, 'no key by content'],
  [126, 'immutable is respected'],
  [127, 'foreign memory keeps its owner'],
  [128, 'allocated buffers, fixed and resizable'],
  [129, 'memory that the CPU cannot reach'],
  [130, 'no constructor'],
  [131, 'output stream: 10 x 1000, then closed'],
  [132, 'no reference is kept by views'],
  [133, 'mock output stream'],
  [134, 'devices and managers: what they print'],
  [135, 'the device of a buffer'],
  [136, 'copyTo a device or a manager'],
  [137, 'GPU: a number that no GPU has'],
  [138, 'GPU: new host buffer'],
  [139, 'GPU: bytes allocated'],
  [140, 'GPU: buffers from data'],
  [141, 'GPU: foreign memory'],
  [142, 'GPU: copies of ranges, and ranges that do not fit'],
  [143, 'GPU: device types'],
  [144, 'GPU: reader and writer'],
  [145, 'GPU: two processes, the same bytes'],
  [146, 'GPU: no view for the CPU'],
  [147, 'GPU: copyTo and back'],
  [148, 'GPU: the C device interface, imported once'],
]

/** The bugs of Arrow that must not be here, and how their tests are called. */
const bugs = [
  ['Arrow C++ §5.1: a cap that races, and counts what others take', /^bug_1_/, /^Arrow §5\.1:/],
  ['Arrow C++ §5.2: buffers that outlive their pool', /^bug_2_/, /^Arrow §5\.2:/],
  ['Arrow C++ §5.4: a debug pool that misses overruns', /^bug_4_/, /^Arrow §5\.4:/],
  ['Arrow C++ §5.5: alignment lost by wrappers', /^bug_5_/, /^Arrow §5\.5:/],
  ['Arrow C++ §5.6: slices that forget where they are, readers that do not look', /^bug_6_/, /^Arrow §5\.6:/],
  ['Arrow C++ §5.8: builders that do not check', /^bug_8_/, /^Arrow §5\.8:/],
  ['Arrow C++ §5, closing line: errors that say nothing, closed streams that write', /^(?!bug_)/, /^Arrow, closing line:/],
]

/** The files of a folder, and of the folders in it, that end in `ending`, with what they contain. */
function sources(folder, ending) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true })
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith(ending))
    .toSorted()
    .map((name) => ({ name: name.slice(0, -ending.length), text: readFileSync(join(folder, name), 'utf8') }))
}

const problems = []
const rustTests = rustFolders.flatMap(({ folder, prefix }) => {
  const files = sources(folder, '.rs')
  const texts = new Map(files.map(({ name, text }) => [name, text]))
  return files.flatMap(({ name, text }) => {
    // A file that no module names is never compiled, so its tests are none.
    const parts = name.replace(/\/mod$/, '').split('/')
    const module = parts.pop()
    const parent = parts.join('/')
    const declaring = parts.length === 0 ? texts.get('main') : (texts.get(`${parent}/mod`) ?? texts.get(parent))
    if (name !== 'main' && !new RegExp(`^\\s*(?:pub(?:\\([^)]*\\))? )?mod ${module};`, 'm').test(declaring ?? '')) problems.push(`${join(folder, name)}.rs is in no module`)
    const file = prefix + [...parts, module].join('::')
    return [...text.matchAll(/#\[test\]\s*(?:#\[[^\]]*\]\s*)*fn (\w+)/g)].map(([, test]) => ({ file, name: test }))
  })
})

/** The functions that declare a test, and over what it runs. */
const declares = {
  test: '',
  'test.serial': '',
  withPool: '',
  withJemalloc: '',
  eachPool: ', over every pool',
  eachBackend: ', over every backend',
  onDevices: ', on test devices',
  onGpu: ', on a GPU or the double',
  onDouble: ', on the double',
  eachManager: ', on every kind of manager',
}
const declaration = new RegExp(`(?<![\\w.])(${Object.keys(declares).map((name) => name.replace('.', '\\.')).join('|')})\\(\\s*(['"\`])((?:\\\\.|(?!\\2).)+)\\2`, 'g')
const typeScriptTests = sources(typeScriptFolder, '.spec.ts').flatMap(({ name, text }) =>
  [...text.matchAll(declaration)].map(([, declared, , title]) => ({
    file: name,
    name: title.replaceAll(/\$\{[^}]*\}/g, '…').replaceAll('\\', ''),
    over: declares[declared],
  })),
)

const numbersOfRust = ({ name }) => (/^case((?:_\d+)+)_/.exec(name)?.[1] ?? '').split('_').filter(Boolean).map(Number)
const numbersOfTypeScript = ({ name }) => (/^(?:#\d+ )+/.exec(name)?.[0] ?? '').match(/\d+/g)?.map(Number) ?? []

const escape = (text) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
const rustCell = (tests, reason) => tests.map(({ file, name }) => `\`${file}::${name}\``).join('<br>') || (reason ? `– (${reason})` : '**none**')
const typeScriptCell = (tests, reason) =>
  tests.map(({ file, name, over }) => `${file}: ${escape(name.replace(/^(?:#\d+ )+/, ''))}${over}`).join('<br>') || (reason ? `– (${reason})` : '**none**')

const known = new Set(cases.map(([number]) => number))
for (const test of [...rustTests.map((each) => [each, numbersOfRust(each)]), ...typeScriptTests.map((each) => [each, numbersOfTypeScript(each)])]) {
  // Otherwise a misspelt name would be no case's.
  if (test[0].name.startsWith('case') && test[1].length === 0) problems.push(`${test[0].file}: ${test[0].name} names no case: write case_1_2_what`)
  for (const number of test[1]) if (!known.has(number)) problems.push(`${test[0].file}: ${test[0].name} names case ${number}, which is none of the required ones`)
}

const rows = cases.map(([number, what, reasons = {}]) => {
  const rust = rustTests.filter((test) => numbersOfRust(test).includes(number))
  const typeScript = typeScriptTests.filter((test) => numbersOfTypeScript(test).includes(number))
  if (rust.length === 0 && !reasons.rust) problems.push(`case ${number} (${what}) has no Rust test`)
  if (typeScript.length === 0 && !reasons.typeScript) problems.push(`case ${number} (${what}) has no TypeScript test`)
  return `| ${number} | ${what} | ${rustCell(rust, reasons.rust)} | ${typeScriptCell(typeScript, reasons.typeScript)} |`
})

const bugRow = (what, rust, typeScript, reason) => {
  if (rust.length === 0 && !reason) problems.push(`${what} has no Rust test`)
  if (typeScript.length === 0 && !reason) problems.push(`${what} has no TypeScript test`)
  return `| ${what} | ${rustCell(rust, reason)} | ${typeScriptCell(typeScript, reason)} |`
}
const bugRows = [
  ...bugs.map(([what, rustName, title, reason]) =>
    bugRow(
      what,
      rustTests.filter(({ file, name }) => (file === 'arrow_bugs' || name.startsWith('bug_')) && rustName.test(name)),
      typeScriptTests.filter(({ name }) => title.test(name)),
      reason,
    ),
  ),
  bugRow(
    'arrow-rs: accounting that leaks, under-reports and cannot refuse; buffers without padding or alignment',
    rustTests.filter(({ file }) => file === 'arrow_rs_bugs'),
    typeScriptTests.filter(({ name }) => name.startsWith('arrow-rs:')),
  ),
]

const text = `# Acceptance

Which test covers which case. The numbers are those of the list that was drawn up from the tests of Apache Arrow C++ and
pyarrow; where Arrow counts the rounded capacity, offheap counts the size that was asked for, and the figures are
adapted. Written by \`node scripts/acceptance.mjs\` from the names of the tests, and checked by one of them: do not edit.

Rust tests are in \`crates/offheap/tests/all\`, and those that begin with \`gpu::\` in \`crates/offheap-cuda/tests/gpu\`: they
run on a GPU where there is one, else on the test double of libcuda. TypeScript tests are in \`__test__\`. Those over every
pool run for each backend, for an account over it and for a limit over that; the Rust tests of the core run for each set of
backends that can be built.

| # | what | Rust | TypeScript |
|---|---|---|---|
${rows.join('\n')}

## Bugs that offheap does not have

| what | Rust | TypeScript |
|---|---|---|
${bugRows.join('\n')}
`

if (process.argv.includes('--check')) {
  if (!existsSync(output) || readFileSync(output, 'utf8') !== text) problems.push('docs/acceptance.md is stale: run `node scripts/acceptance.mjs`')
  for (const problem of problems) console.error(problem)
  console.log(`${cases.length} cases, ${rustTests.length} Rust tests, ${typeScriptTests.length} TypeScript tests, ${problems.length} problems`)
  if (problems.length > 0) process.exitCode = 1
} else {
  writeFileSync(output, text)
  for (const problem of problems) console.warn(problem)
}
