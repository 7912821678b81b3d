//! Separate accounts.

use crate::pool::{Pool, UNLIMITED};

impl Pool {
    /// A pool over this one with statistics of its own (Arrow's `ProxyMemoryPool`): what one query
    /// or tenant holds, beside what all hold.
    pub fn proxy(&self) -> Pool {
        self.proxy_named(None)
    }

    /// As [`proxy`](Self::proxy), with a name for errors and reports.
    pub fn proxy_named(&self, name: Option<&str>) -> Pool {
        self.child(UNLIMITED, name, "proxy")
    }
}
