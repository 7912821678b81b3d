//! How much of what a block gets.

/// Regions start at multiples of it, a huge page of the system's, and their reserved sizes are
/// multiples of it.
pub(super) const UNIT: usize = 2 << 20;

/// The finer step, where a whole unit would waste too much.
const STEP: usize = 64 << 10;

/// The smallest reservation of a block that grows.
const MIN_RESERVATION: usize = 16 << 20;

/// `n` rounded up to a multiple of `step`, a power of two.
pub(super) const fn round_up(n: usize, step: usize) -> Option<usize> {
    match n.checked_add(step - 1) {
        Some(sum) => Some(sum & !(step - 1)),
        None => None,
    }
}

/// Bytes to commit for a block of fixed size: whole huge pages when they waste at most an eighth.
pub(super) const fn committed_for(size: usize) -> Option<usize> {
    let Some(whole) = round_up(size, UNIT) else {
        return None;
    };
    if whole - size <= size / 8 {
        Some(whole)
    } else {
        round_up(size, STEP)
    }
}

/// Bytes of addresses for a block of `size` that grows: room for as much again.
pub(super) const fn reservation_for(size: usize) -> Option<usize> {
    let Some(twice) = size.checked_mul(2) else {
        return None;
    };
    round_up(
        if twice < MIN_RESERVATION {
            MIN_RESERVATION
        } else {
            twice
        },
        UNIT,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn huge_pages_waste_an_eighth_at_most() {
        assert_eq!(committed_for(MIB), Some(MIB));
        assert_eq!(committed_for(MIB + 1), Some(MIB + STEP));
        assert_eq!(committed_for(2 * MIB - 64), Some(2 * MIB));
        assert_eq!(committed_for(3 * MIB), Some(3 * MIB));
        assert_eq!(committed_for(19 * MIB), Some(20 * MIB));
        for size in (MIB..40 * MIB).step_by(12_345 * 64) {
            let committed = committed_for(size).unwrap();
            assert!(committed >= size && committed - size <= (size / 8).max(STEP));
            assert!(committed.is_multiple_of(STEP));
        }
        assert_eq!(committed_for(usize::MAX - 5), None);
    }

    #[test]
    fn what_grows_has_room_for_as_much_again() {
        assert_eq!(reservation_for(2 * MIB), Some(16 * MIB));
        assert_eq!(reservation_for(9 * MIB), Some(18 * MIB));
        assert_eq!(reservation_for(64 * MIB + 1), Some(130 * MIB));
        assert_eq!(reservation_for(usize::MAX / 2 + 1), None);
        assert_eq!(reservation_for(usize::MAX / 2), None);
    }
}
