//! One confirm-mode channel: polls its publishes and hands out verdicts only after a quiet pass.

use super::attribution::{Attribution, BrokerVerdict};
use super::closing::{Fate, Unresolved, channel_error_text, fates, names};
use super::quiet::QuietWaker;
use super::ticket::{Parcel, Reply, Ticket};
use super::wire::{basic_properties, short_string};
use crate::admission::Permit;
use crate::message::{Message, ShortText};
use futures_util::stream::{FuturesUnordered, Stream};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What became of one publish on a channel.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The broker's word.
    Broker(BrokerVerdict),
    /// It did not reach a queue and is not at fault: it may be published elsewhere.
    NotPublished,
    /// The broker closed the channel because of this publish.
    Refused(lapin::Error),
    /// The channel or connection died before the broker's word.
    Lost,
}

/// A publish that is with the broker, and who wants to know.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) reply: oneshot::Sender<Reply>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) permit: Permit,
    pub(super) message: Arc<Message>,
    pub(super) handed_over_at: Instant,
}

enum Resolution {
    /// `basic_publish` failed: nothing of it was published (lapin.md).
    NotSent(lapin::Error),
    /// An ack or a nack, and the id of the returned message that came with it, whosesoever it is.
    Confirmed {
        ack: bool,
        returned: Option<ShortText>,
    },
    Lost(lapin::Error),
}

/// A publish with the place in the channel's order at which lapin took it.
struct Resolved {
    slot: usize,
    order: usize,
    resolution: Resolution,
}

type Resolving = Pin<Box<dyn Future<Output = Resolved> + Send>>;

/// One channel with its publishes in flight. Polled by one task only: lapin takes the delivery tag and the
/// place in its frame queue under two locks, and two pollers would swap confirms (lapin.md, T2).
pub(super) struct Lane {
    channel: Channel,
    resolving: FuturesUnordered<Resolving>,
    flights: HashMap<usize, Flight>,
    next_slot: usize,
    /// Counts publishes in the order in which lapin takes them, which is their order on the wire.
    order: Arc<AtomicUsize>,
    attribution: Attribution,
    quiet: Arc<QuietWaker>,
    quiet_waker: Waker,
    /// Bytes handed to lapin and not yet on the socket, shared by the lanes of a connection.
    unwritten: Arc<AtomicUsize>,
    died: Option<lapin::Error>,
    lost: Vec<Unresolved>,
    /// Exchanges that the reason of its end names.
    named: Vec<ShortText>,
}

impl Lane {
    pub(super) fn new(channel: Channel, unwritten: Arc<AtomicUsize>) -> Self {
        let quiet = Arc::new(QuietWaker::default());
        Self {
            channel,
            resolving: FuturesUnordered::new(),
            flights: HashMap::new(),
            next_slot: 0,
            order: Arc::new(AtomicUsize::new(0)),
            attribution: Attribution::default(),
            quiet_waker: Waker::from(Arc::clone(&quiet)),
            quiet,
            unwritten,
            died: None,
            lost: Vec::new(),
            named: Vec::new(),
        }
    }

    /// Publishes without a verdict.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether an unresolved publish has this message id, so that another must not join it on this channel.
    pub(super) fn carries(&self, message_id: &ShortText) -> bool {
        self.attribution.carries(message_id)
    }

    /// Why the channel takes no more publishes, once it has died.
    pub(super) fn died(&self) -> Option<&lapin::Error> {
        self.died.as_ref()
    }

    /// The exchanges that the reason of its end names, once everything on it is settled.
    pub(super) fn take_named(&mut self) -> Vec<ShortText> {
        std::mem::take(&mut self.named)
    }

    /// Starts one publish. Its first poll, in the next pass, puts its frames into lapin's queue.
    pub(super) fn publish(&mut self, parcel: Parcel, ticket: Arc<Ticket>, reply: oneshot::Sender<Reply>) {
        let Parcel { message, permit } = parcel;
        let slot = self.next_slot;
        self.next_slot += 1;
        if let Some(id) = returnable_id(&message) {
            self.attribution.expect(id.clone(), slot);
        }
        let publishing = publish(
            self.channel.clone(),
            Arc::clone(&message),
            slot,
            Arc::clone(&self.order),
            Arc::clone(&self.unwritten),
        );
        let flight = Flight { reply, ticket, permit, message, handed_over_at: Instant::now() };
        self.flights.insert(slot, flight);
        self.resolving.push(Box::pin(publishing));
    }

