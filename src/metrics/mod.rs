//! The metrics: every family declared once, fed by verbs, rendered for Prometheus. The only room
//! that names prometheus.
//!
//! Each sidecar has a registry of its own. Labels come from closed lists, and every series exists
//! from the start, so that a rate over a counter that has not moved yet is zero and not absent.

mod downtime;
mod families;
mod series;

use crate::labels::{
    AppendResult, BreakerState, ConnectFailure, ConnectionState, DeliveryResult, LossReason,
};
use crate::locking::lock;
use crate::outcome::Outcome;
use downtime::Downtime;
use families::{Families, Usual};
use prometheus::{Encoder, Registry, TextEncoder};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The values that are read at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Publishes in flight.
    pub in_flight: usize,
    /// The most publishes in flight.
    pub in_flight_limit: usize,
    /// The link's state.
    pub link_state: ConnectionState,
    /// The state of each connection.
    pub connections: Vec<ConnectionState>,
    /// Destinations with a circuit breaker, by its state.
    pub breakers: HashMap<BreakerState, usize>,
    /// The spool; all zero without one.
    pub spool: ObservedSpool,
}

/// The values of the spool that are read at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ObservedSpool {
    /// Messages that wait for delivery.
    pub messages: u64,
    /// Bytes in use on disk.
    pub bytes: u64,
    /// The limit on bytes on disk.
    pub bytes_limit: u64,
    /// The age of the oldest message that waits for delivery; zero without one.
    pub oldest_age: Duration,
    /// For how long the broker has refused the destination that it has refused longest.
    pub refused_for: Duration,
    /// The age at which a message is parked.
    pub age_limit: Duration,
    /// Messages kept for an operator.
    pub parked: u64,
    /// Stored messages that were missing when the spool was opened.
    pub lost: u64,
    /// Whether its disk has failed.
    pub failed: bool,
}

/// All metrics of one sidecar. Cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
    usual_requests: Vec<Usual>,
    downtime: Mutex<Downtime>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The families, with every series at zero. `routes`: the methods and routes of the HTTP
    /// listener, whose ordinary answers are counted without a look-up.
    ///
    /// # Panics
    /// If two families share a name, which the tests exclude.
    #[must_use]
    pub fn new(routes: &[(&'static str, &'static str)]) -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry).expect("family names are valid and distinct");
        let usual_requests = Usual::of_all(routes, &families.requests);
        let downtime = Mutex::new(Downtime::starting_at(Instant::now()));
        Self(Arc::new(Inner { registry, families, usual_requests, downtime }))
    }

    /// Counts a message whose outcome is known while no request waits for it any more.
    pub fn published(&self, outcome: Outcome) {
        if let Some(publishes) = self.0.families.publishes.of(outcome) {
            publishes.inc();
        }
    }

    /// A request that asked for a publish was answered, `elapsed` after its first byte.
    pub fn publish_answered(&self, outcome: Outcome, elapsed: Duration) {
        self.published(outcome);
        self.0.families.publish_duration.of(outcome.class()).observe(elapsed.as_secs_f64());
    }

    /// The broker's verdict arrived, `elapsed` after the hand-over.
    pub fn confirm_received(&self, elapsed: Duration) {
        self.0.families.confirm_duration.observe(elapsed.as_secs_f64());
    }

    /// A verdict arrived after its request had been answered `unknown`.
    pub fn late_confirm(&self) {
        self.0.families.late_confirms.inc();
    }

    /// A destination's circuit breaker changed its state.
    pub fn breaker_changed(&self, to: BreakerState) {
        self.0.families.breaker_transitions.of(to).inc();
    }

    /// A publish is retried after an attempt that failed with this outcome.
    pub fn retried(&self, failed: Outcome) {
        self.0.families.retries.of(failed).inc();
    }

    /// A request was answered with the outcome of an earlier one.
    pub fn replayed(&self) {
        self.0.families.replays.inc();
    }

    /// An append to the spool was answered.
    pub fn spool_appended(&self, result: AppendResult) {
        self.0.families.spool_appends.of(result).inc();
    }

    /// Deliveries from the spool ended.
    pub fn spool_delivered(&self, result: DeliveryResult, messages: u64) {
        self.0.families.spool_deliveries.of(result).inc_by(messages);
    }

    /// A request was answered.
    pub fn request_finished(&self, method: &str, route: &str, status: u16) {
        let Inner { families, usual_requests, .. } = &*self.0;
        match usual_requests.iter().find(|requests| requests.is_of(method, route, status)) {
            Some(requests) => requests.count.inc(),
            None => families.requests.with_label_values(&[method, route, &status.to_string()]).inc(),
        }
    }

    /// An attempt to connect succeeded.
    pub fn connect_succeeded(&self) {
        self.0.families.connects.ok.inc();
    }

    /// An attempt to connect failed.
    pub fn connect_failed(&self, failure: ConnectFailure) {
        self.0.families.connects.failed.of(failure).inc();
    }

    /// An established connection was lost.
    pub fn disconnected(&self, reason: LossReason) {
        self.0.families.disconnects.of(reason).inc();
    }

    /// The broker accepted a password. A token that says so ends at `end` and is valid for
    /// `lifetime` in all.
    pub fn token_in_use(&self, end: Option<SystemTime>, lifetime: Duration) {
        let end = end.and_then(|end| end.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        self.0.families.token_end.set(end.as_secs_f64());
        self.0.families.token_lifetime.set(lifetime.as_secs_f64());
    }

    /// The link as a whole changed its state.
    pub fn link_changed(&self, state: ConnectionState) {
        let mut downtime = lock(&self.0.downtime);
        downtime.changed(state == ConnectionState::Up, Instant::now());
    }

    /// The text for a scrape, with the gauges as observed now.
    #[must_use]
    pub fn render(&self, observed: &Observed) -> String {
        let Inner { registry, families, downtime, .. } = &*self.0;
        families.observe(observed);
        let down = lock(downtime).take(Instant::now());
        families.link_down_seconds.inc_by(down.as_secs_f64());
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .expect("writing to memory does not fail, and families are well formed");
        String::from_utf8(text).expect("the text encoder writes UTF-8")
    }
}

#[cfg(test)]
mod tests;
