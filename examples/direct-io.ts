/**
 * Reads a file past the page cache. O_DIRECT wants memory aligned to the disk's blocks, which no Buffer of Node can
 * promise; here it is an option. Where the system or the file system has no O_DIRECT, it says so and reads as usual.
 */

import assert from 'node:assert/strict'
import { createHash, randomFillSync } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defaultMemoryPool } from 'offheap'

const BLOCK = 4096
const SIZE = 8 * 2 ** 20 + 1234 // no multiple of the block: the last block is a partial one

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** Opens a file for direct reads; for ordinary ones where that cannot be had. */
async function openDirect(path: string): Promise<{ file: FileHandle; direct: boolean }> {
  const flag: number | undefined = constants.O_DIRECT
  if (flag !== undefined) {
    try {
      return { file: await open(path, constants.O_RDONLY | flag), direct: true }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
    }
  }
  return { file: await open(path, 'r'), direct: false }
}

const folder = await mkdtemp(join(tmpdir(), 'offheap-direct-io-'))
try {
  const path = join(folder, 'data')
  const content = randomFillSync(new Uint8Array(SIZE))
  await writeFile(path, content)

  using pool = defaultMemoryPool().proxy({ name: 'direct I/O' })
  using buffer = pool.allocateBuffer(Math.ceil(SIZE / BLOCK) * BLOCK, { alignment: BLOCK })
  assert.ok(buffer.checkAlignment(BLOCK))
  console.log(`${buffer.size.toLocaleString('en')} bytes at 0x${buffer.address.toString(16)}, a multiple of ${BLOCK}`)

  const { file, direct } = await openDirect(path)
  try {
    // Holds the buffer while the read is in flight: a dispose() meanwhile would be refused, not fatal.
    const bytesRead = await buffer.readFrom(file, { position: 0 })
    const way = direct ? 'with O_DIRECT' : 'through the page cache: this file system has no O_DIRECT'
    console.log(`${bytesRead.toLocaleString('en')} bytes read ${way}`)
    assert.equal(bytesRead, SIZE)
    assert.equal(digest(buffer.asUint8Array(0, SIZE)), digest(content))
  } finally {
    await file.close()
  }
  buffer.dispose()
  assert.equal(pool.bytesAllocated, 0)
} finally {
  await rm(folder, { recursive: true })
}
console.log('direct-io: ok')
