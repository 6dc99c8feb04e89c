//! The link: everything between us and the broker. The only room that names lapin.
//!
//! * [`supervisor`] keeps one connection alive (`dial`, `attempts`, `backoff`, `failure`, `outage_log`), with a
//!   [`vigil`] over each that is open (`pulse`, `vitals`);
//! * [`publisher`] decides which of a connection's channels (`lanes`) a message goes to (`exchanges`, `waiting`);
//! * [`lane`] is one channel: it polls publishes (`wire`, `quiet`) and hands out exact verdicts (`attribution`,
//!   `closing`, `verdict`);
//! * [`ticket`] is a publish between its request and a channel; the hand-over is there;
//! * [`state`] and [`status`] are what everybody else reads.

mod attempts;
mod attribution;
mod backoff;
mod closing;
mod dial;
mod exchanges;
mod failure;
mod lane;
mod lanes;
mod outage_log;
mod publisher;
mod pulse;
mod quiet;
mod reporter;
mod state;
mod status;
mod supervisor;
mod ticket;
mod verdict;
mod vigil;
mod vitals;
mod waiting;
mod wire;

pub use failure::{ConnectFailure, LossReason};
pub use state::ConnectionState;
pub use status::{ConnectionStatus, LinkStatus};

use crate::admission::Permit;
use crate::config::BrokerConfig;
use crate::deadline::Deadline;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use reporter::Reporter;
use status::StateReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use supervisor::{Stage, Supervisor};
use ticket::{GaveUp, Job, Parcel, Reply, Ticket, Withdrawal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Attempts of one publish, the first included. Only what provably was not handed over is tried again.
const ATTEMPTS_MAX: u32 = 3;

/// What the link needs to know of the configuration.
#[derive(Debug)]
struct LinkSettings {
    broker: BrokerConfig,
    connect_timeout: Duration,
    write_window: usize,
    max_in_flight: usize,
}

/// Whether a publish is tried again inside its deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// One attempt.
    Off,
    /// Again only what provably was not handed over to the link.
    #[default]
    Safe,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The outcome.
    pub outcome: Outcome,
    /// More than the outcome says, for the client: no host names, no credentials.
    pub detail: Option<String>,
    /// Attempts made; 0 when it was refused at the door.
    pub attempts: u32,
}

/// The way to publish and to read the link's state. Cloning shares the link.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    state: StateReader,
    stage: watch::Receiver<Stage>,
    turn: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// The owner of the connections.
#[derive(Debug)]
pub struct Link {
    supervisors: JoinSet<()>,
    stage: watch::Sender<Stage>,
}

impl Link {
    /// Starts a supervisor for each connection and returns at once: a broker that is away is ordinary.
    #[must_use]
    pub fn start(broker: BrokerConfig, max_in_flight: usize, metrics: Metrics) -> (Self, LinkHandle) {
        let settings = Arc::new(LinkSettings {
            connect_timeout: broker.connect_timeout,
            write_window: broker.write_window,
            max_in_flight,
            broker,
        });
        let (stage, stage_reader) = watch::channel(Stage::Serving);
        let (writers, state) = status::channel(settings.broker.connections);
        let mut supervisors = JoinSet::new();
        for (slot, state) in writers.into_iter().enumerate() {
            let supervisor = Supervisor {
                settings: Arc::clone(&settings),
                reporter: Reporter::new(slot, state, metrics.clone()),
                stage: stage_reader.clone(),
            };
            supervisors.spawn(supervisor.run());
        }
        let handle = LinkHandle { state, stage: stage_reader, turn: Arc::new(AtomicUsize::new(0)), metrics };
        (Self { supervisors, stage }, handle)
    }

    /// Refuses new publishes, lets those in flight finish, closes the connections; all within `budget`.
    pub async fn drain(mut self, budget: Duration) {
        self.stage.send_replace(Stage::Draining(Instant::now() + budget));
        // Every supervisor bounds its own drain; the margin is for a polite close that the broker ignores.
        let everything = async { while self.supervisors.join_next().await.is_some() {} };
        if tokio::time::timeout(budget + Duration::from_secs(2), everything).await.is_err() {
            tracing::warn!("connections did not close within their budget and are dropped");
        }
    }
}

impl LinkHandle {
    /// Publishes a message, or says at once why not. Ends by the deadline.
    pub async fn publish(
        &self,
        message: Message,
        permit: Permit,
        deadline: Deadline,
        policy: RetryPolicy,
    ) -> Settlement {
        let mut parcel = Parcel { message: Arc::new(message), permit };
        let mut attempts = 0;
        let mut detail = None;
        let outcome = loop {
            if deadline.has_passed() {
                break Outcome::DeadlineNotSent;
            }
            let lane = match self.lane() {
                Ok(lane) => lane,
                Err(refusal) => break refusal,
            };
            attempts += 1;
            match attempt(&lane, parcel, deadline).await {
                Attempt::Settled(outcome, text) => {
                    detail = text;
                    break outcome;
                }
                Attempt::NotHandedOver(given_back, outcome) => {
                    if policy == RetryPolicy::Off || attempts >= ATTEMPTS_MAX {
                        break outcome;
                    }
                    self.metrics.retried(outcome);
                    parcel = given_back;
                }
            }
        };
        Settlement { outcome, detail, attempts }
    }

