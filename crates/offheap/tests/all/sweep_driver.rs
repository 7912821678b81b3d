//! What a sweep finds, and what it leaves alone.

use crate::alone::alone;
use offheap::sweep::{FailureMode, FailurePoint, Outcome, Sweep, SweepLeak, SweepWrongError};
use offheap::{
    Alignment, Block, BufferBuilder, Domain, Error, ErrorKind, MutableBuffer, Pool, SweepOptions,
    SweepReport, sweep_out_of_memory, system_memory_pool,
};
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Without domains: such sweeps disturb nobody and need no turn.
fn pool_only() -> SweepOptions {
    SweepOptions {
        pool: Some(system_memory_pool()),
        domains: Vec::new(),
        ..Default::default()
    }
}

fn take(pool: &Pool) -> Result<MutableBuffer, Error> {
    MutableBuffer::zeroed(100, pool)
}

fn once(request: u64) -> FailurePoint {
    FailurePoint {
        request,
        mode: FailureMode::Once,
    }
}

fn for_ever(request: u64) -> FailurePoint {
    FailurePoint {
        request,
        mode: FailureMode::ForEver,
    }
}

#[test]
fn every_allocation_fails_once_and_with_all_after_it() {
    let mut seen = Vec::new();
    let report = sweep_out_of_memory(pool_only(), |pool| {
        let taken = [take(pool), take(pool), take(pool)];
        seen.push(taken.each_ref().map(Result::is_err));
        let [a, b, c] = taken;
        Ok::<_, Error>((a?, b?, c?))
    })
    .unwrap();
    report.assert_clean();
    let (no, yes) = (false, true);
    let once = [[yes, no, no], [no, yes, no], [no, no, yes], [no, no, no]];
    let for_ever = [[yes, yes, yes], [no, yes, yes], [no, no, yes], [no, no, no]];
    assert_eq!(seen[0], [no; 3]);
    assert_eq!(seen[1..5], once);
    assert_eq!(seen[5..], for_ever);
    assert_eq!((report.runs, report.requests), (9, 3));
    assert_eq!((report.injected, report.survived), (9, 0));
}

#[test]
fn a_leak_on_the_way_out_is_found() {
    let report = sweep_out_of_memory(pool_only(), |pool| {
        let first = take(pool)?;
        take(pool).inspect_err(|_| std::mem::forget(take(pool)))?;
        Ok::<_, Error>(first)
    })
    .unwrap();
    // Failing for ever, nothing can be leaked.
    let leak = SweepLeak {
        point: once(2),
        domain: None,
        bytes: 100,
        allocations: 1,
    };
    assert_eq!(report.leaks, [leak]);
    assert!(report.is_complete && !report.is_clean());
    let text = report.to_string();
    assert!(
        text.contains("leak with allocation 2 failing: 100 bytes in 1 allocations of the pool"),
        "{text}"
    );
    let panic = std::panic::catch_unwind(|| report.assert_clean()).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>(), Some(&text));
}

/// Also what no account shows: parked memory, and buffers of no bytes.
#[test]
fn parked_and_empty_blocks_are_leaks_too() {
    for (size, bytes) in [(100, 100), (0, 0)] {
        let report = sweep_out_of_memory(pool_only(), |pool| {
            let block = Block::allocate(size, Alignment::DEFAULT, pool, false)?;
            if size > 0 {
                std::mem::forget(block.park());
            } else {
                std::mem::forget(block);
            }
            Ok::<_, Error>(())
        })
        .unwrap();
        assert!(!report.leaks.is_empty());
        for leak in &report.leaks {
            assert_eq!((leak.bytes, leak.allocations), (bytes, 1));
        }
    }
}

#[test]
fn an_error_must_say_that_memory_ran_out() {
    let report = sweep_out_of_memory(pool_only(), |pool| {
        take(pool).map_err(|_| Error::not_supported("something else"))
    })
    .unwrap();
    let wrong = |point| SweepWrongError {
        point,
        error: "something else".to_owned(),
    };
    assert_eq!(report.wrong_errors, [wrong(once(1)), wrong(for_ever(1))]);
    assert!(report.is_complete && !report.is_clean());
    assert!(
        report
            .to_string()
            .contains("wrong error with allocation 1 and all after it failing: something else")
    );
    // Whatever fails where nothing does is wrong, and there the sweep ends.
    for error in [
        Error::not_supported("never"),
        Error::new(ErrorKind::OutOfMemory {
            requested: 1,
            limit: None,
            allocated: 0,
            pool: "other".to_owned(),
        }),
    ] {
        let kind = error.kind().clone();
        let report =
            sweep_out_of_memory(pool_only(), |_| Err::<(), _>(Error::new(kind.clone()))).unwrap();
        assert_eq!(report.wrong_errors.len(), 1);
        assert_eq!(report.wrong_errors[0].point.mode, FailureMode::Undisturbed);
        assert!(!report.is_complete && report.runs == 1);
    }
}

#[derive(Debug)]
struct Wrapped(Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table could not be read")
    }
}

impl StdError for Wrapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

#[derive(Debug)]
struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room")
    }
}

impl StdError for NoRoom {}

