//! What the whole link is asked to do: serve, or finish and end.

use tokio::sync::watch;
use tokio::time::Instant;

/// What the whole link is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Serve.
    Serving,
    /// Finish what is in flight by then, close the connections, end.
    Draining(Instant),
}

/// Ends when the link is asked to drain.
pub(super) async fn draining(stage: &mut watch::Receiver<Stage>) {
    // Without a sender the link itself is gone: that is the end, too.
    drop(stage.wait_for(|stage| *stage != Stage::Serving).await);
}
