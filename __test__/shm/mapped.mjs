import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Mappings and descriptors of shared memory that this process has. */
export function mapped() {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n').filter((line) => line.includes('/memfd:offheap')).length
  const descriptors = readdirSync('/proc/self/fd').filter((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`).startsWith('/memfd:offheap')
    } catch {
      return false // that of the listing itself
    }
  }).length
  return { maps, descriptors }
}
