// The examples of docs/c-libraries.md: C libraries, compiled from source, whose memory comes from a pool.
//
//   node scripts/test-c-libraries.mjs          zlib, SQLite, expat, libxml2, and the guide
//   node scripts/test-c-libraries.mjs --all    and OpenSSL, which needs perl and takes minutes to compile
import { join } from 'node:path'
import { root } from './platform.mjs'
import { runSteps } from './steps.mjs'

const options = process.argv.slice(2)
const unknown = options.filter((option) => option !== '--all')
if (unknown.length > 0) throw new Error(`unknown options: ${unknown.join(' ')}; there is --all`)
const features = options.includes('--all') ? ['--features', 'openssl'] : []

const cwd = join(root, 'examples', 'c-libraries')
// Beside the other builds, so that it is cleaned with them.
const env = { CARGO_TARGET_DIR: join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'c-libraries') }
await runSteps([
  { name: 'C libraries', command: ['cargo', 'test', '--locked', '--no-fail-fast', '--tests', ...features], cwd, env },
  { name: 'C libraries, clippy', command: ['cargo', 'clippy', '--locked', '--all-targets', ...features, '--', '-D', 'warnings'], cwd, env },
  { name: 'C libraries, rustfmt', command: ['cargo', 'fmt', '--check'], cwd },
])
