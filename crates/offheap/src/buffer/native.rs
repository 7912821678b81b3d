//! The types of values that typed views and builders hold.

use crate::error::{Error, Result};

mod sealed {
    /// Keeps [`Native`](super::Native) to this crate's list.
    pub trait Sealed {}
}

/// A number of the Arrow format: `i8` to `i64`, `u8` to `u64`, `f32` or `f64`.
///
/// # Safety
/// - The type has no padding, and every pattern of its bits, all zero included, is a value of it:
///   bytes may be read as the type, and the type as bytes.
pub unsafe trait Native: Copy + Default + Send + Sync + 'static + sealed::Sealed {
    /// The type's name in the Arrow format.
    const NAME: &'static str;
}

macro_rules! native {
    ($($type:ty = $name:literal),*) => {$(
        impl sealed::Sealed for $type {}
        // SAFETY: primitive numbers have no padding, and every pattern of bits is a value.
        unsafe impl Native for $type {
            const NAME: &'static str = $name;
        }
    )*};
}

native!(
    i8 = "int8",
    i16 = "int16",
    i32 = "int32",
    i64 = "int64",
    u8 = "uint8",
    u16 = "uint16",
    u32 = "uint32",
    u64 = "uint64",
    f32 = "float32",
    f64 = "float64"
);

/// `bytes` as values, in place.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the first byte does not lie at a
/// multiple of `T`'s alignment, or the bytes are no whole number of values.
#[inline]
pub(super) fn as_values<T: Native>(bytes: &[u8]) -> Result<&[T]> {
    if bytes.is_empty() {
        return Ok(&[]);
    }
    check::<T>(bytes)?;
    // SAFETY: as many whole values, aligned; every pattern of initialised bytes is one.
    Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// As [`as_values`], to be changed.
///
/// # Errors
/// As [`as_values`].
#[inline]
pub(super) fn as_values_mut<T: Native>(bytes: &mut [u8]) -> Result<&mut [T]> {
    if bytes.is_empty() {
        return Ok(&mut []);
    }
    check::<T>(bytes)?;
    let count = bytes.len() / size_of::<T>();
    // SAFETY: as for `as_values`; a value has no padding, so what is written stays initialised.
    Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) })
}

#[inline]
fn check<T: Native>(bytes: &[u8]) -> Result<()> {
    if bytes.as_ptr().cast::<T>().is_aligned() && bytes.len().is_multiple_of(size_of::<T>()) {
        Ok(())
    } else {
        Err(refused::<T>(bytes))
    }
}

#[cold]
fn refused<T: Native>(bytes: &[u8]) -> Error {
    let (address, size) = (bytes.as_ptr().addr(), bytes.len());
    if size.is_multiple_of(size_of::<T>()) {
        Error::invalid_argument(
            "address",
            format_args!("{address:#x} for {}", T::NAME),
            "a multiple of the type's alignment: see `ensure_alignment`",
        )
    } else {
        Error::invalid_argument(
            "size",
            format_args!("{size} for {}", T::NAME),
            "a multiple of the type's size",
        )
    }
}