#[test]
fn out_of_memory_is_known_in_many_shapes() {
    let of = |options, shape: fn(Error) -> Box<dyn StdError>| {
        sweep_out_of_memory(options, |pool| take(pool).map_err(shape)).unwrap()
    };
    of(pool_only(), |error| error.into()).assert_clean();
    of(pool_only(), |error| Box::new(io::Error::from(error))).assert_clean();
    of(pool_only(), |error| Box::new(Wrapped(error))).assert_clean();
    of(pool_only(), |_| {
        let error = Vec::<u8>::new().try_reserve(usize::MAX).unwrap_err();
        Box::new(error)
    })
    .assert_clean();
    assert!(!of(pool_only(), |_| Box::new(NoRoom)).is_clean());
    assert!(!of(pool_only(), |_| "out of memory".into()).is_clean());
    let own = SweepOptions {
        is_out_of_memory: Some(|error| error.is::<NoRoom>()),
        ..pool_only()
    };
    of(own, |_| Box::new(NoRoom)).assert_clean();
}

#[test]
fn who_copes_survives() {
    let report = sweep_out_of_memory(pool_only(), |pool| {
        Ok::<_, Error>(take(pool).or_else(|_| take(pool)).ok())
    })
    .unwrap();
    report.assert_clean();
    // Failing once, the second try works; failing for ever, none does, from 1 on.
    assert_eq!((report.survived, report.injected), (2, 3));
}

#[test]
fn a_panic_is_reported_with_its_allocation() {
    let report = sweep_out_of_memory(pool_only(), |pool| {
        let held = take(pool)?;
        let n = take(pool).map_or(1, |_| 0);
        assert_eq!(n, 0, "the second buffer");
        Ok::<_, Error>(held)
    })
    .unwrap();
    let panic = report.panic.clone().unwrap();
    assert_eq!(panic.point, once(2));
    assert!(panic.message.contains("the second buffer"));
    // What was unwound is gone.
    assert!(report.leaks.is_empty() && !report.is_complete);
    assert!(
        report
            .to_string()
            .contains("panic with allocation 2 failing: ")
    );
    for payload in [0, 1] {
        let report = sweep_out_of_memory(pool_only(), |_| -> Result<(), Error> {
            match payload {
                0 => std::panic::panic_any(7),
                _ => panic!("plain"),
            }
        })
        .unwrap();
        let message = report.panic.unwrap().message;
        assert_eq!(message, ["a panic without a text", "plain"][payload]);
    }
}

#[test]
fn it_ends_when_the_code_does_not() {
    let options = SweepOptions {
        max_runs: 20,
        ..pool_only()
    };
    let mut grows = 0;
    let report = sweep_out_of_memory(options, |pool| {
        // One allocation more each time: no run is without a failure.
        grows += 1;
        (0..grows).try_for_each(|_| take(pool).map(drop))
    })
    .unwrap();
    assert_eq!((report.runs, report.is_complete), (20, false));
    assert!(
        report
            .to_string()
            .ends_with("the sweep did not come to its end")
    );
    assert!(!report.is_clean());
    let nothing = SweepOptions {
        max_runs: 0,
        ..pool_only()
    };
    let report = sweep_out_of_memory(nothing, |_| -> Result<(), Error> { unreachable!() }).unwrap();
    assert_eq!(report, SweepReport::default());
    assert!(!report.is_clean());
}

#[test]
fn runs_one_at_a_time_may_be_abandoned() {
    fn goes_to_other_threads<T: Send + Sync>(_: &T) {}
    let mut sweep = Sweep::start(pool_only()).unwrap();
    goes_to_other_threads(&sweep);
    let pool = sweep.pool().clone();
    // Nothing fails and nothing counts between the runs.
    sweep.end(Outcome::Passed);
    drop(take(&pool).unwrap());
    assert_eq!(sweep.begin().unwrap().mode, FailureMode::Undisturbed);
    drop(take(&pool).unwrap());
    sweep.end(Outcome::Passed);
    sweep.end(Outcome::Passed);
    assert_eq!(sweep.begin(), Some(once(1)));
    assert!(take(&pool).is_err());
    // Begun anew.
    assert_eq!(sweep.begin(), Some(once(1)));
    assert!(take(&pool).is_err());
    drop(sweep);
    drop(take(&pool).unwrap());
    assert_eq!(pool.bytes_allocated(), 0);
}

#[test]
fn control_blocks_fail_too_and_the_domains_come_back() {
    alone(
        "sweep_driver::control_blocks_fail_too_and_the_domains_come_back",
        || {
            let before = Domain::ALL.map(Domain::allocator);
            let report = sweep_out_of_memory(SweepOptions::default(), take).unwrap();
            report.assert_clean();
            assert_eq!((report.requests, report.runs, report.injected), (2, 7, 4));
            assert_eq!(Domain::ALL.map(Domain::allocator), before);
            // All domains, one of them named twice.
            let mut domains = Domain::ALL.to_vec();
            domains.push(Domain::Raw);
            let options = SweepOptions {
                domains,
                ..Default::default()
            };
            let report = sweep_out_of_memory(options, |_| {
                for domain in Domain::ALL {
                    let block = domain.malloc(1000);
                    if block.is_null() {
                        return Err(Box::new(NoRoom) as Box<dyn StdError>);
                    }
                    // SAFETY: the block just allocated.
                    unsafe { domain.free(block) };
                }
                Ok(())
            })
            .unwrap();
            // A large block of the object domain is one of `mem`, too.
            assert_eq!((report.requests, report.injected), (4, 8));
            assert_eq!(report.wrong_errors.len(), 8);
            assert_eq!(Domain::ALL.map(Domain::allocator), before);
        },
    );
}

