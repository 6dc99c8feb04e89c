//! The state of the sidecar at one moment, as all endpoints show it.

use super::Shown;
use crate::labels::{BreakerState, ConnectionState};
use crate::link::{ConnectionStatus, unix_seconds};
use crate::metrics::{Observed, ObservedSpool};
use crate::spool::SpoolSnapshot;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// The state of the sidecar. Its JSON is the answer of `/link`.
#[derive(Serialize)]
pub(super) struct Snapshot {
    state: ConnectionState,
    #[serde(rename = "since_unix_seconds", serialize_with = "unix_seconds")]
    since: SystemTime,
    in_flight: usize,
    in_flight_limit: usize,
    connections: Vec<ConnectionStatus>,
    #[serde(skip)]
    breakers: HashMap<BreakerState, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spool: Option<SpoolView>,
}

/// The spool as `/link` shows it: with a state and perhaps a reason, like a connection.
#[derive(Serialize)]
struct SpoolView {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    messages: u64,
    parked: u64,
    bytes: u64,
    max_bytes: u64,
    full: bool,
    #[serde(rename = "oldest_age_seconds", serialize_with = "seconds")]
    oldest_age: Duration,
    #[serde(rename = "refused_seconds", serialize_with = "seconds")]
    refused_for: Duration,
    appends_per_second: f64,
    deliveries_per_second: f64,
    appended: u64,
    commits: u64,
    lost: u64,
    #[serde(skip)]
    age_limit: Duration,
}

impl Snapshot {
    pub(super) fn of(shown: &Shown) -> Self {
        let status = shown.link.status();
        let age_limit = shown.config.now().spool.max_age;
        Self {
            state: status.state,
            since: status.since,
            in_flight: shown.admission.in_flight(),
            in_flight_limit: shown.admission.limit(),
            connections: status.connections,
            breakers: shown.link.breakers(),
            spool: shown.spool.as_ref().map(|spool| SpoolView::of(&spool.snapshot(), age_limit)),
        }
    }

    pub(super) fn link_is_up(&self) -> bool {
        self.state == ConnectionState::Up
    }

    pub(super) fn link_state(&self) -> &'static str {
        self.state.as_str()
    }

    /// Why connections are not up, each with its endpoint.
    pub(super) fn link_reasons(&self) -> impl Iterator<Item = String> {
        self.connections.iter().filter_map(|ConnectionStatus { endpoint, address, reason, .. }| {
            let reason = reason.as_ref()?;
            Some(match address.map(|address| address.to_string()) {
                Some(address) if address != *endpoint => format!("{endpoint} at {address}: {reason}"),
                Some(_) | None => format!("{endpoint}: {reason}"),
            })
        })
    }

    /// The state as metrics take it.
    pub(super) fn observed(&self) -> Observed {
        Observed {
            in_flight: self.in_flight,
            in_flight_limit: self.in_flight_limit,
            link_state: self.state,
            connections: self.connections.iter().map(|connection| connection.state).collect(),
            spool: self.spool.as_ref().map(SpoolView::observed).unwrap_or_default(),
            breakers: self.breakers.clone(),
        }
    }
}

impl SpoolView {
    fn of(snapshot: &SpoolSnapshot, age_limit: Duration) -> Self {
        let SpoolSnapshot { stats, rates, .. } = snapshot;
        Self {
            state: stats.health.as_str(),
            reason: stats.health.failure().map(str::to_owned),
            messages: stats.ready,
            parked: stats.parked,
            bytes: stats.live_bytes,
            max_bytes: stats.max_bytes,
            full: stats.full,
            oldest_age: snapshot.oldest_age(),
            refused_for: snapshot.refused_for(),
            appends_per_second: rates.appends,
            deliveries_per_second: rates.deliveries,
            appended: stats.appended,
            commits: stats.commits,
            lost: stats.lost.map_or(0, |lost| lost.records()),
            age_limit,
        }
    }

    fn observed(&self) -> ObservedSpool {
        ObservedSpool {
            messages: self.messages,
            bytes: self.bytes,
            bytes_limit: self.max_bytes,
            oldest_age: self.oldest_age,
            refused_for: self.refused_for,
            age_limit: self.age_limit,
            parked: self.parked,
            lost: self.lost,
            failed: self.reason.is_some(),
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}
