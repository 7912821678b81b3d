//! A pool as the source of another one.

use super::Pool;
use crate::alignment::Alignment;
use crate::error::Result;
use crate::location::Location;
use crate::pool::backend::BackendStatistics;
use crate::pool::memory_pool::{MemoryPool, Notice, Padding};
use std::ptr::NonNull;

// SAFETY: `allocate`, `reallocate` and `free` keep the trait's promises, which are their own.
unsafe impl MemoryPool for Pool {
    fn allocate(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.allocate_on_device(size, alignment, false)
    }

    fn allocate_zeroed(&self, size: usize, alignment: Alignment) -> Result<NonNull<u8>> {
        self.allocate_on_device(size, alignment, true)
    }

    fn padding(&self) -> Padding {
        match self.core().padding {
            Padding::None => Padding::None,
            // What a backend rounds, its pool makes room for.
            Padding::Rounded | Padding::Passed => Padding::Passed,
        }
    }

    fn location(&self) -> Location {
        Self::location(self)
    }

    fn upstream(&self) -> Option<&Pool> {
        Some(self)
    }

    fn notice(&self, ptr: NonNull<u8>, size: usize, notice: Notice) {
        Self::notice(self, ptr, size, notice);
    }

    unsafe fn reallocate(
        &self,
        ptr: NonNull<u8>,
        old_size: usize,
        new_size: usize,
        alignment: Alignment,
    ) -> Result<NonNull<u8>> {
        // SAFETY: the caller's promise.
        unsafe { Self::reallocate(self, ptr, old_size, new_size, alignment) }
    }

    unsafe fn free(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { Self::free(self, ptr, size, alignment) };
    }

    unsafe fn free_checked(
        &self,
        ptr: NonNull<u8>,
        size: usize,
        alignment: Alignment,
        freed: &mut Option<usize>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.free_counting(ptr, size, alignment, freed) };
    }

    unsafe fn park(&self, ptr: NonNull<u8>, size: usize) {
        // SAFETY: the caller's promise.
        unsafe { Self::park(self, ptr, size) };
    }

    unsafe fn free_parked(&self, ptr: NonNull<u8>, size: usize, alignment: Alignment) {
        // SAFETY: the caller's promise.
        unsafe { Self::free_parked(self, ptr, size, alignment) };
    }

    fn backend_name(&self) -> &str {
        Self::backend_name(self)
    }

    fn release_unused(&self) {
        Self::release_unused(self);
    }

    fn print_stats(&self) {
        Self::print_stats(self);
    }

    fn backend_statistics(&self) -> BackendStatistics {
        Self::backend_statistics(self)
    }
}
