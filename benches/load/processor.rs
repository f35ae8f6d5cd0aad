//! The processor time of processes.

use std::{fs, time::Duration};

/// Returns the processor time of a process so far: `self`, or its number.
pub(crate) fn processor(pid: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux's /proc");
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second on every machine where this runs.
    Duration::from_millis(ticks * 10)
}
