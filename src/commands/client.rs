//! A small HTTP client for a running sidecar.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// The largest answer read, in bytes. A larger one is not from a sidecar.
const ANSWER_MAX: usize = 1024 * 1024;

/// Longer than the longest deadline that the sidecar allows by default.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(75);

/// Where a sidecar listens: `host:port`, `http://host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tcp(String),
    Unix(PathBuf),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("no connection to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("no answer: {0}")]
    Http(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Target::Unix(path.into()));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if authority.contains('/') || !authority.contains(':') {
            return Err("expected host:port, http://host:port or unix:/path".to_owned());
        }
        Ok(Target::Tcp(authority.to_owned()))
    }
}

/// Sends one request and reads the whole answer within `timeout`.
pub(super) async fn send(
    target: &Target,
    request: Request<Full<Bytes>>,
    timeout: Duration,
) -> Result<Response<Bytes>, ClientError> {
    let (response, driver) = begin(target, request, timeout).await?;
    let whole = whole(response, timeout).await;
    driver.abort();
    whole
}

/// Sends one request and waits for the head of its answer. The task drives the connection.
pub(super) async fn begin<B>(
    target: &Target,
    request: Request<B>,
    timeout: Duration,
) -> Result<(Response<Incoming>, JoinHandle<()>), ClientError>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let exchange = async {
        match target {
            Target::Tcp(authority) => {
                let socket = TcpStream::connect(authority).await;
                over(socket.map_err(|error| ClientError::Connect(authority.clone(), error))?, request).await
            }
            Target::Unix(path) => {
                let socket = UnixStream::connect(path).await;
                let name = path.display().to_string();
                over(socket.map_err(|error| ClientError::Connect(name, error))?, request).await
            }
        }
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(ClientError::Timeout(timeout)))
}

/// Reads the rest of an answer.
pub(super) async fn whole(
    response: Response<Incoming>,
    timeout: Duration,
) -> Result<Response<Bytes>, ClientError> {
    let (head, body) = response.into_parts();
    let reading = Limited::new(body, ANSWER_MAX).collect();
    let read = tokio::time::timeout(timeout, reading).await.map_err(|_| ClientError::Timeout(timeout))?;
    let body = read.map_err(|error| ClientError::Http(error.to_string()))?.to_bytes();
    Ok(Response::from_parts(head, body))
}

async fn over<S, B>(
    socket: S,
    request: Request<B>,
) -> Result<(Response<Incoming>, JoinHandle<()>), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let http = |error: hyper::Error| ClientError::Http(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(http)?;
    // The connection ends with the answer. The request reports its errors.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok((sender.send_request(request).await.map_err(http)?, driver))
}

/// A runtime for one command.
pub(super) fn block_on<T>(command: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(command))
}
