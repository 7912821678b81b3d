//! The built-in pools, and which of them is the default.

use super::backend::{BACKENDS, Backend, PLAIN_BACKENDS, SUPPORTED};
use super::handle::{Pool, PoolCore};
use super::options::PoolOptions;
use crate::domain::Slot;
use crate::error::Result;
use std::io::Write;
use std::sync::LazyLock;

static SYSTEM: PoolCore = PoolCore::of_backend(Backend::System);
#[cfg(feature = "mimalloc")]
static MIMALLOC: PoolCore = PoolCore::of_backend(Backend::Mimalloc);
#[cfg(feature = "jemalloc")]
static JEMALLOC: PoolCore = PoolCore::of_backend(Backend::Jemalloc);
static MAPPED: PoolCore = PoolCore::of_backend(Backend::Mapped);
static PLAIN_SYSTEM: PoolCore = PoolCore::of_backend(Backend::PlainSystem);
#[cfg(feature = "mimalloc")]
static PLAIN_MIMALLOC: PoolCore = PoolCore::of_backend(Backend::PlainMimalloc);
#[cfg(feature = "jemalloc")]
static PLAIN_JEMALLOC: PoolCore = PoolCore::of_backend(Backend::PlainJemalloc);

/// The pool of a backend that users get: under debug hooks when the environment asks for them.
fn core_of(backend: Backend) -> &'static PoolCore {
    #[cfg(feature = "hooks")]
    if let Some(cores) = &*DEBUGGED {
        return &cores[backend as usize];
    }
    plain_core_of(backend)
}

/// Every backend's pool under debug hooks, where `OFFHEAP_DEBUG_MEMORY_POOL` asks for them.
#[cfg(feature = "hooks")]
static DEBUGGED: LazyLock<Option<Vec<PoolCore>>> = LazyLock::new(|| {
    let hooks = crate::adaptor::environment_debug()?;
    let mut cores: Vec<_> = BACKENDS
        .iter()
        .chain(PLAIN_BACKENDS)
        .map(|backend| {
            let plain = Pool::of_static(plain_core_of(*backend));
            (*backend as usize, hooks.core_over(plain, backend.name()))
        })
        .collect();
    cores.sort_by_key(|(index, _)| *index);
    Some(cores.into_iter().map(|(_, core)| core).collect())
});

/// A backend's own pool, without the environment's debug hooks. Needs no memory.
#[inline]
pub(crate) fn plain_backend_pool(backend: Backend) -> Pool {
    Pool::of_static(plain_core_of(backend))
}

fn plain_core_of(backend: Backend) -> &'static PoolCore {
    match backend {
        #[cfg(feature = "mimalloc")]
        Backend::Mimalloc => &MIMALLOC,
        #[cfg(feature = "jemalloc")]
        Backend::Jemalloc => &JEMALLOC,
        Backend::System => &SYSTEM,
        Backend::Mapped => &MAPPED,
        #[cfg(feature = "mimalloc")]
        Backend::PlainMimalloc => &PLAIN_MIMALLOC,
        #[cfg(feature = "jemalloc")]
        Backend::PlainJemalloc => &PLAIN_JEMALLOC,
        Backend::PlainSystem => &PLAIN_SYSTEM,
    }
}

/// The environment variables that name the default pool, the first one set wins: ours, Apache
/// Arrow's, Alkaid's.
const VARIABLES: [&str; 3] = [
    "OFFHEAP_DEFAULT_MEMORY_POOL",
    "ARROW_DEFAULT_MEMORY_POOL",
    "ALKAID_DEFAULT_MEMORY_POOL",
];

/// The backend that the environment asks for, else the preferred one, found without allocating.
pub(crate) fn backend_of_environment() -> Backend {
    for variable in VARIABLES {
        let mut name = [0_u8; 64];
        name[..variable.len()].copy_from_slice(variable.as_bytes());
        // SAFETY: a C string: the rest of `name` is zero. What C answers is null or a C string,
        // which stays while nobody sets the variable, as std asks of those who set one.
        let value = unsafe {
            let value = libc::getenv(name.as_ptr().cast());
            if value.is_null() {
                continue;
            }
            std::ffi::CStr::from_ptr(value)
        };
        if !value.is_empty() {
            let named = |backend: &&Backend| backend.name().as_bytes() == value.to_bytes();
            return *BACKENDS.iter().find(named).unwrap_or(&BACKENDS[0]);
        }
    }
    BACKENDS[0]
}

