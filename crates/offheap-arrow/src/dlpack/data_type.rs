//! Element types of tensors.

use super::abi::DLDataType;
use crate::arrow::Format;
use offheap::{Error, Result};
use std::fmt;

const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const OPAQUE: u8 = 3;
const BFLOAT: u8 = 4;
const COMPLEX: u8 = 5;
const BOOL: u8 = 6;
/// Kinds of 8-bit floats.
const FLOAT8: std::ops::RangeInclusive<u8> = 7..=14;
/// Floats of 6 and 4 bits.
const SUBBYTE: std::ops::RangeInclusive<u8> = 15..=17;

impl DLDataType {
    /// Booleans of a byte each.
    pub const BOOL: Self = Self::of(BOOL, 8);
    /// Signed integers of 8 bits.
    pub const INT8: Self = Self::of(INT, 8);
    /// Signed integers of 16 bits.
    pub const INT16: Self = Self::of(INT, 16);
    /// Signed integers of 32 bits.
    pub const INT32: Self = Self::of(INT, 32);
    /// Signed integers of 64 bits.
    pub const INT64: Self = Self::of(INT, 64);
    /// Unsigned integers of 8 bits: bytes.
    pub const UINT8: Self = Self::of(UINT, 8);
    /// Unsigned integers of 16 bits.
    pub const UINT16: Self = Self::of(UINT, 16);
    /// Unsigned integers of 32 bits.
    pub const UINT32: Self = Self::of(UINT, 32);
    /// Unsigned integers of 64 bits.
    pub const UINT64: Self = Self::of(UINT, 64);
    /// IEEE floats of 16 bits.
    pub const FLOAT16: Self = Self::of(FLOAT, 16);
    /// IEEE floats of 32 bits.
    pub const FLOAT32: Self = Self::of(FLOAT, 32);
    /// IEEE floats of 64 bits.
    pub const FLOAT64: Self = Self::of(FLOAT, 64);
    /// Brain floats of 16 bits.
    pub const BFLOAT16: Self = Self::of(BFLOAT, 16);
    /// Complex numbers of two 32-bit floats.
    pub const COMPLEX64: Self = Self::of(COMPLEX, 64);
    /// Complex numbers of two 64-bit floats.
    pub const COMPLEX128: Self = Self::of(COMPLEX, 128);

    const fn of(code: u8, bits: u8) -> Self {
        Self {
            code,
            bits,
            lanes: 1,
        }
    }

    /// The type of an Arrow array's elements, as Arrow's own `ExportArray` maps them.
    ///
    /// # Errors
    /// [`NotSupported`](offheap::ErrorKind::NotSupported) for what is neither an integer nor a float:
    /// Arrow's booleans are bits, which DLPack does not have.
    pub fn from_format(format: &Format) -> Result<Self> {
        Ok(match format.as_str() {
            "c" => Self::INT8,
            "C" => Self::UINT8,
            "s" => Self::INT16,
            "S" => Self::UINT16,
            "i" => Self::INT32,
            "I" => Self::UINT32,
            "l" => Self::INT64,
            "L" => Self::UINT64,
            "e" => Self::FLOAT16,
            "f" => Self::FLOAT32,
            "g" => Self::FLOAT64,
            "b" => {
                return Err(Error::not_supported(
                    "Bit-packed boolean data type not supported by DLPack",
                ));
            }
            other => {
                return Err(Error::not_supported(format!(
                    "DataType is not compatible with DLPack spec: Arrow format {other:?}"
                )));
            }
        })
    }

    /// Bytes of one element, and what its address is a multiple of.
    ///
    /// # Errors
    /// - [`NotSupported`](offheap::ErrorKind::NotSupported) for opaque elements, and ones of fewer than 8
    ///   bits;
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for types that DLPack does not have.
    pub(crate) fn element(self) -> Result<(usize, usize)> {
        let whole = match self.code {
            OPAQUE => return Err(self.unsupported("opaque elements")),
            _ if SUBBYTE.contains(&self.code) => return Err(self.unsupported("fewer than 8 bits")),
            INT | UINT if matches!(self.bits, 1..=7) => {
                return Err(self.unsupported("fewer than 8 bits"));
            }
            INT | UINT | FLOAT | BFLOAT => {
                self.bits.is_multiple_of(8) && (8..=128).contains(&self.bits)
            }
            COMPLEX => self.bits.is_multiple_of(16) && (16..=128).contains(&self.bits),
            BOOL => self.bits == 8,
            _ if FLOAT8.contains(&self.code) => self.bits == 8,
            _ => false,
        };
        if !whole || self.lanes == 0 {
            return Err(Error::invalid_argument(
                "dtype",
                self,
                "a type of DLPack with whole bytes",
            ));
        }
        let lane = usize::from(self.bits / 8);
        // A complex number is two floats.
        let unit = if self.code == COMPLEX { lane / 2 } else { lane };
        let alignment = if unit.is_power_of_two() { unit } else { 1 };
        Ok((lane * usize::from(self.lanes), alignment))
    }

    #[cold]
    fn unsupported(self, why: &str) -> Error {
        Error::not_supported(format!("tensors of {self}: {why}"))
    }
}

/// `code 2, 64 bits, 1 lanes`.
impl fmt::Display for DLDataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "code {}, {} bits, {} lanes",
            self.code, self.bits, self.lanes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_map_as_in_arrow_and_others_are_refused_with_its_words() {
        for (format, expected) in [
            ("c", DLDataType::INT8),
            ("S", DLDataType::UINT16),
            ("l", DLDataType::INT64),
            ("e", DLDataType::FLOAT16),
            ("g", DLDataType::FLOAT64),
        ] {
            let format = Format::parse(format).unwrap();
            let mapped = DLDataType::from_format(&format).unwrap();
            assert_eq!(mapped, expected);
            assert_eq!(mapped.element().unwrap().0 * 8, format.element_bits());
        }
        let bits = DLDataType::from_format(&Format::parse("b").unwrap()).unwrap_err();
        assert!(bits.to_string().contains("Bit-packed boolean"), "{bits}");
        for format in ["d:19,10", "tdD", "w:4", "tsu:"] {
            let error = DLDataType::from_format(&Format::parse(format).unwrap()).unwrap_err();
            assert!(error.to_string().contains("not compatible with DLPack"));
        }
    }

    #[test]
    fn elements_have_whole_bytes() {
        assert_eq!(DLDataType::COMPLEX128.element().unwrap(), (16, 8));
        let float4 = DLDataType {
            lanes: 4,
            ..DLDataType::FLOAT32
        };
        assert_eq!(float4.element().unwrap(), (16, 4));
        // Every value of the three members has an answer.
        for code in 0..=255 {
            for bits in 0..=255 {
                for lanes in [0, 1, 4, u16::MAX] {
                    let dtype = DLDataType { code, bits, lanes };
                    match dtype.element() {
                        Ok((size, alignment)) => {
                            assert!(size > 0 && alignment > 0 && lanes > 0 && code < 15);
                        }
                        Err(error) => assert_ne!(error.code(), "ERR_OFFHEAP_CORRUPTION"),
                    }
                }
            }
        }
    }
}
