//! C libraries whose memory comes from a pool: one module a library, quoted by
//! `docs/c-libraries.md` and run by the tests beside it.

pub mod expat;
pub mod libxml2;
#[cfg(feature = "openssl")]
pub mod openssl;
pub mod sqlite;
pub mod zlib;
