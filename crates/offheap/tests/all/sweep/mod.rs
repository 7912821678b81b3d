//! The out-of-memory sweep over every public operation of the crate, in the manner of SQLite.
//!
//! The names come from the sources ([`exports`]): one that is neither swept nor exempt fails the
//! test, and so does an entry whose name is gone. A new public function needs one line, in [`SWEPT`]
//! if it can ask a pool or domain for memory, else in [`EXEMPT`] under the reason why it cannot.

mod exempt;
mod objects;
mod swept;

use crate::alone::alone;
use crate::exports::exports;
use exempt::{EXEMPT, EXEMPT_TRAITS};
use objects::unchanged;
use offheap::{Domain, MutableBuffer, SweepOptions, sweep_out_of_memory};
use std::collections::BTreeSet;
use swept::SWEPT;

#[test]
fn every_public_name_is_swept_or_exempt() {
    let exports = exports();
    let mut names: BTreeSet<&str> = exports.functions.iter().map(String::as_str).collect();
    names.extend(exports.traits.iter().map(String::as_str).filter(|name| {
        let of_trait = name.split(" as ").nth(1).unwrap();
        !EXEMPT_TRAITS.contains(&of_trait)
    }));
    let swept = SWEPT.iter().map(|(name, _)| *name);
    let exempt = EXEMPT.iter().flat_map(|(_, names)| names.iter().copied());
    let mut listed = BTreeSet::new();
    let mut twice = Vec::new();
    for name in swept.chain(exempt) {
        if !listed.insert(name) {
            twice.push(name);
        }
    }
    let missing: Vec<_> = names.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "public names without an out-of-memory sweep: {missing:#?}\n\
         Add a line for each in tests/all/sweep: to SWEPT (swept.rs), a body that calls it with the \
         pool it is given and returns the error; or, if it can ask no pool and no domain for \
         memory, to EXEMPT (exempt.rs) under the reason."
    );
    let stale: Vec<_> = listed.difference(&names).collect();
    assert!(
        stale.is_empty() && twice.is_empty(),
        "tests/all/sweep lists names that are not public any more: {stale:#?}, and twice: \
         {twice:#?}. Remove their lines."
    );
    for of_trait in EXEMPT_TRAITS {
        let suffix = format!(" as {of_trait}");
        assert!(
            exports.traits.iter().any(|name| name.ends_with(&suffix)),
            "no public type has the exempt trait {of_trait} any more"
        );
    }
}

#[test]
fn every_operation_survives_running_out_of_memory() {
    alone(
        "sweep::every_operation_survives_running_out_of_memory",
        || {
            let mut failed = Vec::new();
            for (name, body) in SWEPT {
                let options = SweepOptions {
                    domains: Domain::ALL.to_vec(),
                    ..Default::default()
                };
                let report = sweep_out_of_memory(options, body).unwrap();
                if !report.is_clean() {
                    failed.push(format!("{name}: {report}"));
                } else if report.injected == 0 {
                    failed.push(format!(
                        "{name}: asked for no memory; make its body do so, or exempt it"
                    ));
                }
            }
            assert!(failed.is_empty(), "{}", failed.join("\n"));
        },
    );
}

/// The harness sees what it is there to see: an operation that changes its object and fails.
#[test]
fn an_object_that_changed_is_noticed() {
    let report = sweep_out_of_memory(
        SweepOptions {
            domains: Vec::new(),
            ..Default::default()
        },
        |pool| {
            unchanged(&mut Vec::new(), Clone::clone, |written| {
                written.push(1);
                MutableBuffer::zeroed(10, pool)
            })
        },
    )
    .unwrap();
    let panic = report.panic.unwrap();
    assert_eq!(panic.point.request, 1);
    assert!(panic.message.contains("changed"), "{}", panic.message);
}
