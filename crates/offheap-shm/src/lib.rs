//! Memory shared between processes, as a device of offheap.
