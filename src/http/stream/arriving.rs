//! The lines of a body as they arrive, long ones with the room that they take in memory.

use super::engine::Ending;
use super::lines::{Cut, Splitter};
use super::places::{Places, Room};
use crate::http::rejection::Rejection;
use crate::listener::RequestBody;
use crate::message::Deadline;
use crate::outcome::Outcome;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// A line may have so many bytes in memory before there is room for it: what a connection's buffers hold anyway.
const UNCOUNTED: usize = 64 * 1024;

/// Frames read in one turn without a whole line in them, after which others come first.
const FRAMES_MAX: usize = 16;

/// What comes next.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A line, with its room in memory where it is long.
    Line(Bytes, Option<Room>),
    /// A line that is not to be published.
    Refused(Rejection),
    /// There are no more.
    End(Ending),
}

/// A body on its way from chunks to lines.
pub(super) struct ArrivingLines {
    body: RequestBody,
    splitter: Splitter,
    max: usize,
    places: Places,
    /// The time a long line has to arrive whole.
    patience: Duration,
    /// The room of the long line that has not arrived whole, and its bytes.
    room: Option<Room>,
    counted: usize,
    growing: Option<BoxFuture<'static, Option<Room>>>,
    /// When the long line is given up.
    until: Option<Pin<Box<Sleep>>>,
    /// Since when the body is asked for and nothing arrives.
    waiting_since: Option<Instant>,
    is_over: bool,
}

impl ArrivingLines {
    pub(super) fn new(body: RequestBody, places: Places, max: usize, patience: Duration) -> Self {
        Self {
            body,
            splitter: Splitter::new(max),
            max,
            places,
            patience,
            room: None,
            counted: UNCOUNTED,
            growing: None,
            until: None,
            waiting_since: None,
            is_over: false,
        }
    }

    /// Waits for the first chunk, until `deadline` at most.
    pub(super) async fn first(&mut self, deadline: Deadline) {
        if let Ok(Some(Ok(frame))) = timeout_at(deadline.instant(), self.body.frame()).await
            && let Ok(data) = frame.into_data()
        {
            self.splitter.feed(data);
        }
    }

    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// What is left of the body.
    pub(super) fn into_body(self) -> RequestBody {
        self.body
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        for _ in 0..FRAMES_MAX {
            if let Some(growing) = &mut self.growing {
                let Poll::Ready(room) = growing.as_mut().poll(cx) else { return Poll::Pending };
                self.growing = None;
                self.room = room;
                if self.room.is_none() {
                    return Poll::Ready(self.give_up(no_room()));
                }
            }
            if let Some(cut) = self.splitter.cut() {
                return Poll::Ready(self.arrived(cut));
            }
            if self.splitter.held() > self.counted {
                self.make_room();
                continue;
            }
            if self.is_over {
                return Poll::Ready(Arrival::End(Ending::Complete));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                self.waiting_since.get_or_insert_with(Instant::now);
                return self.poll_late(cx);
            };
            self.waiting_since = None;
            match frame {
                // Trailers carry nothing that a message has a place for.
                Some(Ok(frame)) => self.splitter.feed(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Arrival::End(Ending::Broken(error.to_string()))),
                None => {
                    self.is_over = true;
                    if let Some(cut) = self.splitter.finish() {
                        return Poll::Ready(self.arrived(cut));
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn arrived(&mut self, cut: Cut) -> Arrival {
        let room = self.long_ended();
        match cut {
            Cut::Line(line) => Arrival::Line(line, room),
            Cut::TooLong => {
                let detail = format!("the line has more than {} bytes (publish.max_body)", self.max);
                Arrival::Refused(Rejection::new(Outcome::PayloadTooLarge, detail))
            }
        }
    }

    /// Room for twice of what has arrived, so that a long line asks a few times only.
    fn make_room(&mut self) {
        let wanted = (self.splitter.held() * 2).min(self.max);
        let until = self.until.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + self.patience)));
        let room = self.room.take().unwrap_or_else(Room::none);
        let more = wanted - self.counted;
        self.growing = Some(Box::pin(self.places.clone().make_room(room, more, until.deadline())));
        self.counted = wanted;
    }

    /// A long line that has not arrived in time keeps others from their room.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let Some(until) = &mut self.until else { return Poll::Pending };
        if until.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let detail = format!("the line did not arrive whole within {:?}", self.patience);
        Poll::Ready(self.give_up(Rejection::new(Outcome::RequestTimeout, detail)))
    }

    fn give_up(&mut self, rejection: Rejection) -> Arrival {
        drop(self.long_ended());
        self.splitter.skip();
        Arrival::Refused(rejection)
    }

    fn long_ended(&mut self) -> Option<Room> {
        self.until = None;
        self.counted = UNCOUNTED;
        self.room.take()
    }
}

/// Why a line is not published that has waited for its place until its deadline.
pub(super) fn no_room() -> Rejection {
    let detail = "the limits on what is in flight left no room for it before its deadline";
    Rejection::new(Outcome::DeadlineNotSent, detail)
}
