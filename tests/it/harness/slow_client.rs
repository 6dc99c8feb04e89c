//! A client that speaks bytes: half requests, pauses, sudden departures.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A plain TCP connection to a sidecar.
pub struct SlowClient(TcpStream);

impl SlowClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Self {
        Self(TcpStream::connect(address).await.expect("the sidecar listens"))
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the sidecar reads");
    }

    /// Does nothing for a while: the pause is the client's behaviour under test, nothing waits on it.
    pub async fn pause(&mut self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Everything the sidecar sends until it closes the connection or `within` has passed.
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
}
