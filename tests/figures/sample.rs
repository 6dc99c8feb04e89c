//! Sorted durations and their quantiles.

use super::table::ms;
use std::time::Duration;

/// Measured durations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Sample {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl Sample {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// How many are longer than `limit`.
    pub(crate) fn above(&self, limit: Duration) -> usize {
        self.sorted.len() - self.sorted.partition_point(|duration| *duration <= limit)
    }

    /// The smallest duration that at least `share` of all do not exceed; zero for an empty sample.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.sorted.len() as f64 * share).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The median.
    pub(crate) fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// The longest.
    pub(crate) fn worst(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }

    /// p50, p99 and the longest.
    pub(crate) fn tail(&self) -> String {
        format!("p50 {}, p99 {}, max {}", ms(self.median()), ms(self.quantile(0.99)), ms(self.worst()))
    }

    /// Median and longest.
    pub(crate) fn ends(&self) -> String {
        format!("median {}, worst {} of {}", ms(self.median()), ms(self.worst()), self.count())
    }
}
