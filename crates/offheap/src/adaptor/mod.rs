//! Pools over pools. A limit and a proxy are accounts chained over one allocator.

mod limit;
mod proxy;
