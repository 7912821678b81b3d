//! A test double of libcuda: real bytes in host memory, virtual time. Never published.
