// Fuzzing, see fuzz/.
//
//   node scripts/fuzz.mjs short [seconds a body]     on stable Rust, without libFuzzer: what CI does
//   node scripts/fuzz.mjs <target> [libFuzzer options]   for as long as you like, under AddressSanitizer
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { root } from './platform.mjs'
import { runSteps } from './steps.mjs'

const [what, ...options] = process.argv.slice(2)
const cwd = join(root, 'fuzz')
// Beside the other builds, so that it is cleaned with them.
const env = { CARGO_TARGET_DIR: join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'fuzz') }
if (what === undefined) throw new Error('what? short, or a target: c_abi, pools, log_reader')

if (what === 'short') {
  await runSteps([
    {
      name: 'fuzzing, short',
      command: ['cargo', 'run', '--locked', '--release', '--bin', 'short', '--', options[0] ?? '5', ...options.slice(1)],
      cwd,
      env,
    },
  ])
} else {
  if (spawnSync('cargo', ['fuzz', '--version']).status !== 0) throw new Error('cargo-fuzz is not installed: cargo install cargo-fuzz')
  const args = ['+nightly', 'fuzz', 'run', '--features', 'libfuzzer', what, '--', ...options]
  process.exit(spawnSync('cargo', args, { cwd: root, stdio: 'inherit' }).status ?? 1)
}
