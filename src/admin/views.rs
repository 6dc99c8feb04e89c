//! The answers of the admin endpoints.

use super::snapshot::Snapshot;
use super::{Readiness, Shown};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct ReadyView {
    ready: bool,
    link: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// Shows that the process runs and this thread is scheduled; checks nothing else.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(shown): State<Arc<Shown>>) -> Response {
    let snapshot = Snapshot::of(&shown);
    let draining = *shown.readiness.borrow() == Readiness::Draining;
    let link_missing = shown.config.now().admin.ready_requires_link && !snapshot.link_is_up();
    let shutting_down = draining.then(|| "shutting down".to_owned());
    let reasons = shutting_down.into_iter().chain(snapshot.link_reasons()).collect();
    let ready = !draining && !link_missing;
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(ReadyView { ready, link: snapshot.link_state(), reasons })).into_response()
}

pub(super) async fn link(State(shown): State<Arc<Shown>>) -> Response {
    Json(Snapshot::of(&shown)).into_response()
}

pub(super) async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let text = shown.metrics.render(&Snapshot::of(&shown).observed());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

pub(super) async fn config(State(shown): State<Arc<Shown>>) -> Response {
    Json(&*shown.config.now()).into_response()
}
