//! The pacing of load and faults: the one place where the chaos test waits for a moment rather than for an event.

use std::time::{Duration, Instant};

/// Waits for the moment at which the schedule goes on. What passes meanwhile is the experiment itself.
pub(crate) async fn until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}

/// The same, from now on.
pub(crate) async fn rest(duration: Duration) {
    until(Instant::now() + duration).await;
}
