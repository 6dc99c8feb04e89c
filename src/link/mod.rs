//! The link: everything between the sidecar and the broker. The only room that names lapin.
//!
//! * `sending` takes one message through its attempts, past its destination's circuit breaker;
//! * `ticket` is a publish between its request and a channel: the hand-over is there;
//! * `publisher` is the task that owns a connection's channels and decides which of them a message
//!   goes to;
//! * `lanes` are these channels: they publish, and hand out exact verdicts;
//! * `destinations` remembers which destinations work and which are at fault;
//! * `connection` keeps connections alive and reports their state;
//! * `suspicion` is the knowledge that all connections share of a broker that may have stopped
//!   answering;
//! * `acceptance` finds messages that no broker accepts, `backoff` computes the pauses between
//!   attempts, `channel_limit` knows whether channels are scarce, and `stage` says whether the link
//!   is draining.

mod acceptance;
mod backoff;
mod channel_limit;
mod connection;
#[cfg(test)]
mod counted;
mod destinations;
mod lanes;
mod publisher;
mod sending;
mod stage;
mod suspicion;
mod ticket;

pub use acceptance::{properties_max, unacceptable};
pub use backoff::Backoff;
pub use connection::{ConnectionStatus, LinkStatus, unix_seconds};
pub use sending::Waits;

use crate::admission::Admission;
use crate::config::{BrokerConfig, Config, Live};
use crate::labels::{BreakerState, ConnectionState};
use crate::message::Message;
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use channel_limit::ChannelLimit;
use connection::{
    Addresses, BrokerFiles, Diagnoses, Homing, Renewal, Reporter, StateReader, Supervisor, WayIn,
};
use destinations::{Breakers, Inquiries};
use sending::{Attempting, Judge, RetryBudget, Turns};
use stage::Stage;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use suspicion::{Suspicion, Taking};
use ticket::Job;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The part of the configuration that connections need.
#[derive(Debug)]
struct LinkSettings {
    broker: BrokerConfig,
    files: BrokerFiles,
    addresses: Addresses,
    homing: Homing,
    diagnoses: Diagnoses,
    max_in_flight: usize,
    inquiries: Arc<Inquiries>,
    channel_limit: Arc<ChannelLimit>,
    suspicion: Suspicion,
}

/// The way to publish and to read the link's state. Cloning shares the link.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    state: StateReader,
    suspicion: Suspicion,
    stage: watch::Receiver<Stage>,
    turns: Arc<Turns>,
    attempting: Arc<Attempting>,
    metrics: Metrics,
}

/// The owner of the connections.
#[derive(Debug)]
pub struct Link {
    supervisors: JoinSet<()>,
    stage: watch::Sender<Stage>,
    /// The tasks that watch files and renew tokens. They end with the link.
    _watches: JoinSet<()>,
}

impl Link {
    /// Starts a supervisor for each connection and returns at once: an unreachable broker is an
    /// ordinary state. `waits` tells which destinations have messages that wait for them.
    #[must_use]
    pub fn start(live: &Live, waits: Waits, admission: Admission, metrics: Metrics) -> (Self, LinkHandle) {
        let Config { broker, publish, .. } = &live.now().clone();
        let channel_limit = Arc::new(ChannelLimit::default());
        let inquiries = Arc::new(Inquiries::new(Arc::clone(&channel_limit)));
        let (files, watches) = BrokerFiles::watch(broker);
        let suspicion = Suspicion::new(broker.connections, publish.max_in_flight, broker.stall_timeout);
        let settings = Arc::new(LinkSettings {
            suspicion: suspicion.clone(),
            max_in_flight: publish.max_in_flight,
            broker: broker.clone(),
            files,
            addresses: Addresses::default(),
            homing: Homing::new(broker.rebalance_after),
            diagnoses: Diagnoses::default(),
            inquiries: Arc::clone(&inquiries),
            channel_limit,
        });
        let attempting = Arc::new(Attempting {
            admission,
            breakers: Breakers::new(live.clone(), metrics.clone()),
            budget: RetryBudget::new(publish.retry_percent),
            attempts_max: publish.max_attempts,
            judge: Judge::new(live.clone(), waits, inquiries),
        });
        let (stage, stage_reader) = watch::channel(Stage::Serving);
        let (writers, state) = connection::channel(settings.broker.connections);
        let (renewed, renewed_reader) = watch::channel(None);
        let mut watches: JoinSet<_> = watches.into_iter().collect();
        if let Some(file) = settings.files.passwords() {
            watches.spawn(Renewal { settings: Arc::clone(&settings), file, renewed }.run());
        }
        let mut supervisors = JoinSet::new();
        for (slot, state) in writers.into_iter().enumerate() {
            let supervisor = Supervisor {
                settings: Arc::clone(&settings),
                reporter: Reporter { slot, state, metrics: metrics.clone() },
                stage: stage_reader.clone(),
                renewed: renewed_reader.clone(),
                retired: JoinSet::new(),
            };
            supervisors.spawn(supervisor.run());
        }
        let turns = Arc::new(Turns::default());
        let handle = LinkHandle { state, suspicion, stage: stage_reader, turns, attempting, metrics };
        (Self { supervisors, stage, _watches: watches }, handle)
    }

