#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| offheap_fuzz::log_reader(data));
