//! Reports what happens to one connection to the watch channel, the metrics and the log.

use super::state::ConnectionEvent;
use super::status::{LinkChange, StateWriter};
use crate::link::ticket::Job;
use crate::metrics::Metrics;
use tokio::sync::mpsc;

/// The only writer of its connection's state.
#[derive(Debug)]
pub(crate) struct Reporter {
    slot: usize,
    state: StateWriter,
    metrics: Metrics,
}

impl Reporter {
    pub(crate) fn new(slot: usize, state: StateWriter, metrics: Metrics) -> Self {
        Self { slot, state, metrics }
    }

    /// The connection's number, for the log.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Which endpoint the next attempt goes to.
    pub(crate) fn trying(&self, endpoint: &str) {
        self.state.trying(endpoint);
    }

    /// Whether another connection is open to this endpoint.
    pub(crate) fn is_taken(&self, endpoint: &str) -> bool {
        self.state.is_taken(endpoint)
    }

    /// Applies an event to the connection. `lane` is the way to it while it is up.
    pub(crate) fn apply(
        &self,
        event: ConnectionEvent,
        reason: Option<String>,
        lane: Option<mpsc::Sender<Job>>,
    ) {
        if let Some(LinkChange { from, to }) = self.state.apply(event, reason, lane) {
            self.metrics.link_changed(to);
            tracing::info!(from = from.as_str(), to = to.as_str(), "link state");
        }
    }
}
