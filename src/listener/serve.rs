//! Accepts connections, serves the requests on them, and ends them in order.

use super::clock::{ClockedIo, ConnectionClock, Expired};
use super::unread::Unread;
use super::{Answering, Arrived, Settings};
use crate::config::ListenAddress;
use crate::when_woken::when_woken;
use futures_util::future::FutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Interval;

/// The pause after a failed accept (out of file descriptors, say): trying again at once gains
/// nothing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bytes that one HTTP/2 stream may send before they are read. The connection may send 1 MiB,
/// so that one stream does not hold up others.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;

/// Streams one HTTP/2 connection may have open.
const HTTP2_STREAMS_MAX: u32 = 256;

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct BindError {
    address: String,
    cause: io::Error,
}

/// Bound listeners, not yet serving.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<Listener>,
    settings: Arc<Settings>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, UnlinkOnDrop),
}

/// Removes the socket's file when the listener is gone.
#[derive(Debug)]
struct UnlinkOnDrop(PathBuf);

impl Drop for UnlinkOnDrop {
    fn drop(&mut self) {
        // The file may be gone already, which is as good.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Listeners {
    /// Binds every address.
    ///
    /// # Errors
    /// The first address that cannot be bound, with the system's reason.
    pub async fn bind(settings: Settings) -> Result<Self, BindError> {
        let mut bound = Vec::new();
        for address in &settings.addresses {
            let listener = match address {
                ListenAddress::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
                ListenAddress::Unix(path) => bind_unix(path),
            };
            bound.push(listener.map_err(|cause| BindError { address: address.to_string(), cause })?);
        }
        Ok(Self { bound, settings: Arc::new(settings) })
    }

    /// The addresses as bound: port 0 has become a real one.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.bound.iter().map(Listener::address).collect()
    }

    /// Serves until `stop` is true, then accepts no more and ends when every connection has.
    ///
    /// A connection ends after the request it is working on, at once when it has none.
    pub async fn serve(self, service: impl Answering, stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.settings.max_connections));
        let mut listeners = JoinSet::new();
        for listener in self.bound {
            let acceptor = Acceptor {
                places: Arc::clone(&places),
                settings: Arc::clone(&self.settings),
                service: service.clone(),
                stop: stop.clone(),
                connections: JoinSet::new(),
            };
            listeners.spawn(acceptor.run(listener));
        }
        while listeners.join_next().await.is_some() {}
    }
}

impl Listener {
    fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(error) => format!("unknown ({error})"),
            },
            Listener::Unix(_, path) => format!("unix:{}", path.0.display()),
        }
    }
}

/// Replaces a socket file that a killed process left behind. A socket that answers is in use.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            std::fs::remove_file(path)?
        }
        Ok(_) => return Err(io::Error::other("the path exists and is not a socket")),
        Err(_) => {}
    }
    Ok(Listener::Unix(UnixListener::bind(path)?, UnlinkOnDrop(path.to_owned())))
}

struct Acceptor<A> {
    places: Arc<Semaphore>,
    settings: Arc<Settings>,
    service: A,
    stop: watch::Receiver<bool>,
    connections: JoinSet<()>,
}

impl<A: Answering> Acceptor<A> {
    async fn run(mut self, listener: Listener) {
        let mut stop = self.stop.clone();
        let places = Arc::clone(&self.places);
        'accepting: loop {
            let accepting = accept(&listener, &places);
            tokio::pin!(accepting);
            // Polls the same `accepting` until it ends: dropping it half-way would drop a
            // connection.
            let accepted = loop {
                tokio::select! {
                    () = stopped(&mut stop) => break 'accepting,
                    Some(_) = self.connections.join_next() => {}
                    accepted = &mut accepting => break accepted,
                }
            };
            match accepted {
                Ok((Socket::Tcp(socket), place)) => {
                    // Without it every small answer may wait for a delayed ACK; a failure costs
                    // speed only.
                    drop(socket.set_nodelay(true));
                    self.spawn(socket, place);
                }
                Ok((Socket::Unix(socket), place)) => self.spawn(socket, place),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        while self.connections.join_next().await.is_some() {}
    }

    fn spawn<S>(&mut self, socket: S, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (settings, service, stop) = (Arc::clone(&self.settings), self.service.clone(), self.stop.clone());
        self.connections.spawn(async move {
            connection(socket, service, &settings, stop).await;
            drop(place);
        });
    }
}

enum Socket {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

/// The next connection, once there is a place for it. One connection may wait here for a place; the
/// others wait in the kernel's queue.
///
/// A place is taken only when there is a connection: an idle listener takes none from the others.
async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> io::Result<(Socket, OwnedSemaphorePermit)> {
    let socket = match listener {
        Listener::Tcp(listener) => Socket::Tcp(listener.accept().await?.0),
        Listener::Unix(listener, _) => Socket::Unix(listener.accept().await?.0),
    };
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((socket, place))
}

pub(super) async fn connection<S>(
    socket: S,
    answering: impl Answering,
    settings: &Settings,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let clock = ConnectionClock::new();
    let unread = Unread::default();
    let service = service_fn(|request: Request<Incoming>| {
        let version = request.version();
        let (arrival, under_way) = clock.request(version);
        let request = request.map(|body| unread.noting(body));
        let answer = answering.clone().call(Arrived { request, arrival });
        let unread = unread.clone();
        // Not an async block: it would store the answer's future twice, once as passed in and once
        // as awaited.
        answer.map(move |response| {
            drop(under_way);
            response.map(|response| unread.said_in(response, version))
        })
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(settings.max_header_bytes).keep_alive(true);
    let header_list_max = u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX);
    builder.http2().max_header_list_size(header_list_max).max_concurrent_streams(HTTP2_STREAMS_MAX);
    builder.http2().initial_stream_window_size(HTTP2_STREAM_WINDOW);
    let io = TokioIo::new(ClockedIo::new(socket, clock.clone()));
    let serving = builder.serve_connection(io, service);
    tokio::pin!(serving);
    let mut check = tokio::time::interval(settings.header_timeout.min(settings.idle_timeout) / 2);
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a client's connection ended early");
                }
                break;
            }
            occasion = when_woken(occasion(&mut stop, ending, &mut check)) => match occasion {
                Occasion::Stop => {
                    ending = true;
                    serving.as_mut().graceful_shutdown();
                }
                Occasion::Check => match clock.expired(settings.header_timeout, settings.idle_timeout) {
                    Some(Expired::Head | Expired::Deaf) => break,
                    Some(Expired::Idle) if ending => break,
                    Some(Expired::Idle) => {
                        ending = true;
                        serving.as_mut().graceful_shutdown();
                    }
                    None => {}
                },
            },
        }
    }
}

/// What a connection waits for besides bytes.
enum Occasion {
    Stop,
    Check,
}

async fn occasion(stop: &mut watch::Receiver<bool>, ending: bool, check: &mut Interval) -> Occasion {
    tokio::select! {
        () = stopped(stop), if !ending => Occasion::Stop,
        _ = check.tick() => Occasion::Check,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // If there is no sender, the sidecar itself is gone.
    drop(stop.wait_for(|stop| *stop).await);
}
