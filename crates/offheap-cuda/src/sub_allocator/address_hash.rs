//! A hash for addresses.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Records by address.
pub(super) type AddressMap = HashMap<u64, u32, BuildHasherDefault<AddressHasher>>;

/// Fibonacci hashing, folded: the addresses come from the driver, not from an attacker, and their
/// low bits are all zero. A multiplication instead of SipHash's twenty nanoseconds.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, value: u64) {
        let product = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn addresses_of_equal_steps_spread() {
        for step in [256_u64, 65536, 1 << 20, 640 << 10] {
            // hashbrown takes the bucket from the low bits and the tag from the high ones.
            let mut low = HashSet::new();
            let mut high = HashSet::new();
            for index in 0..4096 {
                let mut hasher = AddressHasher::default();
                hasher.write_u64(0x7F00_0000_0000 + index * step);
                low.insert(hasher.finish() % 4096);
                high.insert(hasher.finish() >> 57);
            }
            assert!(low.len() > 2000, "{step}: {}", low.len());
            assert!(high.len() > 64, "{step}: {}", high.len());
        }
    }
}
