//! What each admin endpoint answers.

use super::{Readiness, Shown};
use crate::link::{ConnectionState, LinkStatus};
use crate::metrics::Observed;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
    })
    .into_response()
}

pub(super) async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let status = shown.link.status();
    let breakers = shown.link.breakers();
    let text = shown.metrics.render(&Observed {
        in_flight: shown.admission.in_flight(),
        in_flight_limit: shown.admission.limit(),
        link_state: status.state.as_str(),
        connections: status.connections.iter().map(|connection| connection.state.as_str()).collect(),
        breakers: breakers.into_iter().map(|(state, number)| (state.as_str(), number)).collect(),
    });
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

pub(super) async fn config(State(shown): State<Arc<Shown>>) -> Response {
    Json(&*shown.config).into_response()
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
