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
/// pool.
pub(crate) fn own() -> Vec<Pool> {
    backends()
        .into_iter()
        .flat_map(|base| {
            [
                base.proxy(),
                base.limit(CAP),
                base.proxy().limit(CAP),
                Pool::custom(base.clone()),
            ]
        })
        .collect()
}

/// Arrow's: every backend's own pool, and a limit over a proxy of each.
pub(crate) fn backends_and_capped() -> Vec<Pool> {
    backends()
        .into_iter()
        .flat_map(|base| [base.clone(), base.proxy().limit(CAP)])
        .collect()
}
