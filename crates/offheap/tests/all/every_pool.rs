//! The pools that a test of pools runs over.

use offheap::pool::memory_pool_named;
use offheap::{Pool, supported_memory_backends};

/// What Arrow's typed tests put over a proxy.
const CAP: u64 = 1_000_000_000;

/// Every backend's own pool. Their counters are the process's: for tests that run
/// [`alone`](crate::alone::alone).
pub(crate) fn backends() -> Vec<Pool> {
    supported_memory_backends()
        .into_iter()
        .map(|name| memory_pool_named(name).unwrap())
        .collect()
}

/// Pools of the test's own over every backend: a proxy, a limit, a limit over a proxy, a custom
/// pool, and every adaptor.
pub(crate) fn own() -> Vec<Pool> {
    backends()
        .into_iter()
        .flat_map(|base| {
            [
                base.proxy(),
                base.limit(CAP),
                base.proxy().limit(CAP),
                Pool::custom(base.clone()),
                #[cfg(feature = "hooks")]
                hooked(&base),
                #[cfg(feature = "hooks")]
                logged(&base),
                #[cfg(feature = "hooks")]
                base.track(offheap::TrackOptions::default()),
                #[cfg(feature = "hooks")]
                base.scoped_statistics(),
            ]
        })
        .collect()
}

/// A pool with a hook that does nothing.
#[cfg(feature = "hooks")]
pub(crate) fn hooked(pool: &Pool) -> Pool {
    #[derive(Debug)]
    struct Nothing;
    impl offheap::Hook for Nothing {}
    pool.hook(std::sync::Arc::new(Nothing))
}

/// A pool whose log goes nowhere.
#[cfg(feature = "hooks")]
pub(crate) fn logged(pool: &Pool) -> Pool {
    let nowhere = offheap::LogSink::Writer(Box::new(std::io::sink()));
    pool.log(offheap::LogFormat::Json, nowhere).unwrap()
}

/// Arrow's: every backend's own pool, and a limit over a proxy of each.
pub(crate) fn backends_and_capped() -> Vec<Pool> {
    backends()
        .into_iter()
        .flat_map(|base| [base.clone(), base.proxy().limit(CAP)])
        .collect()
}
