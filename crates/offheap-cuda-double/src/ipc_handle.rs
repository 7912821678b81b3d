//! What an IPC handle holds: which file of which process, and which part of it.

use std::fs::File;

use crate::result::{CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUresult};

pub(crate) const MEMORY: u64 = 0x4F48_4355_4950_434D;
pub(crate) const EVENT: u64 = 0x4F48_4355_4950_4345;
pub(crate) const POINTER: u64 = 0x4F48_4355_4950_4350;

/// The 64 bytes of a handle, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IpcHandle {
    pub(crate) kind: u64,
    pub(crate) process: u32,
    pub(crate) fd: u32,
    /// A random number that the file holds too: another file under the same descriptor is found out.
    pub(crate) nonce: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// The block, and its slot in the file's table of exports.
    pub(crate) id: u64,
    pub(crate) slot: u32,
    pub(crate) device: u32,
}

impl IpcHandle {
    pub(crate) fn encode(&self) -> [u8; 64] {
        let words = [
            self.kind,
            u64::from(self.process) << 32 | u64::from(self.fd),
            self.nonce,
            self.offset,
            self.size,
            self.id,
            u64::from(self.slot) << 32 | u64::from(self.device),
        ];
        let mut bytes = [0; 64];
        for (index, word) in words.iter().chain([&checksum(&words)]).enumerate() {
            bytes[index * 8..][..8].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for bytes that are no handle of this kind.
    pub(crate) fn decode(bytes: &[u8; 64], kind: u64) -> Result<Self, CUresult> {
        let mut words = [0_u64; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(chunk);
            *word = u64::from_ne_bytes(eight);
        }
        if words[0] != kind || words[7] != checksum(&words[..7]) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(Self {
            kind,
            process: (words[1] >> 32) as u32,
            fd: words[1] as u32,
            nonce: words[2],
            offset: words[3],
            size: words[4],
            id: words[5],
            slot: (words[6] >> 32) as u32,
            device: words[6] as u32,
        })
    }

    /// The file, while the process that exported it lives.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` when it is gone.
    pub(crate) fn open(&self) -> Result<File, CUresult> {
        let path = format!("/proc/{}/fd/{}", self.process, self.fd);
        File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|_| CUDA_ERROR_INVALID_HANDLE)
    }
}

/// FNV-1a: against mistakes, not against malice.
fn checksum(words: &[u64]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_survive_and_changed_ones_do_not() {
        let handle = IpcHandle {
            kind: MEMORY,
            process: 4_000_000_000,
            fd: 7,
            nonce: u64::MAX - 3,
            offset: 1 << 40,
            size: 12345,
            id: 9,
            slot: 3,
            device: 1,
        };
        let mut bytes = handle.encode();
        assert_eq!(IpcHandle::decode(&bytes, MEMORY), Ok(handle));
        assert_eq!(
            IpcHandle::decode(&bytes, EVENT),
            Err(CUDA_ERROR_INVALID_VALUE)
        );
        bytes[33] ^= 1;
        assert_eq!(
            IpcHandle::decode(&bytes, MEMORY),
            Err(CUDA_ERROR_INVALID_VALUE)
        );
    }
}
