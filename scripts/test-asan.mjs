// The Rust tests of the core, and of the crates over it that run foreign code or map memory, under AddressSanitizer, in a target folder of their own (the flags change every crate).
//
//   node scripts/test-asan.mjs [cargo test options…]
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './platform.mjs'
import { exportSanitizer } from './sanitizers.mjs'
import { runSteps } from './steps.mjs'

const host = execFileSync('rustc', ['-vV']).toString().match(/^host: (.+)$/m)[1]
// loom switches stacks by itself, which the sanitizer cannot follow; its tests own no memory of ours anyway.
const tests = readdirSync(join(root, 'crates', 'offheap', 'tests'))
  .map((name) => name.replace(/\.rs$/, ''))
  .flatMap((name) => (name === 'loom' ? [] : ['--test', name]))
const env = {
  RUSTFLAGS: `-Zsanitizer=address ${exportSanitizer('asan')}`,
  CARGO_TARGET_DIR: join(root, 'target', 'asan'),
  // The sanitizer makes each program some ten times slower.
  OFFHEAP_PROPTEST_CASES: process.env.OFFHEAP_PROPTEST_CASES ?? '300',
  // Tests end with live blocks on purpose (reports at exit, caught panics); leaks are what counters are for.
  // Requests that cannot be had must come back as null, as they do without the sanitizer.
  ASAN_OPTIONS: ['allocator_may_return_null=1', 'detect_leaks=0', process.env.ASAN_OPTIONS].filter(Boolean).join(':'),
}
await runSteps([
  {
    name: 'AddressSanitizer',
    // With --target the flags do not reach build scripts and procedural macros. Doc tests would need them twice.
    command: ['cargo', '+nightly', 'test', '--no-fail-fast', '-p', 'offheap', '--lib', ...tests, '--target', host, ...process.argv.slice(2)],
    env,
  },
  {
    name: 'AddressSanitizer, devices',
    command: ['cargo', '+nightly', 'test', '--no-fail-fast', '-p', 'offheap-shm', '-p', 'offheap-arrow', '-p', 'offheap-cuda', '--lib', '--tests', '--target', host],
    env,
  },
])
