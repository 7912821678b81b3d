import { constants } from 'node:fs'
import { type FileHandle, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { defaultMemoryPool, MemoryBuffer } from 'offheap'
import { held, random, rejectsCode, root, throwsCode, turns, withPool } from './support.js'

let folder: string
let serial = 0

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'offheap-files-'))
})

test.after.always(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** A path that no other test has. */
function path(): string {
  serial += 1
  return join(folder, `file-${serial}`)
}

function bytes(count: number): Buffer {
  const next = random(count)
  return Buffer.from(Uint8Array.from({ length: count }, () => Math.floor(next() * 256)))
}

async function withFile(content: Buffer, flags: string | number, body: (file: FileHandle, path: string) => Promise<void>): Promise<void> {
  const name = path()
  await writeFile(name, content)
  const file = await open(name, flags)
  try {
    await body(file, name)
  } finally {
    await file.close()
  }
}

withPool('readFrom reads a file to its end, into mutable memory', async (t, pool) => {
  const content = bytes(1_000_000)
  await withFile(content, 'r', async (file) => {
    const buffer = pool.allocateBuffer(content.length)
    t.is(await buffer.readFrom(file), content.length)
    t.true(buffer.equals(content))
    buffer.dispose()
    // The file's own position has moved: nothing is left.
    const rest = pool.allocateBuffer(10)
    t.is(await rest.readFrom(file), 0)
    t.is(await rest.readFrom(file, { position: content.length - 4 }), 4)
    t.is(rest.asBuffer(0, 4).compare(content.subarray(-4)), 0)
    rest.dispose()
  })
})

withPool('writeTo writes a buffer, mutable or not, whole or a part', async (t, pool) => {
  const content = bytes(300_000)
  await withFile(Buffer.alloc(0), 'w+', async (file, name) => {
    const buffer = MemoryBuffer.from(content, { pool })
    t.is(await buffer.writeTo(file), content.length)
    t.true((await readFile(name)).equals(content))
    t.is(await buffer.writeTo(file, { position: 10, offset: 100, length: 50 }), 50)
    const expected = Buffer.from(content)
    content.copy(expected, 10, 100, 150)
    t.true((await readFile(name)).equals(expected))
    const slice = buffer.slice(7, 5)
    t.is(await slice.writeTo(file, { position: 0 }), 5)
    content.copy(expected, 0, 7, 12)
    t.true((await readFile(name)).equals(expected))
    slice.dispose()
    buffer.dispose()
  })
})

withPool('position, offset and length of readFrom', async (t, pool) => {
  const content = bytes(1000)
  await withFile(content, 'r', async (file) => {
    const buffer = pool.allocateBuffer(100, { zeroFill: true })
    t.is(await buffer.readFrom(file, { position: 500, offset: 10, length: 20 }), 20)
    const expected = Buffer.alloc(100)
    content.copy(expected, 10, 500, 520)
    t.true(buffer.equals(expected))
    t.is(await buffer.readFrom(file, { position: 990, offset: 50 }), 10)
    t.is(await buffer.readFrom(file, { position: 5000 }), 0)
    t.is(await buffer.readFrom(file, { length: 0 }), 0)
    t.is(await buffer.readFrom(file, { position: null, length: 5 }), 5)
    t.is(await buffer.readFrom(file, { position: undefined, length: 5 }), 5)
    t.is(buffer.asBuffer(0, 5).compare(content.subarray(5, 10)), 0)
    buffer.dispose()
  })
})

withPool('the buffer is pinned while a transfer is under way, and free afterwards', async (t, pool) => {
  const content = bytes(500_000)
  await withFile(content, 'r+', async (file) => {
    const buffer = pool.allocateResizableBuffer(content.length)
    const reading = buffer.readFrom(file, { position: 0 })
    for (const action of [() => buffer.dispose(), () => buffer.resize(10), () => buffer.freeze()]) {
      throwsCode(t, action, 'ERR_OFFHEAP_BUSY')
    }
    t.is(await reading, content.length)
    const writing = buffer.writeTo(file, { position: 0 })
    throwsCode(t, () => buffer.dispose(), 'ERR_OFFHEAP_BUSY')
    t.is(await writing, content.length)
    t.true(buffer.equals(content))
    buffer.dispose()
    await turns(2)
  })
})

withPool('several transfers of one buffer at once', async (t, pool) => {
  const content = bytes(64 * 1024)
  await withFile(content, 'r', async (file) => {
    const buffer = pool.allocateBuffer(content.length)
    const part = content.length / 16
    const counts = await Promise.all(
      Array.from({ length: 16 }, (_, index) => buffer.readFrom(file, { position: index * part, offset: index * part, length: part })),
    )
    t.deepEqual(counts, Array<number>(16).fill(part))
    t.true(buffer.equals(content))
    buffer.dispose()
  })
})

withPool('a handle that is forgotten while its transfer runs', async (t, pool) => {
  const content = bytes(4_000_000)
  await withFile(content, 'r', async (file) => {
    const reading = (() => pool.allocateBuffer(content.length).readFrom(file, { position: 0 }))()
    globalThis.gc!()
    t.is(await reading, content.length)
  })
  for (let round = 0; round < 30 && pool.bytesAllocated > 0; round += 1) {
    await turns(2)
    globalThis.gc!()
    await turns(2)
  }
})

withPool('short reads and writes are continued, at the right places, until all is there or the file ends', async (t, pool) => {
  const content = bytes(1000)
  const calls: [number, number, number | null][] = []
  const slow = {
    read(target: Uint8Array, offset: number, length: number, position: number | null) {
      calls.push([target.byteLength, length, position])
      const from = position ?? calls.slice(0, -1).reduce((sum, [, asked]) => sum + Math.min(asked, 70), 0)
      const bytesRead = content.copy(target, offset, from, from + Math.min(length, 70))
      return Promise.resolve({ bytesRead })
    },
    write(source: Uint8Array, offset: number, length: number, position: number | null) {
      const bytesWritten = Math.min(length, 33)
      written.set(source.subarray(offset, offset + bytesWritten), position!)
      return Promise.resolve({ bytesWritten })
    },
  } as unknown as FileHandle
  const written = new Uint8Array(1000)
  const buffer = pool.allocateBuffer(1000, { zeroFill: true })
  t.is(await buffer.readFrom(slow), 1000)
  t.true(buffer.equals(content))
  t.is(calls.length, 15)
  t.true(calls.every(([, , position]) => position === null))
  calls.length = 0
  buffer.fill(0)
  t.is(await buffer.readFrom(slow, { position: 900, offset: 10, length: 500 }), 100)
  t.is(Buffer.compare(buffer.asBuffer(10, 100), content.subarray(900)), 0)
  t.deepEqual(
    calls.map(([, , position]) => position),
    [900, 970, 1000],
  )
  buffer.asUint8Array().set(content)
  t.is(await buffer.writeTo(slow, { position: 0 }), 1000)
  t.is(Buffer.compare(written, content), 0)
  buffer.dispose()
})

withPool('wrapped ArrayBuffers read and write files, too', async (t) => {
  const content = bytes(1000)
  await withFile(content, 'r+', async (file, name) => {
    const target = new Uint8Array(1000)
    using buffer = MemoryBuffer.wrap(target)
    t.is(await buffer.readFrom(file, { position: 0 }), 1000)
    t.is(Buffer.compare(target, content), 0)
    target.fill(1)
    t.is(await buffer.writeTo(file, { position: 0 }), 1000)
    t.true((await readFile(name)).every((byte) => byte === 1))
  })
})

withPool('O_DIRECT reads into an aligned buffer, where the file system allows', async (t, pool) => {
  if (constants.O_DIRECT === undefined) {
    t.log(`no O_DIRECT on ${process.platform}`)
    t.pass()
    return
  }
  // The temporary folder may be on tmpfs, which refuses O_DIRECT before Linux 6.5: the repository's disk is tried, too.
  const content = bytes(64 * 1024 + 1000)
  const local = join(root, 'target', `offheap-direct-${process.pid}`)
  const results: string[] = []
  for (const name of [path(), local]) {
    let file: FileHandle
    try {
      await writeFile(name, content)
      file = await open(name, constants.O_RDONLY | constants.O_DIRECT)
    } catch (error) {
      results.push(`${name}: ${(error as NodeJS.ErrnoException).code}`)
      await rm(name, { force: true })
      continue
    }
    try {
      const buffer = pool.allocateBuffer(128 * 1024, { alignment: 4096, zeroFill: true })
      t.is(buffer.address % 4096n, 0n)
      t.is(await buffer.readFrom(file, { position: 0 }), content.length)
      t.is(Buffer.compare(buffer.asBuffer(0, content.length), content), 0)
      t.is(await buffer.readFrom(file, { position: 4096, offset: 8192, length: 4096 }), 4096)
      t.is(Buffer.compare(buffer.asBuffer(8192, 4096), content.subarray(4096, 8192)), 0)
      // An address that is not aligned is the kernel's error, where the file system cares.
      const outcome = await buffer.readFrom(file, { position: 0, offset: 1, length: 512 }).then(
        (count) => `${count} bytes`,
        (error: NodeJS.ErrnoException) => error.code ?? error.message,
      )
      t.true(outcome === 'EINVAL' || outcome === '512 bytes', outcome)
      results.push(`${name}: read; unaligned: ${outcome}`)
      buffer.dispose()
    } finally {
      await file.close()
      await rm(name, { force: true })
    }
  }
  t.log(results.join('; '))
  t.is(results.length, 2)
})

withPool('O_DIRECT writes from an aligned buffer, where the file system allows', async (t, pool) => {
  if (constants.O_DIRECT === undefined) {
    t.pass()
    return
  }
  const name = join(root, 'target', `offheap-direct-write-${process.pid}`)
  let file: FileHandle
  try {
    file = await open(name, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT)
  } catch (error) {
    t.log(`${name}: ${(error as NodeJS.ErrnoException).code}`)
    t.pass()
    return
  }
  const content = bytes(16 * 1024)
  const buffer = pool.allocateBuffer(content.length, { alignment: 4096 })
  try {
    buffer.asUint8Array().set(content)
    t.is(await buffer.writeTo(file, { position: 0 }), content.length)
    t.true((await readFile(name)).equals(content))
  } finally {
    await file.close()
    await rm(name, { force: true })
    buffer.dispose()
  }
})

test('what cannot be transferred is a rejection with a code, and leaves no pin', async (t) => {
  const pool = defaultMemoryPool().proxy()
  await withFile(bytes(100), 'r', async (file) => {
    const buffer = pool.allocateBuffer(10)
    for (const handle of [undefined, null, 5, 'file', {}, [], Symbol('x'), { read: 5 }, new Map()]) {
      await rejectsCode(t, buffer.readFrom(handle as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'fileHandle')
      await rejectsCode(t, buffer.writeTo(handle as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'fileHandle')
    }
    for (const value of [-1, 1.5, Number.NaN, 2 ** 53, '1', {}, 1n]) {
      const code = value === -1 ? 'ERR_OFFHEAP_OUT_OF_RANGE' : 'ERR_OFFHEAP_INVALID_ARGUMENT'
      await rejectsCode(t, buffer.readFrom(file, { position: value as number }), code, 'position')
      await rejectsCode(t, buffer.readFrom(file, { offset: value as number }), code, 'offset')
      await rejectsCode(t, buffer.readFrom(file, { length: value as number }), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'length')
    }
    await rejectsCode(t, buffer.readFrom(file, null as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'options')
    await rejectsCode(t, buffer.readFrom(file, { length: 11 }), 'ERR_OFFHEAP_OUT_OF_RANGE')
    await rejectsCode(t, buffer.readFrom(file, { offset: 11 }), 'ERR_OFFHEAP_OUT_OF_RANGE')
    await rejectsCode(t, buffer.readFrom(file, { offset: 5, length: 6 }), 'ERR_OFFHEAP_OUT_OF_RANGE')
    using immutable = MemoryBuffer.from('x')
    await rejectsCode(t, immutable.readFrom(file), 'ERR_OFFHEAP_IMMUTABLE')
    // The file was opened for reading: the system's own error comes through.
    await t.throwsAsync(buffer.writeTo(file), { code: 'EBADF' })
    // A handle that lies about what it did.
    for (const bytesRead of [-1, 11, 1.5, Number.NaN, 'x', undefined]) {
      await rejectsCode(t, buffer.readFrom({ read: () => Promise.resolve({ bytesRead }) } as never), 'ERR_OFFHEAP_INVALID_ARGUMENT', 'fileHandle')
    }
    await t.throwsAsync(buffer.readFrom({ read: () => Promise.reject(new Error('mine')) } as never), { message: 'mine' })
    buffer.dispose()
    await rejectsCode(t, buffer.readFrom(file), 'ERR_OFFHEAP_DISPOSED')
    await rejectsCode(t, buffer.writeTo(file), 'ERR_OFFHEAP_DISPOSED')
  })
  t.deepEqual(held(pool), { bytes: 0, allocations: 0 })
})

withPool('a closed file is an error, and the buffer is free again', async (t, pool) => {
  const name = path()
  await writeFile(name, 'x')
  const file = await open(name)
  await file.close()
  const buffer = pool.allocateBuffer(10)
  await t.throwsAsync(buffer.readFrom(file), { code: 'EBADF' })
  await t.throwsAsync(buffer.writeTo(file), { code: 'EBADF' })
  buffer.dispose()
})
