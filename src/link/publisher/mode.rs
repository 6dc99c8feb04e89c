//! What a supervisor and its publisher say to each other: what is wanted, and why it ended.

use crate::labels::LossReason;
use crate::outcome::Outcome;

/// What the supervisor wants of the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublisherMode {
    /// Publish.
    Publishing,
    /// The broker is blocked or stalled: hand nothing over, give everything back with this outcome.
    Paused(Outcome),
    /// Finish what is here, take nothing new, then end.
    Finishing,
    /// End now.
    Stopped,
}

/// Why the publisher ended.
#[derive(Debug)]
pub(crate) enum PublisherEnd {
    /// The connection is lost, as its channels noticed.
    ConnectionLost(lapin::Error),
    /// The connection is lost or given up, as its watch noticed.
    Lost(LossReason, String),
    /// So many channels were closed that the connection is to be replaced. Said once; it goes on publishing.
    WornOut,
    /// Asked to finish, and finished.
    Finished,
    /// Asked to stop.
    Stopped,
}
