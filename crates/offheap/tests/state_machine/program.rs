//! What a program is made of, and which steps may come next.

use crate::model::{Model, Thing};
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;

/// A thing of the program, by the number it was made under.
pub(crate) type Id = usize;

/// One call.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Limit {
        parent: usize,
        bytes: u64,
    },
    Proxy {
        parent: usize,
    },
    ResetPeak {
        pool: usize,
    },
    Raw {
        id: Id,
        pool: usize,
        size: usize,
        shift: u32,
        fill: u8,
    },
    ReallocateRaw {
        id: Id,
        size: usize,
    },
    Zeroed {
        id: Id,
        pool: usize,
        size: usize,
        shift: u32,
    },
    Copy {
        id: Id,
        pool: usize,
        size: usize,
        fill: u8,
    },
    Write {
        id: Id,
        at: usize,
        fill: u8,
    },
    Split {
        id: Id,
        back: Id,
        at: usize,
    },
    Freeze {
        id: Id,
    },
    Thaw {
        id: Id,
    },
    Slice {
        id: Id,
        slice: Id,
        offset: usize,
        length: usize,
    },
    CopySlice {
        id: Id,
        copy: Id,
        pool: usize,
        offset: usize,
        length: usize,
    },
    Concat {
        ids: [Id; 2],
        whole: Id,
        pool: usize,
    },
    Resizable {
        id: Id,
    },
    Resize {
        id: Id,
        size: usize,
        shrink: bool,
    },
    Reserve {
        id: Id,
        capacity: usize,
    },
    Builder {
        id: Id,
        pool: usize,
    },
    Continue {
        id: Id,
    },
    Append {
        id: Id,
        n: usize,
        fill: u8,
        copies: bool,
    },
    BuilderReserve {
        id: Id,
        n: usize,
    },
    BuilderResize {
        id: Id,
        capacity: usize,
        shrink: bool,
    },
    Rewind {
        id: Id,
        position: usize,
    },
    Finish {
        id: Id,
        length: Option<usize>,
        shrink: bool,
        into: Id,
    },
    Bits {
        id: Id,
        pool: usize,
    },
    AppendBits {
        id: Id,
        n: usize,
        seed: u64,
    },
    FinishBits {
        id: Id,
        shrink: bool,
        into: Id,
    },
    Drop {
        id: Id,
    },
}

/// What came of the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    OutOfMemory,
    OutOfRange,
    InvalidArgument,
    /// The thing came back as it was: it is shared, or a part.
    Unchanged,
}

impl Model {
    /// The things of some kind.
    fn some(&self, kind: fn(&Thing) -> bool) -> Vec<Id> {
        self.things
            .iter()
            .filter(|(_, thing)| kind(thing))
            .map(|(id, _)| *id)
            .collect()
    }
}

fn is_raw(thing: &Thing) -> bool {
    matches!(thing, Thing::Raw { .. })
}

fn is_mutable(thing: &Thing) -> bool {
    matches!(thing, Thing::Mutable { .. })
}

fn is_frozen(thing: &Thing) -> bool {
    matches!(thing, Thing::Frozen { .. })
}

fn is_resizable(thing: &Thing) -> bool {
    matches!(thing, Thing::Resizable { .. })
}

fn is_builder(thing: &Thing) -> bool {
    matches!(thing, Thing::Builder { .. })
}

fn is_bits(thing: &Thing) -> bool {
    matches!(thing, Thing::Bits { .. })
}

fn is_freezable(thing: &Thing) -> bool {
    is_mutable(thing) || is_resizable(thing)
}

fn is_writable(thing: &Thing) -> bool {
    is_freezable(thing) || is_builder(thing)
}

fn is_any(_: &Thing) -> bool {
    true
}

/// Sizes around the steps of padding and pages, small ones most often.
fn sizes() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![
        4 => 0..200_usize,
        3 => select(vec![0, 1, 63, 64, 65, 127, 128, 1000, 4095, 4096, 4097]),
        2 => 0..6000_usize,
        1 => 0..70_000_usize,
    ]
}

/// The same, and now and then what is a region of offheap's own, or nearly.
fn any_sizes() -> impl Strategy<Value = usize> + Clone {
    const THRESHOLD: usize = 1 << 20;
    prop_oneof![
        60 => sizes(),
        1 => THRESHOLD - 70..THRESHOLD + 70,
        1 => THRESHOLD..3 * THRESHOLD,
    ]
}

