//! Sorted latencies and their quantiles.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Latencies as nanoseconds, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<u64>);

impl Sample {
    /// From the measurements of several workers.
    pub(crate) fn of(parts: Vec<Vec<u64>>) -> Self {
        let mut all = parts.concat();
        all.sort_unstable();
        Self(all)
    }

    /// The smallest value that at least this share of all values does not exceed; 0 if there are no
    /// values.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        Duration::from_nanos(self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default())
    }

    /// The recorded part of it.
    pub(crate) fn quantiles(&self) -> Quantiles {
        let micros = |share| self.quantile(share).as_secs_f64() * 1e6;
        Quantiles { p50: micros(0.5), p99: micros(0.99), p999: micros(0.999) }
    }
}

/// Three quantiles, in µs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Quantiles {
    /// As words of a line.
    pub(crate) fn to_words(self) -> String {
        format!("{} {} {}", self.p50, self.p99, self.p999)
    }

    /// From the next words of a line.
    pub(crate) fn of_words(words: &mut std::str::SplitWhitespace<'_>) -> Self {
        let mut next = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        Self { p50: next(), p99: next(), p999: next() }
    }
}

/// The median of several values, the smallest and the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let middle = (at(values.len().saturating_sub(1) / 2) + at(values.len() / 2)) / 2.0;
        Self { median: middle, least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}
