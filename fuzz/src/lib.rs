//! What is fuzzed: each body takes any bytes, and panics when something is wrong.

mod c_abi;
mod log_reader;
mod pools;

pub use c_abi::c_abi;
pub use log_reader::log_reader;
pub use pools::pools;

/// A body by name.
pub type Body = fn(&[u8]);

/// All bodies.
pub const BODIES: [(&str, Body); 3] = [
    ("c_abi", c_abi),
    ("pools", pools),
    ("log_reader", log_reader),
];

/// Fills a block so that a byte of another block, or of an old size, shows.
fn pattern(seed: u8, index: usize) -> u8 {
    (index as u8).wrapping_mul(31).wrapping_add(seed)
}

/// # Safety
/// - `ptr` has `size` bytes.
unsafe fn fill(ptr: *mut u8, size: usize, seed: u8) {
    for index in 0..size {
        // SAFETY: the caller's promise.
        unsafe { ptr.add(index).write(pattern(seed, index)) };
    }
}

/// # Safety
/// - `ptr` has `size` bytes, which were filled.
unsafe fn check(ptr: *const u8, size: usize, seed: u8) {
    for index in 0..size {
        // SAFETY: the caller's promise.
        let byte = unsafe { ptr.add(index).read() };
        assert_eq!(byte, pattern(seed, index), "byte {index} of {size}");
    }
}

/// A size: mostly small, sometimes around the bounds that allocators have, at times absurd.
fn size(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<usize> {
    Ok(match u.int_in_range(0..=9)? {
        0..=4 => u.int_in_range(0..=700)?,
        5 | 6 => u.int_in_range(0..=40_000)?,
        7 => {
            let bound = 1_usize << u.int_in_range(4..=17)?;
            bound - 1 + u.int_in_range(0..=2)?
        }
        // Around the size from which offheap maps blocks itself, and above.
        8 if u.int_in_range(0..=19)? == 0 => match u.int_in_range(0..=3)? {
            0 => (1 << 20) - 66 + u.int_in_range(0..=132)?,
            1 => u.int_in_range(0..=2_000_000)?,
            2 => (1 << 20) + u.int_in_range(0..=3 << 20)?,
            _ => (2 << 20) - 66 + u.int_in_range(0..=132)?,
        },
        8 => u.int_in_range(0..=60_000)?,
        _ => usize::MAX - u.int_in_range(0..=200)?,
    })
}

/// Sends what goes to stderr nowhere: reports of misuse are made by the thousand.
pub fn mute() {
    #[cfg(unix)]
    // SAFETY: plain calls of the C library on a constant path and the process's own descriptors.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
        if null >= 0 {
            libc::dup2(null, 2);
            libc::close(null);
        }
    }
}
