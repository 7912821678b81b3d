// No part of the native library may ask for the static TLS block: it is nearly full in a running Node, and dlopen
// then fails with "cannot allocate memory in static TLS block".
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import { nativeLibrary } from './platform.mjs'

const library = process.argv[2] ?? nativeLibrary
if (process.platform !== 'linux' && process.argv.length < 3) {
  console.log('skipped: only ELF libraries have this flag')
} else if (!existsSync(library)) {
  console.error(`${basename(library)} is not built: npm run build:native`)
  process.exitCode = 1
} else {
  const readelf = (option) => execFileSync('readelf', [option, '--wide', library], { maxBuffer: 1 << 28 }).toString()
  const dynamic = readelf('--dynamic')
  // Initial-exec accesses leave these relocations; the flag is the linker's summary of them.
  const relocations = readelf('--relocs')
    .split('\n')
    .filter((line) => /R_\w+_(TPOFF|TLS_TPREL)/.test(line))
  if (!dynamic.includes('Dynamic section')) throw new Error(`${basename(library)} has no dynamic section`)
  if (dynamic.includes('STATIC_TLS') || relocations.length > 0) {
    console.error(`${basename(library)} needs static TLS:`)
    console.error([...dynamic.split('\n').filter((line) => line.includes('FLAGS')), ...relocations.slice(0, 10)].join('\n'))
    process.exitCode = 1
  } else {
    console.log(`${basename(library)}: no STATIC_TLS`)
  }
}
