//! The state of an open spool at one moment: for metrics, for `/link` and for operators.

use super::store::Stats;
use super::{Rates, SpoolHandle};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The state of an open spool. Its JSON is the member `live` of the control socket's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpoolSnapshot {
    /// The store's state.
    #[serde(flatten)]
    pub stats: Stats,
    /// How fast messages enter and leave.
    #[serde(flatten)]
    pub rates: Rates,
    /// Since when the broker refuses the destination that it has refused longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_since_ms: Option<i64>,
    /// The store's time, in Unix milliseconds.
    #[serde(skip)]
    pub now_ms: i64,
}

impl SpoolHandle {
    /// The state at this moment.
    #[must_use]
    pub fn snapshot(&self) -> SpoolSnapshot {
        let stats = self.store.stats();
        // What waits for no delivery is refused no more.
        let refused_since_ms = self.acceptances.refused_since_ms().filter(|_| stats.ready > 0);
        SpoolSnapshot { stats, rates: self.flow.rates(), refused_since_ms, now_ms: self.store.now_ms() }
    }
}

impl SpoolSnapshot {
    /// The age of the oldest ready message; zero without one.
    #[must_use]
    pub fn oldest_age(&self) -> Duration {
        self.since(self.stats.oldest_ms)
    }

    /// For how long the broker has refused the destination that it has refused longest; zero
    /// without one.
    #[must_use]
    pub fn refused_for(&self) -> Duration {
        self.since(self.refused_since_ms)
    }

    fn since(&self, ms: Option<i64>) -> Duration {
        let passed = ms.map_or(0, |ms| self.now_ms.saturating_sub(ms).max(0));
        Duration::from_millis(passed.unsigned_abs())
    }
}
