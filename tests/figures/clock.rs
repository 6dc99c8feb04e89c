//! How late timers are on this machine: delays that the sidecar did not cause.

use super::sample::Sample;
use std::time::{Duration, Instant};

/// The lateness of a timer at each of its moments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lateness {
    /// In the order of the moments.
    seen: Vec<(Instant, Duration)>,
}

impl Lateness {
    /// A timer that was due at that moment has just fired.
    pub(crate) fn note(&mut self, due: Instant) {
        self.seen.push((due, due.elapsed()));
    }

    /// All of it.
    pub(crate) fn sample(&self) -> Sample {
        self.seen.iter().map(|(_, late)| *late).collect()
    }

    /// The worst of the moments at which a timer was late between `from` and `to`.
    pub(crate) fn worst(&self, from: Instant, to: Instant) -> Duration {
        // A timer that was due earlier may have been late until then.
        const BEFORE: Duration = Duration::from_secs(1);
        let first = self.seen.partition_point(|(due, _)| *due + BEFORE < from);
        let within = self.seen[first..].iter().take_while(|(due, _)| *due <= to);
        within.filter(|(due, late)| *due + *late >= from).map(|(_, late)| *late).max().unwrap_or_default()
    }
}
