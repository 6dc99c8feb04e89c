//! The metrics: every family declared here, fed by verbs, rendered for Prometheus. The only room that names prometheus.
//!
//! Each sidecar has a registry of its own. Labels come from closed lists, and every series exists from the
//! start, so that a rate over a counter that has not moved yet is zero and not absent.

mod downtime;
mod families;

use crate::outcome::Outcome;
use downtime::Downtime;
use families::Families;
use prometheus::{Encoder, TextEncoder};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The closed lists of label values that other rooms own.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    /// States of a connection and of the link; `up` among them.
    pub link_states: &'static [&'static str],
    /// States of a destination's circuit breaker.
    pub breaker_states: &'static [&'static str],
    /// Results of an attempt to connect, besides `ok`.
    pub connect_failures: &'static [&'static str],
    /// Reasons for losing a connection.
    pub loss_reasons: &'static [&'static str],
    /// What becomes of appends to the spool.
    pub spool_appends: &'static [&'static str],
    /// What becomes of deliveries from the spool.
    pub spool_deliveries: &'static [&'static str],
    /// Routes of the HTTP listener with the methods they take.
    pub routes: &'static [(&'static str, &'static str)],
}

/// What is read at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Publishes in flight.
    pub in_flight: usize,
    /// The most publishes in flight.
    pub in_flight_limit: usize,
    /// The link's state.
    pub link_state: &'static str,
    /// The state of each connection.
    pub connections: Vec<&'static str>,
    /// Destinations with a circuit breaker, by its state.
    pub breakers: Vec<(&'static str, usize)>,
    /// The spool; all zero without one.
    pub spool: ObservedSpool,
}

/// What is read of the spool at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ObservedSpool {
    /// Messages to be delivered.
    pub messages: u64,
    /// Bytes in use on disk.
    pub bytes: u64,
    /// Bytes on disk, at most.
    pub bytes_limit: u64,
    /// The age of the oldest message that is to be delivered; zero without one.
    pub oldest_age: Duration,
    /// The age at which a message is parked.
    pub age_limit: Duration,
    /// Messages kept for an operator.
    pub parked: u64,
    /// Messages that were stored and were missing when the spool was opened.
    pub lost: u64,
    /// Whether its disk has failed it.
    pub failed: bool,
}

/// All metrics of one sidecar. Cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    families: Families,
    vocabulary: Vocabulary,
    downtime: Mutex<Downtime>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The families, with every series at zero.
    ///
    /// # Panics
    /// When two families share a name, which the tests exclude.
    #[must_use]
    pub fn new(vocabulary: Vocabulary) -> Self {
        let families = Families::new(&vocabulary).expect("family names are valid and distinct");
        let downtime = Mutex::new(Downtime::starting_at(Instant::now()));
        Self(Arc::new(Inner { families, vocabulary, downtime }))
    }

    /// A message's outcome is known and no request waits for it: only the count.
    pub fn published(&self, outcome: Outcome) {
        self.0.families.publishes[outcome as usize].inc();
    }

    /// A request that asked for a publish was answered, `elapsed` after its first byte.
    pub fn publish_answered(&self, outcome: Outcome, elapsed: Duration) {
        self.published(outcome);
        self.0.families.publish_duration[outcome.class() as usize].observe(elapsed.as_secs_f64());
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
    pub fn breaker_changed(&self, to: &'static str) {
        self.0.families.breaker_transitions.with_label_values(&[to]).inc();
    }

    /// A publish is tried again.
    pub fn retried(&self, reason: Outcome) {
        self.0.families.retries[reason as usize].inc();
    }

    /// The outcome of an earlier request was given again.
    pub fn replayed(&self) {
        self.0.families.replays.inc();
    }

    /// An append to the spool was answered.
    pub fn spool_appended(&self, result: &'static str) {
        self.0.families.spool_appends.with_label_values(&[result]).inc();
    }

    /// Deliveries from the spool ended.
    pub fn spool_delivered(&self, result: &'static str, messages: u64) {
        self.0.families.spool_deliveries.with_label_values(&[result]).inc_by(messages);
    }

    /// A request was answered.
    pub fn request_finished(&self, method: &str, route: &str, status: u16) {
        let families = &self.0.families;
        let mut as_a_rule = families.requests_as_a_rule.iter();
        match as_a_rule.find(|requests| requests.is_of(method, route, status)) {
            Some(requests) => requests.count.inc(),
            None => families.requests.with_label_values(&[method, route, &status.to_string()]).inc(),
        }
    }

    /// An attempt to connect succeeded.
    pub fn connect_succeeded(&self) {
        self.0.families.connects.with_label_values(&["ok"]).inc();
    }

    /// An attempt to connect failed.
    pub fn connect_failed(&self, result: &'static str) {
        self.0.families.connects.with_label_values(&[result]).inc();
    }

    /// An established connection was lost.
    pub fn disconnected(&self, reason: &'static str) {
        self.0.families.disconnects.with_label_values(&[reason]).inc();
    }

    /// The link as a whole changed its state.
    pub fn link_changed(&self, state: &'static str) {
        let mut downtime = self.0.downtime.lock().unwrap_or_else(PoisonError::into_inner);
        downtime.changed(state == "up", Instant::now());
    }

    /// The text exposition, with what is observed now.
    #[must_use]
    pub fn render(&self, observed: &Observed) -> String {
        let Inner { families, vocabulary, downtime } = &*self.0;
        families.observe(vocabulary, observed);
        let down = downtime.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        families.link_down_seconds.inc_by(down.as_secs_f64());
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new()
            .encode(&families.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and families are well formed");
        String::from_utf8(text).expect("the text encoder writes UTF-8")
    }
}

#[cfg(test)]
mod tests;
