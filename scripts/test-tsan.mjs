// The Rust tests of the core, and of the GPU's crate on the double of libcuda, under ThreadSanitizer, in a target folder of their own (the flags change every crate).
//
//   node scripts/test-tsan.mjs short                   some minutes: the tests of the parts, of many threads, fewer programs
//   node scripts/test-tsan.mjs [cargo test options…]   all of them
//
// The standard library is built with the sanitizer, too (-Zbuild-std): its locks and queues would be invisible
// otherwise, and whatever they order a false report (118 of them in the unit tests alone). mimalloc and jemalloc are C
// without instrumentation, which hand memory from thread to thread by ways that the sanitizer does not see, so the
// backends here are the system's and our own mappings; everything above the backends is the same for all.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './platform.mjs'
import { exportSanitizer } from './sanitizers.mjs'
import { runSteps } from './steps.mjs'

const [first, ...rest] = process.argv.slice(2)
const short = first === 'short'
const options = short || first === undefined ? rest : [first, ...rest]

const host = execFileSync('rustc', ['-vV']).toString().match(/^host: (.+)$/m)[1]
const sysroot = execFileSync('rustc', ['+nightly', '--print', 'sysroot']).toString().trim()
if (!existsSync(join(sysroot, 'lib', 'rustlib', 'src', 'rust', 'library', 'std', 'Cargo.toml'))) {
  console.log('The sources of the standard library are missing: rustup component add rust-src --toolchain nightly')
  execFileSync('rustup', ['component', 'add', 'rust-src', '--toolchain', 'nightly'], { stdio: 'inherit' })
}

// loom's threads are not threads, and it knows every interleaving of its own.
const every = readdirSync(join(root, 'crates', 'offheap', 'tests'))
  .map((name) => name.replace(/\.rs$/, ''))
  .filter((name) => name !== 'loom')
const tests = (short ? ['large_blocks', 'state_machine'] : every).flatMap((name) => ['--test', name])
const env = {
  // Where the kernel orders threads for us (membarrier), the sanitizer must be told by a fence: `offheap_tsan`.
  RUSTFLAGS: `-Zsanitizer=thread --cfg offheap_tsan ${exportSanitizer('tsan')}`,
  CARGO_TARGET_DIR: join(root, 'target', 'tsan'),
  OFFHEAP_PROPTEST_CASES: process.env.OFFHEAP_PROPTEST_CASES ?? (short ? '30' : '300'),
  // Requests that cannot be had must come back as null, as they do without the sanitizer.
  TSAN_OPTIONS: ['allocator_may_return_null=1', 'history_size=4', process.env.TSAN_OPTIONS].filter(Boolean).join(':'),
}
const cargo = ['cargo', '+nightly', 'test', '--no-fail-fast', '-Zbuild-std', '--target', host]
await runSteps([
  {
    name: 'ThreadSanitizer',
    command: [...cargo, '-p', 'offheap', '--no-default-features', '--features', 'hooks,statistics', '--lib', ...tests, ...options],
    env,
  },
  {
    name: 'ThreadSanitizer, CUDA',
    command: [...cargo, '-p', 'offheap-cuda', '--lib', '--tests', ...options],
    env,
  },
])
