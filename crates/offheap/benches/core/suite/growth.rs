//! Blocks that grow while they are filled, and the first touch of a large one.

use super::figure::Figure;
use super::measure::{Extra, Plan, timed};
use super::memory::{Memory, with_memory};
use super::page::touch;
use offheap::{Alignment, default_memory_pool};
use std::ptr;

/// Grows a block by a factor of `numerator` / 4 until it has `to` bytes, a byte a page written each
/// time, and frees it.
fn grow<M: Memory>(memory: &M, from: usize, to: usize, numerator: usize) {
    let mut size = from;
    let mut block = memory.allocate(size);
    // SAFETY: the block has so many bytes all along, and is freed once.
    unsafe {
        touch(block, 0, size);
        while size < to {
            // Whole pages, so that every page is touched once.
            let larger = (size / 4 * numerator).next_multiple_of(4096).min(to);
            block = memory.reallocate(block, size, larger);
            touch(block, size, larger);
            size = larger;
        }
        memory.free(block, size);
    }
}

/// Pages of the system with nothing in between: the limit.
struct Region {
    mapping: *mut libc::c_void,
    length: usize,
    block: *mut u8,
}

const HUGE_PAGE: usize = 2 << 20;

impl Region {
    /// `size` bytes at a multiple of 2 MiB; huge pages are asked for or declined.
    fn new(size: usize, huge: bool) -> Self {
        let length = size + HUGE_PAGE;
        // SAFETY: a new private mapping, nothing is replaced.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(mapping, libc::MAP_FAILED);
        let ahead = mapping.addr().next_multiple_of(HUGE_PAGE) - mapping.addr();
        // SAFETY: less than 2 MiB ahead, and so many more bytes were mapped.
        let block = unsafe { mapping.byte_add(ahead) };
        #[cfg(target_os = "linux")]
        // SAFETY: the range is ours. A refusal only makes it slower.
        unsafe {
            let advice = if huge {
                libc::MADV_HUGEPAGE
            } else {
                libc::MADV_NOHUGEPAGE
            };
            libc::madvise(block, size, advice);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = huge;
        Self {
            mapping,
            length,
            block: block.cast(),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped above, and nobody has a pointer any more.
        unsafe { libc::munmap(self.mapping, self.length) };
    }
}

struct Contender<'a> {
    peer: &'static str,
    body: Box<dyn Fn() + 'a>,
}

/// Each contender's turn is `repeat` unmeasured times and as many measured ones: what is measured is
/// memory that was there a moment ago.
fn compare(work: &str, size: usize, rounds: usize, repeat: usize, contenders: &[Contender<'_>]) {
    let mut samples = vec![(Vec::new(), Vec::new()); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (turn + round) % contenders.len();
            let (contender, (walls, cpus)) = (&contenders[index], &mut samples[index]);
            let body = || (0..repeat).for_each(|_| (contender.body)());
            body();
            let (wall, cpu) = timed(body);
            walls.push(wall / repeat as f64);
            cpus.push(cpu / repeat as f64);
        }
    }
    for (contender, (wall, cpu)) in contenders.iter().zip(&samples) {
        Figure {
            peer: contender.peer,
            work,
            size,
            threads: 1,
            wall,
            cpu,
            peak_mib: None,
        }
        .print();
    }
}

/// The name that is printed, and the memory's.
const MEMORIES: [(&str, &str); 10] = [
    ("offheap", "offheap-mimalloc"),
    ("offheap-jemalloc", "offheap-jemalloc"),
    ("offheap-system", "offheap-system"),
    ("offheap-mapped", "offheap-mapped"),
    ("offheap-limit", "offheap-limit"),
    ("offheap-no-large-blocks", "offheap-no-large-blocks"),
    ("raw-mimalloc", "mimalloc"),
    ("raw-jemalloc", "jemalloc"),
    ("posix_memalign", "posix_memalign"),
    ("realloc", "realloc"),
];

pub(crate) fn growth(plan: &Plan, _: &[Extra]) {
    let doubled_to = if plan.quick { 64 << 20 } else { 1 << 30 };
    let rounds = if plan.quick { 3 } else { 5 };
    steps(
        "grow-doubling from 1 MiB",
        1 << 20,
        doubled_to,
        8,
        rounds,
        1,
    );
    let by_a_quarter_to = if plan.quick { 32 << 20 } else { 256 << 20 };
    steps(
        "grow-by-a-quarter from 1 MiB",
        1 << 20,
        by_a_quarter_to,
        5,
        rounds,
        1,
    );
    steps(
        "grow-doubling from 64 KiB",
        64 << 10,
        4 << 20,
        8,
        5 * rounds,
        20,
    );
}

fn steps(work: &str, from: usize, to: usize, numerator: usize, rounds: usize, repeat: usize) {
    let kept = &Region::new(to, true);
    let mut contenders: Vec<Contender<'_>> = MEMORIES
        .into_iter()
        .filter(|(_, name)| with_memory!(*name, _memory => ()).is_some())
        .map(|(peer, name)| Contender {
            peer,
            body: Box::new(move || {
                with_memory!(name, memory => grow(memory, from, to, numerator));
            }),
        })
        .collect();
    contenders.push(Contender {
        peer: "kept-region",
        // SAFETY: the region has so many bytes.
        body: Box::new(move || unsafe { touch(kept.block, 0, to) }),
    });
    compare(work, to, rounds, repeat, &contenders);
}

/// What is written first in 80 MB of memory that no one had before.
pub(crate) fn first_touch(plan: &Plan, _: &[Extra]) {
    const SIZE: usize = 80_000_000;
    let pool = &default_memory_pool();
    let fresh = |huge| {
        let region = Region::new(SIZE, huge);
        // SAFETY: the region has so many bytes.
        unsafe { touch(region.block, 0, SIZE) };
    };
    let contenders = [
        Contender {
            peer: "offheap",
            body: Box::new(move || {
                // What the last turn left would be no first touch.
                pool.release_unused();
                let block = pool.allocate(SIZE, Alignment::DEFAULT).unwrap();
                // SAFETY: the block has so many bytes, and is freed once.
                unsafe {
                    touch(block.as_ptr(), 0, SIZE);
                    pool.free(block, SIZE, Alignment::DEFAULT);
                }
            }),
        },
        Contender {
            peer: "vec",
            body: Box::new(|| {
                let mut bytes = Vec::<u8>::with_capacity(SIZE);
                // SAFETY: the capacity is that.
                unsafe { touch(bytes.as_mut_ptr(), 0, SIZE) };
            }),
        },
        Contender {
            peer: "small-pages",
            body: Box::new(move || fresh(false)),
        },
        Contender {
            peer: "huge-pages",
            body: Box::new(move || fresh(true)),
        },
    ];
    let rounds = if plan.quick { 5 } else { 15 };
    compare("first-touch", SIZE, rounds, 1, &contenders);
}
