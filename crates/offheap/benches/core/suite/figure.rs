//! What is printed: a line for each peer and work, for readers or, with `--json`, for `bench/`.

use std::sync::atomic::{AtomicBool, Ordering};

static JSON: AtomicBool = AtomicBool::new(false);

/// From now on, lines are JSON objects.
pub(crate) fn print_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// One peer's figures for one work.
#[derive(Debug, Default)]
pub(crate) struct Figure<'a> {
    pub(crate) peer: &'a str,
    pub(crate) work: &'a str,
    /// Bytes, or what else the work is scaled by.
    pub(crate) size: usize,
    pub(crate) threads: usize,
    /// Nanoseconds an operation, one entry a round.
    pub(crate) wall: &'a [f64],
    /// The same in the processor time of a thread, which leaves out what other processes and other
    /// virtual machines took.
    pub(crate) cpu: &'a [f64],
    /// The most resident memory that the process ever had, in MiB.
    pub(crate) peak_mib: Option<f64>,
}

impl Figure<'_> {
    pub(crate) fn print(&self) {
        let Self {
            peer,
            work,
            size,
            threads,
            ..
        } = self;
        let best = self.wall.iter().copied().fold(f64::INFINITY, f64::min);
        if JSON.load(Ordering::Relaxed) {
            let peak = self
                .peak_mib
                .map_or(String::new(), |mib| format!(",\"peak_mib\":{mib:.1}"));
            println!(
                "{{\"peer\":\"{peer}\",\"work\":\"{work}\",\"size\":{size},\"threads\":{threads},\"ns\":{best:.3},\"samples\":[{}],\"cpu\":[{}]{peak}}}",
                list(self.wall),
                list(self.cpu)
            );
            return;
        }
        let mut sorted = self.wall.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: usize| sorted[part * (sorted.len() - 1) / 4];
        let peak = self
            .peak_mib
            .map_or(String::new(), |mib| format!("  peak {mib:.0} MiB"));
        println!(
            "{work:<34} {size:>11} {threads:>2} thr  {peer:<22} {:>14.2} ns  ({:.2} .. {:.2}){peak}",
            at(2),
            at(1),
            at(3)
        );
    }
}

fn list(samples: &[f64]) -> String {
    let texts: Vec<String> = samples.iter().map(|ns| format!("{ns:.3}")).collect();
    texts.join(",")
}
