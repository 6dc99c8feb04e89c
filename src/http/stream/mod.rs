//! Many messages in one request, and an answer for each as soon as it is known: a stream of lines, or an array.
//!
//! A task of its own, the `engine`, takes what `arriving` has read (cut into lines by `lines`) or `elements` holds,
//! publishes it within its `places`, and writes the answers to the `outbox`, from which the response is read. So
//! nothing that the client does, reading slowly or leaving, keeps a line from its outcome.

mod answers;
mod arriving;
mod elements;
mod engine;
mod lines;
mod outbox;
mod places;

pub(super) use elements::is_array;
pub(super) use places::Places;

use super::draft::Defaults;
use super::rejection::Rejection;
use super::upload::Upload;
use super::{Door, respond};
use crate::admission::Permit;
use crate::listener::{Arrival, ConnectionClock, UnderWay};
use arriving::ArrivingLines;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use elements::Elements;
use engine::{Begins, Engine, Source};
use outbox::{Outbox, Results};
use places::Room;
use std::sync::Arc;
use std::time::Duration;

/// The media type of a stream of lines, both ways.
pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";

/// A line for each line, as they come.
pub(super) async fn of_lines(
    door: &Arc<Door>,
    arrival: Arrival,
    upload: Upload,
    defaults: Defaults,
    timeout: Duration,
) -> Response {
    let waits_for_continue = upload.waits_for_continue();
    let mut lines = ArrivingLines::new(upload.into_body(), door.places.clone(), door.max_body, timeout);
    if waits_for_continue {
        // It is told so when the body is asked for and nothing of the response has been sent.
        lines.first(door.default_deadline(arrival.start)).await;
    }
    begin(door, arrival.clock, Source::Lines(lines), defaults, Begins::WhenTaken, MEDIA_TYPE)
}

/// An array for an array, in its order. `permit` is what the document was read with: its elements have their own.
pub(super) async fn of_array(
    door: &Arc<Door>,
    arrival: Arrival,
    document: Bytes,
    permit: Permit,
    defaults: Defaults,
) -> Result<Response, Rejection> {
    let defaults = defaults.for_many()?;
    let Arrival { start, clock } = arrival;
    let deadline = door.default_deadline(start).instant();
    let room = door.places.clone().make_room(Room::none(), document.len(), deadline).await;
    let room = room.ok_or_else(arriving::no_room)?;
    drop(permit);
    let source = Source::Elements(Elements::of(document, room)?);
    Ok(begin(door, clock, source, defaults, Begins::At(start.instant()), "application/json"))
}

fn begin(
    door: &Arc<Door>,
    clock: ConnectionClock,
    source: Source,
    defaults: Defaults,
    begins: Begins,
    media_type: &'static str,
) -> Response {
    let outbox = Arc::new(Outbox::default());
    let connection = Connection { _under_way: clock.keep(), clock };
    let engine = Engine::new(Arc::clone(door), source, defaults, begins, Arc::clone(&outbox), connection);
    door.streams.spawn(engine.run());
    respond::many(media_type, Body::new(Results::of(outbox)))
}

/// The connection of a stream: in use for as long as this lives.
struct Connection {
    clock: ConnectionClock,
    _under_way: UnderWay,
}

impl Connection {
    /// The client reads nothing.
    fn give_up(&self) {
        self.clock.give_up();
    }
}