    /// One pass: polls until nothing is newly ready, then returns the verdicts that are certain.
    pub(super) fn poll_pass(&mut self, cx: &mut Context<'_>) -> Vec<(Flight, Verdict)> {
        let mut settled = Vec::new();
        self.quiet.listen(cx.waker());
        let quiet_waker = self.quiet_waker.clone();
        let mut cx = Context::from_waker(&quiet_waker);
        loop {
            match Pin::new(&mut self.resolving).poll_next(&mut cx) {
                Poll::Ready(Some(resolved)) => self.resolved(resolved),
                Poll::Ready(None) => break,
                // FuturesUnordered may stop early and wake itself: only a poll without a wake is quiet.
                Poll::Pending if self.quiet.woken() => {}
                Poll::Pending => break,
            }
        }
        for (slot, verdict) in self.attribution.end_of_pass(self.resolving.len()) {
            self.settle(slot, Verdict::Broker(verdict), &mut settled);
        }
        if let Some(error) = self.died.clone()
            && self.resolving.is_empty()
        {
            self.settle_the_lost(&error, &mut settled);
        }
        settled
    }

    /// Gives up on everything unresolved, when lapin did not resolve it in time.
    pub(super) fn abandon(&mut self) -> Vec<(Flight, Verdict)> {
        self.flights.drain().map(|(_, flight)| (flight, Verdict::Lost)).collect()
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
            // A publish cut off in the middle of its own frames may still be the cause: it is judged with the rest.
            Resolution::NotSent(error) => (false, error),
            Resolution::Lost(error) => (true, error),
        };
        self.attribution.withdraw(slot, expected_id);
        self.attribution.channel_died();
        self.died.get_or_insert(error);
        self.lost.push(Unresolved { slot, order, sent, message });
    }

    /// Every publish of the dead channel is known now: what its end says of each of them.
    fn settle_the_lost(&mut self, error: &lapin::Error, settled: &mut Vec<(Flight, Verdict)>) {
        for slot in self.attribution.abandon() {
            self.settle(slot, Verdict::Lost, settled);
        }
        let lost = std::mem::take(&mut self.lost);
        let text = channel_error_text(error).unwrap_or_default();
        for publish in lost.iter().filter(|publish| names(text, &publish.message)) {
            if !self.named.contains(&publish.message.exchange) {
                self.named.push(publish.message.exchange.clone());
            }
        }
        for (slot, fate) in fates(error, lost) {
            let verdict = match fate {
                Fate::Cause => Verdict::Refused(error.clone()),
                Fate::NotProcessed => Verdict::NotPublished,
                Fate::Unknown => Verdict::Lost,
            };
            self.settle(slot, verdict, settled);
        }
    }

    fn settle(&mut self, slot: usize, verdict: Verdict, settled: &mut Vec<(Flight, Verdict)>) {
        if let Some(flight) = self.flights.remove(&slot) {
            settled.push((flight, verdict));
        }
    }
}

/// The id by which a return is recognised; only mandatory messages are returned.
fn returnable_id(message: &Message) -> Option<&ShortText> {
    message.mandatory.then_some(&message.properties.message_id)
}

async fn publish(
    channel: Channel,
    message: Arc<Message>,
    slot: usize,
    order: Arc<AtomicUsize>,
    unwritten: Arc<AtomicUsize>,
) -> Resolved {
    let weight = message.weight();
    unwritten.fetch_add(weight, Ordering::Relaxed);
    // Nothing is awaited between this line and lapin taking the frames, so the order is that of the wire.
    let order = order.fetch_add(1, Ordering::Relaxed);
    let sent = channel
        .basic_publish(
            short_string(message.exchange.clone()),
            short_string(message.routing_key.clone()),
            BasicPublishOptions { mandatory: message.mandatory, immediate: false },
            &message.payload,
            basic_properties(message.properties.clone()),
        )
        .await;
    unwritten.fetch_sub(weight, Ordering::Relaxed);
    let resolution = match sent {
        Err(error) => Resolution::NotSent(error),
        Ok(confirm) => match confirm.await {
            Ok(Confirmation::Ack(returned)) => {
                Resolution::Confirmed { ack: true, returned: message_id_of(returned) }
            }
            Ok(Confirmation::Nack(returned)) => {
                Resolution::Confirmed { ack: false, returned: message_id_of(returned) }
            }
            Ok(Confirmation::NotRequested) => {
                unreachable!("confirm.select succeeded before the lane was made")
            }
            Err(error) => Resolution::Lost(error),
        },
    };
    Resolved { slot, order, resolution }
}

fn message_id_of(returned: Option<BasicReturnMessage>) -> Option<ShortText> {
    let id = returned?.delivery.properties.message_id().clone().map(String::from).unwrap_or_default();
    Some(ShortText::new(id).expect("lapin read it from a short string"))
}
