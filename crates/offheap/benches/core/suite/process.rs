//! What the system says of this process, in MiB.

/// Resident memory now; NaN where it is unknown.
pub(crate) fn resident_mib() -> f64 {
    status("VmRSS:").unwrap_or(f64::NAN)
}

/// The most resident memory that there ever was.
pub(crate) fn peak_mib() -> f64 {
    status("VmHWM:").unwrap_or_else(|| {
        // SAFETY: all zero is a valid value of this struct of numbers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: writes the struct that it is given.
        let failed = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        // Bytes on macOS, which has no /proc.
        if failed == 0 {
            usage.ru_maxrss as f64 / f64::from(1 << 20)
        } else {
            f64::NAN
        }
    })
}

/// Memory that could be had without swapping, in bytes; unknown counts as little.
pub(crate) fn available_memory() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&text, "MemAvailable:").map_or(4 << 30, |kilobytes| kilobytes * 1024)
}

fn status(key: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&text, key).map(|kilobytes| kilobytes as f64 / 1024.0)
}

fn kilobytes(text: &str, key: &str) -> Option<usize> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.trim().strip_suffix(" kB")?.parse().ok()
}
