//! What was freed and not used again, so that it can be given back to the system.

use super::backend::Backend;

/// Tells that the calling thread gave `bytes` back to `backend`: called now and then, not for every
/// free, by whoever counts (a lease given back, a region freed).
#[inline]
pub(crate) fn freed(backend: Backend, bytes: usize) {
    let _ = (backend, bytes);
}
