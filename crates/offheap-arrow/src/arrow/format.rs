//! Format strings of fixed-width types.

use offheap::{Error, Result};
use std::fmt;

/// A type whose arrays have one buffer of fixed-width elements, by its Arrow format string.
///
/// | format | elements |
/// |---|---|
/// | `b` | bits |
/// | `c` `C` `s` `S` `i` `I` `l` `L` | integers of 8, 16, 32, 64 bits; unsigned in upper case |
/// | `e` `f` `g` | floats of 16, 32, 64 bits |
/// | `w:N` | N bytes |
/// | `d:p,s` `d:p,s,bits` | decimals of 128, or 32, 64, 128, 256 bits |
/// | `tdD` `tdm` `tts` `ttm` `ttu` `ttn` `tss:…` `tDs` `tiM` `tiD` `tin` … | dates, times, timestamps, durations, intervals |
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Format {
    text: Box<str>,
    bits: usize,
    alignment: usize,
}

impl Format {
    /// The type with a format string.
    ///
    /// # Errors
    /// - [`NotSupported`](offheap::ErrorKind::NotSupported) for types with other than one buffer of
    ///   fixed-width elements: strings, lists, `n`, …
    /// - [`InvalidArgument`](offheap::ErrorKind::InvalidArgument) for what is no format at all.
    pub fn parse(format: &str) -> Result<Self> {
        let invalid =
            || Error::invalid_argument("format", format!("{format:?}"), "an Arrow format string");
        let bytes = |n: usize| Ok((n * 8, n));
        let (bits, alignment) = match format {
            "b" => (1, 1),
            "c" | "C" => bytes(1)?,
            "s" | "S" | "e" => bytes(2)?,
            "i" | "I" | "f" | "tdD" | "tts" | "ttm" | "tiM" => bytes(4)?,
            "l" | "L" | "g" | "tdm" | "ttu" | "ttn" | "tDs" | "tDm" | "tDu" | "tDn" => bytes(8)?,
            // Two and three integers: of 32 bits each, and of 32, 32 and 64.
            "tiD" => (64, 4),
            "tin" => (128, 8),
            _ if is_timestamp(format) => bytes(8)?,
            _ => match format.split_once(':') {
                Some(("w", width)) => {
                    let width: i32 = width.parse().map_err(|_| invalid())?;
                    let width = usize::try_from(width).map_err(|_| invalid())?;
                    (width.checked_mul(8).ok_or_else(invalid)?, 1)
                }
                Some(("d", decimal)) => {
                    let bits = decimal_bits(decimal).ok_or_else(invalid)?;
                    (bits, (bits / 8).min(8))
                }
                _ if is_known(format) => {
                    return Err(Error::not_supported(format!(
                        "Arrow format {format:?}: only fixed-width types with one buffer are"
                    )));
                }
                _ => return Err(invalid()),
            },
        };
        Ok(Self {
            text: format.into(),
            bits,
            alignment,
        })
    }

    /// The format string.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Bits of one element: 1 of `b`, else a multiple of 8.
    pub fn element_bits(&self) -> usize {
        self.bits
    }

    /// What addresses of elements are multiples of, in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Where elements `offset..offset + length` lie: the first byte, how many bytes, and which bit of the
    /// first (0 except of `b`). `None` when that is more than memory can have.
    pub(crate) fn extent(&self, offset: usize, length: usize) -> Option<(usize, usize, u8)> {
        let start = (offset as u128).checked_mul(self.bits as u128)?;
        let end = (offset as u128 + length as u128).checked_mul(self.bits as u128)?;
        let last = usize::try_from(end.div_ceil(8)).ok()?;
        isize::try_from(last).ok()?;
        let first = usize::try_from(start / 8).ok()?;
        // An empty array needs no byte, also where it begins within one.
        let size = if length == 0 { 0 } else { last - first };
        Some((first, size, (start % 8) as u8))
    }
}

/// `tss:`, `tsm:`, `tsu:`, `tsn:`, with a time zone behind.
fn is_timestamp(format: &str) -> bool {
    let bytes = format.as_bytes();
    bytes.starts_with(b"ts") && matches!(bytes.get(2..4), Some(b"s:" | b"m:" | b"u:" | b"n:"))
}

/// Types that are no one buffer.
fn is_known(format: &str) -> bool {
    matches!(format, "n" | "z" | "Z" | "vz" | "u" | "U" | "vu") || format.starts_with('+')
}

/// The width of `precision,scale[,bits]`.
fn decimal_bits(decimal: &str) -> Option<usize> {
    let mut parts = decimal.split(',');
    parts.next()?.parse::<u8>().ok().filter(|p| *p > 0)?;
    parts.next()?.parse::<i32>().ok()?;
    let bits = match parts.next() {
        None => 128,
        Some("32") => 32,
        Some("64") => 64,
        Some("128") => 128,
        Some("256") => 256,
        Some(_) => return None,
    };
    parts.next().is_none().then_some(bits)
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({:?}, {} bits)", self.text, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_specification() {
        let widths = [
            ("b", 1),
            ("c", 8),
            ("S", 16),
            ("e", 16),
            ("i", 32),
            ("f", 32),
            ("L", 64),
            ("g", 64),
            ("w:42", 336),
            ("w:0", 0),
            ("d:19,10", 128),
            ("d:19,10,256", 256),
            ("d:9,-2,32", 32),
            ("tdD", 32),
            ("tdm", 64),
            ("tsu:", 64),
            ("tsn:Europe/Vienna", 64),
            ("tiD", 64),
            ("tin", 128),
        ];
        for (format, bits) in widths {
            assert_eq!(
                Format::parse(format).unwrap().element_bits(),
                bits,
                "{format}"
            );
        }
    }

    #[test]
    fn other_types_and_nonsense_are_told_apart() {
        for known in ["u", "Z", "vu", "n", "+l", "+s", "+ud:0"] {
            let error = Format::parse(known).unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_NOT_SUPPORTED", "{known}");
        }
        let none = [
            "",
            "x",
            "gg",
            "w:",
            "w:-1",
            "w:99999999999",
            "d:1",
            "d:0,1",
            "d:1,2,3",
            "d:1,2,32,1",
            "tsx:",
            "ts",
            "tsé",
            "é",
        ];
        for format in none {
            let error = Format::parse(format).unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT", "{format}");
        }
    }

    #[test]
    fn an_extent_never_wraps() {
        let bits = Format::parse("b").unwrap();
        assert_eq!(bits.extent(10, 7), Some((1, 2, 2)));
        assert_eq!(bits.extent(8, 8), Some((1, 1, 0)));
        assert_eq!(bits.extent(3, 0), Some((0, 0, 3)));
        assert_eq!(Format::parse("g").unwrap().extent(3, 2), Some((24, 16, 0)));
        for format in ["g", "w:2147483647", "C"] {
            let format = Format::parse(format).unwrap();
            assert_eq!(format.extent(usize::MAX, usize::MAX), None);
            assert_eq!(format.extent(0, isize::MAX as usize + 1), None);
        }
    }
}
