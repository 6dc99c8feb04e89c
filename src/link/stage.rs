//! The stage of the whole link: it serves, or it finishes and stops.

use tokio::sync::watch;
use tokio::time::Instant;

/// The stage of the whole link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Serve.
    Serving,
    /// Finish what is in flight by this moment, close the connections, and stop.
    Draining(Instant),
}

/// Ends when the link is asked to drain.
pub(super) async fn draining(stage: &mut watch::Receiver<Stage>) {
    // If there is no sender, the link itself is gone, which is an end as well.
    drop(stage.wait_for(|stage| *stage != Stage::Serving).await);
}
