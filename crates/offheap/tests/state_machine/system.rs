//! The crate under test, step by step beside the model.

use crate::model::{Model, Thing, bits_of};
use crate::program::{Id, Outcome, Step};
use offheap::pool::memory_pool_named;
use offheap::{
    Alignment, BitmapBuilder, Buffer, BufferBuilder, Error, ErrorKind, MutableBuffer, Pool,
    ResizableBuffer, supported_memory_backends,
};
use proptest_state_machine::StateMachineTest;
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;

#[derive(Debug)]
enum Real {
    Raw {
        pool: usize,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
    },
    Mutable(MutableBuffer),
    Frozen(Buffer),
    Resizable(ResizableBuffer),
    Builder(BufferBuilder),
    Bits(BitmapBuilder),
}

#[derive(Debug)]
pub(crate) struct System {
    pools: Vec<Pool>,
    things: BTreeMap<Id, Real>,
}

fn alignment(shift: u32) -> Alignment {
    Alignment::new(1 << shift).unwrap()
}

fn outcome_of(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::OutOfMemory { .. } => Outcome::OutOfMemory,
        ErrorKind::OutOfRange { .. } => Outcome::OutOfRange,
        ErrorKind::InvalidArgument { .. } => Outcome::InvalidArgument,
        other => panic!("nobody expects {other:?}"),
    }
}

fn outcome(result: Result<(), Error>) -> Outcome {
    result.map_or_else(|error| outcome_of(&error), |()| Outcome::Done)
}

/// Takes a thing out, as one of the kinds below.
macro_rules! take {
    ($system:expr, $id:expr, $kind:ident) => {
        match $system.things.remove(&$id) {
            Some(Real::$kind(thing)) => thing,
            other => panic!("{other:?} is no {}", stringify!($kind)),
        }
    };
}

/// Borrows a thing, as one of the kinds below.
macro_rules! borrow {
    ($system:expr, $id:expr, $kind:ident) => {
        match $system.things.get_mut(&$id) {
            Some(Real::$kind(thing)) => thing,
            other => panic!("{other:?} is no {}", stringify!($kind)),
        }
    };
}

impl System {
    /// Keeps what a call made.
    fn keep<T>(&mut self, id: Id, made: Result<T, Error>, as_real: fn(T) -> Real) -> Outcome {
        match made {
            Ok(thing) => {
                assert!(self.things.insert(id, as_real(thing)).is_none());
                Outcome::Done
            }
            Err(error) => outcome_of(&error),
        }
    }

