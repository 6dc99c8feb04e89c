//! One confirm-mode channel: polls its publishes and hands out verdicts only after a quiet pass.

use super::attribution::{Attribution, Verdict};
use super::closing::{Fate, Unresolved, channel_error_text, fates, names};
use super::publishing::{Processed, Publishing, Resolution, Resolved, Unwritten};
use super::quiet::QuietWaker;
use crate::admission::Permit;
use crate::hashing::Map;
use crate::link::destinations::{FaultScope, Owed};
use crate::link::ticket::{Parcel, Reply, Ticket};
use crate::locking::lock;
use crate::message::{Message, ShortText};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use lapin::options::BasicQosOptions;
use lapin::{Channel, Connection};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A healthy broker confirms sooner than this: 440 ms was the worst case seen on a slow disk
/// (ADR-0001).
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Which kind of channel a publish travelled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// Together with many others.
    Shared,
    /// Alone.
    Solo,
}

/// How one publish on a channel ended.
#[derive(Debug)]
pub(crate) enum FlightEnd {
    /// The broker's word.
    Verdict(Verdict),
    /// The connection died before the publish was written.
    NotPublished,
    /// The broker closed the channel because of another publish, before it processed this one.
    Displaced,
    /// The broker closed the channel because of this publish. Boxed, so that the error does not
    /// enlarge every value.
    Refused(Box<lapin::Error>),
    /// The channel or connection died before the broker's word.
    Lost,
}

/// A publish that is with the broker, and where its reply goes.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) reply: oneshot::Sender<Reply>,
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) permit: Permit,
    pub(crate) message: Arc<Message>,
    pub(crate) handed_over_at: Instant,
    weight: usize,
    processed: bool,
}

/// A publish that has ended, and the kind of lane that it was on.
pub(crate) type EndedFlight = (LaneKind, Flight, FlightEnd);

/// One channel with its publishes in flight. Polled by one task only: lapin takes the delivery tag
/// and the place in its frame queue under two locks, and two pollers would swap confirms
/// (ADR-0001).
pub(crate) struct Lane {
    kind: LaneKind,
    connection: Arc<Connection>,
    channel: Arc<Channel>,
    resolving: FuturesUnordered<Publishing>,
    flights: Map<usize, Flight>,
    next_slot: usize,
    /// Counts publishes in the order in which lapin takes them, which is their order on the wire.
    order: Arc<AtomicUsize>,
    attribution: Attribution,
    /// Kept so that its allocation is reused.
    verdicts: Vec<(usize, Verdict)>,
    quiet: Arc<QuietWaker>,
    quiet_waker: Waker,
    /// Bytes handed to lapin and not yet on the socket, shared by the lanes of a connection.
    unwritten: Arc<AtomicUsize>,
    died: Option<lapin::Error>,
    lost: Vec<Unresolved>,
    /// Exchanges that the broker's reason for closing the channel names.
    named: Vec<ShortText>,
    processed: Processed,
    owed: usize,
    /// Whether a publish was nacked here: a channel can keep nacking a queue as long as it lives
    /// (ADR-0004).
    nacked: bool,
    probe: Option<(Instant, BoxFuture<'static, bool>)>,
}

impl Lane {
    pub(crate) fn new(
        kind: LaneKind,
        connection: Arc<Connection>,
        channel: Channel,
        unwritten: Arc<AtomicUsize>,
    ) -> Self {
        let quiet = Arc::new(QuietWaker::default());
        Self {
            kind,
            connection,
            channel: Arc::new(channel),
            resolving: FuturesUnordered::new(),
            flights: Map::default(),
            next_slot: 0,
            order: Arc::new(AtomicUsize::new(0)),
            attribution: Attribution::default(),
            verdicts: Vec::new(),
            quiet_waker: Waker::from(Arc::clone(&quiet)),
            quiet,
            unwritten,
            died: None,
            lost: Vec::new(),
            named: Vec::new(),
            processed: Arc::new(Mutex::new(Vec::new())),
            owed: 0,
            nacked: false,
            probe: None,
        }
    }

    /// Publishes without a verdict.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Bytes of the publishes without a verdict.
    pub(crate) fn owed(&self) -> usize {
        self.owed
    }

    /// Whether a solo lane may take one more publish although it is not empty.
    ///
    /// Its publishes are processed, so the new one is the only one that can close the channel. That
    /// would cost the others their confirms. But a confirm that is this late may never come (a
    /// queue without its quorum, for example), and must not keep every other destination waiting.
    pub(crate) fn is_idle(&self) -> bool {
        !self.nacked && self.is_silent()
    }

