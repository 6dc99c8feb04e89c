//! The owner task of one connection's channels: takes tickets, decides which channel each goes to, answers them.

use super::LinkSettings;
use super::closing::{channel_error_text, refuses_a_routing_key};
use super::exchanges::{ProvenDestinations, is_a_reply_address, may_close_its_channel};
use super::lane::{Flight, Lane, Verdict};
use super::lanes::{LaneKind, Lanes};
use super::mode::{Ended, Mode};
use super::ticket::{Job, Parcel, Reply};
use super::verdict::{deliver, of_broker, refused};
use super::vitals::Vitals;
use super::waiting::Waiting;
use crate::message::{Message, ShortText};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use lapin::{Channel, Connection};
use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};

/// A connection is replaced after so many channels closed by the broker: their ids stay unusable in lapin, and
/// with 2,047 of them every further channel fails (ADR-0001).
const CLOSED_CHANNELS_MAX: usize = 400;

/// Rounds in one turn, after which other tasks of the thread, and a change of mode, come first.
const ROUNDS_MAX: usize = 32;

/// A lane becomes free by the mere passing of time, too: see `Lane::is_idle`.
const LANE_CHECK: Duration = Duration::from_millis(100);

/// Jobs taken from the queue at once.
const RECEIVE_BATCH: usize = 128;

/// After the socket is dead lapin resolves everything within 3 to 100 ms (ADR-0001); this is the bound on it.
const WIND_UP_MAX: Duration = Duration::from_secs(1);

/// The state of the task. One publisher owns all publishing channels of one connection.
pub(super) struct Publisher {
    metrics: Metrics,
    vitals: Arc<Vitals>,
    user: Arc<str>,
    jobs: mpsc::Receiver<Job>,
    received: Vec<Job>,
    waiting: Waiting,
    lanes: Lanes,
    /// Exchanges with a publish in flight on a solo lane.
    probing: HashSet<ShortText>,
    proven: ProvenDestinations,
    properties_max: usize,
    worn_out: bool,
    lane_check: Pin<Box<Sleep>>,
}

impl Publisher {
    /// A publisher on a fresh connection, with its shared channel already open and in confirm mode.
    pub(super) fn new(
        connection: Arc<Connection>,
        shared: Channel,
        settings: &LinkSettings,
        user: Arc<str>,
        metrics: Metrics,
        vitals: Arc<Vitals>,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        const FRAME_ENVELOPE: usize = 8;
        let frame_max = connection.configuration().frame_max() as usize;
        Self {
            metrics,
            vitals,
            user,
            jobs,
            received: Vec::with_capacity(RECEIVE_BATCH),
            waiting: Waiting::new(settings.max_in_flight),
            lanes: Lanes::new(connection, shared, settings),
            probing: HashSet::new(),
            proven: ProvenDestinations::default(),
            properties_max: frame_max.saturating_sub(FRAME_ENVELOPE),
            worn_out: false,
            lane_check: Box::pin(tokio::time::sleep(LANE_CHECK)),
        }
    }

    /// Publishes until the connection is lost or the mode says otherwise.
    pub(super) async fn run(&mut self, mode: &mut watch::Receiver<Mode>) -> Ended {
        let mut is_last_word = false;
        loop {
            let now = *mode.borrow_and_update();
            match now {
                Mode::Stopped => return Ended::Stopped,
                Mode::Paused(outcome) => self.waiting.give_back(outcome),
                Mode::Finishing => self.jobs.close(),
                Mode::Publishing => {}
            }
            tokio::select! {
                biased;
                changed = mode.changed(), if !is_last_word => {
                    // Whoever asked to finish may be gone; nobody else leaves a publisher behind.
                    is_last_word = changed.is_err();
                    if is_last_word && now != Mode::Finishing {
                        return Ended::Stopped;
                    }
                }
                ended = poll_fn(|cx| self.poll_turn(cx, now)) => return ended,
            }
        }
    }

