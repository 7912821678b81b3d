//! What stands in the page, and what goes over the socket. Numbers are of this machine's byte order: both
//! processes run on it.

use offheap_shm::Secret;

/// How a page of this layout begins, and of messages as here.
const MAGIC: [u8; 8] = *b"ohpools1";

/// Where a maker can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// The network namespace in which the socket is; 0 where the system does not say.
    pub(super) namespace: u64,
    /// Random bits of the socket's name.
    pub(super) name: [u8; 16],
}

/// Reads as many bytes from the front.
fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}

impl Page {
    pub(super) const BYTES: usize = 32;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.namespace.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.name);
        bytes
    }

    /// `None` for another layout's.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        if take(rest)? != &MAGIC {
            return None;
        }
        Some(Self {
            namespace: u64::from_ne_bytes(*take(rest)?),
            name: *take(rest)?,
        })
    }

    /// The socket's name, which nobody reserves by accident.
    pub(super) fn socket(&self) -> Vec<u8> {
        let name = u128::from_ne_bytes(self.name);
        format!("offheap-cuda-{name:032x}").into_bytes()
    }
}

/// Which allocation is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) number: u64,
    pub(super) secret: Secret,
}

impl Question {
    pub(super) const BYTES: usize = 8 + Secret::BYTES;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.secret.bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let rest = &mut &bytes[..];
        Some(Self {
            number: u64::from_ne_bytes(*take(rest)?),
            secret: Secret::from_bytes(*take(rest)?),
        })
    }
}

/// What its maker says of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is there; the pool's descriptor goes with this.
    Given(Given),
    /// It was freed.
    Gone,
    /// It never was, or the secret is wrong.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    /// The pool's name, the same for all allocations of it.
    pub(super) pool: [u8; 16],
    /// The GPU's UUID.
    pub(super) device: [u8; 16],
    /// What the driver needs to find the allocation in the pool.
    pub(super) pointer: [u8; 64],
    /// Bytes of the allocation.
    pub(super) size: u64,
}

impl Answer {
    pub(super) const BYTES: usize = 8 + 16 + 16 + 64 + 8;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let kind: u64 = match self {
            Self::Given(_) => 1,
            Self::Gone => 2,
            Self::Unknown => 3,
        };
        bytes[..8].copy_from_slice(&kind.to_ne_bytes());
        if let Self::Given(given) = self {
            bytes[8..24].copy_from_slice(&given.pool);
            bytes[24..40].copy_from_slice(&given.device);
            bytes[40..104].copy_from_slice(&given.pointer);
            bytes[104..].copy_from_slice(&given.size.to_ne_bytes());
        }
        bytes
    }

    /// `None` for what no maker says.
    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let rest = &mut &bytes[..];
        match u64::from_ne_bytes(*take(rest)?) {
            1 => Some(Self::Given(Given {
                pool: *take(rest)?,
                device: *take(rest)?,
                pointer: *take(rest)?,
                size: u64::from_ne_bytes(*take(rest)?),
            })),
            2 => Some(Self::Gone),
            3 => Some(Self::Unknown),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_back() {
        let page = Page {
            namespace: 0x0123_4567_89AB_CDEF,
            name: std::array::from_fn(|i| i as u8),
        };
        assert_eq!(Page::decode(&page.encode()), Some(page));
        let name = String::from_utf8(page.socket()).unwrap();
        assert!(
            name.starts_with("offheap-cuda-") && name.len() == 45,
            "{name}"
        );
        let question = Question {
            number: 7,
            secret: Secret::from_bytes([9; 16]),
        };
        let back = Question::decode(&question.encode()).unwrap();
        assert!(back.number == 7 && back.secret.matches(&question.secret));
        let given = Answer::Given(Given {
            pool: [1; 16],
            device: [2; 16],
            pointer: std::array::from_fn(|i| i as u8),
            size: u64::MAX - 1,
        });
        for answer in [given, Answer::Gone, Answer::Unknown] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn other_bytes_are_nothing() {
        let mut page = Page {
            namespace: 1,
            name: [2; 16],
        }
        .encode();
        assert_eq!(Page::decode(&page[..31]), None);
        page[7] ^= 1;
        assert_eq!(Page::decode(&page), None);
        for kind in [0_u64, 4, u64::MAX] {
            let mut answer = [0; Answer::BYTES];
            answer[..8].copy_from_slice(&kind.to_ne_bytes());
            assert_eq!(Answer::decode(&answer), None);
        }
    }
}
