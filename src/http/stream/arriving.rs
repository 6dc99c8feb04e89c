//! The lines of a body as they arrive, each with room for it once it is long.

use super::engine::Ending;
use super::lines::{Cut, Splitter};
use super::places::{Places, grow};
use crate::admission::Permit;
use crate::deadline::Deadline;
use crate::http::rejection::Rejection;
use crate::outcome::Outcome;
use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A line may have so many bytes in memory before there is room for it: what a connection's buffers hold anyway.
const UNCOUNTED: usize = 64 * 1024;

/// Frames read in one turn without a whole line in them, after which others come first.
const FRAMES_MAX: usize = 16;

/// What comes next.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A line, with its place where it has one already.
    Line(Bytes, Option<Permit>),
    /// A line that is not to be published.
    Refused(Rejection),
    /// There are no more.
    End(Ending),
}

/// A body on its way from chunks to lines.
pub(super) struct ArrivingLines {
    body: Body,
    splitter: Splitter,
    max: usize,
    places: Places,
    /// How long a line that has not arrived whole may wait for room.
    patience: Duration,
    /// The place of the line that has not arrived whole, and its bytes.
    place: Option<Permit>,
    counted: usize,
    growing: Option<BoxFuture<'static, Option<Permit>>>,
    /// Since when the body is asked for and nothing arrives.
    waiting_since: Option<Instant>,
    is_over: bool,
}

impl ArrivingLines {
    pub(super) fn new(body: Body, places: Places, max: usize, patience: Duration) -> Self {
        Self {
            body,
            splitter: Splitter::new(max),
            max,
            places,
            patience,
            place: None,
            counted: UNCOUNTED,
            growing: None,
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
    pub(super) fn into_body(self) -> Body {
        self.body
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        for _ in 0..FRAMES_MAX {
            if let Some(growing) = &mut self.growing {
                let Poll::Ready(place) = growing.as_mut().poll(cx) else { return Poll::Pending };
                self.growing = None;
                self.place = place;
                if self.place.is_none() {
                    self.counted = UNCOUNTED;
                    self.splitter.skip();
                    return Poll::Ready(Arrival::Refused(no_room()));
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
                return Poll::Pending;
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
        let place = self.place.take();
        self.counted = UNCOUNTED;
        match cut {
            Cut::Line(line) => Arrival::Line(line, place),
            Cut::TooLong => {
                let detail = format!("the line has more than {} bytes (publish.max_body)", self.max);
                Arrival::Refused(Rejection::new(Outcome::PayloadTooLarge, detail))
            }
        }
    }

    /// Room for twice of what has arrived, so that a long line asks a few times only.
    fn make_room(&mut self) {
        let wanted = (self.splitter.held() * 2).min(self.max);
        let until = Instant::now() + self.patience;
        self.growing = Some(match self.place.take() {
            Some(place) => Box::pin(grow(place, wanted - self.counted, until)),
            None => Box::pin(self.places.clone().take_by(wanted, until)),
        });
        self.counted = wanted;
    }
}

/// Why a line is not published that has waited for its place until its deadline.
pub(super) fn no_room() -> Rejection {
    let detail = "the limits on what is in flight left no room for it before its deadline";
    Rejection::new(Outcome::DeadlineNotSent, detail)
}
