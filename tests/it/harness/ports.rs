//! Picks loopback ports that stay ours while nothing is listening on them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// The ports we choose from: below the range Linux takes outgoing ports from (32768 and up).
///
/// A client that retries a closed port of that range sooner or later gets the very port as its
/// own and connects to itself, so that the broker can no longer come back on it.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port kept for us by a socket that is bound to it and never listens.
///
/// Whoever sets `SO_REUSEADDR` (the broker and the fault proxy do) may still listen on it;
/// connecting to it while nobody listens gives "connection refused".
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    _holder: TcpSocket,
}

impl ReservedPort {
    /// Takes a free port.
    ///
    /// # Panics
    /// When no port of the range is free.
    pub fn take() -> Self {
        // Test processes that run at the same time start their search at different places.
        let start = process::id().wrapping_mul(7919);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = start.wrapping_add(step) % u32::from(COUNT);
            let number = FIRST + u16::try_from(offset).unwrap_or(0);
            if let Some(holder) = reserve(number) {
                return Self { number, _holder: holder };
            }
        }
        panic!("no free loopback port from {FIRST} on, in {COUNT} ports");
    }

    /// The port number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Binds a holder to the port when neither a listener nor another holder has it.
fn reserve(number: u16) -> Option<TcpSocket> {
    let address = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, number));
    let probe = TcpSocket::new_v4().ok()?;
    // Without SO_REUSEADDR the bind also fails on a port that someone merely holds.
    probe.set_reuseaddr(false).ok()?;
    probe.bind(address).ok()?;
    drop(probe);
    let holder = TcpSocket::new_v4().ok()?;
    holder.set_reuseaddr(true).ok()?;
    holder.bind(address).ok()?;
    Some(holder)
}

/// Listens on a port that is reserved here (std sets `SO_REUSEADDR` on Unix).
///
/// # Errors
/// When the port is taken.
pub fn listen(port: &ReservedPort) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
