//! The routes of the control socket: pages are bounded, and each request is answered by its
//! deadline.

use super::desk::{Desk, DeskError};
use super::looking::{self, Export, Exported};
use super::wire::{ChangeRequest, ErrorBody, Operation, Query, Sidecar, Status};
use crate::spool::store::StoreReader;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query as QueryString, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, extract::DefaultBodyLimit};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The deadline for the head of a response. A page of changes takes milliseconds on a working disk.
const DEADLINE: Duration = Duration::from_secs(30);
/// The deadline for a verification, which reads the whole spool.
const VERIFY_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// The longest pause between two messages of an export; a slower reader is disconnected.
const EXPORT_PAUSE: Duration = Duration::from_secs(30);
/// The largest body, in bytes: a page of numbers in JSON.
const BODY_MAX: usize = 64 * 1024;
/// The number of destinations in a status.
const LARGEST: usize = 20;

#[derive(Debug)]
struct Context {
    desk: Desk,
    directory: PathBuf,
    verifying: Semaphore,
}

pub(super) fn router(desk: Desk, directory: &std::path::Path) -> Router {
    let room = Arc::new(Context { desk, directory: directory.to_owned(), verifying: Semaphore::new(1) });
    let quick = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/messages", get(list))
        .route("/v1/messages/{seq}", get(show))
        .route("/v1/export", get(export))
        .route("/v1/redrive", changing(Operation::Redrive))
        .route("/v1/park", changing(Operation::Park))
        .route("/v1/drop", changing(Operation::Drop))
        .layer(from_fn(|request, next| within(DEADLINE, request, next)));
    let long = Router::new()
        .route("/v1/verify", post(verify))
        .layer(from_fn(|request, next| within(VERIFY_DEADLINE, request, next)));
    quick
        .merge(long)
        .fallback(|| async { fault(StatusCode::NOT_FOUND, "there is no such operation") })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(room)
}

async fn within(deadline: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => fault(StatusCode::GATEWAY_TIMEOUT, "no answer in time; a change that was begun goes on"),
    }
}

fn fault(status: StatusCode, error: impl ToString) -> Response {
    (status, Json(ErrorBody { error: error.to_string() })).into_response()
}

fn answer<T: Serialize>(result: Result<T, impl ToString>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => fault(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

type Asked = Result<QueryString<Query>, QueryRejection>;
type Ordered = Result<Json<ChangeRequest>, JsonRejection>;

async fn status(State(room): State<Arc<Context>>) -> Response {
    let held = looking::status(room.desk.reader(), LARGEST).await;
    answer(held.map(|held| Status { sidecar: Sidecar::Answers, live: Some(room.desk.live()), ..held }))
}

async fn list(State(room): State<Arc<Context>>, query: Asked) -> Response {
    match query {
        Ok(QueryString(query)) => match looking::lines(room.desk.reader(), &query).await {
            Ok(page) => Json(page).into_response(),
            Err(error) => fault(StatusCode::BAD_REQUEST, error),
        },
        Err(rejection) => fault(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

async fn show(State(room): State<Arc<Context>>, Path(seq): Path<String>) -> Response {
    let Ok(seq) = seq.parse() else {
        return fault(StatusCode::BAD_REQUEST, "expected the number of a message");
    };
    match looking::shown(room.desk.reader(), seq).await {
        Ok(Some(shown)) => Json(shown).into_response(),
        Ok(None) => fault(StatusCode::NOT_FOUND, format_args!("there is no message {seq}")),
        Err(error) => fault(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

fn changing(change: Operation) -> MethodRouter<Arc<Context>> {
    post(async move |State(room): State<Arc<Context>>, order: Ordered| {
        answer_change(&room.desk, change, order).await
    })
}

async fn answer_change(desk: &Desk, change: Operation, order: Ordered) -> Response {
    let order = match order {
        Ok(Json(order)) => order,
        Err(rejection) => return fault(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    match desk.change(change, order).await {
        Ok(done) => Json(done).into_response(),
        Err(error @ DeskError::Order(_)) => fault(StatusCode::BAD_REQUEST, error),
        Err(error @ DeskError::Busy) => fault(StatusCode::CONFLICT, error),
        Err(error @ (DeskError::Read(_) | DeskError::Change(_))) => {
            fault(StatusCode::SERVICE_UNAVAILABLE, error)
        }
        Err(error @ DeskError::GivenUp) => fault(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn verify(State(room): State<Arc<Context>>) -> Response {
    let Ok(_turn) = room.verifying.try_acquire() else {
        return fault(StatusCode::CONFLICT, "a verification is under way");
    };
    let directory = room.directory.clone();
    // On a separate connection, so that no other question waits for it.
    let opened = tokio::task::spawn_blocking(move || StoreReader::open(&directory)).await;
    match opened {
        Ok(Ok(reader)) => answer(looking::report(&reader, |_| {}).await),
        Ok(Err(error)) => fault(StatusCode::SERVICE_UNAVAILABLE, error),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// Envelopes, one a line. If the spool cannot be read the response is aborted, so that nobody takes
/// a part for the whole.
async fn export(State(room): State<Arc<Context>>, query: Asked) -> Response {
    let query = match query {
        Ok(QueryString(query)) => query,
        Err(rejection) => return fault(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let export = match Export::begin(room.desk.reader(), &query).await {
        Ok(export) => export,
        Err(error) => return fault(StatusCode::BAD_REQUEST, error),
    };
    let lines = stream::try_unfold((room, export), |(room, mut export)| async move {
        loop {
            let next = tokio::time::timeout(EXPORT_PAUSE, export.next(room.desk.reader())).await;
            let next = next.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
            match next {
                Some(Exported::Envelope(line)) => {
                    return Ok::<_, std::io::Error>(Some((Bytes::from(line + "\n"), (room, export))));
                }
                Some(Exported::Damaged(seq)) => tracing::warn!(seq, "a damaged message is not exported"),
                None => return Ok(None),
            }
        }
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
