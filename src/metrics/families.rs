//! The declaration of every metric family: its help text, its kind, its name, its labels.

use super::series::{Attempts, Build, By, Declared, Family, Publishes, Retries};
use super::{Observed, ObservedSpool};
use crate::labels::{
    AppendResult, BreakerState, ConnectFailure, ConnectionState, DeliveryResult, Label, LossReason,
};
use crate::outcome::Class;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, Registry, Result};

/// Declares the families. Each declared family is registered, and its doc comment is its help text.
macro_rules! families {
    ($($(#[doc = $help:literal])+ $family:ident: $kind:ty = $name:literal $([$($label:literal),+])?;)+) => {
        pub(super) struct Families {
            $($(#[doc = $help])+ pub(super) $family: $kind,)+
        }

        impl Families {
            /// Every family, registered, with all its series at zero.
            ///
            /// # Errors
            /// When two families share a name.
            pub(super) fn register(registry: &Registry) -> Result<Self> {
                registry.register(Box::new(ProcessCollector::new(std::process::id().cast_signed(), "")))?;
                Ok(Self {
                    $($family: Family::register(
                        &Declared { name: $name, help: concat!($($help),+), labels: &[$($($label),+)?] },
                        registry,
                    )?,)+
                })
            }
        }
    };
}

families! {
    /// Messages by what became of them.
    publishes: Publishes = "publishes_total" ["outcome", "code"];
    /// Time from a request's first byte to its outcome.
    publish_duration: By<Class, Histogram> = "publish_duration_seconds" ["outcome"];
    /// Time from the hand-over to the broker's verdict.
    confirm_duration: Histogram = "confirm_duration_seconds";
    /// HTTP requests.
    requests: IntCounterVec = "requests_total" ["method", "route", "status"];
    /// Publishes in flight.
    in_flight: IntGauge = "in_flight";
    /// The most publishes in flight.
    in_flight_limit: IntGauge = "in_flight_limit";
    /// 1 while a connection is up.
    link_up: IntGauge = "link_up";
    /// 1 for the link's present state.
    link_state: By<ConnectionState, IntGauge> = "link_state" ["state"];
    /// Connections by state.
    connections: By<ConnectionState, IntGauge> = "connections" ["state"];
    /// Attempts to connect to the broker.
    connects: Attempts<ConnectFailure> = "connects_total" ["result"];
    /// Connections lost.
    disconnects: By<LossReason, IntCounter> = "disconnects_total" ["reason"];
    /// Seconds in which no connection was up.
    link_down_seconds: Counter = "link_down_seconds_total";
    /// When the token in use ends, in seconds since 1970; 0 if the password is no token.
    token_end: Gauge = "token_end_timestamp_seconds";
    /// How long the token in use is valid in all; 0 if the password is no token.
    token_lifetime: Gauge = "token_lifetime_seconds";
    /// Destinations that failed recently, by the state of their circuit breaker.
    breaker_state: By<BreakerState, IntGauge> = "breaker_state" ["state"];
    /// Changes of a destination's circuit breaker.
    breaker_transitions: By<BreakerState, IntCounter> = "breaker_transitions_total" ["to"];
    /// Publishes retried, by the code of the failed attempt.
    retries: Retries = "retries_total" ["reason"];
    /// Verdicts that arrived after their request was answered unknown.
    late_confirms: IntCounter = "late_confirms_total";
    /// Requests that were answered with the outcome of an earlier one.
    replays: IntCounter = "idempotency_replays_total";
    /// Messages in the spool that wait for delivery.
    spool_messages: IntGauge = "spool_messages";
    /// Bytes of the spool's database in use.
    spool_bytes: IntGauge = "spool_bytes";
    /// The most bytes of the spool's database.
    spool_bytes_limit: IntGauge = "spool_bytes_limit";
    /// Age of the oldest message that waits for delivery; 0 without one.
    spool_oldest_age: Gauge = "spool_oldest_age_seconds";
    /// For how long the broker has refused the destination that it has refused longest; 0 if it
    /// takes the messages of all.
    spool_refused: Gauge = "spool_refused_seconds";
    /// The age at which a message is parked.
    spool_age_limit: Gauge = "spool_age_limit_seconds";
    /// Messages kept for an operator.
    spool_parked: IntGauge = "spool_parked_messages";
    /// Messages that were missing when the spool was opened.
    spool_lost: IntGauge = "spool_lost_messages";
    /// 1 after the spool's disk has failed.
    spool_failed: IntGauge = "spool_failed";
    /// Appends to the spool by their result.
    spool_appends: By<AppendResult, IntCounter> = "spool_appends_total" ["result"];
    /// Deliveries from the spool by their result.
    spool_deliveries: By<DeliveryResult, IntCounter> = "spool_deliveries_total" ["result"];
    /// The version that runs.
    _build: Build = "build_info" ["version"];
}

impl Families {
    /// Sets the gauges that are read at the moment of a scrape.
    pub(super) fn observe(&self, observed: &Observed) {
        self.in_flight.set(gauge(observed.in_flight));
        self.in_flight_limit.set(gauge(observed.in_flight_limit));
        self.link_up.set(i64::from(observed.link_state == ConnectionState::Up));
        for &state in <BreakerState as Label>::ALL {
            self.breaker_state.of(state).set(gauge(observed.breakers.get(&state).copied().unwrap_or(0)));
        }
        for &state in <ConnectionState as Label>::ALL {
            self.link_state.of(state).set(i64::from(observed.link_state == state));
            let connections = observed.connections.iter().filter(|connection| **connection == state).count();
            self.connections.of(state).set(gauge(connections));
        }
        self.observe_spool(&observed.spool);
    }

    fn observe_spool(&self, spool: &ObservedSpool) {
        self.spool_messages.set(gauge(spool.messages));
        self.spool_bytes.set(gauge(spool.bytes));
        self.spool_bytes_limit.set(gauge(spool.bytes_limit));
        self.spool_oldest_age.set(spool.oldest_age.as_secs_f64());
        self.spool_refused.set(spool.refused_for.as_secs_f64());
        self.spool_age_limit.set(spool.age_limit.as_secs_f64());
        self.spool_parked.set(gauge(spool.parked));
        self.spool_lost.set(gauge(spool.lost));
        self.spool_failed.set(i64::from(spool.failed));
    }
}

fn gauge<N: TryInto<i64>>(number: N) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// The counter of requests with one method, route and status, at hand without a look-up. Nearly all
/// requests are answered 200 or 503.
pub(super) struct Usual {
    method: &'static str,
    route: &'static str,
    status: u16,
    pub(super) count: IntCounter,
}

impl Usual {
    pub(super) fn of_all(routes: &[(&'static str, &'static str)], requests: &IntCounterVec) -> Vec<Self> {
        let of = |(method, route), status: u16| Self {
            method,
            route,
            status,
            count: requests.with_label_values(&[method, route, &status.to_string()]),
        };
        [200, 503].iter().flat_map(|&status| routes.iter().map(move |&path| of(path, status))).collect()
    }

    pub(super) fn is_of(&self, method: &str, route: &str, status: u16) -> bool {
        self.status == status && self.method == method && self.route == route
    }
}
