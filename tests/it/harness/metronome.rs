//! The schedule of an open loop, kept by a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Calls `each` at every scheduled time, with its number, until told to stop. Late calls are made
/// up for.
///
/// Blocks its thread: a runtime's timer is coarser and waits for the runtime's other work.
pub fn beat(begun: Instant, per_second: u32, stop: &AtomicBool, mut each: impl FnMut(u64, Instant)) {
    for number in 0u64.. {
        let nanoseconds = number * 1_000_000_000 / u64::from(per_second);
        let due = begun + Duration::from_nanos(nanoseconds);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        each(number, due);
    }
}
