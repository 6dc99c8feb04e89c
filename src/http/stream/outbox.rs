//! The answers between the engine that writes them and the response. All answers that are ready go
//! out as one frame.

use crate::locking::lock;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::time::Instant;

/// With this many unread bytes of answers no more lines are taken. The answers of lines under way
/// still find room.
pub(super) const FULL: usize = 64 * 1024;

/// Shared by an engine and the response of its stream.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ready: BytesMut,
    /// The moment since which something is ready and nothing has been read.
    untaken_since: Option<Instant>,
    is_complete: bool,
    client_left: bool,
    engine: Option<Waker>,
    reader: Option<Waker>,
}

/// What an engine knows of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientState {
    pub(super) is_full: bool,
    pub(super) client_left: bool,
}

impl Outbox {
    /// Hands `answers` over; it is empty afterwards. Wakes the caller's task when the client makes
    /// room or leaves.
    pub(super) fn hand_over(&self, answers: &mut BytesMut, cx: &Context<'_>) -> ClientState {
        let mut state = lock(&self.0);
        if state.client_left {
            answers.clear();
        } else if !answers.is_empty() {
            if state.ready.is_empty() {
                std::mem::swap(&mut state.ready, answers);
            } else {
                state.ready.extend_from_slice(answers);
                answers.clear();
            }
            state.untaken_since.get_or_insert_with(Instant::now);
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
        }
        if !state.engine.as_ref().is_some_and(|engine| engine.will_wake(cx.waker())) {
            state.engine = Some(cx.waker().clone());
        }
        ClientState { is_full: state.ready.len() >= FULL, client_left: state.client_left }
    }

    /// The moment since which the client has read nothing of what is ready.
    pub(super) fn untaken_since(&self) -> Option<Instant> {
        lock(&self.0).untaken_since
    }

    /// Nothing follows the answers that were handed over.
    pub(super) fn complete(&self) {
        let mut state = lock(&self.0);
        state.is_complete = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

/// The body of the response.
pub(super) struct Results(Arc<Outbox>);

impl Results {
    pub(super) fn of(outbox: Arc<Outbox>) -> Self {
        Self(outbox)
    }
}

impl Body for Results {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = lock(&self.0.0);
        if state.ready.is_empty() {
            if state.is_complete {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.untaken_since = None;
        let taken = std::mem::take(&mut state.ready).freeze();
        if taken.len() >= FULL
            && let Some(engine) = state.engine.take()
        {
            engine.wake();
        }
        Poll::Ready(Some(Ok(Frame::data(taken))))
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.client_left = true;
        if let Some(engine) = state.engine.take() {
            engine.wake();
        }
    }
}
