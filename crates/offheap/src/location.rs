//! Where memory lies: a plain value that pools and blocks carry, without knowing devices.

use std::fmt;

/// What kind of memory a device has, in the codes of Arrow's C Device interface (`ArrowDeviceType`),
/// which are DLPack's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceType(i32);

impl DeviceType {
    /// Memory of the CPU.
    pub const CPU: Self = Self(1);
    /// Memory of a CUDA GPU.
    pub const CUDA: Self = Self(2);
    /// Page-locked CPU memory that CUDA allocated or registered.
    pub const CUDA_HOST: Self = Self(3);
    /// `OpenCL` devices.
    pub const OPENCL: Self = Self(4);
    /// Vulkan buffers.
    pub const VULKAN: Self = Self(7);
    /// Metal on Apple's GPUs.
    pub const METAL: Self = Self(8);
    /// Verilog simulator buffers.
    pub const VPI: Self = Self(9);
    /// Memory of a `ROCm` GPU.
    pub const ROCM: Self = Self(10);
    /// Page-locked CPU memory that `ROCm` allocated.
    pub const ROCM_HOST: Self = Self(11);
    /// A device that only its own extension knows.
    pub const EXT_DEV: Self = Self(12);
    /// CUDA memory that moves between CPU and GPU by itself.
    pub const CUDA_MANAGED: Self = Self(13);
    /// Unified shared memory of oneAPI.
    pub const ONEAPI: Self = Self(14);
    /// `WebGPU` buffers.
    pub const WEBGPU: Self = Self(15);
    /// Qualcomm's Hexagon DSP.
    pub const HEXAGON: Self = Self(16);

    /// The type with a code of Arrow's C Device interface.
    pub const fn from_code(code: i32) -> Self {
        Self(code)
    }

    /// Its code.
    pub const fn code(self) -> i32 {
        self.0
    }

    /// Its name in lower case, as in `cuda:0`; `unknown` for a code that is none of the above.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CPU => "cpu",
            Self::CUDA => "cuda",
            Self::CUDA_HOST => "cuda_host",
            Self::OPENCL => "opencl",
            Self::VULKAN => "vulkan",
            Self::METAL => "metal",
            Self::VPI => "vpi",
            Self::ROCM => "rocm",
            Self::ROCM_HOST => "rocm_host",
            Self::EXT_DEV => "ext_dev",
            Self::CUDA_MANAGED => "cuda_managed",
            Self::ONEAPI => "oneapi",
            Self::WEBGPU => "webgpu",
            Self::HEXAGON => "hexagon",
            _ => "unknown",
        }
    }
}

impl fmt::Debug for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceType({} = {})", self.0, self.name())
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where memory lies, and whether the CPU may read and write it.
///
/// Pools and blocks carry this plain value; the [`device`](crate::device) layer knows what can be done
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// The kind of memory.
    pub device_type: DeviceType,
    /// Which device of that kind; -1 where there is only one, as for the CPU.
    pub device_id: i64,
    /// Whether the CPU may read and write it at its address.
    pub is_cpu: bool,
}

impl Location {
    /// The CPU's own memory.
    pub const CPU: Self = Self {
        device_type: DeviceType::CPU,
        device_id: -1,
        is_cpu: true,
    };

    /// Memory that only its device can reach.
    pub const fn device(device_type: DeviceType, device_id: i64) -> Self {
        Self {
            device_type,
            device_id,
            is_cpu: false,
        }
    }

    /// Memory of a device that the CPU can reach, too.
    pub const fn shared(device_type: DeviceType, device_id: i64) -> Self {
        Self {
            device_type,
            device_id,
            is_cpu: true,
        }
    }
}

/// `cpu`, `cuda:0`, …
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.device_id < 0 {
            write!(f, "{}", self.device_type)
        } else {
            write!(f, "{}:{}", self.device_type, self.device_id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_arrow_and_names_are_read_back() {
        // arrow/c/abi.h, ARROW_DEVICE_*.
        let codes = [1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let names: Vec<_> = codes
            .iter()
            .map(|c| DeviceType::from_code(*c).name())
            .collect();
        assert!(!names.contains(&"unknown"), "{names:?}");
        assert_eq!(DeviceType::CUDA_MANAGED.code(), 13);
        assert_eq!(DeviceType::from_code(5).name(), "unknown");
    }

    #[test]
    fn a_location_reads_as_users_write_it() {
        assert_eq!(Location::CPU.to_string(), "cpu");
        assert_eq!(Location::device(DeviceType::CUDA, 1).to_string(), "cuda:1");
        assert!(Location::shared(DeviceType::CUDA_HOST, 0).is_cpu);
    }
}
