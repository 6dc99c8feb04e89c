//! What each admin endpoint answers.

use super::{Readiness, Shown};
use crate::link::{ConnectionState, LinkStatus};
use crate::metrics::{Observed, ObservedSpool};
use crate::spool::Rates;
use crate::spool::store::{Stats, StoreHealth};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Serialize)]
struct ReadyView {
    ready: bool,
    link: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct LinkView {
    state: &'static str,
    since_unix_seconds: u64,
    in_flight: usize,
    in_flight_limit: usize,
    connections: Vec<ConnectionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spool: Option<SpoolView>,
}

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
    oldest_age_seconds: f64,
    appends_per_second: f64,
    deliveries_per_second: f64,
    appended: u64,
    commits: u64,
    lost: u64,
}

#[derive(Serialize)]
struct ConnectionView {
    state: &'static str,
    since_unix_seconds: u64,
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The process runs and this thread is scheduled; nothing else is asked.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(shown): State<Arc<Shown>>) -> Response {
    let status = shown.link.status();
    let draining = *shown.readiness.borrow() == Readiness::Draining;
    let link_missing = shown.config.admin.ready_requires_link && status.state != ConnectionState::Up;
    let mut reasons = link_reasons(&status);
    if draining {
        reasons.insert(0, "shutting down".to_owned());
    }
    let ready = !draining && !link_missing;
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(ReadyView { ready, link: status.state.as_str(), reasons })).into_response()
}

pub(super) async fn link(State(shown): State<Arc<Shown>>) -> Response {
    let status = shown.link.status();
    let connections = status
        .connections
        .into_iter()
        .map(|connection| ConnectionView {
            state: connection.state.as_str(),
            since_unix_seconds: unix_seconds(connection.since),
            endpoint: connection.endpoint,
            reason: connection.reason,
        })
        .collect();
    Json(LinkView {
        state: status.state.as_str(),
        since_unix_seconds: unix_seconds(status.since),
        in_flight: shown.admission.in_flight(),
        in_flight_limit: shown.admission.limit(),
        connections,
        spool: shown.spool.as_ref().map(|spool| spool_view(&spool.store.stats(), spool.flow.rates())),
    })
    .into_response()
}

pub(super) async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let status = shown.link.status();
    let breakers = shown.link.breakers();
    let age_limit = shown.config.spool.max_age;
    let spool =
        shown.spool.as_ref().map(|spool| ObservedSpool { age_limit, ..observed(&spool.store.stats()) });
    let text = shown.metrics.render(&Observed {
        in_flight: shown.admission.in_flight(),
        in_flight_limit: shown.admission.limit(),
        link_state: status.state.as_str(),
        connections: status.connections.iter().map(|connection| connection.state.as_str()).collect(),
        spool: spool.unwrap_or_default(),
        breakers: breakers.into_iter().map(|(state, number)| (state.as_str(), number)).collect(),
    });
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

pub(super) async fn config(State(shown): State<Arc<Shown>>) -> Response {
    Json(&*shown.config).into_response()
}

fn spool_view(stats: &Stats, rates: Rates) -> SpoolView {
    let (state, reason) = match &stats.health {
        StoreHealth::Working => ("working", None),
        StoreHealth::Failed(reason) => ("failed", Some(reason.to_string())),
        StoreHealth::Closed => ("closed", None),
    };
    let observed = observed(stats);
    SpoolView {
        state,
        reason,
        messages: observed.messages,
        parked: observed.parked,
        bytes: observed.bytes,
        max_bytes: stats.max_bytes,
        full: stats.full,
        oldest_age_seconds: observed.oldest_age.as_secs_f64(),
        appends_per_second: rates.appends,
        deliveries_per_second: rates.deliveries,
        appended: stats.appended,
        commits: stats.commits,
        lost: observed.lost,
    }
}

fn observed(stats: &Stats) -> ObservedSpool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let appended = stats.oldest_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    let lost = stats.lost.map_or(0, |lost| lost.committed.number().abs_diff(lost.known.number()));
    ObservedSpool {
        messages: stats.ready,
        bytes: stats.live_bytes,
        bytes_limit: stats.max_bytes,
        oldest_age: appended.map_or(Duration::ZERO, |appended| now.saturating_sub(appended)),
        parked: stats.parked,
        lost,
        failed: matches!(stats.health, StoreHealth::Failed(_)),
        ..ObservedSpool::default()
    }
}

fn link_reasons(status: &LinkStatus) -> Vec<String> {
    let reason = |connection: &crate::link::ConnectionStatus| {
        connection.reason.as_ref().map(|reason| format!("{}: {reason}", connection.endpoint))
    };
    status.connections.iter().filter_map(reason).collect()
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}
