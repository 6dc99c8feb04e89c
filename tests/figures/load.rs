//! Open-loop load: each request is sent at its own moment, without waiting for earlier ones, and
//! recorded.

use super::clock::Lateness;
use super::wire::Wire;
use crate::harness::{Sidecar, beat};
use amqpost::outcome::{Class, Outcome};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};

/// Connections that are open before the first request.
const OPEN_BEFORE: usize = 64;

/// A connection that was idle for longer is not used again: the sidecar closes it after 75 s.
const FRESH: Duration = Duration::from_secs(30);

/// One request and its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shot {
    /// Its number in the schedule.
    pub(crate) number: u64,
    /// Its moment in the schedule.
    pub(crate) due: Instant,
    /// When its first byte was written.
    pub(crate) written: Instant,
    /// When the last byte of its answer was read.
    pub(crate) answered: Instant,
    /// The answer; none when the connection broke.
    pub(crate) outcome: Option<Outcome>,
}

impl Shot {
    /// Whether this was the answer.
    pub(crate) fn is(&self, outcome: Outcome) -> bool {
        self.outcome == Some(outcome)
    }

    /// The answer's class.
    pub(crate) fn class(&self) -> Option<Class> {
        self.outcome.map(|outcome| outcome.row().class)
    }

    /// Whether it was refused because of the link.
    pub(crate) fn is_refused_for_the_link(&self) -> bool {
        use Outcome::{BrokerBlocked, LinkDown, LinkStalled};
        matches!(self.outcome, Some(LinkDown | LinkStalled | BrokerBlocked))
    }

    /// The time from its scheduled time to its answer.
    pub(crate) fn took(&self) -> Duration {
        self.answered.saturating_duration_since(self.due)
    }
}

/// The state that the client and its thread share.
struct Shared {
    request: Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>,
    address: SocketAddr,
    confirmed: AtomicU64,
    stop: AtomicBool,
}

/// Load under way.
pub(crate) struct Load {
    shared: Arc<Shared>,
    pacer: JoinHandle<Lateness>,
    client: JoinHandle<Sent>,
}

/// The record of a client.
#[derive(Default)]
pub(crate) struct Sent {
    /// In the order of the schedule.
    pub(crate) shots: Vec<Shot>,
    /// What went wrong on connections.
    pub(crate) broken: Vec<String>,
    /// The lateness of the client's own timer, every 5 ms, in the thread that reads the answers.
    pub(crate) reader: Lateness,
    /// Of the thread that keeps the schedule.
    pub(crate) pacer: Lateness,
}

impl Load {
    /// Starts to send `request(number)` to the sidecar, over at most `connections` at a time. A
    /// request that finds none free waits, and the time counts as its own.
    pub(crate) async fn start(
        sidecar: &Sidecar,
        per_second: u32,
        connections: usize,
        request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            request: Box::new(request),
            address: sidecar.http().parse().expect("host:port"),
            confirmed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (jobs, schedule) = unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let client = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || on_this_thread(send(shared, connections, schedule, ready))
        });
        is_ready.await.expect("the client is ready");
        let pacer = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut lateness = Lateness::default();
                beat(Instant::now(), per_second, &shared.stop, |number, due| {
                    lateness.note(due);
                    jobs.send((number, due)).expect("the client takes jobs until they end");
                });
                lateness
            }
        });
        Self { shared, pacer, client }
    }

    /// How many were confirmed so far.
    pub(crate) fn confirmed(&self) -> u64 {
        self.shared.confirmed.load(Ordering::Relaxed)
    }

    /// Sends no more, and waits for all answers.
    pub(crate) async fn stop(self) -> Sent {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = tokio::task::spawn_blocking(|| (self.pacer.join(), self.client.join()));
        let (pacer, client) = ended.await.expect("the threads end");
        let (pacer, mut sent) =
            (pacer.expect("the pacer does not panic"), client.expect("the client does not panic"));
        sent.shots.sort_unstable_by_key(|shot| shot.number);
        Sent { pacer, ..sent }
    }
}

