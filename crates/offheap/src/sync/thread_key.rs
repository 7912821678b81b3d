//! A number that tells living threads apart, had without a call.

/// The calling thread's number: never zero, and no other living thread's.
#[inline(always)]
pub(crate) fn thread_key() -> usize {
    key()
}

#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    any(target_os = "linux", target_os = "android", target_os = "freebsd"),
    not(miri)
))]
#[inline(always)]
fn key() -> usize {
    let key: usize;
    // SAFETY: the ABI keeps the thread control block's own address in its first word.
    unsafe {
        std::arch::asm!(
            "mov {}, fs:0",
            out(reg) key,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    key
}

#[cfg(all(
    target_arch = "aarch64",
    any(target_os = "linux", target_os = "android", target_os = "freebsd"),
    not(miri)
))]
#[inline(always)]
fn key() -> usize {
    let key: usize;
    // SAFETY: reads the thread pointer, which user code may.
    unsafe {
        std::arch::asm!(
            "mrs {}, tpidr_el0",
            out(reg) key,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    key
}

#[cfg(all(target_arch = "aarch64", target_os = "macos", not(miri)))]
#[inline(always)]
fn key() -> usize {
    let key: usize;
    // SAFETY: reads the thread pointer, which user code may.
    unsafe {
        std::arch::asm!(
            "mrs {}, tpidrro_el0",
            out(reg) key,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    // Older systems keep the core's number in the low bits.
    key & !7
}

#[cfg(all(target_arch = "x86_64", target_os = "windows", not(miri)))]
#[inline(always)]
fn key() -> usize {
    let key: usize;
    // SAFETY: the thread environment block keeps its own address there.
    unsafe {
        std::arch::asm!(
            "mov {}, gs:[0x30]",
            out(reg) key,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    key
}

#[cfg(any(
    miri,
    not(any(
        all(
            any(target_arch = "x86_64", target_arch = "aarch64"),
            target_pointer_width = "64",
            any(target_os = "linux", target_os = "android", target_os = "freebsd")
        ),
        all(target_arch = "aarch64", target_os = "macos"),
        all(target_arch = "x86_64", target_os = "windows")
    ))
))]
#[inline]
fn key() -> usize {
    thread_local! {
        // Without a destructor: there to the last moment of a thread.
        static PLACE: u8 = const { 0 };
    }
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_threads_have_numbers_of_their_own() {
        let mine = thread_key();
        assert_ne!(mine, 0);
        assert_eq!(mine, thread_key());
        let here = std::sync::Barrier::new(4);
        let mut all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let key = thread_key();
                        here.wait();
                        key
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        all.push(mine);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
    }
}
