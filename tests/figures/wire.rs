//! One HTTP/1.1 connection that is kept alive, with no library between a request and its time
//! stamps.

use amqpost::outcome::Outcome;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection, and the bytes of the current answer that were read so far.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    /// The message's outcome.
    pub(crate) outcome: Outcome,
    /// Whether another request may be sent on the connection.
    pub(crate) stays_open: bool,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends bytes and leaves: by RST, which is how a process that dies leaves, or by FIN.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn leave_after(mut self, bytes: &[u8], by_reset: bool) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        if by_reset { self.stream.set_zero_linger() } else { self.stream.shutdown().await }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// The socket's, or an invalid answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if let Some((head, end)) = self.head() {
                let reply = head?;
                while self.buffer.len() < end {
                    self.read().await?;
                }
                return Ok(reply);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The answer's head, once it has arrived, and where its body ends.
    fn head(&self) -> Option<(io::Result<Reply>, usize)> {
        let length = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.buffer[..length]);
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body: usize = header("content-length:").and_then(|value| value.parse().ok()).unwrap_or(0);
        let code = header("amqpost-code:").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        // Status and code must belong to the same row: anything else is a lie.
        let outcome = Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.code() == code && outcome.row().status == status)
            .ok_or_else(|| io::Error::other(head.clone().into_owned()));
        let stays_open = header("connection:") != Some("close");
        Some((outcome.map(|outcome| Reply { outcome, stays_open }), length + 4 + body))
    }
}

/// The bytes of a POST.
pub(crate) fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nhost: sidecar\r\n{headers}content-length: {}\r\n\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
