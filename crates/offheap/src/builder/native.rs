//! The types of values that a typed builder holds.

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
