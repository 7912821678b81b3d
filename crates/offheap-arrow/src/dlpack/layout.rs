//! How a tensor lies in a buffer.

use super::abi::DLDataType;
use offheap::{Error, ErrorKind, Result};

/// As many dimensions as NumPy and PyTorch take.
pub(super) const MAX_DIMENSIONS: usize = 64;

/// How a tensor lies in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLayout {
    /// The elements' type.
    pub data_type: DLDataType,
    /// Elements in each dimension; without one it is a single element.
    pub shape: Vec<i64>,
    /// From one element to the next in each dimension, in elements, which may be zero or negative;
    /// `None`: row after row, without gaps.
    pub strides: Option<Vec<i64>>,
    /// Where the first element lies in the buffer, in bytes.
    pub byte_offset: usize,
}

impl TensorLayout {
    /// `length` elements from the start of a buffer on.
    pub fn vector(data_type: DLDataType, length: usize) -> Self {
        Self {
            data_type,
            // More than any buffer has either way.
            shape: vec![i64::try_from(length).unwrap_or(i64::MAX)],
            strides: None,
            byte_offset: 0,
        }
    }

    /// The strides, and whether there is any element, of a tensor that lies in `size` bytes.
    ///
    /// # Errors
    /// - [`OutOfRange`](ErrorKind::OutOfRange) when an element would lie outside;
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument) for negative dimensions, too many, and other than
    ///   one stride each.
    pub(super) fn resolve(&self, size: usize) -> Result<(Vec<i64>, bool)> {
        let (element, _) = self.data_type.element()?;
        check_shape(&self.shape)?;
        let compact = compact_strides(&self.shape).ok_or_else(|| too_large(&self.shape))?;
        let strides = match &self.strides {
            None => compact,
            Some(strides) if strides.len() == self.shape.len() => strides.clone(),
            Some(strides) => {
                return Err(Error::invalid_argument(
                    "strides",
                    format_args!("{} for {} dimensions", strides.len(), self.shape.len()),
                    "one for each dimension",
                ));
            }
        };
        if self.shape.contains(&0) {
            if self.byte_offset > size {
                return Err(Error::position("byte_offset", self.byte_offset, size));
            }
            return Ok((strides, false));
        }
        // At most 64 products of two 63-bit numbers, and a width of at most 2^20: far from wrapping.
        let (mut lowest, mut highest) = (0_i128, 0_i128);
        for (dimension, stride) in self.shape.iter().zip(&strides) {
            let reach = i128::from(dimension - 1).saturating_mul(i128::from(*stride));
            if reach < 0 {
                lowest = lowest.saturating_add(reach);
            } else {
                highest = highest.saturating_add(reach);
            }
        }
        let element = element as i128;
        let start = (self.byte_offset as i128).saturating_add(lowest.saturating_mul(element));
        let end = (self.byte_offset as i128)
            .saturating_add(highest.saturating_mul(element))
            .saturating_add(element);
        if start < 0 || end > size as i128 {
            return Err(Error::new(ErrorKind::OutOfRange {
                what: format!(
                    "a tensor of {:?} elements of {element} bytes, strides {strides:?}, at byte {} lies at \
                     {start}..{end}, outside of {size} bytes",
                    self.shape, self.byte_offset
                ),
            }));
        }
        Ok((strides, true))
    }
}

/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for negative dimensions, and too many.
pub(super) fn check_shape(shape: &[i64]) -> Result<()> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(Error::invalid_argument(
            "shape",
            format_args!("{} dimensions", shape.len()),
            "at most 64 dimensions",
        ));
    }
    match shape.iter().find(|dimension| **dimension < 0) {
        Some(dimension) => Err(Error::invalid_argument(
            "shape",
            dimension,
            "dimensions of 0 or more",
        )),
        None => Ok(()),
    }
}

#[cold]
pub(super) fn too_large(shape: &[i64]) -> Error {
    Error::invalid_argument(
        "shape",
        format!("{shape:?}"),
        "as many elements as memory can have",
    )
}

/// Strides of a tensor that lies row after row, without gaps; `None` when they do not fit.
pub(super) fn compact_strides(shape: &[i64]) -> Option<Vec<i64>> {
    let mut strides = vec![1; shape.len()];
    let mut stride = 1_i64;
    for (place, dimension) in strides.iter_mut().zip(shape).rev() {
        *place = stride;
        stride = stride.checked_mul((*dimension).max(1))?;
    }
    Some(strides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: &[i64], strides: Option<&[i64]>, byte_offset: usize) -> TensorLayout {
        TensorLayout {
            data_type: DLDataType::FLOAT64,
            shape: shape.to_vec(),
            strides: strides.map(<[i64]>::to_vec),
            byte_offset,
        }
    }

    #[test]
    fn strides_are_of_rows_without_gaps_unless_given() {
        assert_eq!(
            layout(&[2, 3, 4], None, 0).resolve(192).unwrap().0,
            [12, 4, 1]
        );
        assert_eq!(layout(&[], None, 8).resolve(16).unwrap(), (vec![], true));
        assert_eq!(
            layout(&[2, 0], None, 16).resolve(16).unwrap(),
            (vec![1, 1], false)
        );
        // Columns, reversed rows, and one element many times.
        assert!(layout(&[2, 3], Some(&[1, 2]), 0).resolve(48).is_ok());
        assert!(layout(&[3], Some(&[-1]), 16).resolve(24).is_ok());
        assert!(layout(&[1000], Some(&[0]), 0).resolve(8).is_ok());
    }

    #[test]
    fn no_element_lies_outside() {
        let outside = [
            layout(&[2, 3], None, 8),
            layout(&[7], None, 0),
            layout(&[3], Some(&[-1]), 8),
            layout(&[2], Some(&[6]), 0),
            layout(&[], None, 41),
            layout(&[0], None, 49),
            layout(&[i64::MAX; 64], Some(&[i64::MAX; 64]), usize::MAX),
        ];
        for layout in &outside[..6] {
            let error = layout.resolve(48).unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_OUT_OF_RANGE", "{layout:?}");
        }
        assert!(outside[6].resolve(48).is_err());
        for wrong in [
            layout(&[-1], None, 0),
            layout(&[1], Some(&[1, 1]), 0),
            layout(&[1; 65], None, 0),
            layout(&[i64::MAX, i64::MAX], None, 0),
        ] {
            let error = wrong.resolve(48).unwrap_err();
            assert_eq!(error.code(), "ERR_OFFHEAP_INVALID_ARGUMENT", "{wrong:?}");
        }
    }
}
