/**
 * Builds the test double of libcuda. Nothing of ava's.
 */
import { execFileSync } from 'node:child_process'
import { root } from '../fixtures.js'

/** Where the double was built, with a feature or without; `undefined` on systems that it does not know. */
export function buildDouble(feature?: string): string | undefined {
  if (process.platform !== 'linux') return undefined
  const folder = feature === undefined ? [] : ['--features', feature, '--target-dir', `${process.env['CARGO_TARGET_DIR'] ?? 'target'}/${feature}`]
  const args = ['build', '--quiet', '-p', 'offheap-cuda-double', ...folder, '--message-format', 'json-render-diagnostics']
  const messages = execFileSync('cargo', args, { cwd: root, maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] })
  return messages
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { reason: string; target: { name: string }; filenames: string[] })
    .filter(({ reason, target }) => reason === 'compiler-artifact' && target.name === 'offheap_cuda_double')
    .flatMap(({ filenames }) => filenames)
    .find((file) => file.endsWith('.so'))
}
