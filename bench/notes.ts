/** Why a target was missed and what was tried, by the name of its row: shown where the row is missed. Written by hand. */
const fastPath =
  'no locked instruction is left; what remains is a call (allocate and free are not inlined into the caller yet), the choice of the allocator, and about twenty loads and stores of the shard. Moving the table and the upper levels out of line gained less than 1 ns'
const appendTime =
  'the same optimised code takes 2.3 or 3.7 ns from one process to the next; tried: no switch by type (0.3 ns), the limit from the window (slower), the length in an Int32Array (slower), growth by four below 32 KiB (taken)'
const posixMemalign =
  'malloc with a header in front is 2.8 times faster than posix_memalign here, so 5 times cannot be had from this C library without serving the block ourselves'
export const notes: Readonly<Record<string, string>> = {
  'pool, 64 B: base pool': fastPath,
  'pool, 64 B: limit': fastPath,
  'pool, 64 B: through dyn': fastPath,
  'pool, 64 B: three levels': fastPath,
  'pool, 64 B, 2 threads: base pool': 'the second thread finds its shard in a table (one more dependent load and a compare), the first has it at home',
  'pool, 64 B, 2 threads: limit': 'the second thread finds its shard in a table (one more dependent load and a compare), the first has it at home',
  'system pool, 4 KiB': posixMemalign,
  'system pool, 1 MiB':
    'from 1 MiB on blocks are mapped by us: 146 ns, most of it the lock of the region cache. glibc answers a pair of this size from its top block at once, and copies when it grows',
  'allocate a buffer of 4 KiB, drop it': 'the buffer itself costs 5 to 7 ns over the pool pair, which is where the rest is',
  'build 10M int64, fresh process': 'the first touch of huge pages takes 1.1 ns a value on this machine where the design measured 0.35; beside Arrow C++ the target is reached',
  'append float64, 64 Ki values': appendTime,
  'append float64, 1,000,000 values': appendTime,
  'append bool': 'random flags mispredict (10 ns); a shift without a branch was slower (9 to 12 ns); words gathered before they are stored were not tried',
  'scratch array, 4 KiB': 'nearly all of it is V8 making the typed array; the arena itself takes a few instructions',
}
