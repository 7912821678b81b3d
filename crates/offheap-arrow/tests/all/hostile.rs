//! Structs with members at random: never a panic, never one released other than once.

use crate::foreign::{Foreign, ForeignTensor};
use offheap_arrow::{DLDataType, import_device_array, import_tensor};
use std::ffi::c_void;
use std::ptr;

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[(self.next() % values.len() as u64) as usize]
    }

    /// A number at one of the edges, or anywhere.
    fn edge(&mut self) -> i64 {
        let any = self.next() as i64;
        self.of(&[
            0,
            1,
            2,
            3,
            4,
            -1,
            -2,
            i64::MIN,
            i64::MAX,
            i64::MAX / 8,
            1 << 32,
            any,
        ])
    }
}

const ROUNDS: usize = 100_000;

#[test]
fn arrays() {
    let data = [0_u64; 64];
    let data: *const c_void = ptr::from_ref(&data).cast();
    let formats = [
        "l",
        "b",
        "C",
        "i",
        "w:3",
        "w:2147483647",
        "w:0",
        "d:1,1",
        "u",
        "",
        "tsn:x",
        "\u{1}",
    ];
    let mut random = Random(0x0ff_4ea9);
    let (mut imported, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let format = random.of(&formats);
        let address = random.of(&[
            data,
            data,
            data.wrapping_byte_add(1),
            ptr::null(),
            ptr::without_provenance(usize::MAX),
        ]);
        let mut foreign = Foreign::new(format, random.of(&[0, 1, 4, 16]), address);
        for _ in 0..random.next() % 3 {
            let edge = random.edge();
            let array = &mut foreign.array;
            match random.next() % 13 {
                0 => array.array.length = edge,
                1 => array.array.offset = edge,
                2 => array.array.null_count = edge,
                3 => array.array.n_buffers = edge,
                4 => array.array.n_children = edge,
                5 => array.array.buffers = ptr::without_provenance_mut(edge as usize % 8),
                6 => array.array.dictionary = ptr::without_provenance_mut(edge as usize),
                7 => array.device_id = edge,
                8 => array.device_type = edge as i32,
                9 => array.sync_event = ptr::without_provenance_mut(edge as usize),
                10 => array.reserved[1] = edge,
                11 => foreign.schema.n_children = edge,
                _ => foreign.schema.dictionary = ptr::without_provenance_mut(edge as usize),
            }
        }
        // SAFETY: structs of the test's: what a member says is not believed, and no byte of what they describe
        // is read.
        let result =
            unsafe { import_device_array(&raw mut foreign.array, &raw mut foreign.schema, None) };
        match result {
            Ok(array) => {
                imported += 1;
                assert_eq!(foreign.arrays.times(), 0);
                let bits = array.length as u128 * array.format.element_bits() as u128;
                assert!(array.buffer.len() as u128 * 8 >= bits, "round {round}");
            }
            Err(_) => refused += 1,
        }
        assert_eq!(
            (foreign.arrays.times(), foreign.schemas.times()),
            (1, 1),
            "round {round}"
        );
    }
    // Neither side is vacuous.
    assert!(
        imported > ROUNDS / 20 && refused > ROUNDS / 20,
        "{imported} {refused}"
    );
}

#[test]
fn tensors() {
    let mut data = [0_u64; 64];
    let data: *mut c_void = ptr::from_mut(&mut data).cast();
    let mut random = Random(0xd1_9ac4);
    let (mut imported, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let ndim = (random.next() % 4) as usize;
        let shape: Vec<i64> = (0..ndim)
            .map(|_| {
                if random.next().is_multiple_of(8) {
                    random.edge()
                } else {
                    random.of(&[0, 1, 2, 3])
                }
            })
            .collect();
        let strides: Vec<i64> = (0..ndim).map(|_| random.edge()).collect();
        let strides = random.next().is_multiple_of(4).then_some(&strides[..]);
        let dtype = match random.next() % 4 {
            0 => DLDataType {
                code: random.next() as u8,
                bits: random.next() as u8,
                lanes: random.next() as u16,
            },
            _ => random.of(&[DLDataType::UINT8, DLDataType::FLOAT64, DLDataType::BOOL]),
        };
        let address = random.of(&[data, data, ptr::null_mut(), data.wrapping_byte_add(1)]);
        let mut foreign = ForeignTensor::new(dtype, &shape, strides, address);
        let edge = random.edge();
        let tensor = &mut foreign.tensor;
        match random.next() % 12 {
            0 => tensor.dl_tensor.byte_offset = edge as u64,
            1 => tensor.dl_tensor.ndim = random.of(&[-1, i32::MIN, i32::MAX, 65]),
            2 => tensor.dl_tensor.shape = ptr::without_provenance_mut(edge as usize % 8),
            3 => tensor.dl_tensor.device.device_type = edge as i32,
            4 => tensor.dl_tensor.device.device_id = edge as i32,
            5 => tensor.version.major = edge as u32,
            6 => tensor.flags = edge as u64,
            7 => tensor.version.minor = edge as u32,
            _ => {}
        }
        // SAFETY: as above.
        match unsafe { import_tensor(&raw mut foreign.tensor, None) } {
            Ok(tensor) => {
                imported += 1;
                assert_eq!(foreign.deleted.times(), 0);
                let elements: usize = tensor.shape.iter().product();
                assert!(tensor.buffer.len() >= elements, "round {round}");
            }
            Err(_) => refused += 1,
        }
        assert_eq!(foreign.deleted.times(), 1, "round {round}");
    }
    assert!(
        imported > ROUNDS / 20 && refused > ROUNDS / 20,
        "{imported} {refused}"
    );
}
