//! How fast messages enter and leave the spool, averaged over the last seconds, for people.

use crate::locking::lock;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The length of the window for a rate, in seconds.
const SECONDS: u64 = 10;

/// Counts of messages that enter and leave. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Flow(Arc<Mutex<FlowCounts>>);

/// Messages a second, on average over the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Stored in the spool.
    #[serde(rename = "appends_per_second")]
    pub appends: f64,
    /// Confirmed by the broker.
    #[serde(rename = "deliveries_per_second")]
    pub deliveries: f64,
}

#[derive(Debug)]
struct FlowCounts {
    appends: LastSeconds,
    deliveries: LastSeconds,
}

/// A count for each of the last seconds. Pure.
#[derive(Clone, Debug)]
struct LastSeconds {
    begun: Instant,
    /// The newest counted second, since `begun`.
    newest: u64,
    /// By second, modulo the length.
    counts: [u64; SECONDS as usize],
}

impl Default for Flow {
    fn default() -> Self {
        let begun = LastSeconds::beginning(Instant::now());
        Self(Arc::new(Mutex::new(FlowCounts { appends: begun.clone(), deliveries: begun })))
    }
}

impl Flow {
    /// A message was stored.
    pub fn appended(&self) {
        lock(&self.0).appends.add(Instant::now());
    }

    /// The broker confirmed a message.
    pub fn delivered(&self) {
        lock(&self.0).deliveries.add(Instant::now());
    }

    /// The rates at this moment.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let mut counts = lock(&self.0);
        let now = Instant::now();
        // Ten seconds do not support more than one decimal.
        let tenths = |rate: f64| (rate * 10.0).round() / 10.0;
        Rates {
            appends: tenths(counts.appends.per_second(now)),
            deliveries: tenths(counts.deliveries.per_second(now)),
        }
    }
}

impl LastSeconds {
    fn beginning(begun: Instant) -> Self {
        Self { begun, newest: 0, counts: [0; SECONDS as usize] }
    }

    fn add(&mut self, now: Instant) {
        self.forget(now);
        self.counts[Self::place(self.newest)] += 1;
    }

    /// Messages a second. Only the past part of the current second counts.
    fn per_second(&mut self, now: Instant) -> f64 {
        self.forget(now);
        let since = now.saturating_duration_since(self.begun);
        let forgotten = Duration::from_secs((self.newest + 1).saturating_sub(SECONDS));
        let covered = since.saturating_sub(forgotten).as_secs_f64().max(1.0);
        self.counts.iter().sum::<u64>() as f64 / covered
    }

    /// Clears the counts of the seconds that have begun since.
    fn forget(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.begun).as_secs();
        for begun in (self.newest + 1..=second).take(SECONDS as usize) {
            self.counts[Self::place(begun)] = 0;
        }
        self.newest = self.newest.max(second);
    }

    fn place(second: u64) -> usize {
        usize::try_from(second % SECONDS).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_flow_is_shown_as_it_is_from_the_first_seconds_on() {
        let begun = Instant::now();
        let mut counted = LastSeconds::beginning(begun);
        for tick in 0..2_000u32 {
            let now = begun + Duration::from_millis(20) * tick;
            counted.add(now);
            if tick >= 50 {
                let rate = counted.per_second(now);
                assert!((rate - 50.0).abs() <= 1.0, "{rate} after {:?}", now - begun);
            }
        }
    }

    #[test]
    fn ten_seconds_after_the_last_message_nothing_flows() {
        let begun = Instant::now();
        let mut counted = LastSeconds::beginning(begun);
        for _ in 0..100 {
            counted.add(begun + Duration::from_millis(900));
        }
        assert!(counted.per_second(begun + Duration::from_secs(9)) > 0.0);
        assert_eq!(counted.per_second(begun + Duration::from_secs(10)), 0.0);
        assert_eq!(counted.per_second(begun + Duration::from_secs(1_000_000)), 0.0);
    }

    proptest! {
        #[test]
        fn the_rate_is_what_was_counted_in_the_seconds_that_it_covers(
            pauses_ms in prop::collection::vec(prop_oneof![9 => 0..300u64, 1 => 0..30_000u64], 1..200),
        ) {
            let begun = Instant::now();
            let mut counted = LastSeconds::beginning(begun);
            let mut moments = Vec::new();
            let mut at_ms = 0;
            for pause in pauses_ms {
                at_ms += pause;
                counted.add(begun + Duration::from_millis(at_ms));
                moments.push(at_ms);
            }
            let from_ms = (at_ms / 1000 + 1).saturating_sub(SECONDS) * 1000;
            let inside = moments.iter().filter(|moment| **moment >= from_ms).count();
            let covered = ((at_ms - from_ms) as f64 / 1000.0).max(1.0);
            let rate = counted.per_second(begun + Duration::from_millis(at_ms));
            prop_assert!((rate - inside as f64 / covered).abs() < 1e-6, "{}", rate);
        }
    }
}