#[test]
fn blocks_of_domains_that_stay_are_leaks() {
    alone(
        "sweep_driver::blocks_of_domains_that_stay_are_leaks",
        || {
            let mut cache = None;
            let report = sweep_out_of_memory(SweepOptions::default(), |pool| {
                // Made in the first run and kept: no leak.
                if cache.is_none() {
                    cache = Some(Domain::Object.malloc(64));
                }
                take(pool).inspect_err(|_| {
                    let block = Domain::Object.malloc(30);
                    if !block.is_null() {
                        // Grown: still one block.
                        // SAFETY: the block just allocated.
                        unsafe { Domain::Object.realloc(block, 48) };
                    }
                })
            })
            .unwrap();
            let leak = |request| SweepLeak {
                point: once(request),
                domain: Some(Domain::Object),
                bytes: 48,
                allocations: 1,
            };
            assert_eq!(report.leaks, [leak(1), leak(2)]);
            assert!(report.to_string().contains("of domain 'object'"));
            // SAFETY: the block of the first run.
            unsafe { Domain::Object.free(cache.unwrap()) };
        },
    );
}

/// The domains are everybody's: other threads neither fail nor count.
#[test]
fn other_threads_go_on_undisturbed() {
    alone("sweep_driver::other_threads_go_on_undisturbed", || {
        let options = SweepOptions {
            domains: Domain::ALL.to_vec(),
            ..Default::default()
        };
        let (made, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let pool = system_memory_pool();
                while !stop.load(Ordering::Relaxed) {
                    let buffer = take(&pool).expect("no failure here");
                    let block = Domain::Raw.malloc(100);
                    assert!(!block.is_null());
                    // SAFETY: the block just allocated.
                    unsafe { Domain::Raw.free(block) };
                    drop(buffer);
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
            // Also when a check fails, or the thread would go on for ever.
            let _stop = StopsAtTheEnd(&stop);
            let mut sweeps = 0;
            while sweeps < 50 || made.load(Ordering::Relaxed) < 1000 {
                let report = sweep_out_of_memory(options.clone(), |pool| {
                    let mut builder = BufferBuilder::new(pool);
                    for _ in 0..4 {
                        builder.append(&[0; 100])?;
                    }
                    builder.finish(true)
                })
                .unwrap();
                report.assert_clean();
                assert_eq!(report.requests, 5);
                sweeps += 1;
            }
        });
    });
}

struct StopsAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn sweeps_over_domains_take_turns() {
    alone("sweep_driver::sweeps_over_domains_take_turns", || {
        let sweep = Sweep::start(SweepOptions::default()).unwrap();
        assert_eq!(
            Sweep::start(SweepOptions::default()).unwrap_err().code(),
            "ERR_OFFHEAP_BUSY"
        );
        // On the same thread, waiting would be for ever.
        let error = sweep_out_of_memory(SweepOptions::default(), take).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_BUSY");
        // Those without domains need no turn.
        sweep_out_of_memory(pool_only(), take)
            .unwrap()
            .assert_clean();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                sweep_out_of_memory(SweepOptions::default(), |pool| {
                    order.lock().unwrap().push("other");
                    take(pool)
                })
            });
            std::thread::sleep(Duration::from_millis(50));
            order.lock().unwrap().push("first");
            drop(sweep.finish());
            other.join().unwrap().unwrap().assert_clean();
        });
        assert_eq!(order.into_inner().unwrap()[..2], ["first", "other"]);
        // A sweep that panicked, or was dropped in a run, leaves its turn, too.
        let mut sweep = Sweep::start(SweepOptions::default()).unwrap();
        sweep.begin();
        drop(sweep);
        sweep_out_of_memory(SweepOptions::default(), take)
            .unwrap()
            .assert_clean();
        assert_eq!(Domain::Object.allocator(), offheap::object_memory_pool());
    });
}

/// An allocator that the code under test sets stays set.
#[test]
fn an_allocator_that_was_set_meanwhile_stays() {
    alone(
        "sweep_driver::an_allocator_that_was_set_meanwhile_stays",
        || {
            let own = system_memory_pool().proxy();
            let report = sweep_out_of_memory(SweepOptions::default(), |pool| {
                Domain::Object.set_allocator(&own)?;
                take(pool)
            })
            .unwrap();
            report.assert_clean();
            assert_eq!(Domain::Object.allocator(), own);
            assert_eq!(own.live_allocations(), 0);
            Domain::Object
                .set_allocator(&offheap::object_memory_pool())
                .unwrap();
        },
    );
}
