//! Many messages in one request, and an answer for each as soon as it is known: a stream of lines,
//! or an array.
//!
//! The `engine` is a task of its own. It takes lines from `arriving` (cut by `lines`) or
//! `elements`, publishes each within the `places`, and writes the `answers` to the `outbox`, from
//! which the response is read. So each line gets its outcome even if the client reads slowly or
//! leaves.

mod answers;
mod arriving;
mod elements;
mod engine;
mod lines;
mod outbox;

use super::dialect::Entries;
use super::door::Door;
use super::places::{Room, no_room};
use super::rejection::Rejection;
use super::respond;
use super::terms::Defaults;
use super::upload::Upload;
use crate::admission::Permit;
use crate::listener::{ConnectionClock, UnderWay};
use arriving::ArrivingLines;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use elements::Elements;
use engine::{Begins, Engine, Source};
use outbox::{Outbox, Results};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Answers each line with a line, in the order of their outcomes.
pub(super) async fn of_lines(
    door: &Arc<Door>,
    start: Instant,
    clock: ConnectionClock,
    upload: Upload,
    entries: Entries,
    defaults: Defaults,
    timeout: Duration,
) -> Response {
    let waits_for_continue = upload.waits_for_continue();
    let mut lines = ArrivingLines::new(upload.into_body(), door.places.clone(), door.max_body, timeout);
    if waits_for_continue {
        // hyper sends `100 Continue` when the body is read before the response has begun.
        lines.first(door.terms.default_deadline(start)).await;
    }
    begin(door, clock, Source::Lines(lines), entries, defaults, Begins::WhenTaken)
}

/// Answers an array with an array, in its order. `permit` is that of the document; its elements
/// have their own.
pub(super) async fn of_array(
    door: &Arc<Door>,
    start: Instant,
    clock: ConnectionClock,
    document: Bytes,
    permit: Permit,
    entries: Entries,
    defaults: Defaults,
) -> Result<Response, Rejection> {
    let defaults = defaults.for_many()?;
    let deadline = door.terms.default_deadline(start).instant();
    let room = door.places.clone().make_room(Room::none(), document.len(), deadline).await;
    let room = room.ok_or_else(no_room)?;
    drop(permit);
    let source = Source::Elements(Elements::of(document, room)?);
    Ok(begin(door, clock, source, entries, defaults, Begins::At(start)))
}

fn begin(
    door: &Arc<Door>,
    clock: ConnectionClock,
    source: Source,
    entries: Entries,
    defaults: Defaults,
    begins: Begins,
) -> Response {
    let outbox = Arc::new(Outbox::default());
    let connection = Connection { _under_way: clock.keep(), clock };
    let shared = Arc::clone(&outbox);
    let engine = Engine::new(Arc::clone(door), source, entries, defaults, begins, shared, connection);
    door.streams.spawn(engine.run());
    respond::many(entries.media_type, Body::new(Results::of(outbox)))
}

/// The connection of a stream: in use for as long as this lives.
struct Connection {
    clock: ConnectionClock,
    _under_way: UnderWay,
}
