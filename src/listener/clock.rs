//! When a request began: the moment its first byte was read, noted below hyper.

use crate::locking::lock;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The most bytes of one read. hyper doubles a connection's buffer when a read has filled it, up to
/// the largest head, and keeps it: 1,024 bodies of 64 KiB arriving at once took 110 MiB (ADR-0006).
const READ_MAX: usize = (16 << 10) - 1;

/// The arrival of a request: its start, and the clock of its connection.
#[derive(Debug)]
pub struct Arrival {
    /// The start of the request: the moment of its first byte.
    pub start: Instant,
    /// The clock of its connection.
    pub clock: ConnectionClock,
}

/// The clock of a connection: when its unfinished head began to arrive, how many requests are under
/// way, when it was last active.
#[derive(Clone, Debug)]
pub struct ConnectionClock(Arc<Mutex<Times>>);

#[derive(Debug)]
struct Times {
    /// The first byte read since the last byte written: the next request's first byte.
    head_began: Option<Instant>,
    last_active: Instant,
    requests: usize,
    /// HTTP/2 was seen: bytes read between requests need not be the beginning of one.
    multiplexed: bool,
    /// Its client does not read its answers.
    is_deaf: bool,
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// The head of a request does not arrive.
    Head,
    /// Nothing happens.
    Idle,
    /// The client does not read its answer.
    Deaf,
}

/// Counts a request as under way until dropped.
#[derive(Debug)]
pub struct UnderWay(ConnectionClock);

impl ConnectionClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Times {
            head_began: None,
            last_active: Instant::now(),
            requests: 0,
            multiplexed: false,
            is_deaf: false,
        })))
    }

    /// A head is complete: its start, and a guard for as long as the request is under way.
    ///
    /// On HTTP/2 other streams share the socket, so there a request starts when its head is
    /// complete.
    pub(super) fn request(&self, version: hyper::Version) -> (Arrival, UnderWay) {
        let mut times = lock(&self.0);
        times.multiplexed |= version >= hyper::Version::HTTP_2;
        let began = times.head_began.take().filter(|_| !times.multiplexed);
        times.requests += 1;
        drop(times);
        let start = began.unwrap_or_else(Instant::now);
        (Arrival { start, clock: self.clone() }, UnderWay(self.clone()))
    }

    /// Keeps a request under way beyond the head of its response, for as long as the guard lives.
    #[must_use]
    pub fn keep(&self) -> UnderWay {
        lock(&self.0).requests += 1;
        UnderWay(self.clone())
    }

    /// The client of the request under way reads nothing, so the connection must close. An HTTP/2
    /// connection stays: other requests share it.
    pub fn give_up(&self) {
        let mut times = lock(&self.0);
        times.is_deaf = !times.multiplexed;
    }

    /// Why the connection must be closed now, if it must.
    pub(super) fn expired(&self, header_timeout: Duration, idle_timeout: Duration) -> Option<Expired> {
        let times = lock(&self.0);
        if times.is_deaf {
            return Some(Expired::Deaf);
        }
        if times.requests > 0 {
            return None;
        }
        if !times.multiplexed && times.head_began.is_some_and(|began| began.elapsed() > header_timeout) {
            return Some(Expired::Head);
        }
        (times.last_active.elapsed() > idle_timeout).then_some(Expired::Idle)
    }

    fn read_some(&self) {
        let now = Instant::now();
        let mut times = lock(&self.0);
        times.last_active = now;
        times.head_began.get_or_insert(now);
    }

    fn wrote_some(&self) {
        let mut times = lock(&self.0);
        times.last_active = Instant::now();
        // Bytes read after an answer belong to the next request.
        times.head_began = None;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut times = lock(&self.0.0);
        times.requests -= 1;
        times.last_active = Instant::now();
        // Bytes read meanwhile were this request's body.
        times.head_began = None;
    }
}

/// A socket whose reads and writes are noted by a clock.
#[derive(Debug)]
pub(super) struct ClockedIo<S> {
    socket: S,
    clock: ConnectionClock,
}

impl<S> ClockedIo<S> {
    pub(super) fn new(socket: S, clock: ConnectionClock) -> Self {
        Self { socket, clock }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClockedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let socket = Pin::new(&mut self.socket);
        let polled = if buf.remaining() <= READ_MAX {
            socket.poll_read(cx, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(READ_MAX));
            let polled = socket.poll_read(cx, &mut part);
            let read = part.filled().len();
            buf.advance(read);
            polled
        };
        if buf.filled().len() > before {
            self.clock.read_some();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClockedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        if polled.is_ready() {
            self.clock.wrote_some();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        if polled.is_ready() {
            self.clock.wrote_some();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Version;

    #[tokio::test(start_paused = true)]
    async fn a_request_starts_with_its_first_byte() {
        let clock = ConnectionClock::new();
        let first_byte = Instant::now();
        clock.read_some();
        tokio::time::advance(Duration::from_millis(300)).await;
        clock.read_some();
        let (arrival, _under_way) = clock.request(Version::HTTP_11);
        assert_eq!(arrival.start, first_byte);
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_of_one_request_is_not_the_start_of_the_next() {
        let clock = ConnectionClock::new();
        clock.read_some();
        let (_, under_way) = clock.request(Version::HTTP_11);
        clock.read_some();
        clock.wrote_some();
        drop(under_way);
        tokio::time::advance(Duration::from_secs(60)).await;
        let next = Instant::now();
        clock.read_some();
        assert_eq!(clock.request(Version::HTTP_11).0.start, next);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_sent_head_expires_before_an_idle_connection() {
        let (head, idle) = (Duration::from_secs(10), Duration::from_secs(75));
        let (half_sent, quiet) = (ConnectionClock::new(), ConnectionClock::new());
        half_sent.read_some();
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(half_sent.expired(head, idle), Some(Expired::Head));
        assert_eq!(quiet.expired(head, idle), None);
        tokio::time::advance(Duration::from_secs(65)).await;
        assert_eq!(quiet.expired(head, idle), Some(Expired::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_keeps_its_connection() {
        let clock = ConnectionClock::new();
        clock.read_some();
        let (_, under_way) = clock.request(Version::HTTP_11);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(clock.expired(Duration::from_secs(10), Duration::from_secs(75)), None);
        drop(under_way);
        assert_eq!(clock.expired(Duration::from_secs(10), Duration::from_secs(75)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_kept_is_under_way_after_the_head_of_its_response() {
        let clock = ConnectionClock::new();
        clock.read_some();
        let (_, under_way) = clock.request(Version::HTTP_11);
        let kept = clock.keep();
        drop(under_way);
        clock.read_some();
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(clock.expired(Duration::from_secs(10), Duration::from_secs(75)), None);
        drop(kept);
        tokio::time::advance(Duration::from_secs(76)).await;
        assert_eq!(clock.expired(Duration::from_secs(10), Duration::from_secs(75)), Some(Expired::Idle));
    }

    #[test]
    fn a_connection_that_is_given_up_is_closed_unless_others_share_it() {
        for (version, expected) in [(Version::HTTP_11, Some(Expired::Deaf)), (Version::HTTP_2, None)] {
            let clock = ConnectionClock::new();
            let (_, _under_way) = clock.request(version);
            clock.give_up();
            assert_eq!(clock.expired(Duration::from_secs(10), Duration::from_secs(75)), expected);
        }
    }
}
