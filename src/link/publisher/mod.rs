//! The task that owns one connection's channels: takes tickets, decides which channel each goes to,
//! and answers them.

mod checkup;
mod dispatch;
mod mode;
mod payload_sizes;
mod verdict;
mod vitals;
mod waiting;

pub(super) use mode::{PublisherEnd, PublisherMode};
pub(super) use verdict::{deliver, of_broker};
pub(super) use vitals::Vitals;
pub(super) use waiting::WaitingJobs;

use crate::link::LinkSettings;
use crate::link::acceptance::properties_max;
use crate::link::destinations::{FaultScope, NackingScopes, ProvenDestinations, Standstill};
use crate::link::lanes::{
    EndedFlight, Flight, FlightEnd, LaneKind, Lanes, channel_error_text, refuses_a_routing_key,
};
use crate::link::suspicion::Taking;
use crate::link::ticket::{Job, Parcel, Reply};
use crate::message::Message;
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::when_woken::when_woken;
use lapin::{Channel, Connection};
use payload_sizes::PayloadSizes;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};
use verdict::refused;

/// A connection is replaced after the broker has closed this many of its channels: lapin never
/// reuses their ids, and after 2,047 every further channel fails (ADR-0001).
const CLOSED_CHANNELS_MAX: usize = 400;

/// The most rounds in one turn. Then other tasks of the thread and changes of mode come first.
const ROUNDS_MAX: usize = 32;

/// The interval between looks for standstills. A lane can become free with time alone: see
/// `Lane::is_idle`.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The most jobs taken from the queue at once.
const RECEIVE_BATCH: usize = 128;

/// The bound on waiting for lapin after the socket is dead: it resolves everything within 3 to 100
/// ms (ADR-0001).
const WIND_UP_MAX: Duration = Duration::from_secs(1);

/// The state of the task. One publisher owns all publishing channels of one connection.
pub(crate) struct Publisher {
    metrics: Metrics,
    vitals: Arc<Vitals>,
    user: Arc<str>,
    jobs: mpsc::Receiver<Job>,
    /// Both are kept so that their allocations are reused.
    received: Vec<Job>,
    settled: Vec<EndedFlight>,
    waiting: WaitingJobs,
    lanes: Lanes,
    /// Destinations with a publish on a solo lane that the broker has not processed yet, and since
    /// when.
    probing: HashMap<FaultScope, Instant>,
    proven: ProvenDestinations,
    payload_sizes: PayloadSizes,
    standstill: Standstill,
    nacking: NackingScopes,
    silent_after: Duration,
    properties_max: usize,
    worn_out: bool,
    /// Whether the socket is dead: every publish without an answer is lost.
    winds_up: bool,
    /// Whether this turn has already let other ready requests go first.
    has_given_way: bool,
    /// How many jobs came together the last time.
    came_together: usize,
    next_look: Pin<Box<Sleep>>,
}

impl Publisher {
    /// A publisher on a fresh connection, with its shared channel already open and in confirm mode.
    pub(crate) fn new(
        connection: Arc<Connection>,
        shared: Channel,
        settings: &LinkSettings,
        user: Arc<str>,
        metrics: Metrics,
        vitals: Arc<Vitals>,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        let frame_max = connection.configuration().frame_max() as usize;
        let unwritten = Arc::clone(vitals.unwritten());
        Self {
            metrics,
            vitals,
            user,
            jobs,
            received: Vec::with_capacity(RECEIVE_BATCH),
            settled: Vec::new(),
            waiting: WaitingJobs::new(settings.max_in_flight),
            lanes: Lanes::new(connection, shared, settings, unwritten),
            probing: HashMap::new(),
            proven: ProvenDestinations::default(),
            payload_sizes: PayloadSizes::default(),
            standstill: Standstill::new(settings.broker.stall_timeout),
            nacking: NackingScopes::default(),
            silent_after: settings.broker.stall_timeout,
            properties_max: properties_max(frame_max),
            worn_out: false,
            winds_up: false,
            has_given_way: false,
            came_together: 0,
            next_look: Box::pin(tokio::time::sleep(LOOK_EVERY)),
        }
    }

    /// Publishes until the connection is lost or the mode says otherwise.
    pub(crate) async fn run(&mut self, mode: &mut watch::Receiver<PublisherMode>) -> PublisherEnd {
        let mut is_last_word = false;
        loop {
            let now = *mode.borrow_and_update();
            match now {
                PublisherMode::Stopped => return PublisherEnd::Stopped,
                PublisherMode::Paused(outcome) => self.waiting.give_back(outcome),
                PublisherMode::Finishing => self.jobs.close(),
                PublisherMode::Publishing => {}
            }
            tokio::select! {
                biased;
                changed = when_woken(mode.changed()), if !is_last_word => {
                    // The supervisor may be gone after it asked the publisher to finish, and only
                    // then.
                    is_last_word = changed.is_err();
                    if is_last_word && now != PublisherMode::Finishing {
                        return PublisherEnd::Stopped;
                    }
                }
                ended = poll_fn(|cx| self.poll_turn(cx, now)) => return ended,
            }
        }
    }

