//! Notices a body that is not read to its end. Over HTTP/1 the rest of the body stands before the
//! next request, so the connection closes. The answer must announce this; otherwise the client
//! sends the next request in vain.

use axum::response::Response;
use hyper::Version;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// Whether a part of a body is left on a connection and nobody is going to read it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

/// A body that notes whether it was read to its end.
#[derive(Debug)]
pub struct Noted<B: Body> {
    body: B,
    has_ended: bool,
    unread: Unread,
}

impl Unread {
    pub(super) fn noting<B: Body>(&self, body: B) -> Noted<B> {
        Noted { body, has_ended: false, unread: self.clone() }
    }

    /// The answer to a request of this version, which says so if its connection is to close.
    pub(super) fn said_in(&self, mut answer: Response, version: Version) -> Response {
        if version < Version::HTTP_2 && self.0.load(Ordering::Relaxed) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            // If an HTTP/1.0 client asks for keep-alive, hyper promises it in every answer of
            // another version.
            *answer.version_mut() = version;
        }
        answer
    }

    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<B: Body + Unpin> Body for Noted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.has_ended = true,
            // Whatever follows an error is not the end of the body: nobody knows where the next
            // request begins.
            Poll::Ready(Some(Err(_))) => self.unread.note(),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for Noted<B> {
    fn drop(&mut self) {
        if !self.has_ended && !self.body.is_end_stream() {
            self.unread.note();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body as AnyBody;
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::BodyExt;

    /// Two chunks. `end` is the second one, or the error in its place.
    fn chunks(end: Result<Bytes, std::io::Error>) -> AnyBody {
        AnyBody::from_stream(stream::iter([Ok(Bytes::from_static(b"a")), end]))
    }

    async fn is_said_after(body: AnyBody, frames: usize, version: Version) -> bool {
        let unread = Unread::default();
        let mut noted = unread.noting(body);
        for _ in 0..frames {
            drop(noted.frame().await);
        }
        drop(noted);
        unread.said_in(Response::default(), version).headers().contains_key(CONNECTION)
    }

    #[tokio::test]
    async fn a_body_that_is_left_before_its_end_closes_the_connection() {
        let whole = || chunks(Ok(Bytes::from_static(b"b")));
        for (frames, expected) in [(0, true), (1, true), (2, true), (3, false)] {
            assert_eq!(is_said_after(whole(), frames, Version::HTTP_11).await, expected, "{frames} frames");
        }
        assert!(!is_said_after(AnyBody::empty(), 0, Version::HTTP_11).await, "nothing is left of nothing");
        assert!(!is_said_after(AnyBody::from("a"), 1, Version::HTTP_11).await, "its length is known");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_closes_the_connection_whatever_is_read_of_it_afterwards() {
        let broken = chunks(Err(std::io::Error::other("broken")));
        assert!(is_said_after(broken, 3, Version::HTTP_11).await);
    }

    #[tokio::test]
    async fn http2_is_told_nothing_of_connections() {
        for (version, expected) in
            [(Version::HTTP_10, true), (Version::HTTP_11, true), (Version::HTTP_2, false)]
        {
            let body = chunks(Ok(Bytes::new()));
            assert_eq!(is_said_after(body, 0, version).await, expected, "{version:?}");
        }
    }
}
