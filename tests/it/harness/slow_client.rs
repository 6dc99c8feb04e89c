//! A client that sends raw bytes: half requests, pauses, sudden closes.

use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A plain connection to a sidecar.
pub struct SlowClient(Box<dyn Socket>);

impl SlowClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Self {
        Self(Box::new(TcpStream::connect(address).await.expect("the sidecar listens")))
    }

    /// Connects to a Unix socket.
    pub async fn connect_unix(path: &Path) -> Self {
        Self(Box::new(UnixStream::connect(path).await.expect("the sidecar listens")))
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the sidecar reads");
    }

    /// The same for a sidecar that may have stopped reading.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// Ends sending and continues to read.
    pub async fn finish(&mut self) {
        // The connection may be closed already.
        drop(self.0.shutdown().await);
    }

    /// Pauses. The pause is the tested behaviour of the client; the test does not wait for an
    /// event.
    pub async fn pause(&mut self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Everything that the sidecar sends until it closes the connection or `within` has passed.
    pub async fn read_to_end(&mut self, within: Duration) -> String {
        let mut bytes = Vec::new();
        drop(tokio::time::timeout(within, self.0.read_to_end(&mut bytes)).await);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One answer's status line and headers.
    pub async fn read_head(&mut self, within: Duration) -> String {
        let mut bytes = Vec::new();
        let head = async {
            while !bytes.ends_with(b"\r\n\r\n") {
                match self.0.read_u8().await {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => break,
                }
            }
        };
        drop(tokio::time::timeout(within, head).await);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One answer: status line and headers, and the body that `content-length` announces.
    pub async fn read_answer(&mut self, within: Duration) -> (String, String) {
        let head = self.read_head(within).await.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.parse().ok()).unwrap_or_default();
        let mut body = vec![0; length];
        let read = tokio::time::timeout(within, self.0.read_exact(&mut body)).await;
        assert!(matches!(read, Ok(Ok(_))), "the body ends early after {head}");
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Whether the sidecar closes the connection within this time. Drops the bytes that it still
    /// sends.
    pub async fn is_closed(&mut self, within: Duration) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(within, self.0.read_to_end(&mut rest)).await.is_ok()
    }
}