    /// The connection's socket is dead: answers every request in bounded time.
    pub(crate) async fn wind_up(&mut self) {
        self.winds_up = true;
        self.vitals.witness().leave();
        self.jobs.close();
        self.waiting.give_back(Outcome::LinkDown);
        let resolved = poll_fn(|cx| {
            self.poll_lanes(cx);
            if self.lanes.in_flight() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(WIND_UP_MAX, resolved).await.is_err() {
            tracing::warn!(in_flight = self.lanes.in_flight(), "publishes were abandoned unresolved");
        }
        for (flight, verdict) in self.lanes.abandon() {
            self.conclude(flight, verdict);
        }
        while let Ok(job) = self.jobs.try_recv() {
            job.give_back(Outcome::LinkDown);
        }
    }

    /// One turn of the task: does everything that can be done now, then waits.
    fn poll_turn(&mut self, cx: &mut Context<'_>, mode: PublisherMode) -> Poll<PublisherEnd> {
        // Jobs that come at the same time are handed over together, with one wake of lapin's thread
        // and one write.
        if self.has_company() && !std::mem::replace(&mut self.has_given_way, true) {
            return give_way(cx);
        }
        self.has_given_way = false;
        for _ in 0..ROUNDS_MAX {
            self.give_way_unless_trusted(mode);
            let received = self.receive(cx, mode);
            let opened = match self.lanes.poll_openings(cx) {
                Ok(opened) => opened,
                Err(error) => return Poll::Ready(PublisherEnd::ConnectionLost(error)),
            };
            let dispatched = !matches!(mode, PublisherMode::Paused(_)) && self.dispatch();
            let settled = self.poll_lanes(cx);
            if let Err(error) = self.replace_dead_lanes() {
                return Poll::Ready(PublisherEnd::ConnectionLost(error));
            }
            if self.lanes.are_worn_out(CLOSED_CHANNELS_MAX)
                && !self.worn_out
                && mode == PublisherMode::Publishing
            {
                self.worn_out = true;
                return Poll::Ready(PublisherEnd::WornOut);
            }
            if mode == PublisherMode::Finishing && self.jobs.is_empty() && self.waiting.is_empty() {
                // The connection takes nothing more, so nobody has to wait for its proof.
                self.vitals.witness().leave();
                if self.is_idle() {
                    return Poll::Ready(PublisherEnd::Finished);
                }
            }
            if !(received || opened || dispatched || settled) {
                return self.wait_for_news(cx, mode);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing can be done now. While verdicts are owed, looks for standstills at intervals.
    fn wait_for_news(&mut self, cx: &mut Context<'_>, mode: PublisherMode) -> Poll<PublisherEnd> {
        if !self.is_idle() && self.next_look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            self.next_look.as_mut().reset(now + LOOK_EVERY);
            if !matches!(mode, PublisherMode::Paused(_)) {
                self.look(now);
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether other jobs are likely to follow the waiting one at once. A single client with one
    /// request at a time must not pay for a look at the sockets.
    fn has_company(&self) -> bool {
        match self.jobs.len() {
            0 => false,
            1 => self.came_together > 1 || self.lanes.in_flight() > 0,
            _ => true,
        }
    }

    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.waiting.is_empty() && self.lanes.in_flight() == 0
    }

    fn receive(&mut self, cx: &mut Context<'_>, mode: PublisherMode) -> bool {
        let mut received = std::mem::take(&mut self.received);
        let any =
            matches!(self.jobs.poll_recv_many(cx, &mut received, RECEIVE_BATCH), Poll::Ready(n) if n > 0);
        if any {
            self.came_together = received.len();
        }
        for job in received.drain(..) {
            match mode {
                PublisherMode::Paused(outcome) => job.give_back(outcome),
                PublisherMode::Publishing | PublisherMode::Finishing if !self.takes() => job.give_way(),
                PublisherMode::Publishing | PublisherMode::Finishing | PublisherMode::Stopped => {
                    self.route(job)
                }
            }
        }
        self.received = received;
        self.waiting.sweep();
        any
    }

    /// Whether the connection takes one more message. Ordinarily it does, and that costs one load.
    fn takes(&self) -> bool {
        let witness = self.vitals.witness();
        witness.all_are_trusted() || witness.takes(self.in_hand()) == Taking::Yes
    }

    /// Messages that wait here go elsewhere while this connection has to prove itself.
    fn give_way_unless_trusted(&mut self, mode: PublisherMode) {
        let witness = self.vitals.witness();
        if witness.all_are_trusted() {
            return;
        }
        if !matches!(mode, PublisherMode::Paused(_)) && witness.takes(0) != Taking::Yes {
            self.waiting.give_way();
        }
        self.vitals.set_in_flight(self.in_hand());
    }

    /// Publishes that are with the broker or wait here.
    fn in_hand(&self) -> usize {
        self.lanes.in_flight() + self.waiting.len()
    }

    fn poll_lanes(&mut self, cx: &mut Context<'_>) -> bool {
        let mut settled = std::mem::take(&mut self.settled);
        self.lanes.poll_passes(cx, &mut settled);
        let mut any = !settled.is_empty();
        for (kind, flight, verdict) in settled.drain(..) {
            self.learn(kind, &flight, &verdict);
            self.conclude(flight, verdict);
        }
        self.settled = settled;
        for message in self.lanes.take_processed() {
            any = true;
            self.probing.remove(&FaultScope::of(&message));
            self.proven.insert(&message);
            self.payload_sizes.accepted(message.payload.len());
            self.vitals.word();
        }
        if any {
            self.waiting.release_held();
        }
        if !self.waiting.stuck.is_empty() && !self.standstill.any() {
            self.route_again();
        }
        // A message that waits for a channel to open counts as owed as well.
        self.vitals.set_owed(self.lanes.owed() + usize::from(!self.waiting.is_empty()));
        any
    }

    /// Tells the request the outcome of its publish.
    fn conclude(&mut self, flight: Flight, verdict: FlightEnd) {
        let Flight { reply: reply_to, ticket, permit, message, handed_over_at, .. } = flight;
        let reply = match verdict {
            FlightEnd::Verdict(verdict) => {
                self.metrics.confirm_received(handed_over_at.elapsed());
                self.vitals.answered(handed_over_at);
                self.payload_sizes.accepted(message.payload.len());
                of_broker(verdict, &message)
            }
            FlightEnd::Displaced => Reply::Displaced(Parcel { message, permit }),
            FlightEnd::NotPublished => Reply::NotHandedOver(Parcel { message, permit }, Outcome::LinkDown),
            FlightEnd::Refused(error) => {
                let (outcome, detail) = self.refused(&error, &message);
                self.share_refusal(outcome, detail.as_deref(), &message);
                Reply::Settled(outcome, detail)
            }
            FlightEnd::Lost => {
                if self.winds_up || !self.lanes.are_connected() {
                    self.vitals.witness().lost(permit);
                }
                Reply::Settled(Outcome::LinkLost, None)
            }
        };
        deliver(reply_to, reply, &ticket, &self.metrics);
    }

    /// The outcome of the publish that made the broker close its channel.
    fn refused(&mut self, error: &lapin::Error, message: &Message) -> (Outcome, Option<String>) {
        let size = message.payload.len();
        if channel_error_text(error).is_some_and(|text| self.payload_sizes.refused(text)) {
            return (Outcome::PayloadTooLarge, self.payload_sizes.problem(size));
        }
        refused(error, message)
    }

    /// Requests that already wait for the same destination get the same answer: the broker's word
    /// is newer than they are, and each further try would cost another channel.
    fn share_refusal(&mut self, outcome: Outcome, detail: Option<&str>, refused: &Message) {
        if outcome == Outcome::ExchangeNotFound {
            self.waiting.reject_solo(outcome, detail, |message| message.exchange == refused.exchange);
        } else if matches!(outcome, Outcome::AccessRefused | Outcome::DestinationUnavailable) {
            self.waiting.reject_solo(outcome, detail, |message| {
                message.exchange == refused.exchange && message.routing_key == refused.routing_key
            });
        } else if outcome == Outcome::PayloadTooLarge {
            // The limit is known now, and others may be above it as well.
            for job in std::mem::take(&mut self.waiting.solo) {
                self.route(job);
            }
        }
    }

    /// Replaces dead lanes, and forgets destinations that their end disproves.
    fn replace_dead_lanes(&mut self) -> Result<(), lapin::Error> {
        let dead = self.lanes.replace_dead()?;
        let any = !dead.is_empty();
        for (kind, error, exchanges) in dead {
            let text = channel_error_text(&error).unwrap_or_default();
            for exchange in &exchanges {
                if refuses_a_routing_key(text) {
                    self.proven.key_refused(exchange);
                } else {
                    self.proven.remove(exchange);
                }
            }
            let is_size = self.payload_sizes.refused(text);
            if kind == LaneKind::Shared && exchanges.is_empty() && !is_size {
                self.proven.clear();
            }
        }
        // Messages to destinations that are no longer proven may have to travel alone now.
        if any {
            self.route_again();
        }
        Ok(())
    }
}

/// Yields to every task that is ready now and to the sockets.
fn give_way(cx: &mut Context<'_>) -> Poll<PublisherEnd> {
    // Its first poll requests the wake.
    if pin!(tokio::task::yield_now()).poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}
