//! Tests of the whole pool.

mod random;
mod rmm;
mod streams;

use super::simulated::{SimulatedStreams, SimulatedUpstream};
use super::{StreamId, SubAllocator, SubAllocatorOptions};
use std::sync::Arc;

const A: StreamId = StreamId(1);
const B: StreamId = StreamId(2);
const C: StreamId = StreamId(3);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Where the first simulated chunk lies.
const BASE: u64 = 2 * MIB;

type Pool = SubAllocator<Arc<SimulatedUpstream>, Arc<SimulatedStreams>>;

struct Rig {
    pool: Pool,
    upstream: Arc<SimulatedUpstream>,
    streams: Arc<SimulatedStreams>,
}

fn rig(capacity: u64, options: SubAllocatorOptions) -> Rig {
    let upstream = Arc::new(SimulatedUpstream::new(capacity, BASE));
    let streams = Arc::new(SimulatedStreams::new());
    let pool = SubAllocator::new(upstream.clone(), streams.clone(), options).unwrap();
    Rig {
        pool,
        upstream,
        streams,
    }
}

/// No slabs and chunks as small as RMM's, to see single blocks.
fn plain() -> SubAllocatorOptions {
    SubAllocatorOptions::new()
        .small_limit(0)
        .minimum_growth(256)
}
