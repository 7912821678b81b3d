//! What the environment asks for: `OFFHEAP_CUDA_DOUBLE_*`, read at the first call.

use std::ffi::OsString;
use std::path::PathBuf;

const PREFIX: &str = "OFFHEAP_CUDA_DOUBLE_";

/// The settings. README.md lists them for users.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) devices: usize,
    /// Bytes per device.
    pub(crate) memory: u64,
    pub(crate) pools: bool,
    /// Pools can be shared by file descriptors.
    pub(crate) pool_handles: bool,
    pub(crate) peers: bool,
    pub(crate) fail: String,
    pub(crate) log: Option<PathBuf>,
    pub(crate) no_device: bool,
    pub(crate) stub: bool,
    pub(crate) driver_version: i32,
    /// Bytes per second of real time; 0 is virtual time.
    pub(crate) stream_speed: u64,
    /// Queries that answer "not ready" before one that runs the work; 0 is never.
    pub(crate) queries: u32,
    /// Copies between the device and pageable memory block the caller, as a driver may make them.
    pub(crate) pageable_blocks: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            devices: 2,
            memory: 4 << 30,
            pools: true,
            pool_handles: true,
            peers: true,
            fail: String::new(),
            log: None,
            no_device: false,
            stub: false,
            driver_version: 12080,
            stream_speed: 0,
            queries: 3,
            pageable_blocks: false,
        }
    }
}

impl Config {
    /// Reads the variables that have the double's prefix.
    ///
    /// # Errors
    /// A sentence that names the variable that is unknown or cannot be read.
    pub(crate) fn read(
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, String> {
        let mut config = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            let text = value
                .to_str()
                .ok_or_else(|| format!("{PREFIX}{name} is not UTF-8"))?
                .trim();
            let bad = |what: &str| format!("{PREFIX}{name}={text}: {what}");
            let number = || text.parse::<u64>().map_err(|_| bad("expected a number"));
            let flag = || match text {
                "1" => Ok(true),
                "0" | "" => Ok(false),
                _ => Err(bad("expected 0 or 1")),
            };
            match name {
                "DEVICES" => match number()? {
                    devices @ 0..=16 => config.devices = devices as usize,
                    _ => return Err(bad("expected 0 to 16")),
                },
                "MEMORY" => match number()? {
                    memory @ 4096..=0x100_0000_0000 => config.memory = memory,
                    _ => return Err(bad("expected 4096 bytes to 1 TiB")),
                },
                "POOLS" => config.pools = flag()?,
                "POOL_HANDLES" => config.pool_handles = flag()?,
                "PEERS" => config.peers = flag()?,
                "FAIL" => {
                    crate::failures::Failures::parse(text).map_err(|error| bad(&error))?;
                    text.clone_into(&mut config.fail);
                }
                "LOG" => config.log = (!text.is_empty()).then(|| PathBuf::from(text)),
                "NO_DEVICE" => config.no_device = flag()?,
                "STUB" => config.stub = flag()?,
                "DRIVER_VERSION" => {
                    config.driver_version =
                        i32::try_from(number()?).map_err(|_| bad("expected a version"))?;
                }
                "STREAM_SPEED" => config.stream_speed = number()?,
                "QUERIES" => {
                    config.queries =
                        u32::try_from(number()?).map_err(|_| bad("expected a count"))?;
                }
                "PAGEABLE" => match text {
                    "async" => config.pageable_blocks = false,
                    "sync" => config.pageable_blocks = true,
                    _ => return Err(bad("expected async or sync")),
                },
                // The path of the double, for test runners: not a setting of the double itself.
                "LIBRARY" => {}
                _ => {
                    return Err(bad(
                        "unknown; there are DEVICES MEMORY POOLS POOL_HANDLES PEERS FAIL LOG NO_DEVICE STUB \
                         DRIVER_VERSION STREAM_SPEED QUERIES PAGEABLE",
                    ));
                }
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::read(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn values_are_read() {
        let config = read(&[
            ("OFFHEAP_CUDA_DOUBLE_MEMORY", "1048576"),
            ("OFFHEAP_CUDA_DOUBLE_POOLS", "0"),
            ("OFFHEAP_CUDA_DOUBLE_STREAM_SPEED", "3000000000"),
            ("HOME", "/"),
        ])
        .unwrap();
        assert_eq!(
            (config.memory, config.pools, config.stream_speed),
            (1 << 20, false, 3_000_000_000)
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = read(&[("OFFHEAP_CUDA_DOUBLE_MEMROY", "1")]).unwrap_err();
        assert!(
            error.contains("MEMROY") && error.contains("MEMORY"),
            "{error}"
        );
        assert!(
            read(&[("OFFHEAP_CUDA_DOUBLE_POOLS", "yes")])
                .unwrap_err()
                .contains("0 or 1")
        );
        assert!(
            read(&[("OFFHEAP_CUDA_DOUBLE_FAIL", "cuInit")])
                .unwrap_err()
                .contains("symbol:code")
        );
    }
}