    /// Refuses new publishes, lets those in flight finish, closes the connections; all within
    /// `budget`.
    pub async fn drain(mut self, budget: Duration) {
        self.stage.send_replace(Stage::Draining(Instant::now() + budget));
        // Every supervisor bounds its own drain; the margin covers a close that the broker does not
        // answer.
        let everything = async { while self.supervisors.join_next().await.is_some() {} };
        if tokio::time::timeout(budget + Duration::from_secs(2), everything).await.is_err() {
            tracing::warn!("connections did not close within their budget and are dropped");
        }
    }
}

/// Why no connection takes a message now.
enum NoLane {
    Refused(Outcome),
    /// Connections are up, but have to prove first that the broker answers them. A message may wait
    /// for that until this moment.
    NotBefore(Instant),
}

/// The first connection from `turn` on that takes a message. If there is none: until when a message
/// may wait for one that has to prove itself.
fn way_in(ways: &[Option<WayIn>], turn: usize) -> Result<&WayIn, Option<Instant>> {
    let mut until = None;
    for way in (0..ways.len()).filter_map(|step| ways[(turn + step) % ways.len()].as_ref()) {
        match way.vitals.takes() {
            Taking::Yes => return Ok(way),
            Taking::NotBefore(moment) => until = until.max(Some(moment)),
        }
    }
    Err(until)
}

impl LinkHandle {
    /// The outcome of a publish that would be refused right now; `None` while the link takes
    /// publishes.
    #[must_use]
    pub fn refusal(&self) -> Option<Outcome> {
        let published = self.state.look();
        match published.status.state {
            ConnectionState::Up if self.suspicion.all_are_trusted() => None,
            ConnectionState::Up => match way_in(&published.ways, 0) {
                Ok(_) => None,
                Err(until) => until.filter(|until| *until <= Instant::now()).map(|_| Outcome::LinkStalled),
            },
            state => Some(self.refusal_in(state)),
        }
    }

    /// Whether the broker refused, nacked or did not confirm a message to the same destination
    /// within the last second, and accepted none since. Then it is worth waiting before the next
    /// one is tried.
    #[must_use]
    pub fn refuses(&self, message: &Message) -> bool {
        self.attempting.judge.refuses(message)
    }

    /// The state of the link and its connections.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.state.look().status.clone()
    }

    /// Since when the link is up; `None` while it is not.
    #[must_use]
    pub fn up_since(&self) -> Option<SystemTime> {
        let published = self.state.look();
        (published.status.state == ConnectionState::Up).then_some(published.status.since)
    }

    /// How many destinations' circuit breakers are in each state.
    #[must_use]
    pub fn breakers(&self) -> HashMap<BreakerState, usize> {
        self.attempting.breakers.states()
    }

    /// Ends when the link begins to drain.
    pub async fn draining(&self) {
        let mut stage = self.stage.clone();
        stage::draining(&mut stage).await;
    }

    /// Waits until the link is up or `deadline` has passed. Returns whether it is up.
    pub async fn wait_until_up(&self, deadline: Instant) -> bool {
        let mut state = self.state.clone();
        let up = state.wait_until(|published| published.status.state == ConnectionState::Up);
        tokio::time::timeout_at(deadline, up).await.unwrap_or(false)
    }

    /// Picks a connection that is up, or returns the refusal; it never waits. Connections take
    /// turns in bursts, and each further `attempt` at a message goes to the next connection.
    fn lane(&self, attempt: u32, bytes: usize) -> Result<mpsc::Sender<Job>, NoLane> {
        let published = self.state.look();
        if published.status.state != ConnectionState::Up {
            return Err(NoLane::Refused(self.refusal_in(published.status.state)));
        }
        let turn = self.turns.of(bytes) + attempt as usize;
        way_in(&published.ways, turn).map(|way| way.jobs.clone()).map_err(|until| match until {
            None => NoLane::Refused(self.refusal_in(published.status.state)),
            Some(until) if until <= Instant::now() => NoLane::Refused(Outcome::LinkStalled),
            Some(until) => NoLane::NotBefore(until),
        })
    }

    /// Waits until a connection takes the message: one of those that are up has to prove itself
    /// first. Ends by `deadline`.
    async fn lane_when_proven(
        &self,
        attempt: u32,
        bytes: usize,
        deadline: Instant,
    ) -> Result<mpsc::Sender<Job>, Outcome> {
        let (mut state, mut trust) = (self.state.clone(), self.suspicion.changes());
        loop {
            let until = match self.lane(attempt, bytes) {
                Ok(lane) => return Ok(lane),
                Err(NoLane::Refused(outcome)) => return Err(outcome),
                Err(NoLane::NotBefore(_)) if deadline <= Instant::now() => {
                    return Err(Outcome::DeadlineNotSent);
                }
                Err(NoLane::NotBefore(until)) => until.min(deadline),
            };
            tokio::select! {
                () = state.changed() => {}
                _ = trust.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    fn is_serving(&self) -> bool {
        *self.stage.borrow() == Stage::Serving
    }

    fn refusal_in(&self, state: ConnectionState) -> Outcome {
        match state {
            ConnectionState::Blocked => Outcome::BrokerBlocked,
            ConnectionState::Stalled => Outcome::LinkStalled,
            ConnectionState::Draining => Outcome::Draining,
            ConnectionState::Connecting | ConnectionState::Down | ConnectionState::Up => {
                if self.is_serving() { Outcome::LinkDown } else { Outcome::Draining }
            }
        }
    }
}
