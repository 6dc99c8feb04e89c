//! Measures how long the link has not been up.

use std::time::{Duration, Instant};

/// Adds up the time in which the link is not up. Pure: the caller provides the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Downtime {
    down_since: Option<Instant>,
    untaken: Duration,
}

impl Downtime {
    /// The link is not up at the start.
    pub(super) fn starting_at(now: Instant) -> Self {
        Self { down_since: Some(now), untaken: Duration::ZERO }
    }

    /// The link came up, or stopped being up.
    pub(super) fn changed(&mut self, up: bool, now: Instant) {
        self.settle(now);
        self.down_since = if up { None } else { Some(now) };
    }

    /// The time since the last call, and a new start.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.settle(now);
        std::mem::take(&mut self.untaken)
    }

    fn settle(&mut self, now: Instant) {
        if let Some(since) = self.down_since {
            self.untaken += now.saturating_duration_since(since);
            self.down_since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_that_is_not_up_counts_and_each_second_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut downtime = Downtime::starting_at(start);
        downtime.changed(true, at(3));
        downtime.changed(false, at(10));
        assert_eq!(downtime.take(at(12)), Duration::from_secs(5));
        assert_eq!(downtime.take(at(13)), Duration::from_secs(1));
        downtime.changed(true, at(14));
        assert_eq!(downtime.take(at(100)), Duration::from_secs(1));
    }
}
