//! Copies and fills.

use core::ffi::{c_uchar, c_uint, c_ushort, c_void};

use crate::abi::{CUcontext, CUdeviceptr, CUstream};
use crate::block::{Kind, Place};
use crate::driver::{Driver, State, as_number, lock};
use crate::engine::{advance, submit};
use crate::entry::{Outcome, cuda_api};
use crate::result::{CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_VALUE, CUresult};
use crate::stream::Work;

/// Where an end of a copy is.
#[derive(Clone, Copy)]
enum End {
    Device(CUdeviceptr),
    Host(*const c_void),
    Any(CUdeviceptr),
}

impl End {
    fn place(self, driver: &Driver, length: usize) -> Result<Place, CUresult> {
        match self {
            Self::Device(address) => driver.place(address, length as u64),
            Self::Host(pointer) => driver.host_place(pointer, length as u64),
            Self::Any(address) => driver.any_place(address, length as u64),
        }
    }
}

/// When the function returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The copy is submitted.
    Submitted,
    /// The copy has run.
    Done,
}

fn is_device(place: &Place) -> bool {
    place.block.as_ref().is_some_and(|block| block.is_device())
}

/// Memory of the host, page-locked or not; managed memory is neither the host's nor a device's.
fn is_host(place: &Place) -> bool {
    place
        .block
        .as_ref()
        .is_none_or(|block| matches!(block.kind, Kind::Host(_) | Kind::Registered(_)))
}

/// A copy on a stream. The source is read when it runs.
fn copy(destination: End, source: End, length: usize, stream: CUstream, until: Until) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    let stream = driver.stream(stream)?;
    if length == 0 {
        return Ok(());
    }
    let destination = destination.place(driver, length)?;
    let source = source.place(driver, length)?;
    let pageable = destination.block.is_none() || source.block.is_none();
    // Between two places of the device the host does not wait, whatever the function.
    // From host to host it does, whatever the function.
    let wait = until == Until::Done && !(is_device(&destination) && is_device(&source))
        || is_host(&destination) && is_host(&source)
        || driver.pageable_blocks && pageable;
    let point = submit(
        driver,
        stream,
        Work::Copy {
            destination,
            source,
            length,
        },
    )?;
    if wait {
        guard = advance(guard, vec![point]);
        guard.state().current()?;
    }
    Ok(())
}

fn set(
    address: CUdeviceptr,
    value: u32,
    width: usize,
    count: usize,
    stream: CUstream,
    until: Until,
) -> Outcome {
    let mut guard = lock();
    let driver = guard.state();
    let stream = driver.stream(stream)?;
    let length = count.checked_mul(width).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if !address.is_multiple_of(width as u64) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if length == 0 {
        return Ok(());
    }
    let destination = driver.place(address, length as u64)?;
    // On memory of the device a fill never waits, even without a stream.
    let wait = until == Until::Done && !is_device(&destination);
    let work = Work::Set {
        destination,
        pattern: value.to_ne_bytes(),
        width,
        length,
    };
    let point = submit(driver, stream, work)?;
    if wait {
        guard = advance(guard, vec![point]);
        guard.state().current()?;
    }
    Ok(())
}

