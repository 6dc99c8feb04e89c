//! Which records have been tried for long enough to be parked because of their age. Pure.
//!
//! A destination with waiting records is tried whenever the link is up. So a record has been tried
//! for as long as the link was up since the record was kept. To know that time for each record, the
//! drain notes moments: how long the link had been up by then, and which record was the last one
//! kept by then.

use crate::spool::store::{Seq, TriedUntil};
use std::collections::VecDeque;
use std::time::Duration;

/// A moment is noted whenever this part of the time has passed.
const PARTS: i64 = 32;

/// The time that the link has been up while records waited, over all runs.
#[derive(Clone, Debug)]
pub(super) struct TriedTime {
    /// How long a record must have been tried, in milliseconds.
    enough_ms: i64,
    total: Duration,
    /// The noted moments, the earliest first.
    moments: VecDeque<TriedUntil>,
}

impl TriedTime {
    /// Goes on with the moments that earlier runs have noted.
    pub(super) fn new(enough_ms: i64, moments: Vec<TriedUntil>) -> Self {
        let total_ms = moments.last().map_or(0, |moment| moment.total_ms);
        let total = Duration::from_millis(total_ms.max(0).unsigned_abs());
        Self { enough_ms, total, moments: moments.into() }
    }

    /// The link has been up for this long since the last call, and `kept` is the last record that
    /// was kept. Returns a moment that is to be noted, and the total below which earlier ones are
    /// of no use.
    pub(super) fn passed(&mut self, up: Duration, kept: Seq) -> Option<(TriedUntil, i64)> {
        self.total += up;
        let total_ms = i64::try_from(self.total.as_millis()).unwrap_or(i64::MAX);
        while self.moments.get(1).is_some_and(|second| second.total_ms + self.enough_ms <= total_ms) {
            self.moments.pop_front();
        }
        let is_due = |last: &TriedUntil| total_ms - last.total_ms >= (self.enough_ms / PARTS).max(1);
        if !self.moments.back().is_none_or(is_due) {
            return None;
        }
        let moment = TriedUntil { total_ms, last: kept };
        self.moments.push_back(moment);
        Some((moment, self.moments.front().map_or(total_ms, |first| first.total_ms)))
    }

    /// The last record that has been tried for long enough, and with it all records before.
    pub(super) fn enough(&self) -> Seq {
        let total_ms = i64::try_from(self.total.as_millis()).unwrap_or(i64::MAX);
        let first = self.moments.front().filter(|first| first.total_ms + self.enough_ms <= total_ms);
        first.map_or(Seq::new(0), |first| first.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENOUGH_MS: i64 = 3_600_000;

    proptest! {
        #[test]
        fn a_record_counts_as_tried_no_sooner_than_it_was_and_little_later(
            steps in prop::collection::vec((0..200_000u64, 0..5i64, prop::bool::weighted(0.05)), 1..400),
        ) {
            let (mut tried, mut noted) = (TriedTime::new(ENOUGH_MS, Vec::new()), Vec::new());
            let (mut up_ms, mut kept, mut kept_at) = (0i64, 0i64, vec![0i64]);
            for (ms, records, restarts) in steps {
                if restarts {
                    // The time since the last moment is forgotten.
                    tried = TriedTime::new(ENOUGH_MS, noted.clone());
                }
                up_ms += ms.cast_signed();
                if let Some((moment, from_ms)) = tried.passed(Duration::from_millis(ms), Seq::new(kept)) {
                    noted.retain(|old: &TriedUntil| old.total_ms >= from_ms);
                    noted.push(moment);
                }
                prop_assert!(noted.len() <= 40, "{} moments", noted.len());
                let enough = tried.enough().number();
                prop_assert!((1..=enough).all(|seq| up_ms - kept_at[seq as usize] >= ENOUGH_MS));
                for _ in 0..records {
                    kept += 1;
                    kept_at.push(up_ms);
                }
            }
        }
    }

    #[test]
    fn without_a_restart_a_record_counts_as_tried_soon_after_it_was() {
        let mut tried = TriedTime::new(ENOUGH_MS, Vec::new());
        let mut at = |seconds: u64, kept| {
            for _ in 0..seconds {
                tried.passed(Duration::from_secs(1), Seq::new(kept));
            }
            tried.enough().number()
        };
        assert_eq!((at(1_000, 5), at(2_601, 9)), (0, 5), "an hour after the first of them");
        assert_eq!(at(1_000 + 3_600 / 32, 9), 9);
    }
}
