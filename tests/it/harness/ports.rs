//! Reserves loopback ports, even while nothing listens on them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// The range to choose from: below Linux's outgoing ports (32768 and up).
///
/// A client that retries a closed port among the outgoing ones sooner or later gets it as its own
/// port and connects to itself. Then the broker can no longer use it.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port, reserved by a socket that is bound to it and never listens.
///
/// A process that sets `SO_REUSEADDR`, as the broker and the fault proxy do, can still listen on
/// it. A connection without a listener gets "connection refused".
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
        // Concurrent test processes start their search at different ports.
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
    // Without SO_REUSEADDR the bind also fails on a port that is only reserved.
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
