//! zlib: functions and a context in each stream, so each stream can have a pool of its own.

use libz_sys::{
    Z_BUF_ERROR, Z_DEFAULT_COMPRESSION, Z_FINISH, Z_OK, Z_STREAM_END, deflate, deflateEnd,
    deflateInit_, inflate, inflateEnd, inflateInit_, uInt, z_stream, zlibVersion,
};
use offheap::PoolMalloc;
use std::ffi::{c_int, c_void};
use std::ptr;

// [zlib]
unsafe extern "C" fn zalloc(context: *mut c_void, items: uInt, size: uInt) -> *mut c_void {
    match (items as usize).checked_mul(size as usize) {
        // SAFETY: `stream` gave zlib this context.
        Some(bytes) => unsafe { PoolMalloc::c_malloc(context, bytes) },
        None => ptr::null_mut(),
    }
}

unsafe extern "C" fn zfree(context: *mut c_void, address: *mut c_void) {
    // SAFETY: as above; zlib gives back what it got from `zalloc`.
    unsafe { PoolMalloc::c_free(context, address) };
}

/// A stream that takes its memory from `memory`, which must stay where it is until the stream ends.
pub fn stream(memory: &PoolMalloc) -> z_stream {
    z_stream {
        zalloc,
        zfree,
        opaque: memory.as_context(),
        next_in: ptr::null_mut(),
        avail_in: 0,
        total_in: 0,
        next_out: ptr::null_mut(),
        avail_out: 0,
        total_out: 0,
        msg: ptr::null_mut(),
        state: ptr::null_mut(),
        data_type: 0,
        adler: 0,
        reserved: 0,
    }
}
// [end]

/// Compresses `bytes`.
///
/// # Errors
/// zlib's code: `Z_MEM_ERROR` when the pool refuses.
pub fn compress(bytes: &[u8], memory: &PoolMalloc) -> Result<Vec<u8>, c_int> {
    let mut stream = stream(memory);
    let size = size_of::<z_stream>() as c_int;
    // SAFETY: a stream with allocation functions, of the size that this zlib expects.
    let code = unsafe { deflateInit_(&mut stream, Z_DEFAULT_COMPRESSION, zlibVersion(), size) };
    if code != Z_OK {
        return Err(code);
    }
    let result = run(&mut stream, bytes, deflate);
    // SAFETY: the stream was initialised and is used no more.
    unsafe { deflateEnd(&mut stream) };
    result
}

/// The inverse of [`compress`].
///
/// # Errors
/// As there.
pub fn decompress(bytes: &[u8], memory: &PoolMalloc) -> Result<Vec<u8>, c_int> {
    let mut stream = stream(memory);
    let size = size_of::<z_stream>() as c_int;
    // SAFETY: as in `compress`.
    let code = unsafe { inflateInit_(&mut stream, zlibVersion(), size) };
    if code != Z_OK {
        return Err(code);
    }
    let result = run(&mut stream, bytes, inflate);
    // SAFETY: as in `compress`.
    unsafe { inflateEnd(&mut stream) };
    result
}

fn run(
    stream: &mut z_stream,
    bytes: &[u8],
    step: unsafe extern "C" fn(*mut z_stream, c_int) -> c_int,
) -> Result<Vec<u8>, c_int> {
    let mut output = Vec::new();
    let mut chunk = [0; 16 << 10];
    stream.next_in = bytes.as_ptr().cast_mut();
    stream.avail_in = uInt::try_from(bytes.len()).map_err(|_| Z_BUF_ERROR)?;
    loop {
        stream.next_out = chunk.as_mut_ptr();
        stream.avail_out = chunk.len() as uInt;
        // SAFETY: an initialised stream; both buffers live through the call.
        let code = unsafe { step(stream, Z_FINISH) };
        output.extend_from_slice(&chunk[..chunk.len() - stream.avail_out as usize]);
        match code {
            Z_STREAM_END => return Ok(output),
            // More room for output is all that is missing.
            Z_OK | Z_BUF_ERROR if stream.avail_out == 0 => {}
            code => return Err(code),
        }
    }
}
