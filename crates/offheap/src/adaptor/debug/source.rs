//! The pool under debug hooks.

use super::corruption::{Corruption, CorruptionKind, DetectedOn, Finding};
use super::guarded::{CLEAN, DEAD, Extent, Guarded};
use super::options::DebugOptions;
use super::quarantine::Quarantine;
use super::report::report;
use super::table::{Identity, Record, State, TABLE};
use crate::alignment::Alignment;
use crate::domain::Unhooked;
use crate::error::{Error, ErrorKind, Result};
use crate::origin::Origin;
use crate::pool::{BackendStatistics, MemoryPool, Notice, Padding, Pool};
use std::fmt;
use std::io::Write;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers the blocks of all debug pools, as CPython's `serialno`.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// Memory of another pool, between guards.
///
/// The life of a block: `Live` → (free: `Busy`, checked, filled) → `Dead`, in the quarantine →
/// (checked again) → upstream's. Whoever makes a block `Busy`, under the table's lock, is the only
/// one that may touch it: of two frees at once, one finds it freed already. A block with damaged
/// guards becomes `Lost`: what wrote past the guards may have written upstream's own notes beside
/// them, which giving the block back would trust. A call that gives a wrong size or alignment, or
/// a write to an immutable block, harms no guard: such a block goes on by what the table says.
pub(crate) struct DebugPool {
    upstream: Pool,
    options: DebugOptions,
    identity: Arc<Identity>,
    quarantine: Mutex<Quarantine>,
    /// Records of this pool in the table.
    records: AtomicUsize,
}

/// What a call finds: a wrong size, a damaged guard, a broken seal.
type Findings = [Option<Finding>; 4];

fn note(findings: &mut Findings, finding: Finding) {
    if let Some(place) = findings.iter_mut().find(|place| place.is_none()) {
        *place = Some(finding);
    }
}

impl DebugPool {
    /// Over `upstream`, whose accounts are not asked. Reports call the pool `name` and its domain
    /// `letter`.
    pub(super) fn new(upstream: Pool, options: DebugOptions, letter: char, name: &str) -> Self {
        Self {
            upstream,
            quarantine: Mutex::new(Quarantine::new(options.quarantine_bytes)),
            options,
            identity: Arc::new(Identity {
                name: name.into(),
                letter,
            }),
            records: AtomicUsize::new(0),
        }
    }

    pub(super) fn options(&self) -> &DebugOptions {
        &self.options
    }

    fn capture(&self) -> Origin {
        Origin::capture(self.options.stack_depth)
    }

    fn quarantine(&self) -> MutexGuard<'_, Quarantine> {
        self.quarantine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn refused(&self, size: usize) -> Error {
        Error::allocator_refused(size as u64, 0, self.identity.name.to_string())
    }

    /// A refusal names what the user asked for, not what the guards made of it.
    #[cold]
    fn as_asked(error: Error, size: usize, total: usize) -> Error {
        match error.into_kind() {
            ErrorKind::OutOfMemory {
                requested,
                limit,
                allocated,
                pool,
            } => Error::new(ErrorKind::OutOfMemory {
                requested: if requested == total as u64 {
                    size as u64
                } else {
                    requested
                },
                limit,
                allocated,
                pool,
            }),
            other => Error::new(other),
        }
    }

    fn make(
        &self,
        size: usize,
        alignment: Alignment,
        zeroed: bool,
        origin: Origin,
    ) -> Result<Guarded> {
        if !self.upstream.is_cpu() {
            // Guards and fills are bytes.
            return Err(self.upstream.not_of_the_cpu());
        }
        let extent = Extent::of(size, alignment).ok_or_else(|| self.refused(size))?;
        let base = self
            .upstream
            .allocate_uncounted(extent.total, alignment, zeroed)
            .map_err(|error| Self::as_asked(error, size, extent.total))?;
        // SAFETY: upstream's block has `total` bytes, of which the head's are the first. It is at a
        // multiple of `alignment`, and so is the head's length.
        let start = unsafe { base.add(extent.head) };
        let block = Guarded {
            start,
            size,
            extent,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            letter: self.identity.letter as u8,
        };
        // SAFETY: a new block that nobody else knows.
        unsafe {
            block.arm();
            if !zeroed {
                block.fill(CLEAN);
            }
        }
        let record = Record {
            block,
            alignment,
            pool: Arc::clone(&self.identity),
            state: State::Live,
            seal: None,
            is_ended: false,
            allocated_at: origin,
            freed_at: None,
        };
        match TABLE.insert(record) {
            Ok(_forgotten) => {
                self.records.fetch_add(1, Ordering::Relaxed);
                Ok(block)
            }
            Err(_) => {
                // SAFETY: the block is new, and came from upstream with these figures.
                unsafe {
                    self.upstream.free_uncounted(base, extent.total, alignment);
                }
                Err(self.refused(size))
            }
        }
    }