    fn is_silent(&self) -> bool {
        let is_silent = |flight: &Flight| flight.processed && flight.handed_over_at.elapsed() > SILENT_AFTER;
        self.died.is_none() && self.flights.values().all(is_silent)
    }

    /// Whether it is empty and cannot be used any more although it is open.
    pub(crate) fn is_spent(&self) -> bool {
        self.died.is_none() && self.flights.is_empty() && self.nacked
    }

    /// Whether only a nack keeps it from taking one more publish, and it cannot be closed because
    /// it owes a verdict that may never come.
    pub(crate) fn is_blunt(&self) -> bool {
        self.nacked && !self.flights.is_empty() && self.is_silent()
    }

    /// Every publish without a verdict.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = Owed> {
        self.flights.iter().map(|(slot, flight)| Owed {
            scope: FaultScope::of(&flight.message),
            handed_over_at: flight.handed_over_at,
            behind: self.next_slot - slot,
        })
    }

    /// Probes the channel once its oldest publish has waited for a verdict for `patience`.
    pub(crate) fn probe(&mut self, now: Instant, patience: Duration) {
        let oldest = self.flights.values().map(|flight| flight.handed_over_at).min();
        let is_due = oldest.is_some_and(|oldest| now >= oldest + patience);
        if is_due && self.probe.is_none() && self.died.is_none() {
            let channel = Arc::clone(&self.channel);
            let asking = async move { channel.basic_qos(0, BasicQosOptions::default()).await.is_ok() };
            self.probe = Some((now, Box::pin(asking)));
        }
    }

    /// Since when the channel processes nothing, judged by an unprocessed publish or an unanswered
    /// probe.
    pub(crate) fn unmoved_since(&self) -> Option<Instant> {
        let unprocessed = |flight: &&Flight| self.kind == LaneKind::Solo && !flight.processed;
        let waiting = self.flights.values().filter(unprocessed).map(|flight| flight.handed_over_at);
        let probed = self.probe.as_ref().map(|(sent, _)| *sent);
        waiting.chain(probed).min().filter(|_| self.died.is_none())
    }

