//! Reading a request's body within its bounds: size, bytes in flight, deadline.

use super::rejection::Rejection;
use crate::admission::Permit;
use crate::deadline::Deadline;
use crate::outcome::Outcome;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{EXPECT, HeaderMap};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Bodies up to this size are copied out of the connection's buffer, which is of 8 KiB at least.
const COPIED_MAX: usize = 4 << 10;

/// How long a client that is refused may go on sending, at most, before it is answered and cut off.
const COURTESY: Duration = Duration::from_secs(1);

/// How long nothing may arrive meanwhile: who pauses is answered.
const COURTESY_PAUSE: Duration = Duration::from_millis(50);

/// Reads the whole body, byte for byte, into as little memory as possible.
pub(super) async fn read(body: &mut Body, permit: &mut Permit, max_body: usize) -> Result<Bytes, Rejection> {
    let announced = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if let Some(announced) = announced {
        within(announced, max_body)?;
        reserve(permit, announced)?;
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Rejection::invalid("body", format_args!("did not arrive whole: {error}")))?;
        // Trailers carry nothing that a message has a place for.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.len() + rest.len();
        within(so_far + data.len(), max_body)?;
        if announced.is_none() {
            reserve(permit, data.len())?;
        }
        if so_far == 0 {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.unwrap_or(so_far + data.len()));
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { lean(first) } else { rest.freeze() })
}

/// What was read, unless the deadline or the end of the sidecar's budget for its shutdown comes first.
pub(super) async fn in_time<T>(
    reading: impl Future<Output = Result<T, Rejection>>,
    deadline: Deadline,
    draining: impl Future<Output = ()>,
) -> Result<T, Rejection> {
    let mut reading = pin!(reading);
    if let Some(read) = soon(reading.as_mut()).await {
        return read;
    }
    let late = "the body did not arrive before the deadline";
    tokio::select! {
        biased;
        read = reading => read,
        () = tokio::time::sleep_until(deadline.instant()) => {
            Err(Rejection::new(Outcome::RequestTimeout, late))
        }
        () = draining => Err(Rejection::of(Outcome::Draining)),
    }
}

/// What comes at once, or in the task's next turn: most bodies are in the connection's buffer when their head is read,
/// and hyper hands them out then. A timer set for them would be one for each request (ADR-0006).
async fn soon<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut is_first = true;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if std::mem::take(&mut is_first) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A small body without the buffer that it was read into: that one is the connection's, and is used again.
fn lean(body: Bytes) -> Bytes {
    if body.len() <= COPIED_MAX { Bytes::copy_from_slice(&body) } else { body }
}

/// Takes in what a refused client is still sending, for a moment: a client that is cut off while it writes
/// often never sees the answer. Nothing is kept. A client that waits for `100 Continue` sends nothing.
pub(super) async fn discard(mut body: Body, headers: &HeaderMap, deadline: Deadline) {
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    if soon(pin!(async { while let Some(Ok(_)) = body.frame().await {} })).await.is_some() {
        return;
    }
    let everything =
        async { while let Ok(Some(Ok(_))) = tokio::time::timeout(COURTESY_PAUSE, body.frame()).await {} };
    // Whether it came to its end or not, the answer is the same.
    let until = deadline.instant().min(Instant::now() + COURTESY);
    drop(tokio::time::timeout_at(until, everything).await);
}

fn within(bytes: usize, max_body: usize) -> Result<(), Rejection> {
    if bytes <= max_body {
        return Ok(());
    }
    let detail = format!("the body has more than {max_body} bytes (publish.max_body)");
    Err(Rejection::new(Outcome::PayloadTooLarge, detail))
}

fn reserve(permit: &mut Permit, bytes: usize) -> Result<(), Rejection> {
    let detail = "too many bytes are in flight (publish.max_in_flight_bytes)";
    permit.reserve(bytes).map_err(|_| Rejection::new(Outcome::Overloaded, detail))
}