    /// Makes a live block of this pool `Busy`: the caller's alone. Else says what is wrong with the
    /// call, without touching anything.
    #[expect(
        clippy::result_large_err,
        reason = "made under a lock, where nothing may be boxed"
    )]
    fn claim(&self, ptr: NonNull<u8>) -> Result<Record, Option<Finding>> {
        TABLE.with(ptr, |record| {
            let record = record.ok_or(None)?;
            if !record.is_of(&self.identity) {
                let kind = if record.pool.letter == self.identity.letter {
                    CorruptionKind::WrongPool
                } else {
                    CorruptionKind::WrongDomain
                };
                return Err(Some(Finding::without_evidence(kind, record)));
            }
            let kind = CorruptionKind::DoubleFree;
            match record.state {
                State::Live => {
                    record.state = State::Busy;
                    Ok(record.clone())
                }
                State::Busy => Err(Some(Finding::without_evidence(kind, record))),
                // SAFETY: the memory of a block in this state goes back to upstream only after its
                // record went, which needs the lock that is held here.
                State::Dead | State::Lost => Err(Some(unsafe { Finding::of(kind, record, None) })),
            }
        })
    }

    /// Ends what [`claim`](Self::claim) began.
    fn settle(&self, block: &Guarded, state: State, freed_at: Option<&Origin>) {
        let freed_at = freed_at.cloned();
        let old = TABLE.with(block.start, |record| {
            let record = record.filter(|record| record.block.serial == block.serial)?;
            record.state = state;
            std::mem::replace(&mut record.freed_at, freed_at)
        });
        // An origin's memory is the global allocator's: not under the lock.
        drop(old);
    }

    /// What is wrong with the memory of a block that is the caller's, or locked.
    ///
    /// # Safety
    /// - the block's memory was not given back to upstream, and is not during the call;
    /// - the bytes of a dead block were filled.
    unsafe fn damage(record: &Record) -> Findings {
        let mut findings = [const { None }; 4];
        let block = &record.block;
        let dead = matches!(record.state, State::Dead | State::Lost);
        let kind = |fresh| {
            if dead {
                CorruptionKind::WriteAfterFree
            } else {
                fresh
            }
        };
        // SAFETY: the caller's promises.
        unsafe {
            if let Some(at) = block.front_damage() {
                let kind = kind(CorruptionKind::Underflow);
                note(&mut findings, Finding::of(kind, record, Some(at)));
            }
            if dead && let Some(at) = block.dead_damage() {
                let kind = CorruptionKind::WriteAfterFree;
                note(&mut findings, Finding::of(kind, record, Some(at)));
            }
            if let Some(at) = block.tail_damage() {
                let kind = kind(CorruptionKind::Overflow);
                note(&mut findings, Finding::of(kind, record, Some(at)));
            }
            if !dead && record.is_ended {
                if let Some(at) = block.dead_damage() {
                    let kind = CorruptionKind::StaleView;
                    note(&mut findings, Finding::of(kind, record, Some(at)));
                }
            } else if !dead && record.seal.is_some_and(|seal| seal != block.fingerprint()) {
                let kind = CorruptionKind::ImmutableWrite;
                note(&mut findings, Finding::of(kind, record, None));
            }
        }
        findings
    }

    /// Whether a block can be used again after this was found: only its guards say that it cannot.
    fn is_lost(findings: &Findings) -> bool {
        findings.iter().flatten().any(|finding| {
            !matches!(
                finding.kind,
                CorruptionKind::ImmutableWrite
                    | CorruptionKind::StaleView
                    | CorruptionKind::WrongSize { .. }
                    | CorruptionKind::WrongAlignment { .. }
            )
        })
    }

    /// The rest of a free: the block is `Busy`, and was checked.
    fn bury(&self, block: &Guarded, is_lost: bool, freed_at: &Origin) {
        // SAFETY: the block is the caller's alone, and nobody uses it any more.
        unsafe { block.fill(DEAD) };
        if is_lost {
            self.settle(block, State::Lost, Some(freed_at));
            return;
        }
        self.settle(block, State::Dead, Some(freed_at));
        let refused = self.quarantine().push(*block).err();
        if let Some(block) = refused {
            self.give_back(&block);
        }
        loop {
            // The lock is not held while upstream, and who reports, works.
            let oldest = self.quarantine().pop_excess();
            let Some(oldest) = oldest else { break };
            self.release(&oldest);
        }
    }

    /// Gives a block that left the quarantine back to upstream, unless it was written there.
    fn release(&self, block: &Guarded) {
        let mut findings = [const { None }; 4];
        TABLE.with(block.start, |record| {
            if let Some(record) = record.filter(|record| record.block.serial == block.serial) {
                // SAFETY: the block left the quarantine to us alone, and we give it back below.
                findings = unsafe { Self::damage(record) };
                if Self::is_lost(&findings) {
                    record.state = State::Lost;
                }
            }
        });
        if findings.iter().all(Option::is_none) {
            self.give_back(block);
        } else {
            self.report_all(findings, DetectedOn::Reuse, &self.capture());
        }
    }

    fn give_back(&self, block: &Guarded) {
        let Some(record) = TABLE.remove(block.start, block.serial) else {
            return;
        };
        self.records.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the block came from upstream with these figures; its record, through which others
        // find it, is gone.
        unsafe {
            self.upstream
                .free_uncounted(block.base(), block.extent.total, record.alignment);
        }
    }

    fn report_all(&self, findings: Findings, on: DetectedOn, at: &Origin) {
        for finding in findings.into_iter().flatten() {
            let corruption = finding.into_corruption(on, at.clone(), &self.identity.name);
            report(&self.options.on_error, &corruption);
        }
    }

    /// What is wrong with a call about no live block of this pool.
    #[cold]
    fn corruption_of_call(
        &self,
        ptr: NonNull<u8>,
        finding: Option<Finding>,
        on: DetectedOn,
        at: Origin,
    ) -> Corruption {
        if let Some(finding) = finding {
            return finding.into_corruption(on, at, &self.identity.name);
        }
        invalid_pointer(ptr, on, at, (&self.identity.name, self.identity.letter))
    }

    /// Whether a live block of these hooks is damaged.
    pub(super) fn is_damaged(&self, ptr: NonNull<u8>) -> bool {
        TABLE.with(ptr, |record| {
            record.is_some_and(|record| {
                record.is_of(&self.identity)
                    && record.state == State::Live
                    // SAFETY: the record is locked and live, so its memory stays.
                    && unsafe { Self::damage(record) }.iter().any(Option::is_some)
            })
        })
    }

    /// Every damage of this pool's blocks, live and held back.
    pub(super) fn check(&self) -> Vec<Corruption> {
        let mut found = allocator_api2::vec::Vec::new_in(Unhooked);
        TABLE.for_each(|record| {
            if !record.is_of(&self.identity) || !matches!(record.state, State::Live | State::Dead) {
                return;
            }
            // SAFETY: the record is locked and neither `Busy` nor gone, so its memory stays; a dead
            // block was filled before it was called so.
            for finding in unsafe { Self::damage(record) }.into_iter().flatten() {
                if found.try_reserve(1).is_ok() {
                    found.push(finding);
                }
            }
        });
        let at = self.capture();
        found
            .into_iter()
            .map(|finding| {
                finding.into_corruption(DetectedOn::Check, at.clone(), &self.identity.name)
            })
            .collect()
    }

    fn empty_quarantine(&self) {
        loop {
            let oldest = self.quarantine().pop();
            let Some(oldest) = oldest else { break };
            self.release(&oldest);
        }
    }
}

