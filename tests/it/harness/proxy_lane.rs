//! One direction of one proxied connection: reads bytes, holds, delays or drops them, and writes
//! them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

const READ_AT_ONCE: usize = 64 * 1024;

/// A throttled lane reads ahead this much: what it holds takes time.
const READ_AHEAD_THROTTLED: usize = 16 * 1024;

/// A throttled lane makes up for a delay of at most this.
const CATCH_UP: Duration = Duration::from_millis(40);

/// The treatment of the bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They flow.
    Flow,
    /// They are accepted and lost.
    Discard,
    /// They wait, in the proxy and in the kernel's buffers, until they may flow again.
    Hold,
    /// They flow this much later.
    Delay(Duration),
    /// They flow at this many bytes per second.
    Throttle(u64),
}

impl Way {
    /// Whether nothing gets through, not even the end of the connection.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Hold | Self::Discard)
    }

    /// The number of bytes that the proxy reads ahead before the sender has to wait.
    fn capacity(self) -> usize {
        match self {
            Self::Delay(_) => 16 * 1024 * 1024,
            Self::Throttle(_) => READ_AHEAD_THROTTLED,
            Self::Flow | Self::Discard | Self::Hold => READ_AT_ONCE,
        }
    }
}

/// Bytes on their way; an empty piece is the end of the stream.
#[derive(Debug)]
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

/// One direction of one connection.
#[derive(Debug)]
pub struct Lane {
    way: Way,
    pieces: VecDeque<Piece>,
    kept: usize,
    /// The sender's end of the stream was read.
    ended: bool,
    /// The end of the stream is next and must be passed on.
    closing: bool,
    /// Bytes were dropped, so the receiver cannot use the following ones.
    lossy: bool,
    next_write: Instant,
}

impl Lane {
    /// An unused lane.
    pub fn new(way: Way) -> Self {
        Self {
            way,
            pieces: VecDeque::new(),
            kept: 0,
            ended: false,
            closing: false,
            lossy: false,
            next_write: Instant::now(),
        }
    }

    /// The lane's treatment: once bytes were dropped, all following ones are.
    pub fn way(&self) -> Way {
        if self.lossy { Way::Discard } else { self.way }
    }

    /// Changes the treatment, including that of bytes on their way.
    pub fn set_way(&mut self, way: Way) {
        self.way = way;
        if way == Way::Discard && !self.pieces.is_empty() {
            self.lose();
        }
    }

    /// Drops all bytes on their way and all following ones.
    pub fn lose(&mut self) {
        self.lossy = true;
        self.pieces.clear();
        self.kept = 0;
    }

    /// Whether the end of the stream must be passed on now.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether the lane has ended.
    pub fn is_over(&self) -> bool {
        self.closing || (self.ended && self.lossy)
    }

    /// Reads or writes once, whichever is possible first. Cancel safe.
    ///
    /// # Errors
    /// The error of the read or the write.
    pub async fn step(&mut self, from: &TcpStream, to: &TcpStream) -> Result<(), Broken> {
        let way = self.way();
        let may_read = !self.ended && way != Way::Hold && self.kept < way.capacity();
        let due = match self.pieces.front() {
            Some(_) if way == Way::Hold => None,
            Some(piece) if matches!(way, Way::Delay(_)) => Some(piece.due),
            Some(_) => Some(self.next_write),
            None => None,
        };
        let write_at = due.unwrap_or_else(Instant::now);
        tokio::select! {
            ready = from.readable(), if may_read => {
                ready.and_then(|()| self.read(from)).map_err(Broken::Reading)
            }
            ready = writable_at(to, write_at), if due.is_some() => {
                ready.and_then(|()| self.write(to)).map_err(Broken::Writing)
            }
            else => std::future::pending().await,
        }
    }

    fn read(&mut self, from: &TcpStream) -> io::Result<()> {
        let mut bytes = vec![0; READ_AT_ONCE.min(self.way().capacity())];
        let count = match from.try_read(&mut bytes) {
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The receiver must not learn of a broken sender through a black hole.
            Err(_) if self.way() == Way::Discard => 0,
            Err(e) => return Err(e),
        };
        bytes.truncate(count);
        self.ended = count == 0;
        match self.way() {
            Way::Discard => self.lose(),
            way => {
                let later = if let Way::Delay(later) = way { later } else { Duration::ZERO };
                self.kept += count;
                self.pieces.push_back(Piece { due: Instant::now() + later, bytes, written: 0 });
            }
        }
        Ok(())
    }

    fn write(&mut self, to: &TcpStream) -> io::Result<()> {
        let Some(piece) = self.pieces.front_mut() else {
            return Ok(());
        };
        let mut rest = piece.bytes.get(piece.written..).unwrap_or_default();
        if rest.is_empty() {
            self.pieces.clear();
            self.closing = true;
            return Ok(());
        }
        if let Way::Throttle(rate) = self.way {
            // Fifty writes a second make a steady flow instead of bursts.
            let slice = usize::try_from(rate / 50).unwrap_or(usize::MAX).max(1);
            rest = rest.get(..slice).unwrap_or(rest);
        }
        let count = match to.try_write(rest) {
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        piece.written += count;
        self.kept -= count;
        if piece.written == piece.bytes.len() {
            self.pieces.pop_front();
        }
        let now = Instant::now();
        self.next_write = if let Way::Throttle(rate) = self.way {
            let nanoseconds = (count as u64).saturating_mul(1_000_000_000) / rate.max(1);
            // Late wake-ups are made up for; otherwise a busy machine would throttle more.
            let due = self.next_write.max(now - CATCH_UP);
            due + Duration::from_nanos(nanoseconds)
        } else {
            now
        };
        Ok(())
    }
}

/// The broken end of a lane.
#[derive(Debug)]
pub enum Broken {
    /// The sender's.
    Reading(io::Error),
    /// The receiver's.
    Writing(io::Error),
}

async fn writable_at(to: &TcpStream, at: Instant) -> io::Result<()> {
    if at > Instant::now() {
        sleep_until(at).await;
    }
    to.writable().await
}