    /// Closes the channel. Ends at once if it is closed already; may never end.
    pub(crate) fn close(self) -> BoxFuture<'static, ()> {
        let channel = self.channel;
        Box::pin(async move { drop(channel.close(200, "of no more use".into()).await) })
    }

    /// Whether an unresolved publish has this message id. Another one with the same id must not
    /// join it on this channel.
    pub(crate) fn carries(&self, message_id: &ShortText) -> bool {
        self.attribution.carries(message_id)
    }

    /// Why the channel takes no more publishes, once it has died.
    pub(crate) fn died(&self) -> Option<&lapin::Error> {
        self.died.as_ref()
    }

    /// The exchanges that the broker's reason for closing the channel names. Complete once
    /// everything on it has ended.
    pub(crate) fn take_named(&mut self) -> Vec<ShortText> {
        std::mem::take(&mut self.named)
    }

    /// Starts one publish. Its first poll, in the next pass, puts its frames into lapin's queue.
    pub(crate) fn publish(&mut self, parcel: Parcel, ticket: Arc<Ticket>, reply: oneshot::Sender<Reply>) {
        let Parcel { message, permit } = parcel;
        let slot = self.next_slot;
        self.next_slot += 1;
        if let Some(id) = returnable_id(&message) {
            self.attribution.expect(id.clone(), slot);
        }
        let weight = message.weight();
        self.owed += weight;
        let unwritten = Unwritten::add(&self.unwritten, weight);
        let tell_processed = (self.kind == LaneKind::Solo).then(|| Arc::clone(&self.processed));
        let publishing =
            Publishing::new(&self.channel, &message, slot, &self.order, unwritten, tell_processed);
        let handed_over_at = Instant::now();
        let flight = Flight { reply, ticket, permit, message, handed_over_at, weight, processed: false };
        self.flights.insert(slot, flight);
        self.resolving.push(publishing);
    }

    /// The messages that the broker has processed since the last call, with or without a verdict:
    /// it will not close the channel because of them.
    pub(crate) fn take_processed(&mut self) -> Vec<Arc<Message>> {
        let slots = std::mem::take(&mut *lock(&self.processed));
        let mut messages = Vec::with_capacity(slots.len());
        for slot in slots {
            if let Some(flight) = self.flights.get_mut(&slot) {
                flight.processed = true;
                messages.push(Arc::clone(&flight.message));
            }
        }
        messages
    }

    /// One pass: polls until nothing is newly ready, then adds the verdicts that are certain.
    pub(crate) fn poll_pass(&mut self, cx: &mut Context<'_>, settled: &mut Vec<EndedFlight>) {
        self.quiet.listen(cx.waker());
        let quiet_waker = self.quiet_waker.clone();
        let mut cx = Context::from_waker(&quiet_waker);
        loop {
            match Pin::new(&mut self.resolving).poll_next(&mut cx) {
                Poll::Ready(Some(resolved)) => self.resolved(resolved),
                Poll::Ready(None) => break,
                // FuturesUnordered may stop early and wake itself. Only a poll without a wake is
                // quiet.
                Poll::Pending if self.quiet.woken() => {}
                Poll::Pending => break,
            }
        }
        if self.probe.as_mut().is_some_and(|(_, probe)| probe.as_mut().poll(&mut cx).is_ready()) {
            self.probe = None;
        }
        let mut verdicts = std::mem::take(&mut self.verdicts);
        self.attribution.end_of_pass(self.resolving.len(), &mut verdicts);
        for (slot, verdict) in verdicts.drain(..) {
            self.nacked |= verdict == Verdict::Nacked;
            self.settle(slot, FlightEnd::Verdict(verdict), settled);
        }
        self.verdicts = verdicts;
        if let Some(error) = self.died.clone()
            && self.resolving.is_empty()
        {
            self.take_processed();
            self.settle_the_lost(&error, settled);
        }
    }

    /// Gives up on every publish that lapin did not resolve in time.
    pub(crate) fn abandon(&mut self) -> Vec<(Flight, FlightEnd)> {
        self.owed = 0;
        self.flights.drain().map(|(_, flight)| (flight, FlightEnd::Lost)).collect()
    }

    fn resolved(&mut self, resolved: Resolved) {
        let Resolved { slot, order, resolution } = resolved;
        let Some(flight) = self.flights.get(&slot) else { return };
        let message = Arc::clone(&flight.message);
        let expected_id = returnable_id(&message);
        let (sent, error) = match resolution {
            Resolution::Confirmed { ack, returned } => {
                self.attribution.completed(slot, expected_id.cloned(), ack, returned.as_ref());
                return;
            }
            // A publish that was cut off in the middle of its frames may still be the cause: it is
            // judged with the others.
            Resolution::NotSent(error) => (false, error),
            Resolution::Lost(error) => (true, error),
        };
        self.attribution.withdraw(slot, expected_id);
        self.attribution.channel_died();
        // lapin's error about a closed channel may come before or after the broker's reason. The
        // broker's reason counts.
        if self.died.as_ref().is_none_or(|died| channel_error_text(died).is_none()) {
            self.died = Some(*error);
        }
        self.lost.push(Unresolved { slot, order, sent, processed: false, message });
    }

    /// Every publish of the dead channel has resolved: decides the fate of each by the channel's
    /// end.
    fn settle_the_lost(&mut self, error: &lapin::Error, settled: &mut Vec<EndedFlight>) {
        for slot in self.attribution.abandon() {
            self.settle(slot, FlightEnd::Lost, settled);
        }
        let mut lost = std::mem::take(&mut self.lost);
        for publish in &mut lost {
            publish.processed = self.flights.get(&publish.slot).is_some_and(|flight| flight.processed);
        }
        // A connection that dies takes its channels with it, whatever the error code.
        let text = channel_error_text(error).filter(|_| self.connection.status().connected());
        for publish in lost.iter().filter(|publish| text.is_some_and(|text| names(text, &publish.message))) {
            if !self.named.contains(&publish.message.exchange) {
                self.named.push(publish.message.exchange.clone());
            }
        }
        for (slot, fate) in fates(text, &lost) {
            let verdict = match fate {
                Fate::Cause => FlightEnd::Refused(Box::new(error.clone())),
                Fate::NotProcessed if text.is_some() => FlightEnd::Displaced,
                Fate::NotProcessed => FlightEnd::NotPublished,
                Fate::Unknown => FlightEnd::Lost,
            };
            self.settle(slot, verdict, settled);
        }
    }

    fn settle(&mut self, slot: usize, verdict: FlightEnd, settled: &mut Vec<EndedFlight>) {
        if let Some(flight) = self.flights.remove(&slot) {
            self.owed -= flight.weight;
            settled.push((self.kind, flight, verdict));
        }
    }
}

/// The id by which a return is recognised. Only mandatory messages are returned.
fn returnable_id(message: &Message) -> Option<&ShortText> {
    message.mandatory.then_some(&message.properties.message_id)
}