impl Sent {
    /// How late the load itself was: its schedule, the first bytes, the reader's timer.
    pub(crate) fn lateness(&self) -> String {
        let written = self.shots.iter().map(|shot| shot.written.saturating_duration_since(shot.due));
        let written: super::sample::Sample = written.collect();
        format!(
            "schedule {}; first byte {}; reader's timer {}; {} requests, {} broken",
            self.pacer.sample().tail(),
            written.tail(),
            self.reader.sample().tail(),
            self.shots.len(),
            self.broken.len(),
        )
    }

    /// How late the load's own timers were when an answer may have been due.
    pub(crate) fn late_between(&self, from: Instant, to: Instant) -> Duration {
        self.pacer.worst(from, to).max(self.reader.worst(from, to))
    }
}

/// Runs on a runtime of this thread alone, so that nothing else of the test is in the way.
pub(crate) fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), work)
}

async fn send(
    shared: Arc<Shared>,
    connections: usize,
    mut schedule: UnboundedReceiver<(u64, Instant)>,
    ready: oneshot::Sender<()>,
) -> Sent {
    let pool = Rc::new(Pool { places: Semaphore::new(connections), idle: RefCell::default() });
    for _ in 0..OPEN_BEFORE.min(connections) {
        let wire = Wire::connect(shared.address).await.expect("the sidecar listens");
        pool.idle.borrow_mut().push((Instant::now(), wire));
    }
    let (mut sent, mut under_way) = (Sent::default(), JoinSet::new());
    let reader = Rc::new(RefCell::new(Lateness::default()));
    let timer = tokio::task::spawn_local(tick(Rc::clone(&reader)));
    ready.send(()).expect("somebody waits");
    loop {
        tokio::select! {
            // The order matters: a job is started before an answer is recorded.
            biased;
            job = schedule.recv() => match job {
                Some((number, due)) => {
                    under_way.spawn_local(shoot(Arc::clone(&shared), Rc::clone(&pool), number, due));
                }
                None => break,
            },
            Some(shot) = under_way.join_next() => sent.file(shot.expect("no panic")),
        }
    }
    while let Some(shot) = under_way.join_next().await {
        sent.file(shot.expect("no panic"));
    }
    timer.abort();
    sent.reader = reader.take();
    sent
}

impl Sent {
    fn file(&mut self, (shot, error): (Shot, Option<io::Error>)) {
        self.shots.push(shot);
        self.broken.extend(error.map(|error| format!("{}: {error}", shot.number)));
    }
}

/// Connections that wait for a request, the one that was used last on top.
struct Pool {
    places: Semaphore,
    idle: RefCell<Vec<(Instant, Wire)>>,
}

impl Pool {
    async fn take(&self, address: SocketAddr) -> io::Result<Wire> {
        let top = self.idle.borrow_mut().pop();
        match top {
            Some((since, wire)) if since.elapsed() < FRESH => Ok(wire),
            _ => Wire::connect(address).await,
        }
    }
}

async fn shoot(shared: Arc<Shared>, pool: Rc<Pool>, number: u64, due: Instant) -> (Shot, Option<io::Error>) {
    let bytes = (shared.request)(number);
    let _place = pool.places.acquire().await.expect("never closed");
    let mut written = Instant::now();
    let exchange = async {
        let mut wire = pool.take(shared.address).await?;
        written = Instant::now();
        let reply = wire.exchange(&bytes).await?;
        Ok((reply, wire))
    };
    let ended: io::Result<_> = exchange.await;
    let answered = Instant::now();
    let (outcome, error) = match ended {
        Ok((reply, wire)) => {
            if reply.stays_open {
                pool.idle.borrow_mut().push((answered, wire));
            }
            if reply.outcome == Outcome::Confirmed {
                shared.confirmed.fetch_add(1, Ordering::Relaxed);
            }
            (Some(reply.outcome), None)
        }
        Err(error) => (None, Some(error)),
    };
    (Shot { number, due, written, answered, outcome }, error)
}

async fn tick(lateness: Rc<RefCell<Lateness>>) {
    loop {
        let due = Instant::now() + Duration::from_millis(5);
        crate::pace::until(due).await;
        lateness.borrow_mut().note(due);
    }
}
