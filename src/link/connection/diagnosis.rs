//! What answers where the AMQP handshake failed, and what to try instead, in the operator's words.

use super::failure::DialError;
use crate::config::Endpoint;
use crate::labels::ConnectFailure;
use crate::locking::lock;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// How AMQP 0-9-1 begins.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// How long each answer may take. A broker on another continent answers in this time.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// A diagnosis holds for this long, so that failing attempts do not double their connections.
const HOLDS_FOR: Duration = Duration::from_secs(60);

/// The most diagnoses that are remembered.
const REMEMBERED_MAX: usize = 256;

/// A login of more bytes than this may not fit into the first frame, which has 4,096.
const LOGIN_BYTES_MAX: usize = 3_072;

const EXPECTS_TLS: &str =
    "the port expects TLS: write amqps:// instead of amqp://, or use the port without TLS (5672)";
const WITHOUT_TLS: &str =
    "the port speaks AMQP without TLS: write amqp:// instead of amqps://, or use the port for TLS (5671)";
const HTTP: &str = "a web server answers (RabbitMQ's management is at 15672): use the port for AMQP, 5672, \
                    or 5671 with TLS";
const OTHER_AMQP: &str = "the port speaks another version of AMQP: amqpost needs 0-9-1";
const OTHER: &str = "whatever answers there does not speak AMQP: check host and port";
const CLOSED: &str = "the connection was closed without an answer: this is no AMQP broker, or one that is \
                      starting, or the port expects TLS (amqps://)";

/// What was found out of each address.
#[derive(Debug, Default)]
pub(crate) struct Diagnoses(Mutex<HashMap<SocketAddr, (Instant, Option<&'static str>)>>);

impl Diagnoses {
    /// The same failure, with a text that helps where one is known. `login_bytes`: the size of user
    /// and password together.
    pub(crate) async fn explain(
        &self,
        error: DialError,
        endpoint: &Endpoint,
        address: SocketAddr,
        login_bytes: usize,
    ) -> DialError {
        let is_unclear = match error.failure {
            ConnectFailure::Timeout | ConnectFailure::Tls | ConnectFailure::Io | ConnectFailure::Protocol => {
                true
            }
            ConnectFailure::Dns
            | ConnectFailure::Refused
            | ConnectFailure::Authentication
            | ConnectFailure::VirtualHost
            | ConnectFailure::Credentials => false,
        };
        if !is_unclear {
            return error;
        }
        if let Some(text) = self.of(address, endpoint.tls).await {
            return DialError { text: text.to_owned(), ..error };
        }
        if login_bytes > LOGIN_BYTES_MAX {
            let text = format!(
                "{}; user and password have {login_bytes} bytes together, and the broker may take no login \
                 of that size: RabbitMQ 3 takes frames of 4096 bytes before the login, RabbitMQ 4 of \
                 initial_frame_max (8192). Use a shorter password or token",
                error.text
            );
            return DialError { text, ..error };
        }
        error
    }

    async fn of(&self, address: SocketAddr, tls: bool) -> Option<&'static str> {
        let now = Instant::now();
        if let Some((made, text)) = lock(&self.0).get(&address)
            && now.duration_since(*made) < HOLDS_FOR
        {
            return *text;
        }
        let text = answer(address).await.ok().and_then(|answer| verdict(&answer, tls));
        let mut diagnoses = lock(&self.0);
        if diagnoses.len() >= REMEMBERED_MAX {
            diagnoses.clear();
        }
        diagnoses.insert(address, (now, text));
        text
    }
}

/// The first bytes that are answered to the greeting of AMQP. A web server waits for the end of the
/// line, which a broker never gets to see.
async fn answer(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut socket = timeout(ANSWER_MAX, TcpStream::connect(address)).await??;
    let mut bytes = [0; 64];
    for words in [GREETING, b"\r\n\r\n"] {
        socket.write_all(words).await?;
        if let Ok(read) = timeout(ANSWER_MAX, socket.read(&mut bytes)).await {
            return Ok(bytes[..read?].to_vec());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// What an answer means for somebody who dialled with TLS or without; `None` if it explains
/// nothing.
fn verdict(answer: &[u8], tls: bool) -> Option<&'static str> {
    let is_start = answer.len() > 10 && answer[0] == 1 && answer[7..11] == [0, 10, 0, 10];
    match answer {
        [] => (!tls).then_some(CLOSED),
        _ if is_start => tls.then_some(WITHOUT_TLS),
        // An alert or a handshake of TLS.
        [0x15 | 0x16, 3, ..] => (!tls).then_some(EXPECTS_TLS),
        _ if answer.starts_with(b"HTTP/") || answer.starts_with(b"<") => Some(HTTP),
        _ if answer.starts_with(b"AMQP") => Some(OTHER_AMQP),
        _ => Some(OTHER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frame `connection.start`, cut off.
    const START: &[u8] = &[1, 0, 0, 0, 0, 1, 0xf4, 0, 10, 0, 10, 0, 9];

    #[test]
    fn an_answer_says_what_to_try() {
        assert_eq!(verdict(b"HTTP/1.1 400 Bad Request\r\n", false), Some(HTTP));
        assert_eq!(verdict(&[0x15, 3, 3, 0, 2, 2, 10], false), Some(EXPECTS_TLS));
        assert_eq!(verdict(START, true), Some(WITHOUT_TLS));
        assert_eq!(verdict(b"AMQP\x00\x01\x00\x00", false), Some(OTHER_AMQP));
        assert_eq!(verdict(b"SSH-2.0-OpenSSH_9.2\r\n", false), Some(OTHER));
        assert_eq!(verdict(b"", false), Some(CLOSED));
    }

    #[test]
    fn an_answer_that_was_expected_explains_nothing() {
        assert_eq!(verdict(START, false), None);
        assert_eq!(verdict(&[0x15, 3, 3, 0, 2, 2, 10], true), None);
        assert_eq!(verdict(b"", true), None);
    }
}
