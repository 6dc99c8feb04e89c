//! The lines of a body as they arrive. A long line has room in memory reserved for it.

use super::engine::Ending;
use super::lines::{Cut, Splitter};
use crate::http::places::{Places, Room, no_room};
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

/// The bytes that a line may have in memory without a reservation: a connection's buffers hold as
/// many anyway.
const UNCOUNTED: usize = 64 * 1024;

/// Frames read in one turn without completing a line, after which other tasks have their turn.
const FRAMES_MAX: usize = 16;

/// What comes next in a stream.
#[derive(Debug)]
pub(super) enum Upcoming {
    /// A line, with its room in memory if it is long.
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
    /// The room of the long line that is still arriving, and how many bytes it covers.
    room: Option<Room>,
    counted: usize,
    growing: Option<BoxFuture<'static, Option<Room>>>,
    /// The moment at which the long line is given up.
    until: Option<Pin<Box<Sleep>>>,
    /// The moment since which nothing has arrived.
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

    /// Waits for the first chunk until `deadline`.
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

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Upcoming> {
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
                return Poll::Ready(Upcoming::End(Ending::Complete));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                self.waiting_since.get_or_insert_with(Instant::now);
                return self.poll_late(cx);
            };
            self.waiting_since = None;
            match frame {
                // A message has no place for trailers.
                Some(Ok(frame)) => self.splitter.feed(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Upcoming::End(Ending::Broken(error.to_string()))),
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

    fn arrived(&mut self, cut: Cut) -> Upcoming {
        let room = self.long_ended();
        match cut {
            Cut::Line(line) => Upcoming::Line(line, room),
            Cut::TooLong => {
                let detail = format!("the line has more than {} bytes (publish.max_body)", self.max);
                Upcoming::Refused(Rejection::new(Outcome::PayloadTooLarge, detail))
            }
        }
    }

    /// Asks for room for twice the bytes that have arrived, so that a long line asks only a few
    /// times.
    fn make_room(&mut self) {
        let wanted = (self.splitter.held() * 2).min(self.max);
        let until = self.until.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + self.patience)));
        let room = self.room.take().unwrap_or_else(Room::none);
        let more = wanted - self.counted;
        self.growing = Some(Box::pin(self.places.clone().make_room(room, more, until.deadline())));
        self.counted = wanted;
    }

    /// Gives up a long line that has not arrived in time: it keeps others from their room.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Upcoming> {
        let Some(until) = &mut self.until else { return Poll::Pending };
        if until.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let detail = format!("the line did not arrive whole within {:?}", self.patience);
        Poll::Ready(self.give_up(Rejection::new(Outcome::RequestTimeout, detail)))
    }

    fn give_up(&mut self, rejection: Rejection) -> Upcoming {
        drop(self.long_ended());
        self.splitter.skip();
        Upcoming::Refused(rejection)
    }

    fn long_ended(&mut self) -> Option<Room> {
        self.until = None;
        self.counted = UNCOUNTED;
        self.room.take()
    }
}
