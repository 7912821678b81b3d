// `npm run bench:gpu [-- --quick]`: the CUDA managers and copies on a GPU, CuPy's and PyTorch's pools beside them, and the
// sub-allocating pool's own logic, which needs no GPU. Prints a JSON object a line; with a GPU the lines are also kept in
// bench/results/gpu-<name>.json. Without one it says so: what was measured then is the pool's logic alone.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './platform.mjs'

const quick = process.argv.includes('--quick') ? ['--quick'] : []

/** Runs a program, shows what it prints, and gives the lines that are JSON. */
function lines(command, args) {
  const { stdout, status, error } = spawnSync(command, args, { cwd: root, maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] })
  if (error !== undefined) return [{ bench: 'none', why: error.message }]
  process.stdout.write(stdout)
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}`)
  return stdout
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
}

const example = (name, ...options) => ['run', '--release', '-p', 'offheap-cuda', '--example', name, '--', ...options, ...quick]

const rows = lines('cargo', example('bench_gpu'))
const device = rows.find(({ bench }) => bench === 'device')
if (device === undefined) {
  console.log(`No real run was made: ${rows[0]?.why}`)
} else if (/double/.test(device.library)) {
  console.log('No real run was made: this was the test double of libcuda, whose times mean nothing.')
} else {
  rows.push(...lines(process.env.OFFHEAP_PYTHON ?? 'python3', [join(root, 'bench', 'gpu.py')]))
  const file = join(root, 'bench', 'results', `gpu-${device.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.json`)
  writeFileSync(file, `[\n${rows.map((row) => `  ${JSON.stringify(row)}`).join(',\n')}\n]\n`)
  console.log(`kept in ${file}`)
}
console.log('The pool’s own logic, on a simulated GPU:')
lines('cargo', example('bench_sub_allocator', 'live'))
