//! Reports what happens to one connection to the watch channel, the metrics and the log.

use super::state::ConnectionEvent;
use super::status::{LinkChange, StateWriter, WayIn};
use crate::metrics::Metrics;

/// The only writer of its connection's state.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// The connection's number, for the log.
    pub(crate) slot: usize,
    pub(crate) state: StateWriter,
    pub(crate) metrics: Metrics,
}

impl Reporter {
    /// Applies an event to the connection. `way` is the way to it while it is up.
    pub(crate) fn apply(&self, event: ConnectionEvent, reason: Option<String>, way: Option<WayIn>) {
        if let Some(LinkChange { from, to }) = self.state.apply(event, reason, way) {
            self.metrics.link_changed(to);
            tracing::info!(from = from.as_str(), to = to.as_str(), "link state");
        }
    }
}
