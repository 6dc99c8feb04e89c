//! A relay in front of the broker that notes the times of `connection.blocked` and
//! `connection.unblocked`.

use super::eventually::eventually;
use super::ports::{ReservedPort, listen};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(20);
const FRAME_METHOD: u8 = 1;
/// Type, channel and size of a frame.
const FRAME_HEAD: usize = 7;
const CLASS_CONNECTION: u16 = 10;
const BLOCKED: u16 = 60;
const UNBLOCKED: u16 = 61;

/// A relay on loopback for any number of connections. It ends with the test's runtime or when it is
/// dropped.
#[derive(Debug)]
pub struct Tap {
    port: ReservedPort,
    seen: Arc<Mutex<Vec<(Instant, u16)>>>,
    _tasks: JoinSet<()>,
}

impl Tap {
    /// Starts one in front of a port on 127.0.0.1, such as a broker's.
    ///
    /// # Panics
    /// When no port is free.
    pub fn to_port(upstream: u16) -> Self {
        let port = ReservedPort::take();
        let listener = listen(&port).and_then(TcpListener::from_std);
        let listener = listener.unwrap_or_else(|e| panic!("the tap cannot listen: {e}"));
        let seen = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, upstream, Arc::clone(&seen)));
        Self { port, seen, _tasks: tasks }
    }

    /// The port the tap listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Waits for the first `connection.blocked` after this moment; returns when it was forwarded.
    pub async fn blocked_after(&self, moment: Instant) -> Instant {
        self.first("connection.blocked", BLOCKED, moment).await
    }

    /// Waits for the first `connection.unblocked` after this moment; returns when it was forwarded.
    pub async fn unblocked_after(&self, moment: Instant) -> Instant {
        self.first("connection.unblocked", UNBLOCKED, moment).await
    }

    async fn first(&self, what: &str, method: u16, moment: Instant) -> Instant {
        eventually(&format!("{what} passes"), PATIENCE, async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().find(|(at, of)| *of == method && *at >= moment).map(|(at, _)| *at)
        })
        .await
    }
}

async fn serve(listener: TcpListener, upstream: u16, seen: Arc<Mutex<Vec<(Instant, u16)>>>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                links.spawn(relay(client, upstream, Arc::clone(&seen)));
            }
            Some(_) = links.join_next() => {}
        }
    }
}

async fn relay(client: TcpStream, upstream: u16, seen: Arc<Mutex<Vec<(Instant, u16)>>>) {
    let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await else { return };
    // If a socket is broken, the first read reports it.
    drop((client.set_nodelay(true), broker.set_nodelay(true)));
    let (mut from_client, to_client) = client.into_split();
    let (from_broker, mut to_broker) = broker.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_broker) => {}
        _ = listen_in(from_broker, to_client, &seen) => {}
    }
}

async fn listen_in(
    mut from_broker: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    seen: &Mutex<Vec<(Instant, u16)>>,
) -> std::io::Result<()> {
    let (mut buffer, mut frames) = (vec![0; 64 * 1024], Frames::default());
    loop {
        let length = from_broker.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // Noted before it is forwarded, so that measurements never begin too late.
        let mut seen_now = frames.methods_in(&buffer[..length]);
        seen_now
            .retain(|(class, method)| *class == CLASS_CONNECTION && [BLOCKED, UNBLOCKED].contains(method));
        for (_, method) in seen_now {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), method));
        }
        to_client.write_all(&buffer[..length]).await?;
    }
}

/// Finds the frames of a stream, however the stream is split.
#[derive(Debug, Default)]
struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// Class and method of the method frames that end in these bytes.
    fn methods_in(&mut self, bytes: &[u8]) -> Vec<(u16, u16)> {
        self.rest.extend_from_slice(bytes);
        let (mut methods, mut at) = (Vec::new(), 0);
        while let Some(frame) = self.rest.get(at..).filter(|left| left.len() >= FRAME_HEAD) {
            let size = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]) as usize;
            let Some(payload) =
                frame.get(FRAME_HEAD..FRAME_HEAD + size).filter(|_| frame.len() > FRAME_HEAD + size)
            else {
                break;
            };
            if let (FRAME_METHOD, [c1, c2, m1, m2, ..]) = (frame[0], payload) {
                methods.push((u16::from_be_bytes([*c1, *c2]), u16::from_be_bytes([*m1, *m2])));
            }
            at += FRAME_HEAD + size + 1;
        }
        self.rest.drain(..at);
        methods
    }
}
