//! Putting debug hooks in place.

use super::Finding;
use super::corruption::{Corruption, CorruptionKind, DetectedOn};
use super::environment::environment_options;
use super::options::DebugOptions;
use super::report::report;
use super::source::{DebugPool, invalid_pointer};
use super::table::{Record, State, TABLE};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::origin::Origin;
use crate::pool::Pool;
use std::any::Any;
use std::io::Write;
use std::ptr::NonNull;

impl Pool {
    /// A pool over this one whose blocks lie between guards (CPython's debug hooks, PEP 445).
    ///
    /// New memory is 0xCB, freed memory 0xDB; the guards, 0xFB, start right at a block's size, so
    /// its buffers have no padding, and every alignment is kept. Freed blocks are held back for a
    /// while, and resizing always moves. Found are:
    ///
    /// | what | when |
    /// |---|---|
    /// | writes in front of and behind a block | when it is freed or resized |
    /// | writes to a freed block | when it leaves the quarantine |
    /// | writes to a frozen buffer | when it is freed |
    /// | a double free; a free of another pool's or domain's block, of no block, with a wrong size or alignment | in the call, before any memory is touched |
    ///
    /// and, at any time, by [`check_integrity`](Self::check_integrity). A report
    /// ([`Corruption`]) has the stacks of the allocation, of the free and of the discovery. A block
    /// with damaged guards is never used again. Calls that named no live block are not counted.
    ///
    /// Nothing that the hooks need counts: neither guards nor blocks that are held back show in this
    /// pool's figures or in those of pools that it counts into. (Hooks *under* this one see what it
    /// asks for: put it under them.) [`release_unused`](Self::release_unused) also gives the held
    /// blocks back.
    ///
    /// Cost: 128 bytes a block and more, about 1 us a pair of calls and 5 us with stacks of 16 frames,
    /// and touching every byte twice. `npm run bench:hooks` measures it.
    ///
    /// ```
    /// use offheap::{Alignment, Corruption, CorruptionKind, DebugOptions, OnError};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let found = Arc::new(Mutex::new(Vec::new()));
    /// let finder = found.clone();
    /// let pool = offheap::default_memory_pool().debug(DebugOptions {
    ///     on_error: OnError::Call(Arc::new(move |corruption: &Corruption| {
    ///         finder.lock().unwrap().push(corruption.clone());
    ///     })),
    ///     ..DebugOptions::default()
    /// });
    /// let block = pool.allocate(10, Alignment::DEFAULT)?;
    /// unsafe {
    ///     block.add(10).write(1); // One too far; Arrow's debug pool does not see it.
    ///     pool.free(block, 10, Alignment::DEFAULT);
    /// }
    /// let found = found.lock().unwrap();
    /// assert_eq!((found[0].kind, found[0].offset), (CorruptionKind::Overflow, Some(10)));
    /// # Ok::<(), offheap::Error>(())
    /// ```
    pub fn debug(&self, options: DebugOptions) -> Self {
        self.debugged(options, Domain::Mem)
    }

    /// What the outermost debug hooks that requests of this pool pass were told.
    pub fn debug_options(&self) -> Option<&DebugOptions> {
        debug_source(self).map(DebugPool::options)
    }

    /// Whether a live block of this pool's debug hooks is damaged: what a free would report. False
    /// without debug hooks, and for an address that is no block's.
    pub fn is_damaged(&self, ptr: NonNull<u8>) -> bool {
        debug_source(self).is_some_and(|source| source.is_damaged(ptr))
    }

    fn debugged(&self, options: DebugOptions, domain: Domain) -> Self {
        self.child_over("debug", |name| {
            DebugPool::new(self.clone(), options, domain.letter(), name)
        })
    }

    /// Looks at every block of the nearest debug hooks under this pool, live and held back, and says
    /// what is damaged; nothing else is done about it. Empty: all is well.
    ///
    /// Cost: reads all guards, all held blocks and all frozen ones; other threads' requests wait for
    /// parts of it.
    ///
    /// # Errors
    /// [`NotSupported`](crate::ErrorKind::NotSupported) when the pool has no debug hooks.
    pub fn check_integrity(&self) -> Result<Vec<Corruption>> {
        match debug_source(self) {
            Some(source) => Ok(source.check()),
            None => Err(Error::not_supported(format!(
                "pool '{}' has no debug hooks to check it",
                self.name()
            ))),
        }
    }
}

