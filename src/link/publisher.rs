//! The owner task of one connection's channels: takes tickets, decides which channel each goes to, answers them.

use super::exchanges::{ProvenExchanges, may_close_its_channel};
use super::lane::{Flight, Lane, Verdict};
use super::ticket::{Job, Parcel, Reply};
use super::verdict::{lost_alone, of_broker};
use super::{LinkSettings, verdict};
use crate::message::{Message, ShortText};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use futures_util::stream::{FuturesUnordered, Stream};
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Channels that carry one publish at a time, per connection. lapin's cost per frame grows with the number of
/// channels and stays low up to 16 (lapin.md).
const SOLO_LANES_MAX: usize = 4;

/// Exchanges kept as proven: at most twice this.
const PROVEN_GENERATION: usize = 2048;

/// A connection is replaced after so many channels closed by the broker: their ids stay unusable in lapin, and
/// with 2,047 of them every further channel fails (lapin.md, T5).
const CLOSED_CHANNELS_MAX: usize = 400;

/// Jobs taken from the queue at once.
const RECEIVE_BATCH: usize = 128;

/// After the socket is dead lapin resolves everything within 3 to 100 ms (lapin.md); this is the bound on it.
const WIND_UP_MAX: Duration = Duration::from_secs(1);

/// What the supervisor wants of the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Publish.
    Publishing,
    /// The broker is blocked: hand nothing over.
    Blocked,
    /// Finish what is here, take nothing new, then end.
    Finishing,
    /// End now.
    Stopped,
}

/// Why the publisher ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The connection is lost, or useless.
    Lost(lapin::Error),
    /// So many channels were closed that the connection is to be replaced.
    WornOut,
    /// Asked to finish, and finished.
    Finished,
    /// Asked to stop.
    Stopped,
}

#[derive(Clone, Copy)]
enum LaneKind {
    Shared,
    Solo,
}

type Opening = Pin<Box<dyn Future<Output = (LaneKind, Result<Channel, lapin::Error>)> + Send>>;

/// The state of the task. One publisher owns all publishing channels of one connection.
pub(super) struct Publisher {
    connection: Arc<Connection>,
    settings: Arc<LinkSettings>,
    metrics: Metrics,
    user: Arc<str>,
    jobs: mpsc::Receiver<Job>,
    received: Vec<Job>,
    /// For the shared lane.
    waiting: VecDeque<Job>,
    /// For a solo lane.
    waiting_solo: VecDeque<Job>,
    /// A publish with the same message id is in flight on the shared lane.
    held: VecDeque<Job>,
    shared: Option<Lane>,
    solo: Vec<Lane>,
    opening: FuturesUnordered<Opening>,
    opening_solo: usize,
    probing: HashSet<ShortText>,
    proven: ProvenExchanges,
    unwritten: Arc<AtomicUsize>,
    properties_max: usize,
    closed_channels: usize,
}

impl Publisher {
    /// A publisher on a fresh connection, with its shared channel already open and in confirm mode.
    pub(super) fn new(
        connection: Arc<Connection>,
        shared: Channel,
        settings: Arc<LinkSettings>,
        user: Arc<str>,
        metrics: Metrics,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        const FRAME_ENVELOPE: usize = 8;
        let unwritten = Arc::new(AtomicUsize::new(0));
        let properties_max = (connection.configuration().frame_max() as usize).saturating_sub(FRAME_ENVELOPE);
        Self {
            connection,
            metrics,
            user,
            jobs,
            received: Vec::with_capacity(RECEIVE_BATCH),
            waiting: VecDeque::new(),
            waiting_solo: VecDeque::new(),
            held: VecDeque::new(),
            shared: Some(Lane::new(shared, Arc::clone(&unwritten))),
            solo: Vec::new(),
            opening: FuturesUnordered::new(),
            opening_solo: 0,
            probing: HashSet::new(),
            proven: ProvenExchanges::new(PROVEN_GENERATION),
            unwritten,
            properties_max,
            closed_channels: 0,
            settings,
        }
    }

