//! What a buffer's id stands for.

use crate::slot::Slot;
use crate::told::Told;
use offheap::{Block, Error, ErrorKind, Result};
use std::ptr::NonNull;
use std::sync::Arc;

/// One external ArrayBuffer that a handle gave out.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) slot: Arc<Slot>,
    /// Requests in flight when the view was made.
    pub(crate) requests: u32,
}

/// A range of a block, and the views of it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) block: Block,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) is_mutable: bool,
    pub(crate) is_resizable: bool,
    /// Whether the handle is of the whole block: its capacity is then the block's.
    pub(crate) is_whole: bool,
    /// Requests in flight when the first view that is a copy was made.
    pub(crate) copied_at: Option<u32>,
    /// What V8 was told of the block.
    pub(crate) told: Told,
    /// The usual single view; windows beyond it are in `windows`.
    pub(crate) view: Option<View>,
    pub(crate) windows: Vec<View>,
}

impl Handle {
    pub(crate) fn whole(block: Block, len: usize) -> Self {
        Self {
            block,
            offset: 0,
            len,
            is_mutable: true,
            is_resizable: false,
            is_whole: true,
            copied_at: None,
            told: Told::default(),
            view: None,
            windows: Vec::new(),
        }
    }

    /// The first byte.
    #[inline]
    pub(crate) fn ptr(&self) -> NonNull<u8> {
        // SAFETY: the range was checked to lie in the block when the handle was made.
        unsafe { self.block.as_ptr().add(self.offset) }
    }

    pub(crate) fn capacity(&self) -> usize {
        if self.is_whole {
            self.block.capacity()
        } else {
            self.len
        }
    }

    /// The range `[offset, offset + length)` of the handle's bytes.
    pub(crate) fn range(&self, offset: usize, length: usize) -> Result<NonNull<u8>> {
        match offset.checked_add(length) {
            // SAFETY: just checked.
            Some(end) if end <= self.len => Ok(unsafe { self.ptr().add(offset) }),
            _ => Err(Error::range(offset, length, self.len)),
        }
    }

    pub(crate) fn must_be_mutable(&self, what: &'static str) -> Result<()> {
        if self.is_mutable {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Immutable { what }))
        }
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = &View> {
        self.view.iter().chain(&self.windows)
    }

    /// References to the block that are neither this handle nor its own views.
    pub(crate) fn others(&self) -> usize {
        let own = 1 + self.views().filter(|view| view.slot.is_live()).count();
        self.block.strong_count().saturating_sub(own)
    }

    /// Zeroes the bytes between the size and the capacity.
    pub(crate) fn zero_padding(&self) {
        let padding = self.capacity() - self.len;
        // SAFETY: the capacity may be written; JavaScript shares the bytes only with itself.
        unsafe { self.ptr().add(self.len).write_bytes(0, padding) };
    }
}
