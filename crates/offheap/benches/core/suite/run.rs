//! Which part is run.

use super::figure::print_json;
use super::measure::{Extra, Plan};
use super::{buffers, builders, c_abi, growth, pools, resident, scaling, workload};

const USAGE: &str = "\
usage: core [PART]… [--quick] [--json]        all parts unless some are named:
           pools buffers builders c-abi growth first-touch scaling
       core cold-builder [PEER] [VALUES]      one build in this fresh process
       core workload NAME CONTENDER THREADS   one workload, with its peak of resident memory
       core rss BACKEND BLOCK_BYTES [LIVE_EVERY] [THREADS]
                                              resident memory after 512 MiB are freed";

type Part = fn(&Plan, &[Extra]);

const PARTS: [(&str, Part); 7] = [
    ("pools", pools::pools),
    ("buffers", buffers::buffers),
    ("builders", builders::builders),
    ("c-abi", c_abi::c_abi),
    ("growth", growth::growth),
    ("first-touch", growth::first_touch),
    ("scaling", scaling::scaling),
];

fn refuse(why: &str) -> ! {
    eprintln!("{why}\n{USAGE}");
    std::process::exit(2)
}

fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| refuse(&format!("'{text}' is no number")))
}

/// Runs what the command line asks for. `extra` are peers that only some builds have.
pub(crate) fn run(extra: &[Extra]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let plan = Plan::new(flag("--quick"));
    if flag("--json") {
        print_json();
    }
    // `cargo bench` adds --bench.
    let words: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| !["--quick", "--json", "--bench"].contains(word))
        .collect();
    match words[..] {
        ["cold-builder", ref rest @ ..] => {
            let peer = rest.first().copied().unwrap_or("offheap");
            let values = rest.get(1).map_or(10_000_000, |text| number(text));
            if !builders::cold(peer, values, extra) {
                refuse(&format!("no peer '{peer}'"));
            }
        }
        ["workload", name, contender, threads] => {
            if let Err(why) = workload::workload(name, contender, number(threads), &plan) {
                refuse(&why);
            }
        }
        ["rss", backend, block, ref rest @ ..] => {
            let live_every = rest.first().map_or(0, |text| number(text));
            let threads = rest.get(1).map_or(1, |text| number(text));
            resident::resident(backend, number(block), live_every, threads);
        }
        _ => {
            let known = |word: &&str| PARTS.iter().any(|(name, _)| name == word);
            if let Some(unknown) = words.iter().find(|word| !known(word)) {
                refuse(&format!("no part '{unknown}'"));
            }
            for (name, part) in PARTS {
                if words.is_empty() || words.contains(&name) {
                    part(&plan, extra);
                }
            }
        }
    }
}
