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
    /// The store's time, in Unix milliseconds.
    #[serde(skip)]
    pub now_ms: i64,
}

impl SpoolHandle {
    /// The state at this moment.
    #[must_use]
    pub fn snapshot(&self) -> SpoolSnapshot {
        SpoolSnapshot { stats: self.store.stats(), rates: self.flow.rates(), now_ms: self.store.now_ms() }
    }
}

impl SpoolSnapshot {
    /// The age of the oldest ready message; zero without one.
    #[must_use]
    pub fn oldest_age(&self) -> Duration {
        let oldest = self.stats.oldest_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        let now = Duration::from_millis(self.now_ms.unsigned_abs());
        oldest.map_or(Duration::ZERO, |oldest| now.saturating_sub(oldest))
    }
}
