//! The bodies on random bytes, without libFuzzer: `short [seconds a body] [seed]`. Prints the seed of an input that fails.

use offheap_fuzz::{BODIES, mute};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Bytes of a seed: noise, or for every third one lines as a log has them with some noise.
fn input(seed: u64) -> Vec<u8> {
    const LINES: [&str; 6] = [
        "Allocate: size = 64, alignment = 64\n",
        "Reallocate: old_size = 64, new_size = 128, alignment = 64\n",
        "Free: size = 128, alignment = 64\n",
        "Thread,Time,Action,Pointer,Size,Stream\n",
        "1,10:20:30:000123,allocate,0x7f00,256,0x0\n",
        "{\"action\":\"allocate\",\"address\":4096,\"size\":10,\"alignment\":64}\n",
    ];
    let mut state = seed;
    let length = (next(&mut state) % 3000) as usize;
    let mut bytes = Vec::with_capacity(length + 100);
    while bytes.len() < length {
        if seed % 3 == 0 {
            bytes.extend_from_slice(
                LINES[(next(&mut state) % LINES.len() as u64) as usize].as_bytes(),
            );
            if next(&mut state) % 4 == 0 {
                let at = (next(&mut state) % bytes.len() as u64) as usize;
                bytes[at] = next(&mut state) as u8;
            }
        } else {
            bytes.extend_from_slice(&next(&mut state).to_le_bytes());
        }
    }
    bytes
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5.0);
    let first: u64 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    // Reports of misuse are made by the thousand; OFFHEAP_FUZZ_LOUD=1 shows them, and why a body failed.
    if std::env::var_os("OFFHEAP_FUZZ_LOUD").is_none() {
        mute();
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, body) in BODIES {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut seed = first;
        let mut wrong = None;
        while wrong.is_none() && Instant::now() < end {
            let bytes = input(seed);
            if catch_unwind(|| body(&bytes)).is_err() {
                wrong = Some(seed);
            }
            seed += 1;
        }
        match wrong {
            None => {
                println!("{name}: {} inputs", seed - first);
                passed += 1;
            }
            Some(seed) => {
                println!(
                    "{name}: FAILED with seed {seed}: OFFHEAP_FUZZ_LOUD=1 short 1 {seed} shows it"
                );
                failed += 1;
            }
        }
    }
    println!(
        "test result: {} {passed} passed; {failed} failed; 0 ignored",
        if failed == 0 { "ok." } else { "FAILED." }
    );
    std::process::exit(i32::from(failed > 0));
}
