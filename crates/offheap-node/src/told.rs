//! What V8 knows of memory that no ArrayBuffer shows.

use offheap::Block;
use std::cell::Cell;
use std::rc::Rc;

/// The bytes of a block that V8 was told of, so that it feels the pressure of handles that are
/// forgotten. An ArrayBuffer tells V8 by itself: while one shows the block, nothing is told.
///
/// Slices share the figure with the handle they were made from: the block is told of once, as long
/// as any of them lives.
#[derive(Debug, Default)]
pub(crate) struct Told {
    own: usize,
    shared: Option<Rc<Cell<usize>>>,
}

fn difference(new: usize, old: usize) -> i64 {
    i64::try_from(new).unwrap_or(0) - i64::try_from(old).unwrap_or(0)
}

impl Told {
    /// Tells of `bytes` from now on; returns how much that changes what V8 knows.
    #[inline]
    pub(crate) fn set(&mut self, bytes: usize) -> i64 {
        let old = match &self.shared {
            None => std::mem::replace(&mut self.own, bytes),
            Some(shared) => shared.replace(bytes),
        };
        difference(bytes, old)
    }

    /// The figure for a slice.
    pub(crate) fn share(&mut self) -> Self {
        let own = self.own;
        let shared = self.shared.get_or_insert_with(|| Rc::new(Cell::new(own)));
        Self {
            own: 0,
            shared: Some(Rc::clone(shared)),
        }
    }

    /// Ends a handle's part in it; returns how much that changes what V8 knows. When `shows`, the
    /// handle's views showed the block until now, and slices that stay are told of instead.
    #[inline]
    pub(crate) fn end(self, block: &Block, shows: bool) -> i64 {
        match self.shared {
            None => difference(0, self.own),
            Some(shared) if Rc::strong_count(&shared) == 1 => difference(0, shared.get()),
            Some(shared) if shows && block.pool().is_some() => {
                difference(block.size(), shared.replace(block.size()))
            }
            Some(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offheap::{Alignment, system_memory_pool};

    #[test]
    fn a_block_is_told_of_once_and_as_long_as_a_handle_lives() {
        let pool = system_memory_pool().proxy();
        let block = Block::allocate(100, Alignment::DEFAULT, &pool, false).unwrap();
        let mut whole = Told::default();
        let mut known = whole.set(100);
        let mut slice = whole.share();
        let another = slice.share();
        known += whole.set(0); // shown
        assert_eq!(known, 0);
        known += whole.end(&block, true);
        assert_eq!(known, 100);
        known += slice.end(&block, false);
        assert_eq!(known, 100);
        known += another.end(&block, false);
        assert_eq!(known, 0);
    }
}