/// The report about an address that is in no record, or inside of another block.
#[cold]
pub(super) fn invalid_pointer(
    ptr: NonNull<u8>,
    on: DetectedOn,
    at: Origin,
    given_to: (&Arc<str>, char),
) -> Corruption {
    let kind = CorruptionKind::InvalidPointer;
    let address = ptr.addr().get();
    let Some(record) = TABLE.containing(ptr) else {
        return Corruption::of_unknown(kind, address, on, at, given_to);
    };
    let inside = address.wrapping_sub(record.block.start.addr().get()) as isize;
    let mut corruption =
        Finding::without_evidence(kind, &record).into_corruption(on, at, given_to.0);
    corruption.address = address;
    corruption.inside = Some(inside);
    corruption
}

// SAFETY: a block is upstream's, of which the user's part begins at a multiple of the alignment and
// is as large as asked for; it goes back only when it was freed. A reallocation copies to a new block
// before it gives the old one up.
unsafe impl MemoryPool for DebugPool {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.make(size, alignment, false, self.capture())
            .map(|block| block.start)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.make(size, alignment, true, self.capture())
            .map(|block| block.start)
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        let on = DetectedOn::Reallocation;
        let at = self.capture();
        let record = match self.claim(ptr) {
            Ok(record) => record,
            Err(finding) => {
                let corruption = self.corruption_of_call(ptr, finding, on, at);
                report(&self.options.on_error, &corruption);
                return Err(corruption.into());
            }
        };
        let block = record.block;
        if let Some(kind) = wrong_figures(&record, old_size, alignment) {
            self.settle(&block, State::Live, None);
            let finding = Finding::without_evidence(kind, &record);
            let corruption = finding.into_corruption(on, at, &self.identity.name);
            report(&self.options.on_error, &corruption);
            return Err(corruption.into());
        }
        // Until the new block is there, the old one is to stay as it is, also when upstream or the
        // report panics.
        let unclaim = Unclaim(self, block);
        // SAFETY: the block is ours alone since `claim`.
        let findings = unsafe { Self::damage(&record) };
        let is_lost = Self::is_lost(&findings);
        self.report_all(findings, on, &at);
        let new = self.make(new_size, alignment, false, at.clone())?;
        std::mem::forget(unclaim);
        // SAFETY: two blocks of at least as many bytes, the new one nobody else's yet.
        unsafe {
            new.start
                .copy_from_nonoverlapping(block.start, block.size.min(new_size));
        }
        self.bury(&block, is_lost, &at);
        Ok(new.start)
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { self.free_checked(ptr, size, alignment, &mut Some(size)) };
    }

    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        let on = DetectedOn::Deallocation;
        let at = self.capture();
        let record = match self.claim(ptr) {
            Ok(record) => record,
            Err(finding) => {
                *freed = None;
                let corruption = self.corruption_of_call(ptr, finding, on, at);
                report(&self.options.on_error, &corruption);
                return;
            }
        };
        *freed = Some(record.block.size);
        // SAFETY: the block is ours alone since `claim`.
        let mut findings = unsafe { Self::damage(&record) };
        if let Some(kind) = wrong_figures(&record, size, alignment) {
            note(&mut findings, Finding::without_evidence(kind, &record));
        }
        self.bury(&record.block, Self::is_lost(&findings), &at);
        self.report_all(findings, on, &at);
    }

    fn padding(&self) -> Padding {
        Padding::None
    }

    fn upstream(&self) -> Option<&Pool> {
        Some(&self.upstream)
    }

    fn notice(&self, ptr: NonNull<u8>, _size: usize, notice: Notice) {
        TABLE.with(ptr, |record| {
            let ours =
                |record: &&mut Record| record.is_of(&self.identity) && record.state == State::Live;
            if let Some(record) = record.filter(ours) {
                match notice {
                    // SAFETY: the block is locked and live, so its memory stays; all of it was
                    // filled.
                    Notice::Sealed => record.seal = Some(unsafe { record.block.fingerprint() }),
                    // Work in flight may still write a parked block.
                    Notice::Unsealed | Notice::Parked => record.seal = None,
                    Notice::Ended => {
                        // SAFETY: as above, and nobody may use the bytes any more.
                        unsafe { record.block.fill(DEAD) };
                        record.is_ended = true;
                    }
                    Notice::Forgotten => {}
                }
            }
        });
    }

    fn backend_name(&self) -> &str {
        self.upstream.backend_name()
    }

    /// Gives the blocks of the quarantine back, too, once they are checked.
    fn release_unused(&self) {
        self.empty_quarantine();
        self.upstream.release_unused();
    }

    fn print_stats(&self) {
        let (bytes, blocks) = self.quarantine().held();
        drop(writeln!(
            std::io::stderr(),
            "debug hooks hold back {blocks} freed blocks of {bytes} bytes"
        ));
        self.upstream.print_stats();
    }

    fn backend_statistics(&self) -> BackendStatistics {
        self.upstream.backend_statistics()
    }
}

fn wrong_figures(record: &Record, size: usize, alignment: Alignment) -> Option<CorruptionKind> {
    if record.block.size != size {
        Some(CorruptionKind::WrongSize { given: size })
    } else if record.alignment != alignment {
        Some(CorruptionKind::WrongAlignment {
            given: alignment.get(),
        })
    } else {
        None
    }
}

/// Gives a claim up.
struct Unclaim<'a>(&'a DebugPool, Guarded);

impl Drop for Unclaim<'_> {
    fn drop(&mut self) {
        self.0.settle(&self.1, State::Live, None);
    }
}

impl Drop for DebugPool {
    fn drop(&mut self) {
        // A report that panics must not keep the rest from being given back.
        if matches!(self.options.on_error, super::OnError::Throw) {
            self.options.on_error = super::OnError::Warn;
        }
        self.empty_quarantine();
        if *self.records.get_mut() != 0 {
            TABLE.forget(&self.identity);
        }
    }
}

impl fmt::Debug for DebugPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugPool")
            .field("upstream", &self.upstream)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