/// The outermost debug hooks that requests of a pool pass.
fn debug_source(pool: &Pool) -> Option<&DebugPool> {
    pool.sources().find_map(|source| {
        let source: &dyn Any = source;
        source.downcast_ref()
    })
}

/// The pool under debug hooks, unless it is already.
pub(super) fn debugged_once(pool: &Pool, options: &DebugOptions, domain: Domain) -> Pool {
    if debug_source(pool).is_some() {
        pool.clone()
    } else {
        pool.debugged(options.clone(), domain)
    }
}

/// Puts debug hooks over the allocators of all three domains (`PyMem_SetupDebugHooks`), as
/// [`Pool::debug`] does. A domain that has them already is left as it is, so calling this twice does
/// nothing. Blocks that exist go back to the allocators that made them.
///
/// # Errors
/// [`Closed`](crate::ErrorKind::Closed) when another thread closes a domain's pool meanwhile.
pub fn setup_debug_hooks(options: &DebugOptions) -> Result<()> {
    for domain in Domain::ALL {
        domain.wrap(|allocator| debugged_once(allocator, options, domain))?;
    }
    Ok(())
}

/// What [`Domain::set_allocator`] installs.
pub(crate) fn debug_as_environment_says(pool: &Pool, domain: Domain) -> Pool {
    match environment_options() {
        Some(options) => debugged_once(pool, options, domain),
        None => pool.clone(),
    }
}

/// Whether an address is a block that debug hooks have a record of.
pub(crate) fn is_debugged(block: NonNull<u8>) -> bool {
    TABLE.with(block, |record| record.is_some())
}

/// A call to `domain` about a block that is not one of its live ones, which `owner` is known to
/// have. Reported as the debug hooks of the domain do; `said` goes to stderr without any.
pub(crate) fn report_misuse(
    domain: Domain,
    owner: Option<Domain>,
    is_free: bool,
    block: NonNull<u8>,
    said: &str,
) {
    let pools = [Some(domain), owner].map(|domain| domain.map(Domain::allocator));
    let Some(source) = pools.iter().flatten().find_map(debug_source) else {
        drop(writeln!(std::io::stderr(), "offheap: {said}"));
        return;
    };
    let on = if is_free {
        DetectedOn::Deallocation
    } else {
        DetectedOn::Reallocation
    };
    let at = Origin::capture(source.options().stack_depth);
    let kind = |record: Option<&Record>| match (owner, record) {
        (Some(_), _) => CorruptionKind::WrongDomain,
        (None, Some(record)) if record.state == State::Live => CorruptionKind::WrongPool,
        (None, Some(_)) => CorruptionKind::DoubleFree,
        (None, None) => CorruptionKind::InvalidPointer,
    };
    let finding = TABLE.with(block, |record| {
        let record = record?;
        let kind = kind(Some(record));
        Some(if record.state == State::Busy {
            Finding::without_evidence(kind, record)
        } else {
            // SAFETY: the record is locked, and the block not in anyone's hands: its memory stays.
            unsafe { Finding::of(kind, record, None) }
        })
    });
    let given_to = format!("API '{}'", domain.letter()).into();
    let corruption = match (finding, owner) {
        (Some(finding), _) => finding.into_corruption(on, at, &given_to),
        (None, Some(owner)) => {
            let kind = CorruptionKind::WrongDomain;
            let to = (&given_to, owner.letter());
            let mut corruption = Corruption::of_unknown(kind, block.addr().get(), on, at, to);
            corruption.size = owner.block_size(block.as_ptr()).unwrap_or(0);
            corruption
        }
        (None, None) => invalid_pointer(block, on, at, (&given_to, domain.letter())),
    };
    report(&source.options().on_error, &corruption);
}
