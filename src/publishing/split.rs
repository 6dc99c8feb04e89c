//! Divides the deadline of a `fallback` request: the broker first, with enough time left for the
//! disk.

use crate::message::Deadline;
use std::time::Duration;
use tokio::time::Instant;

/// The most time kept for the spool: an append takes a few milliseconds, on a busy disk sometimes
/// hundreds.
const SPOOL_MAX: Duration = Duration::from_millis(500);

/// At most this part of the remaining time is kept for the spool.
const SPOOL_PART: u32 = 4;

/// The moment by which the broker's part ends. The last quarter of the time left at `now`, at most
/// 500 ms, is the spool's.
pub(super) fn brokers_part(now: Instant, deadline: Deadline) -> Deadline {
    let left = deadline.instant().saturating_duration_since(now);
    Deadline::after(now, left - (left / SPOOL_PART).min(SPOOL_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spool_has_the_last_quarter_and_at_most_half_a_second() {
        let now = Instant::now();
        for (left, brokers) in
            [(0, 0), (4, 3), (100, 75), (2000, 1500), (2001, 1501), (5000, 4500), (60_000, 59_500)]
        {
            let deadline = Deadline::after(now, Duration::from_millis(left));
            let part = brokers_part(now, deadline).instant() - now;
            assert_eq!(part.as_millis(), brokers, "{left} ms");
        }
        assert_eq!(
            brokers_part(now + SPOOL_MAX, Deadline::after(now, SPOOL_MAX / 2)).instant(),
            now + SPOOL_MAX
        );
    }
}
