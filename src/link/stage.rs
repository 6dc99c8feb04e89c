//! What the whole link is asked to do: serve, or finish and stop.

use tokio::sync::watch;
use tokio::time::Instant;

/// What the whole link is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Serve.
    Serving,
    /// Finish what is in flight by this moment, close the connections, and stop.
    Draining(Instant),
}

/// Ends when the link is asked to drain.
pub(super) async fn draining(stage: &mut watch::Receiver<Stage>) {
    // Without a sender the link itself is gone, which is the end as well.
    drop(stage.wait_for(|stage| *stage != Stage::Serving).await);
}
