//! Objects by number.

/// How many bits of an id are the generation; the rest of a safe integer's 53 bits is the index.
const GENERATION_BITS: u32 = 27;
const LAST_GENERATION: u32 = (1 << GENERATION_BITS) - 1;
const LAST_INDEX: usize = (1 << (53 - GENERATION_BITS)) - 1;

#[derive(Debug)]
enum State<T> {
    Used(T),
    /// The next free entry's index, or `LAST_INDEX + 1`.
    Free(usize),
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    state: State<T>,
}

/// Objects that JavaScript names by a safe integer: index and generation.
///
/// A generation is never used again: an entry that has had them all stays empty for good (a few
/// dozen bytes for each 134 million objects), so an id that outlived its object, in a late
/// finalization callback say, can never name another one.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: LAST_INDEX + 1,
        }
    }
}

impl<T> Slab<T> {
    #[expect(clippy::cast_precision_loss, reason = "53 bits at most")]
    fn id(index: usize, generation: u32) -> f64 {
        ((index as u64) << GENERATION_BITS | u64::from(generation)) as f64
    }

    /// Takes `value` in; gives it back when 67 million objects are alive already.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Result<f64, T> {
        if self.free <= LAST_INDEX {
            let index = self.free;
            let entry = &mut self.entries[index];
            if let State::Free(next) = entry.state {
                self.free = next;
            }
            entry.state = State::Used(value);
            return Ok(Self::id(index, entry.generation));
        }
        let index = self.entries.len();
        if index > LAST_INDEX || self.entries.try_reserve(1).is_err() {
            return Err(value);
        }
        self.entries.push(Entry {
            generation: 1,
            state: State::Used(value),
        });
        Ok(Self::id(index, 1))
    }

    #[inline]
    fn find(&self, id: f64) -> Option<usize> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked right below: a number that is no id finds nothing"
        )]
        let word = id as u64;
        let index = usize::try_from(word >> GENERATION_BITS).ok()?;
        let entry = self.entries.get(index)?;
        let same = u64::from(entry.generation) == word & u64::from(LAST_GENERATION);
        #[expect(
            clippy::cast_precision_loss,
            clippy::float_cmp,
            reason = "integers of 53 bits"
        )]
        let exact = word as f64 == id;
        (same && exact && matches!(entry.state, State::Used(_))).then_some(index)
    }

    /// The object named `id`.
    #[inline]
    pub(crate) fn get(&self, id: f64) -> Option<&T> {
        match &self.entries[self.find(id)?].state {
            State::Used(value) => Some(value),
            State::Free(_) => None,
        }
    }

    /// The object named `id`, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: f64) -> Option<&mut T> {
        let index = self.find(id)?;
        match &mut self.entries[index].state {
            State::Used(value) => Some(value),
            State::Free(_) => None,
        }
    }

    /// Takes the object named `id` out.
    #[inline]
    pub(crate) fn remove(&mut self, id: f64) -> Option<T> {
        let index = self.find(id)?;
        let entry = &mut self.entries[index];
        let next = if entry.generation == LAST_GENERATION {
            // Retired: not on the free list, and no id has generation 0.
            entry.generation = 0;
            LAST_INDEX + 1
        } else {
            entry.generation += 1;
            std::mem::replace(&mut self.free, index)
        };
        match std::mem::replace(&mut entry.state, State::Free(next)) {
            State::Used(value) => Some(value),
            State::Free(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_and_foreign_ids_find_nothing() {
        let mut slab = Slab::default();
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert_eq!((slab.get(a), slab.get(b)), (Some(&'a'), Some(&'b')));
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c').unwrap();
        assert_ne!(a, c);
        assert_eq!((slab.get(a), slab.get(c)), (None, Some(&'c')));
        assert_eq!(slab.remove(a), None);
        for id in [
            0.0,
            -1.0,
            0.5,
            b + 0.5,
            f64::NAN,
            f64::INFINITY,
            2_f64.powi(53),
            1e300,
        ] {
            assert_eq!(slab.get(id), None, "{id}");
        }
    }

    #[test]
    fn an_entry_that_has_had_every_generation_is_retired() {
        let mut slab = Slab::default();
        let first = slab.insert(0).unwrap();
        slab.entries[0].generation = LAST_GENERATION;
        assert_eq!(slab.get(first), None);
        let last = Slab::<i32>::id(0, LAST_GENERATION);
        assert_eq!(slab.remove(last), Some(0));
        let next = slab.insert(1).unwrap();
        assert_eq!(slab.find(next), Some(1));
        assert_eq!(slab.get(Slab::<i32>::id(0, 0)), None);
    }
}
