//! Frees that are counted when they are over, also when a source panics in the middle.

use super::Pool;

/// Counts a free when it is over.
pub(super) struct Freed<'a> {
    pub(super) pool: &'a Pool,
    pub(super) freed: &'a mut Option<usize>,
    /// Whether an allocation ends, or goes on with no bytes.
    pub(super) is_end: bool,
}

impl Drop for Freed<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(size) = *self.freed else { return };
        let account = &self.pool.core().account;
        if self.is_end {
            account.commit_free(size as u64);
        } else {
            account.commit_shrink(size as u64);
        }
    }
}

/// Tells what a source freed when its call is over, also by a panic.
pub(super) struct Seen<'a> {
    pub(super) freed: Option<usize>,
    pub(super) asked: usize,
    pub(super) size: usize,
    pub(super) told: &'a mut Option<usize>,
}

impl Drop for Seen<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.told = self
            .freed
            .map(|n| if n == self.asked { self.size } else { n });
    }
}
