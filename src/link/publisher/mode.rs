//! The modes in which a supervisor puts its publisher, and the reasons why a publisher ends.

use crate::labels::LossReason;
use crate::outcome::Outcome;

/// The mode in which the supervisor puts the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublisherMode {
    /// Publish.
    Publishing,
    /// The broker is blocked or stalled: hand nothing over, give everything back with this outcome.
    Paused(Outcome),
    /// Take nothing new, finish, then end.
    Finishing,
    /// End now.
    Stopped,
}

/// Why the publisher ended.
#[derive(Debug)]
pub(crate) enum PublisherEnd {
    /// The connection is lost, as its channels noticed.
    ConnectionLost(lapin::Error),
    /// The connection is lost or given up, as its vigil noticed.
    Lost(LossReason, String),
    /// The connection should be replaced: its channels are used up or hang. Reported once; the
    /// publisher can go on.
    WornOut,
    /// Asked to finish, and finished.
    Finished,
    /// Asked to stop.
    Stopped,
}
