//! Closed-loop load: a number of clients that each send the next request after the answer to the
//! last; some leave.

use super::load::on_this_thread;
use super::wire::Wire;
use crate::harness::Sidecar;
use amqpost::outcome::Outcome;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::task::JoinSet;

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It reads its answer.
    Patient,
    /// It leaves with this many bytes of its request unsent: by RST or by FIN.
    Leaves { unsent: usize, by_reset: bool },
}

type Request = dyn Fn(u64) -> (Vec<u8>, Manner) + Send + Sync;

struct Shared {
    request: Box<Request>,
    address: SocketAddr,
    begun: AtomicU64,
    total: u64,
    stop: AtomicBool,
}

/// Clients under way.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    thread: JoinHandle<Tally>,
}

/// Their answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// The number of answers of each code.
    pub(crate) codes: BTreeMap<&'static str, u64>,
    /// How many clients left.
    pub(crate) left: u64,
    /// How many connections broke while a client waited, and the error of one of them.
    pub(crate) broken: (u64, Option<String>),
}

impl Crowd {
    /// Starts `clients` that together send `total` requests.
    pub(crate) fn gather(
        sidecar: &Sidecar,
        clients: usize,
        total: u64,
        request: impl Fn(u64) -> (Vec<u8>, Manner) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            request: Box::new(request),
            address: sidecar.http().parse().expect("host:port"),
            begun: AtomicU64::new(0),
            total,
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || on_this_thread(all(shared, clients))
        });
        Self { shared, thread }
    }

    /// How many requests were begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.shared.begun.load(Ordering::Relaxed).min(self.shared.total)
    }

    /// Whether all of them have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the requests.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end.
    pub(crate) async fn tally(self) -> Tally {
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await;
        ended.expect("the thread ends").expect("the clients do not panic")
    }
}

async fn all(shared: Arc<Shared>, clients: usize) -> Tally {
    let mut crowd = JoinSet::new();
    for _ in 0..clients {
        crowd.spawn_local(one(Arc::clone(&shared)));
    }
    let mut sum = Tally::default();
    while let Some(tally) = crowd.join_next().await {
        let tally = tally.expect("no panic");
        for (code, count) in tally.codes {
            *sum.codes.entry(code).or_default() += count;
        }
        sum.left += tally.left;
        sum.broken = (sum.broken.0 + tally.broken.0, sum.broken.1.or(tally.broken.1));
    }
    sum
}

async fn one(shared: Arc<Shared>) -> Tally {
    let (mut tally, mut kept) = (Tally::default(), None);
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.begun.fetch_add(1, Ordering::Relaxed);
        if number >= shared.total {
            break;
        }
        let (bytes, manner) = (shared.request)(number);
        match a_request(shared.address, kept.take(), &bytes, manner).await {
            Ok(Some((outcome, wire))) => {
                *tally.codes.entry(outcome.code()).or_default() += 1;
                kept = wire;
            }
            Ok(None) => tally.left += 1,
            Err(error) => tally.broken = (tally.broken.0 + 1, Some(error.to_string())),
        }
    }
    tally
}

async fn a_request(
    address: SocketAddr,
    kept: Option<Wire>,
    bytes: &[u8],
    manner: Manner,
) -> io::Result<Option<(Outcome, Option<Wire>)>> {
    let mut wire = match kept {
        Some(wire) => wire,
        None => Wire::connect(address).await?,
    };
    match manner {
        Manner::Patient => {
            let reply = wire.exchange(bytes).await?;
            Ok(Some((reply.outcome, reply.stays_open.then_some(wire))))
        }
        Manner::Leaves { unsent, by_reset } => {
            wire.leave_after(&bytes[..bytes.len() - unsent], by_reset).await?;
            Ok(None)
        }
    }
}
