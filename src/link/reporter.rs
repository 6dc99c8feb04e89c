//! Tells everybody what happens to one connection: the watch channel, the metrics and the log.

use super::state::ConnectionEvent;
use super::status::{LinkChange, StateWriter};
use super::ticket::Job;
use crate::metrics::Metrics;
use tokio::sync::mpsc;

/// The only writer of its connection's state.
#[derive(Debug)]
pub(super) struct Reporter {
    slot: usize,
    state: StateWriter,
    metrics: Metrics,
}

impl Reporter {
    pub(super) fn new(slot: usize, state: StateWriter, metrics: Metrics) -> Self {
        Self { slot, state, metrics }
    }

    /// The connection's number, for the log.
    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Which endpoint the next attempt goes to.
    pub(super) fn trying(&self, endpoint: &str) {
        self.state.trying(endpoint);
    }

    /// Whether another connection is open to this endpoint.
    pub(super) fn is_taken(&self, endpoint: &str) -> bool {
        self.state.is_taken(endpoint)
    }

    /// Something happened to the connection. `lane` is the way to it while it is up.
    pub(super) fn apply(
        &self,
        event: ConnectionEvent,
        reason: Option<String>,
        lane: Option<mpsc::Sender<Job>>,
    ) {
        if let Some(LinkChange { from, to }) = self.state.apply(event, reason, lane) {
            self.metrics.link_changed(to.as_str());
            tracing::info!(from = from.as_str(), to = to.as_str(), "link state");
        }
    }
}
