//! The moment by which a request is answered.

use std::time::Duration;
use tokio::time::Instant;

/// The moment by which a request is answered. Made once, passed down, never derived again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `timeout` after `start`, the request's first byte.
    #[must_use]
    pub fn after(start: Instant, timeout: Duration) -> Self {
        Self(start + timeout)
    }

    /// The moment itself.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}
