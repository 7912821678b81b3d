// The loader and the types at the top of the repository are what napi-rs generates from the Rust sources, now. With CI
// set, the committed ones are looked at: a build before this has written the others anew.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './platform.mjs'

const scratch = mkdtempSync(join(tmpdir(), 'offheap-generated-'))
try {
  const { status } = spawnSync(process.execPath, [join(root, 'scripts', 'build-native.mjs'), '--output-dir', scratch, '--no-dts-cache'], {
    cwd: root,
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(status ?? 1)
  const git = (...args) => spawnSync('git', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 })
  const committed = Boolean(process.env.CI) && git('rev-parse', '--verify', '--quiet', 'HEAD').status === 0
  const text = (name) => (committed ? git('show', `HEAD:${name}`).stdout : readFileSync(join(root, name), 'utf8')).replaceAll('\r\n', '\n')
  const stale = ['index.js', 'index.d.ts'].filter((name) => {
    const current = join(scratch, name)
    const ours = join(scratch, `${committed ? 'committed' : 'present'}-${name}`)
    writeFileSync(ours, text(name))
    if (readFileSync(ours, 'utf8') === readFileSync(current, 'utf8').replaceAll('\r\n', '\n')) return false
    console.error(`${name} is not what napi-rs generates:`)
    spawnSync('diff', ['-u', ours, current], { stdio: 'inherit' })
    return true
  })
  if (stale.length > 0) {
    console.error('Run `npm run build:native` and commit index.js and index.d.ts.')
    process.exitCode = 1
  } else {
    console.log(`index.js and index.d.ts are current${committed ? ', as committed' : ''}`)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
