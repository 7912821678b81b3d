//! Large blocks: random programs around and above the size from which offheap maps them itself, on
//! one thread against a model and on several at once, and what happens when the system has no more
//! addresses, mappings or memory.
//!
//! `OFFHEAP_PROPTEST_CASES` sets the number of programs, twenty to one (default 4000: 200).

#[path = "../all/alone.rs"]
mod alone;
#[cfg(target_os = "linux")]
mod exhaustion;
mod model;
mod stamped;
mod system;
mod threads;

use proptest::test_runner::Config;
use proptest_state_machine::prop_state_machine;
use std::sync::{Mutex, MutexGuard, PoisonError};
use system::System;

fn cases() -> u32 {
    let cases = std::env::var("OFFHEAP_PROPTEST_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(4000);
    (cases / 20_u32).max(5)
}

fn config() -> Config {
    Config {
        cases: cases(),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Config::default()
    }
}

/// The figures of backends and the cache are the process's: tests that look at them take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn every_program_agrees_with_the_model(sequential 1..60 => System);
}
