/** Mappings and descriptors of shared memory that this process has. Linux. */
export function mapped(): { maps: number; descriptors: number }