fn peer(
    destination: (CUdeviceptr, CUcontext),
    source: (CUdeviceptr, CUcontext),
    length: usize,
    stream: CUstream,
    until: Until,
) -> Outcome {
    {
        let mut guard = lock();
        let driver = guard.state();
        driver.current()?;
        for (address, context) in [destination, source] {
            let context = driver
                .contexts
                .get(&as_number(context))
                .ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
            if length > 0
                && driver
                    .block(address)
                    .is_none_or(|block| block.device != context.device)
            {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
        }
    }
    copy(
        End::Device(destination.0),
        End::Device(source.0),
        length,
        stream,
        until,
    )
}

const NULL: CUstream = std::ptr::null_mut();

cuda_api! {
    /// Copies from the host to the device.
    [Driver] fn cuMemcpyHtoD_v2(dstDevice: CUdeviceptr, srcHost: *const c_void, ByteCount: usize) {
        copy(End::Device(dstDevice), End::Host(srcHost), ByteCount, NULL, Until::Done)
    }

    /// Copies from the device to the host.
    [Driver] fn cuMemcpyDtoH_v2(dstHost: *mut c_void, srcDevice: CUdeviceptr, ByteCount: usize) {
        copy(End::Host(dstHost), End::Device(srcDevice), ByteCount, NULL, Until::Done)
    }

    /// Copies within the device. The host does not wait.
    [Driver] fn cuMemcpyDtoD_v2(dstDevice: CUdeviceptr, srcDevice: CUdeviceptr, ByteCount: usize) {
        copy(End::Device(dstDevice), End::Device(srcDevice), ByteCount, NULL, Until::Done)
    }

    /// Copies between any two places.
    [Driver] fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize) {
        copy(End::Any(dst), End::Any(src), ByteCount, NULL, Until::Done)
    }

    /// Copies from the host to the device in stream order.
    [Driver] fn cuMemcpyHtoDAsync_v2(
        dstDevice: CUdeviceptr,
        srcHost: *const c_void,
        ByteCount: usize,
        hStream: CUstream,
    ) {
        copy(End::Device(dstDevice), End::Host(srcHost), ByteCount, hStream, Until::Submitted)
    }

    /// Copies from the device to the host in stream order.
    [Driver] fn cuMemcpyDtoHAsync_v2(
        dstHost: *mut c_void,
        srcDevice: CUdeviceptr,
        ByteCount: usize,
        hStream: CUstream,
    ) {
        copy(End::Host(dstHost), End::Device(srcDevice), ByteCount, hStream, Until::Submitted)
    }

    /// Copies within the device in stream order.
    [Driver] fn cuMemcpyDtoDAsync_v2(
        dstDevice: CUdeviceptr,
        srcDevice: CUdeviceptr,
        ByteCount: usize,
        hStream: CUstream,
    ) {
        copy(End::Device(dstDevice), End::Device(srcDevice), ByteCount, hStream, Until::Submitted)
    }

    /// Copies between any two places in stream order.
    [Driver] fn cuMemcpyAsync(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize, hStream: CUstream) {
        copy(End::Any(dst), End::Any(src), ByteCount, hStream, Until::Submitted)
    }

    /// Copies between devices.
    [Driver] fn cuMemcpyPeer(
        dstDevice: CUdeviceptr,
        dstContext: CUcontext,
        srcDevice: CUdeviceptr,
        srcContext: CUcontext,
        ByteCount: usize,
    ) {
        peer((dstDevice, dstContext), (srcDevice, srcContext), ByteCount, NULL, Until::Done)
    }

    /// Copies between devices in stream order.
    [Driver] fn cuMemcpyPeerAsync(
        dstDevice: CUdeviceptr,
        dstContext: CUcontext,
        srcDevice: CUdeviceptr,
        srcContext: CUcontext,
        ByteCount: usize,
        hStream: CUstream,
    ) {
        peer((dstDevice, dstContext), (srcDevice, srcContext), ByteCount, hStream, Until::Submitted)
    }

    /// Fills with a byte.
    [Driver] fn cuMemsetD8_v2(dstDevice: CUdeviceptr, uc: c_uchar, N: usize) {
        set(dstDevice, u32::from(uc), 1, N, NULL, Until::Done)
    }

    /// Fills with 16 bits.
    [Driver] fn cuMemsetD16_v2(dstDevice: CUdeviceptr, us: c_ushort, N: usize) {
        set(dstDevice, u32::from(us), 2, N, NULL, Until::Done)
    }

    /// Fills with 32 bits.
    [Driver] fn cuMemsetD32_v2(dstDevice: CUdeviceptr, ui: c_uint, N: usize) {
        set(dstDevice, ui, 4, N, NULL, Until::Done)
    }

    /// Fills with a byte in stream order.
    [Driver] fn cuMemsetD8Async(dstDevice: CUdeviceptr, uc: c_uchar, N: usize, hStream: CUstream) {
        set(dstDevice, u32::from(uc), 1, N, hStream, Until::Submitted)
    }

    /// Fills with 16 bits in stream order.
    [Driver] fn cuMemsetD16Async(dstDevice: CUdeviceptr, us: c_ushort, N: usize, hStream: CUstream) {
        set(dstDevice, u32::from(us), 2, N, hStream, Until::Submitted)
    }

    /// Fills with 32 bits in stream order.
    [Driver] fn cuMemsetD32Async(dstDevice: CUdeviceptr, ui: c_uint, N: usize, hStream: CUstream) {
        set(dstDevice, ui, 4, N, hStream, Until::Submitted)
    }
}
