//! Reading a request's body within its bounds: size, bytes in flight, deadline.

use super::rejection::Rejection;
use crate::admission::Permit;
use crate::listener::RequestBody;
use crate::message::Deadline;
use crate::outcome::Outcome;
use bytes::{Bytes, BytesMut};
use futures_util::future::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{EXPECT, HeaderMap};
use std::fmt::Display;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Bodies up to this size are copied out of the connection's buffer, which is of 8 KiB at least.
const COPIED_MAX: usize = 4 << 10;

/// How many frames of a body are taken in a row without looking at the clock, if they have arrived
/// already.
const AT_ONCE_MAX: usize = 16;

/// The longest time that a refused client may go on sending before it is answered and cut off.
const COURTESY: Duration = Duration::from_secs(1);

/// The longest pause that such a client may make. After a longer one it is answered at once.
const COURTESY_PAUSE: Duration = Duration::from_millis(50);

/// The body of a request, and whether its client waits until it may send it.
#[derive(Debug)]
pub(super) struct Upload<B = RequestBody> {
    body: B,
    waits_for_continue: bool,
}

impl<B: Body<Data = Bytes, Error: Display> + Unpin> Upload<B> {
    pub(super) fn new(body: B, headers: &HeaderMap) -> Self {
        Self { body, waits_for_continue: headers.contains_key(EXPECT) }
    }

    /// A body that has been read in part.
    pub(super) fn begun(body: B) -> Self {
        Self { body, waits_for_continue: false }
    }

    /// Whether the client sends the body only after `100 Continue`. It gets `100 Continue` when the
    /// body is read.
    pub(super) fn waits_for_continue(&self) -> bool {
        self.waits_for_continue
    }

    pub(super) fn into_body(self) -> B {
        self.body
    }

    /// Reads the whole body, byte for byte, into as little memory as possible.
    pub(super) async fn read(
        &mut self,
        permit: &mut Permit,
        max_body: usize,
        deadline: Deadline,
    ) -> Result<Bytes, Rejection> {
        let announced =
            self.body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if let Some(announced) = announced {
            within(announced, max_body)?;
            reserve(permit, announced)?;
        }
        self.waits_for_continue = false;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        for taken in 1.. {
            let frame = match self.body.frame().now_or_never() {
                // Empty frames could arrive without end.
                Some(_) if taken % AT_ONCE_MAX == 0 && deadline.has_passed() => return Err(too_slow()),
                Some(frame) => frame,
                None => timeout_at(deadline.instant(), self.body.frame()).await.map_err(|_| too_slow())?,
            };
            let Some(frame) = frame else { break };
            let frame = frame
                .map_err(|error| Rejection::invalid("body", format_args!("did not arrive whole: {error}")))?;
            // A message has no place for trailers.
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

    /// Drops the frames that have arrived, and says whether the body has ended.
    fn has_ended(&mut self) -> bool {
        for _ in 0..AT_ONCE_MAX {
            match self.body.frame().now_or_never() {
                Some(Some(Ok(_))) => {}
                Some(Some(Err(_)) | None) => return true,
                None => return false,
            }
        }
        false
    }

    /// Reads and drops what a refused client is still sending, for a moment: a client that is cut
    /// off while it writes often never sees the answer. A client that waits for `100 Continue`
    /// sends nothing.
    pub(super) async fn discard(&mut self, deadline: Deadline) {
        if self.waits_for_continue || self.has_ended() {
            return;
        }
        let everything =
            async { while let Ok(Some(Ok(_))) = timeout(COURTESY_PAUSE, self.body.frame()).await {} };
        // The answer is the same whether the body ended or not.
        let until = deadline.instant().min(Instant::now() + COURTESY);
        drop(timeout_at(until, everything).await);
    }
}

/// Copies a small body, so that the connection can use its buffer again.
fn lean(body: Bytes) -> Bytes {
    if body.len() <= COPIED_MAX { Bytes::copy_from_slice(&body) } else { body }
}

fn too_slow() -> Rejection {
    Rejection::new(Outcome::RequestTimeout, "the body did not arrive before the deadline")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use axum::body::Body as AnyBody;
    use futures_util::stream::{self, StreamExt};
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn in_frames(frames: impl stream::Stream<Item = &'static [u8]> + Send + 'static) -> AnyBody {
        AnyBody::from_stream(frames.map(Ok::<_, io::Error>))
    }

    /// The head of a client that waits for `100 Continue`.
    fn waiting() -> HeaderMap {
        HeaderMap::from_iter([(EXPECT, hyper::header::HeaderValue::from_static("100-continue"))])
    }

    async fn read(upload: &mut Upload<AnyBody>, max_body: usize) -> Result<Bytes, Rejection> {
        let mut permit = Admission::new(1, 1 << 20).admit().unwrap();
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(20));
        upload.read(&mut permit, max_body, deadline).await
    }

    #[tokio::test]
    async fn frames_of_nothing_are_not_read_for_ever() {
        let mut upload = Upload::begun(in_frames(stream::repeat(&b""[..])));
        assert_eq!(read(&mut upload, 10).await.unwrap_err().outcome, Outcome::RequestTimeout);
    }

    #[tokio::test]
    async fn the_rest_of_a_body_that_was_asked_for_is_taken_in_although_its_client_waited_to_be_asked() {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let frames = stream::repeat(&b"more"[..]).take(40).inspect(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut upload = Upload::new(in_frames(frames), &waiting());
        assert_eq!(read(&mut upload, 10).await.unwrap_err().outcome, Outcome::PayloadTooLarge);
        upload.discard(Deadline::after(Instant::now(), Duration::from_secs(5))).await;
        assert_eq!(sent.load(Ordering::Relaxed), 40);
    }

    #[tokio::test]
    async fn nothing_is_asked_of_a_client_that_waits_to_be_asked_and_is_refused() {
        let asked = stream::once(async { panic!("it was asked") }).map(|()| &b""[..]);
        let mut upload = Upload::new(in_frames(asked), &waiting());
        upload.discard(Deadline::after(Instant::now(), Duration::from_secs(5))).await;
    }
}
