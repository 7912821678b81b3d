// Builds the native library, its loader and its types with napi-rs. Further options go to `napi build`; what a target
// needs (no jemalloc with MSVC, pages of up to 64 KiB on arm64 Linux) is known here.
//
//   node scripts/build-native.mjs [--target triple] [--output-dir folder] [napi options…]
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, utimesSync } from 'node:fs'
import { nativeCrate, nativeLibrary, root, tool } from './platform.mjs'

const options = process.argv.slice(2)
const given = (name) => options.some((option) => option === name || option.startsWith(`${name}=`))
const at = options.indexOf('--target')
const target = at < 0 ? execFileSync('rustc', ['-vV']).toString().match(/^host: (.+)$/m)[1] : options[at + 1]
const msvc = target.endsWith('-msvc')

const args = [tool('@napi-rs/cli', 'napi'), 'build', '--platform', '--manifest-path', nativeCrate]
if (!given('--output-dir')) args.push('--output-dir', root)
if (!given('--profile')) args.push('--release')
// link.exe knows no `-s`; it keeps its symbols in a .pdb anyway.
if (!msvc) args.push('--strip')
// jemalloc's build does not support MSVC.
if (msvc && !given('--no-default-features')) args.push('--no-default-features', '--features', 'mimalloc')
args.push('--js', 'index.js', '--dts', 'index.d.ts', ...options)

const env = { ...process.env }
// jemalloc refuses to run where pages are larger than it was built for; arm64 kernels have 4, 16 or 64 KiB.
if (/^aarch64-.*-linux-/.test(target)) env.JEMALLOC_SYS_WITH_LG_PAGE ??= '16'

const { status, error } = spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' })
if (error) throw error
// The copy may carry the time of an older build that cargo found fresh; it is as good as new.
if (status === 0 && !given('--output-dir') && existsSync(nativeLibrary)) utimesSync(nativeLibrary, new Date(), new Date())
process.exit(status ?? 1)