    /// The connection's socket is dead: answers everybody, in bounded time.
    pub(super) async fn wind_up(&mut self) {
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

    /// One turn of the task: everything that can be done now is done, then it waits.
    fn poll_turn(&mut self, cx: &mut Context<'_>, mode: Mode) -> Poll<Ended> {
        for _ in 0..ROUNDS_MAX {
            let received = self.receive(cx, mode);
            let opened = match self.lanes.poll_openings(cx) {
                Ok(opened) => opened,
                Err(error) => return Poll::Ready(Ended::ConnectionLost(error)),
            };
            let dispatched = !matches!(mode, Mode::Paused(_)) && self.dispatch();
            let settled = self.poll_lanes(cx);
            if let Err(error) = self.replace_dead_lanes() {
                return Poll::Ready(Ended::ConnectionLost(error));
            }
            if self.lanes.are_worn_out(CLOSED_CHANNELS_MAX) && !self.worn_out && mode == Mode::Publishing {
                self.worn_out = true;
                return Poll::Ready(Ended::WornOut);
            }
            if mode == Mode::Finishing && self.is_idle() {
                return Poll::Ready(Ended::Finished);
            }
            if !(received || opened || dispatched || settled) {
                return self.wait_for_a_lane(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing can be done now. While messages wait for a solo lane, time alone may free one.
    fn wait_for_a_lane(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if !self.waiting.solo.is_empty() && self.lane_check.as_mut().poll(cx).is_ready() {
            self.lane_check.as_mut().reset(Instant::now() + LANE_CHECK);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.waiting.is_empty() && self.lanes.in_flight() == 0
    }

    fn receive(&mut self, cx: &mut Context<'_>, mode: Mode) -> bool {
        let mut received = std::mem::take(&mut self.received);
        let any =
            matches!(self.jobs.poll_recv_many(cx, &mut received, RECEIVE_BATCH), Poll::Ready(n) if n > 0);
        for job in received.drain(..) {
            match mode {
                Mode::Paused(outcome) => job.give_back(outcome),
                Mode::Publishing | Mode::Finishing | Mode::Stopped => self.route(job),
            }
        }
        self.received = received;
        self.waiting.sweep();
        any
    }

    fn route(&mut self, job: Job) {
        enum Route {
            Shared,
            Solo,
            Rejected(String),
        }
        let route = job.ticket.peek(|message| {
            let properties = message.properties.encoded_len();
            if properties > self.properties_max {
                let max = self.properties_max;
                Route::Rejected(format!(
                    "properties and headers take {properties} bytes, the broker takes {max}"
                ))
            } else if let Some(problem) = is_a_reply_address(message) {
                Route::Rejected(problem.to_owned())
            } else if self.goes_alone(message) {
                Route::Solo
            } else {
                Route::Shared
            }
        });
        match route {
            Some(Route::Shared) => self.waiting.shared.push_back(job),
            Some(Route::Solo) => self.waiting.solo.push_back(job),
            Some(Route::Rejected(detail)) => job.reject(Outcome::InvalidRequest, Some(detail)),
            None => {}
        }
    }

    fn goes_alone(&self, message: &Message) -> bool {
        if self.lanes.has_no_solo() {
            return false;
        }
        !self.proven.contains(message) || may_close_its_channel(message, &self.user)
    }

    fn dispatch(&mut self) -> bool {
        let (solo, waits_for_the_window) = self.dispatch_solo();
        // A large message waits until lapin holds nothing. While others went first, that moment would never come.
        let shared = !waits_for_the_window && self.dispatch_shared();
        shared || solo
    }

    fn dispatch_shared(&mut self) -> bool {
        let mut any = false;
        while let Some(job) = self.waiting.shared.pop_front() {
            let room = |message: &Message| self.lanes.window_takes(message.weight());
            let Some((fits, id)) = job.ticket.peek(|message| {
                let id = message.mandatory.then(|| message.properties.message_id.clone());
                (room(message), id)
            }) else {
                continue;
            };
            let Some(lane) = self.lanes.shared().filter(|_| fits) else {
                self.waiting.shared.push_front(job);
                break;
            };
            if id.is_some_and(|id| lane.carries(&id)) {
                self.waiting.held.push_back(job);
            } else {
                any |= start(lane, job);
            }
        }
        any
    }

    /// Whether anything was done, and whether a message waits for the window alone.
    fn dispatch_solo(&mut self) -> (bool, bool) {
        let (mut any, mut waits) = (false, false);
        let mut later = VecDeque::new();
        while let Some(job) = self.waiting.solo.pop_front() {
            let known = job.ticket.peek(|message| {
                let fits = self.lanes.window_takes(message.weight());
                (message.exchange.clone(), self.goes_alone(message), fits)
            });
            let Some((exchange, alone, fits)) = known else { continue };
            if !alone {
                self.waiting.shared.push_back(job);
                any = true;
                continue;
            }
            let is_probed = self.probing.contains(&exchange);
            match self.lanes.idle_solo() {
                Some(lane) if fits && !is_probed => {
                    if start(lane, job) {
                        self.probing.insert(exchange);
                        any = true;
                    }
                }
                Some(_) => {
                    waits |= !is_probed;
                    later.push_back(job);
                }
                None => {
                    later.push_back(job);
                    later.append(&mut self.waiting.solo);
                }
            }
        }
        if !later.is_empty() && self.lanes.idle_solo().is_none() {
            any |= self.lanes.open_solo(later.len());
        }
        self.waiting.solo = later;
        (any, waits)
    }

    fn poll_lanes(&mut self, cx: &mut Context<'_>) -> bool {
        let settled = self.lanes.poll_passes(cx);
        let mut any = !settled.is_empty();
        for (kind, flight, verdict) in settled {
            if kind == LaneKind::Solo {
                self.probing.remove(&flight.message.exchange);
            }
            self.conclude(flight, verdict);
        }
        for message in self.lanes.take_processed() {
            any = true;
            self.probing.remove(&message.exchange);
            self.proven.insert(&message);
            self.vitals.word();
        }
        if any {
            self.waiting.release_held();
        }
        // A message that waits for a channel to open is owed an answer as well.
        self.vitals.set_owed(self.lanes.owed() + usize::from(!self.waiting.is_empty()));
        any
    }

    /// Tells the request what became of its publish, and learns from it about the destination.
    fn conclude(&mut self, flight: Flight, verdict: Verdict) {
        let Flight { reply: reply_to, ticket, permit, message, handed_over_at, .. } = flight;
        let reply = match verdict {
            Verdict::Broker(verdict) => {
                self.proven.insert(&message);
                self.metrics.confirm_received(handed_over_at.elapsed());
                self.vitals.word();
                of_broker(verdict, &message)
            }
            Verdict::NotPublished => Reply::NotHandedOver(Parcel { message, permit }, Outcome::LinkDown),
            Verdict::Refused(error) => {
                let (outcome, detail) = refused(&error, message.exchange.as_str());
                self.share_refusal(outcome, detail.as_deref(), &message);
                Reply::Settled(outcome, detail)
            }
            Verdict::Lost => Reply::Settled(Outcome::LinkLost, None),
        };
        deliver(reply_to, reply, &ticket, &self.metrics);
    }

    /// Requests that already wait for the same destination get the same word: it is newer than they are, and
    /// each one tried for itself would cost another channel.
    fn share_refusal(&mut self, outcome: Outcome, detail: Option<&str>, refused: &Message) {
        if outcome == Outcome::ExchangeNotFound {
            self.waiting.reject_solo(outcome, detail, |message| message.exchange == refused.exchange);
        } else if outcome == Outcome::AccessRefused {
            self.waiting.reject_solo(outcome, detail, |message| {
                message.exchange == refused.exchange && message.routing_key == refused.routing_key
            });
        }
    }

    /// Forgets what was proven where a channel's end says otherwise, and opens a shared lane where it is missing.
    fn replace_dead_lanes(&mut self) -> Result<(), lapin::Error> {
        for (kind, error, exchanges) in self.lanes.replace_dead()? {
            let text = channel_error_text(&error).unwrap_or_default();
            for exchange in &exchanges {
                if refuses_a_routing_key(text) {
                    self.proven.key_refused(exchange);
                } else {
                    self.proven.remove(exchange);
                }
            }
            if kind == LaneKind::Shared && exchanges.is_empty() {
                self.proven.clear();
            }
            // What was proven when it came may have to go alone now.
            for job in std::mem::take(&mut self.waiting.shared) {
                self.route(job);
            }
        }
        Ok(())
    }
}

fn start(lane: &mut Lane, job: Job) -> bool {
    let Some(parcel) = job.ticket.hand_over() else { return false };
    lane.publish(parcel, job.ticket, job.reply);
    true
}