    /// Why a publish would be refused right now, if it would be.
    #[must_use]
    pub fn refusal(&self) -> Option<Outcome> {
        let published = self.state.look();
        let is_up = published.lanes.iter().any(Option::is_some);
        (!is_up).then(|| self.refusal_in(published.status.state))
    }

    /// The state of the link and its connections.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.state.look().status.clone()
    }

    /// Ends when the link begins to drain.
    pub async fn draining(&mut self) {
        supervisor::draining(&mut self.stage).await;
    }

    /// Waits until the link is up or `deadline` has passed; whether it is up.
    pub async fn wait_until_up(&self, deadline: Instant) -> bool {
        let mut state = self.state.clone();
        let up = state.wait_until(|published| published.status.state == ConnectionState::Up);
        tokio::time::timeout_at(deadline, up).await.unwrap_or(false)
    }

    /// The way to a connection that is up, taking turns; else the refusal. No wait, no queue.
    fn lane(&self) -> Result<mpsc::Sender<Job>, Outcome> {
        let published = self.state.look();
        let lanes = &published.lanes;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let lane = (0..lanes.len()).find_map(|step| lanes[(turn + step) % lanes.len()].as_ref());
        lane.cloned().ok_or_else(|| self.refusal_in(published.status.state))
    }

    fn refusal_in(&self, state: ConnectionState) -> Outcome {
        match state {
            ConnectionState::Blocked => Outcome::BrokerBlocked,
            ConnectionState::Stalled => Outcome::LinkStalled,
            ConnectionState::Draining => Outcome::Draining,
            ConnectionState::Connecting | ConnectionState::Down | ConnectionState::Up => {
                if *self.stage.borrow() == Stage::Serving { Outcome::LinkDown } else { Outcome::Draining }
            }
        }
    }
}

enum Attempt {
    Settled(Outcome, Option<String>),
    NotHandedOver(Parcel, Outcome),
}

/// Withdraws the ticket when the request is dropped before its answer: the client left.
struct Waiting {
    ticket: Arc<Ticket>,
    answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.ticket.withdraw(GaveUp::ClientLeft);
        }
    }
}

async fn attempt(lane: &mpsc::Sender<Job>, parcel: Parcel, deadline: Deadline) -> Attempt {
    let (reply, mut answer) = oneshot::channel();
    let ticket = Ticket::new(parcel);
    let mut waiting = Waiting { ticket: Arc::clone(&ticket), answered: false };
    let queued = lane.try_send(Job { ticket: Arc::clone(&ticket), reply });
    let refusal = match &queued {
        Ok(()) => None,
        Err(TrySendError::Full(_)) => Some(Outcome::Overloaded),
        Err(TrySendError::Closed(_)) => Some(Outcome::LinkDown),
    };
    let heard = match refusal {
        None => tokio::time::timeout_at(deadline.instant(), &mut answer).await.ok(),
        Some(_) => None,
    };
    waiting.answered = true;
    match (refusal, heard) {
        (Some(refusal), _) => match ticket.hand_over() {
            Some(parcel) => Attempt::NotHandedOver(parcel, refusal),
            None => Attempt::Settled(refusal, None),
        },
        (None, Some(Ok(reply))) => Attempt::from(reply),
        // The publisher's task is gone without a word, which only a bug in it can do.
        (None, Some(Err(_))) => unanswered(&ticket, Outcome::LinkDown, Outcome::LinkLost),
        (None, None) => match answer.try_recv() {
            Ok(reply) => Attempt::from(reply),
            Err(_) => unanswered(&ticket, Outcome::DeadlineNotSent, Outcome::ConfirmTimeout),
        },
    }
}

fn unanswered(ticket: &Ticket, not_sent: Outcome, unknown: Outcome) -> Attempt {
    match ticket.withdraw(GaveUp::DeadlinePassed) {
        Withdrawal::InTime => Attempt::Settled(not_sent, None),
        Withdrawal::TooLate => Attempt::Settled(unknown, None),
    }
}

impl From<Reply> for Attempt {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Settled(outcome, detail) => Attempt::Settled(outcome, detail),
            Reply::NotHandedOver(parcel, outcome) => Attempt::NotHandedOver(parcel, outcome),
        }
    }
}
