//! The schedule of load and faults: the only place where the chaos test waits for a time instead of
//! an event.

use std::time::{Duration, Instant};

/// Waits for the scheduled time; the experiment runs in the meantime.
pub(crate) async fn until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}

/// The same, counted from now.
pub(crate) async fn rest(duration: Duration) {
    until(Instant::now() + duration).await;
}
