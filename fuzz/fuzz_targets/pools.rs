#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| offheap_fuzz::pools(data));