    /// Publishes until the connection is lost or the mode says otherwise.
    pub(super) async fn run(&mut self, mode: &mut watch::Receiver<Mode>) -> Ended {
        loop {
            let now = *mode.borrow_and_update();
            match now {
                Mode::Stopped => return Ended::Stopped,
                Mode::Blocked => self.give_everything_back(Outcome::BrokerBlocked),
                Mode::Finishing => self.jobs.close(),
                Mode::Publishing => {}
            }
            tokio::select! {
                biased;
                changed = mode.changed() => if changed.is_err() { return Ended::Stopped },
                ended = poll_fn(|cx| self.poll_turn(cx, now)) => return ended,
            }
        }
    }

    /// The connection's socket is dead: answers everybody, in bounded time.
    pub(super) async fn wind_up(&mut self, error: &lapin::Error) {
        self.jobs.close();
        self.give_everything_back(Outcome::LinkDown);
        let resolved = poll_fn(|cx| {
            self.poll_lanes(cx);
            if self.in_flight() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(WIND_UP_MAX, resolved).await.is_err() {
            tracing::warn!(in_flight = self.in_flight(), "publishes were abandoned unresolved");
        }
        let mut lanes: Vec<_> = self.shared.take().into_iter().chain(self.solo.drain(..)).collect();
        for (flight, verdict) in lanes.iter_mut().flat_map(|lane| lane.abandon(error)) {
            self.conclude(flight, verdict, LaneKind::Shared);
        }
        while let Ok(job) = self.jobs.try_recv() {
            job.give_back(Outcome::LinkDown);
        }
    }

    /// Publishes that are with the broker.
    fn in_flight(&self) -> usize {
        self.lanes().map(Lane::in_flight).sum()
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.shared.iter().chain(&self.solo)
    }

    /// One turn of the task: everything that can be done now is done, then it waits.
    fn poll_turn(&mut self, cx: &mut Context<'_>, mode: Mode) -> Poll<Ended> {
        loop {
            let received = self.receive(cx, mode);
            let opened = match self.poll_openings(cx) {
                Ok(opened) => opened,
                Err(error) => return Poll::Ready(Ended::Lost(error)),
            };
            let dispatched = mode != Mode::Blocked && self.dispatch();
            let settled = self.poll_lanes(cx);
            if let Err(error) = self.replace_dead_lanes() {
                return Poll::Ready(Ended::Lost(error));
            }
            if self.closed_channels >= CLOSED_CHANNELS_MAX && mode == Mode::Publishing {
                return Poll::Ready(Ended::WornOut);
            }
            if mode == Mode::Finishing && self.is_idle() {
                return Poll::Ready(Ended::Finished);
            }
            if !(received || opened || dispatched || settled) {
                return Poll::Pending;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.jobs.is_empty()
            && self.waiting.is_empty()
            && self.waiting_solo.is_empty()
            && self.held.is_empty()
            && self.in_flight() == 0
    }

    fn receive(&mut self, cx: &mut Context<'_>, mode: Mode) -> bool {
        let mut received = std::mem::take(&mut self.received);
        let any =
            matches!(self.jobs.poll_recv_many(cx, &mut received, RECEIVE_BATCH), Poll::Ready(n) if n > 0);
        for job in received.drain(..) {
            if mode == Mode::Blocked { job.give_back(Outcome::BrokerBlocked) } else { self.route(job) }
        }
        self.received = received;
        self.forget_withdrawn();
        any
    }

    /// Withdrawn tickets are skipped when their turn comes; while no turn comes they must not pile up.
    fn forget_withdrawn(&mut self) {
        for queue in [&mut self.waiting, &mut self.waiting_solo, &mut self.held] {
            if queue.len() > 2 * self.settings.max_in_flight {
                queue.retain(|job| job.ticket.peek(|_| ()).is_some());
            }
        }
    }

    fn route(&mut self, job: Job) {
        enum Route {
            Shared,
            Solo,
            TooLarge(usize),
        }
        let route = job.ticket.peek(|message| {
            let properties = message.properties.encoded_len();
            if properties > self.properties_max {
                Route::TooLarge(properties)
            } else if self.goes_alone(message) {
                Route::Solo
            } else {
                Route::Shared
            }
        });
        match route {
            Some(Route::Shared) => self.waiting.push_back(job),
            Some(Route::Solo) => self.waiting_solo.push_back(job),
            Some(Route::TooLarge(bytes)) => {
                let max = self.properties_max;
                let detail = format!("properties and headers take {bytes} bytes, the broker takes {max}");
                job.reject(Outcome::InvalidRequest, Some(detail));
            }
            None => {}
        }
    }

    fn goes_alone(&self, message: &Message) -> bool {
        !self.proven.contains(&message.exchange) || may_close_its_channel(message, &self.user)
    }

    fn dispatch(&mut self) -> bool {
        let shared = self.dispatch_shared();
        let solo = self.dispatch_solo();
        shared || solo
    }

    /// Whether lapin may be given `weight` more bytes. One message larger than the window goes alone.
    fn window_takes(&self, weight: usize) -> bool {
        let unwritten = self.unwritten.load(Ordering::Relaxed);
        unwritten == 0 || unwritten + weight <= self.settings.write_window
    }

    fn dispatch_shared(&mut self) -> bool {
        let mut any = false;
        while let Some(job) = self.waiting.pop_front() {
            let Some(lane) = self.shared.as_ref().filter(|lane| lane.died().is_none()) else {
                self.waiting.push_front(job);
                return any;
            };
            let known = job.ticket.peek(|message| {
                let twin = message.mandatory && lane.carries(&message.properties.message_id);
                (twin, self.window_takes(message.weight()))
            });
            match known {
                None => {}
                Some((true, _)) => self.held.push_back(job),
                Some((false, false)) => {
                    self.waiting.push_front(job);
                    return any;
                }
                Some((false, true)) => {
                    if let Some(lane) = self.shared.as_mut() {
                        any |= start(lane, job);
                    }
                }
            }
        }
        any
    }

    fn dispatch_solo(&mut self) -> bool {
        let mut any = false;
        let mut later = VecDeque::new();
        while let Some(job) = self.waiting_solo.pop_front() {
            let known = job.ticket.peek(|message| {
                (message.exchange.clone(), self.goes_alone(message), self.window_takes(message.weight()))
            });
            let Some((exchange, alone, fits)) = known else { continue };
            if !alone {
                self.waiting.push_back(job);
                any = true;
                continue;
            }
            let idle = self.solo.iter().position(|lane| lane.in_flight() == 0 && lane.died().is_none());
            match idle {
                Some(lane) if fits && !self.probing.contains(&exchange) => {
                    if start(&mut self.solo[lane], job) {
                        self.probing.insert(exchange);
                        any = true;
                    }
                }
                Some(_) => later.push_back(job),
                None => {
                    later.push_back(job);
                    if self.solo.len() + self.opening_solo < SOLO_LANES_MAX {
                        self.open(LaneKind::Solo);
                        any = true;
                    }
                    later.append(&mut self.waiting_solo);
                }
            }
        }
        self.waiting_solo = later;
        any
    }

    fn poll_lanes(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        let settled = self.shared.as_mut().map(|lane| lane.poll_pass(cx)).unwrap_or_default();
        any |= !settled.is_empty();
        for (flight, verdict) in settled {
            self.conclude(flight, verdict, LaneKind::Shared);
        }
        for lane in 0..self.solo.len() {
            let settled = self.solo[lane].poll_pass(cx);
            any |= !settled.is_empty();
            for (flight, verdict) in settled {
                self.conclude(flight, verdict, LaneKind::Solo);
            }
        }
        if any {
            while let Some(job) = self.held.pop_back() {
                self.waiting.push_front(job);
            }
        }
        any
    }

    /// Tells the request what became of its publish, and learns from it about the exchange.
    fn conclude(&mut self, flight: Flight, verdict: Verdict, kind: LaneKind) {
        self.probing.remove(&flight.exchange);
        let reply = match verdict {
            Verdict::Broker(verdict) => {
                self.proven.insert(flight.exchange.clone());
                self.metrics.confirm_received(flight.handed_over_at.elapsed());
                of_broker(verdict)
            }
            Verdict::NotSent(message, error) => {
                let (outcome, detail) = self.alone(kind, &error, &flight);
                if outcome == Outcome::LinkLost {
                    let parcel = Parcel { message, permit: flight.permit };
                    Reply::NotHandedOver(parcel, Outcome::LinkDown)
                } else {
                    Reply::Settled(outcome, detail)
                }
            }
            Verdict::Lost(error) => {
                let (outcome, detail) = self.alone(kind, &error, &flight);
                Reply::Settled(outcome, detail)
            }
        };
        verdict::deliver(flight.reply, reply, &flight.ticket, &self.metrics);
    }

    /// What the end of its channel says of a publish: on a shared channel nothing, alone on one the reason.
    fn alone(&mut self, kind: LaneKind, error: &lapin::Error, flight: &Flight) -> (Outcome, Option<String>) {
        match kind {
            LaneKind::Shared => (Outcome::LinkLost, None),
            LaneKind::Solo => {
                let (outcome, detail) = lost_alone(error, flight.exchange.as_str());
                self.share_refusal(outcome, detail.as_deref(), flight);
                (outcome, detail)
            }
        }
    }

    /// Requests that already wait for the same exchange get the same word: it is newer than they are, and
    /// each one tried for itself would cost another channel.
    fn share_refusal(&mut self, outcome: Outcome, detail: Option<&str>, flight: &Flight) {
        let by_key = outcome == Outcome::AccessRefused;
        if !by_key && outcome != Outcome::ExchangeNotFound {
            return;
        }
        self.proven.remove(&flight.exchange);
        let waiting = std::mem::take(&mut self.waiting_solo);
        for job in waiting {
            let same = job.ticket.peek(|message| {
                message.exchange == flight.exchange && (!by_key || message.routing_key == flight.routing_key)
            });
            match same {
                Some(true) => job.reject(outcome, detail.map(str::to_owned)),
                Some(false) => self.waiting_solo.push_back(job),
                None => {}
            }
        }
    }

    fn replace_dead_lanes(&mut self) -> Result<(), lapin::Error> {
        let died = self.lanes().find_map(|lane| lane.died().cloned());
        if let Some(error) = died
            && !self.connection.status().connected()
        {
            return Err(error);
        }
        if self.shared.as_ref().is_some_and(|lane| lane.died().is_some() && lane.in_flight() == 0) {
            self.shared = None;
            self.closed_channels += 1;
            // Which exchange broke the shared channel is not certain: all of them prove themselves again.
            self.proven.clear();
            for job in std::mem::take(&mut self.waiting) {
                self.route(job);
            }
            self.open(LaneKind::Shared);
        }
        let before = self.solo.len();
        self.solo.retain(|lane| lane.died().is_none() || lane.in_flight() > 0);
        self.closed_channels += before - self.solo.len();
        Ok(())
    }

    fn open(&mut self, kind: LaneKind) {
        if matches!(kind, LaneKind::Solo) {
            self.opening_solo += 1;
        }
        let connection = Arc::clone(&self.connection);
        let bound = self.settings.connect_timeout;
        self.opening.push(Box::pin(async move { (kind, open_channel(&connection, bound).await) }));
    }

    fn poll_openings(&mut self, cx: &mut Context<'_>) -> Result<bool, lapin::Error> {
        let mut any = false;
        while let Poll::Ready(Some((kind, channel))) = Pin::new(&mut self.opening).poll_next(cx) {
            any = true;
            let lane = Lane::new(channel?, Arc::clone(&self.unwritten));
            match kind {
                LaneKind::Shared => self.shared = Some(lane),
                LaneKind::Solo => {
                    self.opening_solo -= 1;
                    self.solo.push(lane);
                }
            }
        }
        Ok(any)
    }

    fn give_everything_back(&mut self, outcome: Outcome) {
        let queues = [&mut self.waiting, &mut self.waiting_solo, &mut self.held];
        for job in queues.into_iter().flat_map(std::mem::take) {
            job.give_back(outcome);
        }
    }
}

/// Opens a channel in confirm mode within `bound`.
pub(super) async fn open_channel(connection: &Connection, bound: Duration) -> Result<Channel, lapin::Error> {
    let opening = async {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    };
    match tokio::time::timeout(bound, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

fn start(lane: &mut Lane, job: Job) -> bool {
    let Some(parcel) = job.ticket.hand_over() else { return false };
    lane.publish(parcel, job.ticket, job.reply);
    true
}
