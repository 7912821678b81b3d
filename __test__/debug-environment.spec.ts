/** Debug hooks by the environment, as Arrow's tests of its debug pools: each in a process of its own. */
import test from 'ava'
import { backends, type ChildResult, runScript } from './support.js'

/** Writes one byte at `offset` of a block of `size`, as native code with a bug does, and gives the block back. */
function corrupt(backend: string, variables: Record<string, string>, size = 64, offset = 64): Promise<ChildResult> {
  return runScript(
    `const pool = offheap.${backend}MemoryPool()
    const buffer = pool.allocateBuffer(${size})
    offheap.MemoryBuffer.unsafeForeign(buffer.address + ${offset}n, 1, buffer).fill(0x78)
    buffer.dispose()
    console.log('still here')`,
    variables,
  )
}

/** Checks that a report names the damage and its block. */
function reportOf({ stderr }: ChildResult): { headline: string; pool: string | undefined } {
  return { headline: stderr.split('\n')[0]!, pool: /from pool '(\w+)'/.exec(stderr)?.[1] }
}

const headline = 'offheap: Buffer overflow found on deallocation: byte 64 of a block of 64 bytes was written (bad trailing pad byte)'

for (const variable of ['OFFHEAP_DEBUG_MEMORY_POOL', 'ARROW_DEBUG_MEMORY_POOL']) {
  test.serial(`#107 ${variable}=abort: the report, then SIGABRT, over every backend`, async (t) => {
    for (const backend of backends) {
      const child = await corrupt(backend, { [variable]: 'abort' })
      t.deepEqual(reportOf(child), { headline, pool: backend })
      t.is(child.signal, 'SIGABRT')
      t.is(child.stdout, '')
      t.regex(child.stderr, /\noffheap: debug hooks end the process \(on_error is 'abort'\)\n$/)
    }
  })

  test.serial(`#108 ${variable}=trap: the report, then SIGTRAP, over every backend`, async (t) => {
    for (const backend of backends) {
      const child = await corrupt(backend, { [variable]: 'trap' })
      t.deepEqual(reportOf(child), { headline, pool: backend })
      t.is(child.signal, 'SIGTRAP')
      t.is(child.stdout, '')
    }
  })

  test.serial(`#109 ${variable}=warn: the report, and the program goes on, over every backend`, async (t) => {
    for (const backend of backends) {
      const child = await corrupt(backend, { [variable]: 'warn' })
      t.deepEqual(reportOf(child), { headline, pool: backend })
      t.deepEqual([child.code, child.signal, child.stdout], [0, null, 'still here\n'])
    }
  })

  test.serial(`#110 #111 ${variable} none or empty: nothing is checked, over every backend`, async (t) => {
    for (const backend of backends) {
      for (const value of ['none', '']) {
        // A byte that is the block's own padding without guards.
        const child = await corrupt(backend, { [variable]: value }, 60, 60)
        t.deepEqual([child.code, child.stdout, child.stderr], [0, 'still here\n', ''], value)
      }
    }
  })

  test.serial(`#112 ${variable} unknown: one line says what there is, and nothing is checked, over every backend`, async (t) => {
    const said = `offheap: Invalid value for ${variable}: 'nonsense'. Valid values are 'abort', 'trap', 'warn', 'throw', 'none'.\n`
    for (const backend of backends) {
      const child = await corrupt(backend, { [variable]: 'nonsense' }, 60, 60)
      t.deepEqual([child.code, child.stdout, child.stderr], [0, 'still here\n', said])
    }
  })
}

test.serial('ours goes before Arrow’s, and none of ours turns Arrow’s off', async (t) => {
  const both = (ours: string) => corrupt('system', { OFFHEAP_DEBUG_MEMORY_POOL: ours, ARROW_DEBUG_MEMORY_POOL: 'abort' }, 60, 60)
  t.is((await both('warn')).code, 0)
  const none = await both('none')
  t.deepEqual([none.code, none.stderr], [0, ''])
  t.is((await both('')).signal, 'SIGABRT')
})

test.serial('Arrow §5.4: writes at the size, in the padding, in front and far behind are all found, over every backend', async (t) => {
  const offsets = [10, 20, 63, 64, 100, -1, -40]
  for (const backend of backends) {
    const child = await runScript(
      `const pool = offheap.${backend}MemoryPool()
      for (const offset of ${JSON.stringify(offsets)}) {
        const buffer = pool.allocateBuffer(10)
        offheap.MemoryBuffer.unsafeForeign(buffer.address + BigInt(offset), 1, buffer).fill(0x78)
        buffer.dispose()
      }
      const freed = pool.allocateBuffer(10)
      const late = offheap.MemoryBuffer.unsafeForeign(freed.address, 10, 'nobody')
      freed.dispose()
      late.fill(0x78, 3, 4)
      pool.releaseUnused()`,
      { OFFHEAP_DEBUG_MEMORY_POOL: 'warn' },
    )
    t.is(child.code, 0, child.stderr)
    const found = [...child.stderr.matchAll(/^offheap: (.*): byte (-?\d+) of a block of 10 bytes was written/gm)].map(([, what, offset]) => `${what} ${offset}`)
    t.deepEqual(found, [
      ...offsets.map((offset) => `Buffer ${offset < 0 ? 'underflow' : 'overflow'} found on deallocation ${offset}`),
      'Write after free found on leaving the quarantine 3',
    ])
    // Where the block was made, and where the damage was found.
    t.is(child.stderr.match(/^Memory block allocated at /gm)?.length, found.length)
    t.is(child.stderr.match(/^Detected at /gm)?.length, found.length)
    t.is(child.stderr.match(/^Memory block freed at /gm)?.length, 1)
  }
})