    fn step(&mut self, step: Step) -> Outcome {
        match step {
            Step::Limit { parent, bytes } => self.pools.push(self.pools[parent].limit(bytes)),
            Step::Proxy { parent } => self.pools.push(self.pools[parent].proxy()),
            Step::ResetPeak { pool } => self.pools[pool].reset_peak(),
            Step::Raw {
                id,
                pool,
                size,
                shift,
                fill,
            } => {
                let alignment = alignment(shift);
                let made = self.pools[pool].allocate(size, alignment).map(|ptr| {
                    // SAFETY: a new block of `size` bytes.
                    unsafe { ptr.write_bytes(fill, size) };
                    Real::Raw {
                        pool,
                        ptr,
                        size,
                        alignment,
                    }
                });
                return self.keep(id, made, |real| real);
            }
            Step::ReallocateRaw { id, size: new } => {
                let Some(Real::Raw {
                    pool,
                    ptr,
                    size,
                    alignment,
                }) = self.things.get_mut(&id)
                else {
                    panic!("no raw block");
                };
                // SAFETY: a live block with its size and alignment.
                match unsafe { self.pools[*pool].reallocate(*ptr, *size, new, *alignment) } {
                    Ok(block) => {
                        if new > *size {
                            // SAFETY: the block has `new` bytes.
                            unsafe { block.add(*size).write_bytes(0xEE, new - *size) };
                        }
                        (*ptr, *size) = (block, new);
                    }
                    Err(error) => return outcome_of(&error),
                }
            }
            Step::Zeroed {
                id,
                pool,
                size,
                shift,
            } => {
                let pool = &self.pools[pool];
                let made = MutableBuffer::zeroed_aligned(size, alignment(shift), pool);
                if let Ok(buffer) = &made {
                    assert!(alignment(shift).is_aligned(buffer.address()));
                }
                return self.keep(id, made, Real::Mutable);
            }
            Step::Copy {
                id,
                pool,
                size,
                fill,
            } => {
                let made = MutableBuffer::copy_from(&vec![fill; size], &self.pools[pool]);
                return self.keep(id, made, Real::Mutable);
            }
            Step::Write { id, at, fill } => {
                let bytes = match self.things.get_mut(&id) {
                    Some(Real::Mutable(buffer)) => &mut buffer[..],
                    Some(Real::Resizable(buffer)) => &mut buffer[..],
                    Some(Real::Builder(builder)) => builder.as_mut_slice(),
                    other => panic!("{other:?} cannot be written"),
                };
                let at = at.min(bytes.len());
                bytes[at..].fill(fill);
            }
            Step::Split { id, back, at } => match take!(self, id, Mutable).split_at(at) {
                Ok((front, rest)) => {
                    self.things.insert(id, Real::Mutable(front));
                    self.things.insert(back, Real::Mutable(rest));
                }
                Err(error) => return outcome_of(&error),
            },
            Step::Freeze { id } => {
                let frozen = match self.things.remove(&id) {
                    Some(Real::Mutable(buffer)) => buffer.freeze(),
                    Some(Real::Resizable(buffer)) => buffer.freeze(),
                    other => panic!("{other:?} cannot be frozen"),
                };
                self.things.insert(id, Real::Frozen(frozen));
            }
            Step::Thaw { id } => match take!(self, id, Frozen).try_into_mutable() {
                Ok(buffer) => drop(self.things.insert(id, Real::Mutable(buffer))),
                Err(buffer) => {
                    self.things.insert(id, Real::Frozen(buffer));
                    return Outcome::Unchanged;
                }
            },
            Step::Slice {
                id,
                slice,
                offset,
                length,
            } => {
                let made = borrow!(self, id, Frozen).slice(offset, length);
                return self.keep(slice, made, Real::Frozen);
            }
            Step::CopySlice {
                id,
                copy,
                pool,
                offset,
                length,
            } => {
                let made = borrow!(self, id, Frozen).copy_slice(offset, length, &self.pools[pool]);
                return self.keep(copy, made, Real::Mutable);
            }
            Step::Concat { ids, whole, pool } => {
                let parts = ids.map(|id| borrow!(self, id, Frozen).clone());
                let made = Buffer::concat(&parts, &self.pools[pool]);
                return self.keep(whole, made, Real::Frozen);
            }
            Step::Resizable { id } => match ResizableBuffer::try_from(take!(self, id, Mutable)) {
                Ok(buffer) => drop(self.things.insert(id, Real::Resizable(buffer))),
                Err(buffer) => {
                    self.things.insert(id, Real::Mutable(buffer));
                    return Outcome::Unchanged;
                }
            },
            Step::Resize { id, size, shrink } => {
                return outcome(borrow!(self, id, Resizable).resize(size, shrink));
            }
            Step::Reserve { id, capacity } => {
                return outcome(borrow!(self, id, Resizable).reserve(capacity));
            }
            Step::Builder { id, pool } => {
                let builder = BufferBuilder::new(&self.pools[pool]);
                self.things.insert(id, Real::Builder(builder));
            }
            Step::Continue { id } => {
                let builder = BufferBuilder::from(take!(self, id, Resizable));
                self.things.insert(id, Real::Builder(builder));
            }
            Step::Append {
                id,
                n,
                fill,
                copies,
            } => {
                let builder = borrow!(self, id, Builder);
                return outcome(if copies {
                    builder.append_copies(fill, n)
                } else {
                    builder.append(&vec![fill; n])
                });
            }
            Step::BuilderReserve { id, n } => {
                return outcome(borrow!(self, id, Builder).reserve(n));
            }
            Step::BuilderResize {
                id,
                capacity,
                shrink,
            } => {
                return outcome(borrow!(self, id, Builder).resize(capacity, shrink));
            }
            Step::Rewind { id, position } => {
                return outcome(borrow!(self, id, Builder).rewind(position));
            }
            Step::Finish {
                id,
                length,
                shrink,
                into,
            } => {
                let builder = borrow!(self, id, Builder);
                let made = match length {
                    Some(length) => builder.finish_with_length(length, shrink),
                    None => builder.finish(shrink),
                };
                return self.keep(into, made, Real::Mutable);
            }
            Step::Bits { id, pool } => {
                let builder = BitmapBuilder::new(&self.pools[pool]);
                self.things.insert(id, Real::Bits(builder));
            }
            Step::AppendBits { id, n, seed } => {
                let bits = bits_of(seed, n);
                return outcome(borrow!(self, id, Bits).append_values(&bits));
            }
            Step::FinishBits { id, shrink, into } => {
                let made = borrow!(self, id, Bits).finish(shrink);
                return self.keep(into, made, Real::Mutable);
            }
            Step::Drop { id } => {
                if let Some(Real::Raw {
                    pool,
                    ptr,
                    size,
                    alignment,
                }) = self.things.remove(&id)
                {
                    // SAFETY: a live block with its size and alignment.
                    unsafe { self.pools[pool].free(ptr, size, alignment) };
                }
            }
        }
        Outcome::Done
    }
}

/// The addresses that a thing may write, or reads: those of two blocks never overlap, and only
/// frozen parts of one block may.
fn addresses(real: &Real) -> Range<usize> {
    let (start, len) = match real {
        Real::Raw { ptr, size, .. } => (ptr.addr().get(), *size),
        Real::Mutable(buffer) => (buffer.address(), buffer.capacity()),
        Real::Frozen(buffer) => (buffer.address(), buffer.len()),
        Real::Resizable(buffer) => (buffer.address(), buffer.capacity()),
        Real::Builder(builder) => (builder.address(), builder.capacity()),
        Real::Bits(_) => (0, 0),
    };
    start..start + len
}