/// Offsets and lengths, now and then ones that are no use.
fn lengths() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![
        20 => 0..100_usize,
        10 => 0..5000_usize,
        1 => select(vec![usize::MAX, usize::MAX - 1, isize::MAX as usize]),
    ]
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        (0..offheap::supported_memory_backends().len())
            .prop_map(Self::new)
            .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        let id = state.next;
        let pool = || 0..state.pools.len();
        let mut choices: Vec<(u32, BoxedStrategy<Step>)> = vec![
            (
                4,
                (pool(), any_sizes(), 0..13_u32, any::<u8>())
                    .prop_map(move |(pool, size, shift, fill)| Step::Raw {
                        id,
                        pool,
                        size,
                        shift,
                        fill,
                    })
                    .boxed(),
            ),
            (
                4,
                (pool(), any_sizes(), 0..13_u32)
                    .prop_map(move |(pool, size, shift)| Step::Zeroed {
                        id,
                        pool,
                        size,
                        shift,
                    })
                    .boxed(),
            ),
            (
                4,
                (pool(), any_sizes(), any::<u8>())
                    .prop_map(move |(pool, size, fill)| Step::Copy {
                        id,
                        pool,
                        size,
                        fill,
                    })
                    .boxed(),
            ),
            (
                2,
                pool()
                    .prop_map(move |pool| Step::Builder { id, pool })
                    .boxed(),
            ),
            (
                1,
                pool().prop_map(move |pool| Step::Bits { id, pool }).boxed(),
            ),
            (1, pool().prop_map(|pool| Step::ResetPeak { pool }).boxed()),
        ];
        if state.pools.len() < 7 {
            // Limits that are hit often, some of them at once.
            let limits = prop_oneof![0..300_u64, 0..20_000_u64, 0..200_000_u64];
            choices.push((
                3,
                (pool(), limits)
                    .prop_map(|(parent, bytes)| Step::Limit { parent, bytes })
                    .boxed(),
            ));
            choices.push((1, pool().prop_map(|parent| Step::Proxy { parent }).boxed()));
        }
        let mut of =
            |kind: fn(&Thing) -> bool,
             weight: u32,
             step: &dyn Fn(BoxedStrategy<Id>) -> BoxedStrategy<Step>| {
                let ids = state.some(kind);
                if !ids.is_empty() {
                    choices.push((weight, step(select(ids).boxed())));
                }
            };
        of(is_any, 6, &|ids| {
            ids.prop_map(|id| Step::Drop { id }).boxed()
        });
        of(is_raw, 5, &|ids| {
            (ids, any_sizes())
                .prop_map(|(id, size)| Step::ReallocateRaw { id, size })
                .boxed()
        });
        of(is_writable, 3, &|ids| {
            (ids, lengths(), any::<u8>())
                .prop_map(|(id, at, fill)| Step::Write { id, at, fill })
                .boxed()
        });
        of(is_mutable, 2, &|ids| {
            (ids, 0..200_usize)
                .prop_map(move |(target, at)| Step::Split {
                    id: target,
                    back: id,
                    at,
                })
                .boxed()
        });
        of(is_mutable, 4, &|ids| {
            ids.prop_map(|id| Step::Resizable { id }).boxed()
        });
        of(is_freezable, 4, &|ids| {
            ids.prop_map(|id| Step::Freeze { id }).boxed()
        });
        of(is_frozen, 2, &|ids| {
            ids.prop_map(|id| Step::Thaw { id }).boxed()
        });
        of(is_frozen, 4, &|ids| {
            (ids, lengths(), lengths())
                .prop_map(move |(of, offset, length)| Step::Slice {
                    id: of,
                    slice: id,
                    offset,
                    length,
                })
                .boxed()
        });
        of(is_frozen, 2, &|ids| {
            (ids, 0..state.pools.len(), lengths(), lengths())
                .prop_map(move |(of, pool, offset, length)| Step::CopySlice {
                    id: of,
                    copy: id,
                    pool,
                    offset,
                    length,
                })
                .boxed()
        });
        of(is_frozen, 1, &|ids| {
            (ids.clone(), ids, 0..state.pools.len())
                .prop_map(move |(a, b, pool)| Step::Concat {
                    ids: [a, b],
                    whole: id,
                    pool,
                })
                .boxed()
        });
        of(is_resizable, 8, &|ids| {
            (ids, any_sizes(), any::<bool>())
                .prop_map(|(id, size, shrink)| Step::Resize { id, size, shrink })
                .boxed()
        });
        of(is_resizable, 3, &|ids| {
            (ids, any_sizes())
                .prop_map(|(id, capacity)| Step::Reserve { id, capacity })
                .boxed()
        });
        of(is_resizable, 1, &|ids| {
            ids.prop_map(|id| Step::Continue { id }).boxed()
        });
        of(is_builder, 10, &|ids| {
            (ids, any_sizes(), any::<u8>(), any::<bool>())
                .prop_map(|(id, n, fill, copies)| Step::Append {
                    id,
                    n,
                    fill,
                    copies,
                })
                .boxed()
        });
        of(is_builder, 3, &|ids| {
            (ids, sizes())
                .prop_map(|(id, n)| Step::BuilderReserve { id, n })
                .boxed()
        });
        of(is_builder, 3, &|ids| {
            (ids, sizes(), any::<bool>())
                .prop_map(|(id, capacity, shrink)| Step::BuilderResize {
                    id,
                    capacity,
                    shrink,
                })
                .boxed()
        });
        of(is_builder, 1, &|ids| {
            (ids, lengths())
                .prop_map(|(id, position)| Step::Rewind { id, position })
                .boxed()
        });
        of(is_builder, 3, &|ids| {
            (ids, prop::option::of(lengths()), any::<bool>())
                .prop_map(move |(of, length, shrink)| Step::Finish {
                    id: of,
                    length,
                    shrink,
                    into: id,
                })
                .boxed()
        });
        of(is_bits, 6, &|ids| {
            (ids, sizes(), any::<u64>())
                .prop_map(|(id, n, seed)| Step::AppendBits { id, n, seed })
                .boxed()
        });
        of(is_bits, 2, &|ids| {
            (ids, any::<bool>())
                .prop_map(move |(of, shrink)| Step::FinishBits {
                    id: of,
                    shrink,
                    into: id,
                })
                .boxed()
        });
        prop::strategy::Union::new_weighted(choices).boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        let pool = |pool: usize| pool < state.pools.len();
        let is = |id: Id, kind: fn(&Thing) -> bool| state.things.get(&id).is_some_and(kind);
        let new = |id: Id| !state.things.contains_key(&id);
        match *step {
            Step::Limit { parent, .. } | Step::Proxy { parent } => pool(parent),
            Step::ResetPeak { pool: target } => pool(target),
            Step::Raw { id, pool: from, .. }
            | Step::Zeroed { id, pool: from, .. }
            | Step::Copy { id, pool: from, .. }
            | Step::Builder { id, pool: from }
            | Step::Bits { id, pool: from } => new(id) && pool(from),
            Step::ReallocateRaw { id, .. } => is(id, is_raw),
            Step::Write { id, .. } => is(id, is_writable),
            Step::Split { id, back, .. } => is(id, is_mutable) && new(back),
            Step::Freeze { id } => is(id, is_freezable),
            Step::Thaw { id } => is(id, is_frozen),
            Step::Slice { id, slice, .. } => is(id, is_frozen) && new(slice),
            Step::CopySlice {
                id,
                copy,
                pool: from,
                ..
            } => is(id, is_frozen) && new(copy) && pool(from),
            Step::Concat {
                ids,
                whole,
                pool: from,
            } => ids.iter().all(|id| is(*id, is_frozen)) && new(whole) && pool(from),
            Step::Resizable { id } => is(id, is_mutable),
            Step::Resize { id, .. } | Step::Reserve { id, .. } | Step::Continue { id } => {
                is(id, is_resizable)
            }
            Step::Append { id, .. }
            | Step::BuilderReserve { id, .. }
            | Step::BuilderResize { id, .. }
            | Step::Rewind { id, .. } => is(id, is_builder),
            Step::Finish { id, into, .. } => is(id, is_builder) && new(into),
            Step::AppendBits { id, .. } => is(id, is_bits),
            Step::FinishBits { id, into, .. } => is(id, is_bits) && new(into),
            Step::Drop { id } => !new(id),
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        state.outcome = state.step(step);
        let newest = state.things.last_key_value().map_or(0, |(id, _)| id + 1);
        state.next = state.next.max(newest);
        state
    }
}