/// The preferred backend, or the one that the environment asks for. A wrong name warns, once, as
/// Arrow does.
static INITIAL: LazyLock<&'static PoolCore> = LazyLock::new(|| {
    let preferred = BACKENDS[0];
    let Some((variable, value)) = VARIABLES.iter().find_map(|variable| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(|value| (variable, value))
    }) else {
        return core_of(preferred);
    };
    let value = value.to_string_lossy();
    match Backend::named(&value) {
        Ok(backend) => core_of(backend),
        Err(_) => {
            drop(writeln!(
                std::io::stderr(),
                "offheap: unsupported backend '{value}' specified in {variable} (supported: {SUPPORTED}); using '{}'",
                preferred.name()
            ));
            core_of(preferred)
        }
    }
});

/// The pool that [`set_default_memory_pool`] installed, or `mem`'s allocator: they are one.
static REPLACED: Slot<Pool> = Slot::new();

/// The pool that is used where none is named: mimalloc's, else jemalloc's, else the system's, unless
/// the environment (`OFFHEAP_DEFAULT_MEMORY_POOL`, read once) or [`set_default_memory_pool`] says
/// otherwise.
#[inline]
pub fn default_memory_pool() -> Pool {
    REPLACED.get().unwrap_or_else(|| Pool::of_static(*INITIAL))
}

/// Calls `body` with the default pool, which stays the default meanwhile.
pub(super) fn with_default<T>(body: impl FnOnce(&Pool) -> T) -> T {
    REPLACED.with(|replaced| match replaced {
        Some(pool) => body(pool),
        None => body(&Pool::of_static(*INITIAL)),
    })
}

/// Makes `pool` the default of the whole process (`pyarrow.set_memory_pool`). Buffers that exist
/// stay with the pool they came from.
///
/// # Errors
/// [`Closed`](crate::ErrorKind::Closed) for a pool that was closed, or counts into one that was.
pub fn set_default_memory_pool(pool: &Pool) -> Result<()> {
    replace_default_memory_pool(pool, None).map(drop)
}

/// As [`set_default_memory_pool`], unless the default is another pool than `expected`; says whether
/// it was set.
pub(crate) fn replace_default_memory_pool(pool: &Pool, expected: Option<&Pool>) -> Result<bool> {
    REPLACED.replace(pool, &Pool::of_static(*INITIAL), expected)
}

/// The C library's pool.
pub fn system_memory_pool() -> Pool {
    Pool::of_static(core_of(Backend::System))
}

/// mimalloc's pool.
///
/// # Errors
/// [`NotSupported`](crate::ErrorKind::NotSupported) in a build without the feature `mimalloc`.
pub fn mimalloc_memory_pool() -> Result<Pool> {
    memory_pool_named("mimalloc")
}

/// jemalloc's pool.
///
/// # Errors
/// [`NotSupported`](crate::ErrorKind::NotSupported) in a build without the feature `jemalloc`.
pub fn jemalloc_memory_pool() -> Result<Pool> {
    memory_pool_named("jemalloc")
}

/// The pool of the system's pages: whole pages for every block, each a mapping of its own below
/// 1 MiB, given back as soon as it is freed. For blocks that are few and large, or whose pages are
/// to be theirs alone.
pub fn mapped_memory_pool() -> Pool {
    Pool::of_static(core_of(Backend::Mapped))
}

/// A backend's pool by its name.
///
/// # Errors
/// - [`NotSupported`](crate::ErrorKind::NotSupported) for a backend that this build lacks;
/// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a name that is none.
pub fn memory_pool_named(name: &str) -> Result<Pool> {
    Backend::named(name).map(|backend| Pool::of_static(core_of(backend)))
}

/// A backend's pool by its name, another one for each set of options: what is allocated from one
/// does not count into the other.
///
/// # Errors
/// As [`memory_pool_named`].
pub fn memory_pool_named_with(name: &str, options: &PoolOptions) -> Result<Pool> {
    Backend::named(name).map(|backend| {
        let backend = if options.large_blocks {
            backend
        } else {
            backend.plain()
        };
        Pool::of_static(core_of(backend))
    })
}

/// The names of this build's backends, the preferred one first.
pub fn supported_memory_backends() -> Vec<&'static str> {
    BACKENDS.iter().map(|backend| backend.name()).collect()
}

/// Bytes in live allocations from every built-in backend, through whatever pools.
pub fn total_allocated_bytes() -> u64 {
    BACKENDS
        .iter()
        .chain(PLAIN_BACKENDS)
        .map(|backend| core_of(*backend).account.snapshot().bytes)
        .sum()
}