impl StateMachineTest for System {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(model: &Model) -> Self {
        let backend = supported_memory_backends()[model.backend];
        let pools = vec![memory_pool_named(backend).unwrap().proxy()];
        Self {
            pools,
            things: BTreeMap::new(),
        }
    }

    fn apply(mut state: Self, model: &Model, step: Step) -> Self {
        let named = format!("{step:?}");
        let outcome = state.step(step);
        assert_eq!(outcome, model.outcome, "{named}");
        state
    }

    fn check_invariants(state: &Self, model: &Model) {
        // The counters are the model's, so the sum of what is held.
        for (pool, expected) in state.pools.iter().zip(&model.pools) {
            let expected = &expected.counters;
            let name = pool.name();
            // One by one: the whole of the statistics asks the backend, which takes its time.
            let (bytes, peak) = (pool.bytes_allocated(), pool.peak_bytes());
            assert_eq!(
                (bytes, peak),
                (expected.bytes, expected.peak),
                "bytes, peak of {name}"
            );
            assert_eq!(
                pool.total_bytes_allocated(),
                expected.total,
                "total of {name}"
            );
            assert_eq!(
                pool.num_allocations(),
                expected.allocations,
                "allocations of {name}"
            );
            assert_eq!(pool.live_allocations(), expected.live, "live of {name}");
            assert!(peak >= bytes);
            assert!(pool.limit_bytes().is_none_or(|limit| bytes <= limit));
        }
        // Every thing holds the model's bytes.
        assert_eq!(state.things.len(), model.things.len());
        for ((id, real), (of, thing)) in state.things.iter().zip(&model.things) {
            assert_eq!(id, of);
            match (real, thing) {
                (
                    Real::Raw {
                        ptr,
                        size,
                        alignment,
                        ..
                    },
                    Thing::Raw { bytes, shift, .. },
                ) => {
                    assert_eq!((*size, alignment.get()), (bytes.len(), 1 << shift));
                    assert!(alignment.is_aligned(ptr.addr().get()));
                    assert_eq!(ptr.addr().get() % 64, 0);
                    // SAFETY: a live block of as many initialised bytes.
                    let real = unsafe { std::slice::from_raw_parts(ptr.as_ptr(), *size) };
                    assert!(real == bytes, "the bytes of {id}");
                }
                (Real::Mutable(real), Thing::Mutable { bytes, .. }) => {
                    assert!(real[..] == bytes[..], "the bytes of {id}");
                }
                (Real::Frozen(real), Thing::Frozen { bytes, .. }) => {
                    assert!(real[..] == bytes[..], "the bytes of {id}");
                }
                (Real::Resizable(real), Thing::Resizable { bytes, .. }) => {
                    assert!(real[..] == bytes[..], "the bytes of {id}");
                    assert_eq!(real.address() % 64, 0);
                }
                (
                    Real::Builder(real),
                    Thing::Builder {
                        bytes, capacity, ..
                    },
                ) => {
                    assert!(real.as_slice() == bytes, "the bytes of {id}");
                    assert_eq!(real.capacity(), *capacity);
                }
                (Real::Bits(real), Thing::Bits { bits, capacity, .. }) => {
                    assert_eq!((real.len(), real.capacity()), (bits.len(), capacity * 8));
                    let zeros = bits.iter().filter(|bit| !**bit).count();
                    assert_eq!(real.false_count(), zeros);
                    assert!(
                        bits.iter()
                            .enumerate()
                            .all(|(i, bit)| real.get(i) == Some(*bit))
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        // Nothing overlaps but frozen buffers.
        let mut ranges: Vec<_> = state
            .things
            .values()
            .map(|real| (addresses(real), matches!(real, Real::Frozen(_))))
            .filter(|(range, _)| !range.is_empty())
            .collect();
        ranges.sort_by_key(|(range, _)| range.start);
        let mut end = 0;
        let mut end_is_frozen = true;
        for (range, frozen) in ranges {
            assert!(
                range.start >= end || (frozen && end_is_frozen),
                "{range:?} overlaps"
            );
            if range.end >= end {
                end_is_frozen = frozen || (range.start < end && end_is_frozen);
                end = range.end;
            }
        }
    }

    fn teardown(mut state: Self, _model: Model) {
        let raw: Vec<Id> = state.things.keys().copied().collect();
        for id in raw {
            state.step(Step::Drop { id });
        }
        for pool in &state.pools {
            let now = pool.statistics();
            assert_eq!(
                (now.bytes_allocated, now.live_allocations),
                (0, 0),
                "{}",
                pool.name()
            );
            assert_eq!(pool.available(), chain_limit(pool));
        }
    }
}

/// The smallest limit of a pool and those above it.
fn chain_limit(pool: &Pool) -> Option<u64> {
    std::iter::successors(Some(pool), |pool| pool.parent())
        .filter_map(Pool::limit_bytes)
        .min()
}
