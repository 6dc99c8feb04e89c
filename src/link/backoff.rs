//! Full-jitter exponential back-off.

use std::time::Duration;

/// Delays are drawn evenly from zero up to a ceiling that doubles with each failure, so that a
/// thousand sidecars do not reconnect in step after their broker restarts.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A first ceiling of `min`, never above `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// The next delay, after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(fastrand::f64())
    }

    /// The last attempt succeeded: starts over with `min`.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    fn ceiling(&self) -> Duration {
        let doubled = self.min.checked_mul(2u32.saturating_pow(self.failures)).unwrap_or(self.max);
        doubled.min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut ceilings = Vec::new();
        for _ in 0..7 {
            ceilings.push(backoff.ceiling().as_millis());
            assert!(backoff.next_delay() <= Duration::from_secs(1));
        }
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn it_never_overflows_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(60));
        for _ in 0..10_000 {
            assert!(backoff.next_delay() <= Duration::from_secs(60));
        }
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_secs(10));
    }
}
