//! When the allocator under a pool gives unused memory back by itself.

use super::{Base, Pool};
use crate::error::{Error, Result};
use crate::pool::backend::Backend;
use crate::pool::trim::{self, TrimPolicy};

impl Pool {
    /// The allocator under this pool, through whatever adaptors.
    fn backend(&self) -> Result<Backend> {
        match self.lineage().last().map(|pool| &pool.core().base) {
            Some(Base::Backend(backend)) => Ok(*backend),
            _ => Err(Error::not_supported(format!(
                "pool '{}' is over an allocator of the program's own, which nobody trims",
                self.name()
            ))),
        }
    }

    /// Says when the allocator under this pool gives its unused memory back to the system by itself:
    /// once [`min_bytes`](TrimPolicy::min_bytes) were freed and nearly nothing was allocated for
    /// [`idle`](TrimPolicy::idle). `None` is never.
    ///
    /// It holds for the whole process and for every pool over the same allocator. Without a call it
    /// is [`TrimPolicy::default`], or never where `OFFHEAP_TRIM` is `0`. Large blocks, which all
    /// allocators share, are those of the pool `mapped`: they are kept for a second at most.
    ///
    /// What is freed goes back by way of one thread, which is started when it is needed. mimalloc's
    /// heaps belong to their threads: see [`release_unused`](Self::release_unused).
    ///
    /// # Errors
    /// [`NotSupported`](crate::ErrorKind::NotSupported) for a pool over a source of the program's own.
    pub fn trim(&self, policy: Option<TrimPolicy>) -> Result<()> {
        trim::set_policy(self.backend()?, policy);
        Ok(())
    }

    /// What [`trim`](Self::trim) said last; `None` for never, also for a pool over a source of the
    /// program's own.
    pub fn trim_policy(&self) -> Option<TrimPolicy> {
        trim::policy_of(self.backend().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::GlobalAllocPool;
    use crate::pool::default::mapped_memory_pool;
    use crate::{Alignment, ErrorKind};
    use std::time::Duration;

    #[test]
    fn a_policy_is_that_of_the_allocator_underneath() {
        let pool = mapped_memory_pool();
        assert_eq!(pool.trim_policy(), Some(TrimPolicy::default()));
        let policy = TrimPolicy {
            idle: Duration::from_secs(9),
            min_bytes: 1 << 20,
        };
        let over = Pool::custom(pool.limit(1 << 20)).proxy();
        over.trim(Some(policy)).unwrap();
        assert_eq!(pool.trim_policy(), Some(policy));
        pool.trim(None).unwrap();
        assert_eq!(over.trim_policy(), None);
        over.trim(Some(TrimPolicy::default())).unwrap();
    }

    #[test]
    fn a_programs_own_source_has_none() {
        let own = Pool::custom(GlobalAllocPool::named(std::alloc::System, "std")).limit(100);
        let error = own.trim(Some(TrimPolicy::default())).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::NotSupported { .. }),
            "{error}"
        );
        assert_eq!(own.trim_policy(), None);
        let block = own.allocate(10, Alignment::DEFAULT).unwrap();
        // SAFETY: the block just allocated.
        unsafe { own.free(block, 10, Alignment::DEFAULT) };
    }
}
