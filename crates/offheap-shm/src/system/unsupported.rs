//! Systems without memory that can be shared safely in a way that this crate knows.

use super::{Address, Sought, Wanted};
use offheap::{Error, Result};
use std::convert::Infallible;
use std::ptr::NonNull;

/// There is none.
#[derive(Debug)]
pub(crate) struct Mapping(Infallible);

/// There is none.
#[derive(Debug)]
pub(crate) struct Owned(Infallible);

#[cold]
fn unsupported() -> Error {
    Error::not_supported("this system has no shared memory that offheap knows")
}

pub(crate) const fn page_size() -> usize {
    4096
}

pub(crate) fn create(_wanted: &Wanted<'_>) -> Result<(Mapping, Owned)> {
    Err(unsupported())
}

pub(crate) fn open(_sought: &Sought<'_>) -> Result<Mapping> {
    Err(unsupported())
}

impl Owned {
    pub(crate) fn address(&self) -> Address {
        match self.0 {}
    }

    pub(crate) fn freeze(&self) -> Result<()> {
        match self.0 {}
    }
}

impl Mapping {
    pub(crate) fn start(&self) -> NonNull<u8> {
        match self.0 {}
    }

    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }
}
