//! What a pool counts, and how a limit refuses.

mod global;
mod ledger;
mod shard;
mod slow;
mod snapshot;
mod table;

pub(crate) use ledger::{Account, UNLIMITED};
pub(crate) use shard::Kind;
