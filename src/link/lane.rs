//! One confirm-mode channel: polls its publishes and hands out verdicts only after a quiet pass.

use super::attribution::{Attribution, BrokerVerdict};
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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What became of one publish on a channel.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The broker's word.
    Broker(BrokerVerdict),
    /// `basic_publish` failed: nothing of it was published, and its message is given back.
    NotSent(Box<Message>, lapin::Error),
    /// The channel or connection died before the broker's word.
    Lost(lapin::Error),
}

/// A publish that is with the broker, and who wants to know.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) reply: oneshot::Sender<Reply>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) permit: Permit,
    pub(super) exchange: ShortText,
    pub(super) routing_key: ShortText,
    pub(super) handed_over_at: Instant,
    /// The message id when the publish is mandatory: only those are returned.
    expected_id: Option<ShortText>,
}

enum Resolution {
    NotSent(Box<Message>, lapin::Error),
    /// An ack or a nack, and the id of the returned message that came with it, whosesoever it is.
    Confirmed {
        ack: bool,
        returned: Option<ShortText>,
    },
    Lost(lapin::Error),
}

type Resolving = Pin<Box<dyn Future<Output = (usize, Resolution)> + Send>>;

/// One channel with its publishes in flight. Polled by one task only: lapin takes the delivery tag and the
/// place in its frame queue under two locks, and two pollers would swap confirms (lapin.md, T2).
pub(super) struct Lane {
    channel: Channel,
    resolving: FuturesUnordered<Resolving>,
    flights: HashMap<usize, Flight>,
    next_slot: usize,
    attribution: Attribution,
    quiet: Arc<QuietWaker>,
    quiet_waker: Waker,
    /// Bytes handed to lapin and not yet on the socket, shared by the lanes of a connection.
    unwritten: Arc<AtomicUsize>,
    died: Option<lapin::Error>,
}

impl Lane {
    pub(super) fn new(channel: Channel, unwritten: Arc<AtomicUsize>) -> Self {
        let quiet = Arc::new(QuietWaker::default());
        Self {
            channel,
            resolving: FuturesUnordered::new(),
            flights: HashMap::new(),
            next_slot: 0,
            attribution: Attribution::default(),
            quiet_waker: Waker::from(Arc::clone(&quiet)),
            quiet,
            unwritten,
            died: None,
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

    /// Starts one publish. Its first poll, in the next pass, puts its frames into lapin's queue.
    pub(super) fn publish(&mut self, parcel: Parcel, ticket: Arc<Ticket>, reply: oneshot::Sender<Reply>) {
        let Parcel { message, permit } = parcel;
        let slot = self.next_slot;
        self.next_slot += 1;
        let expected_id = message.mandatory.then(|| message.properties.message_id.clone());
        if let Some(id) = &expected_id {
            self.attribution.expect(id.clone(), slot);
        }
        let flight = Flight {
            reply,
            ticket,
            permit,
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            handed_over_at: Instant::now(),
            expected_id,
        };
        self.flights.insert(slot, flight);
        self.resolving.push(Box::pin(publish(
            self.channel.clone(),
            slot,
            message,
            Arc::clone(&self.unwritten),
        )));
    }

    /// One pass: polls until nothing is newly ready, then returns the verdicts that are certain.
    pub(super) fn poll_pass(&mut self, cx: &mut Context<'_>) -> Vec<(Flight, Verdict)> {
        let mut settled = Vec::new();
        self.quiet.listen(cx.waker());
        let quiet_waker = self.quiet_waker.clone();
        let mut cx = Context::from_waker(&quiet_waker);
        loop {
            match Pin::new(&mut self.resolving).poll_next(&mut cx) {
                Poll::Ready(Some((slot, resolution))) => self.resolved(slot, resolution, &mut settled),
                Poll::Ready(None) => break,
                // FuturesUnordered may stop early and wake itself: only a poll without a wake is quiet.
                Poll::Pending if self.quiet.woken() => {}
                Poll::Pending => break,
            }
        }
        for (slot, verdict) in self.attribution.end_of_pass(self.resolving.len()) {
            self.settle(slot, Verdict::Broker(verdict), &mut settled);
        }
        if let Some(error) = self.died.clone() {
            for slot in self.attribution.abandon() {
                self.settle(slot, Verdict::Lost(error.clone()), &mut settled);
            }
        }
        settled
    }

    /// Gives up on everything unresolved, when lapin did not resolve it in time.
    pub(super) fn abandon(&mut self, error: &lapin::Error) -> Vec<(Flight, Verdict)> {
        self.flights.drain().map(|(_, flight)| (flight, Verdict::Lost(error.clone()))).collect()
    }

    fn resolved(&mut self, slot: usize, resolution: Resolution, settled: &mut Vec<(Flight, Verdict)>) {
        let expected_id = self.flights.get(&slot).and_then(|flight| flight.expected_id.clone());
        match resolution {
            Resolution::Confirmed { ack, returned } => {
                self.attribution.completed(slot, expected_id, ack, returned.as_ref());
            }
            Resolution::NotSent(message, error) => {
                self.attribution.withdraw(slot, expected_id.as_ref());
                self.attribution.channel_died();
                self.died = Some(error.clone());
                self.settle(slot, Verdict::NotSent(message, error), settled);
            }
            Resolution::Lost(error) => {
                self.attribution.withdraw(slot, expected_id.as_ref());
                self.attribution.channel_died();
                self.died = Some(error.clone());
                self.settle(slot, Verdict::Lost(error), settled);
            }
        }
    }

    fn settle(&mut self, slot: usize, verdict: Verdict, settled: &mut Vec<(Flight, Verdict)>) {
        if let Some(flight) = self.flights.remove(&slot) {
            settled.push((flight, verdict));
        }
    }
}

async fn publish(
    channel: Channel,
    slot: usize,
    message: Box<Message>,
    unwritten: Arc<AtomicUsize>,
) -> (usize, Resolution) {
    let weight = message.weight();
    unwritten.fetch_add(weight, Ordering::Relaxed);
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
    let confirm = match sent {
        Ok(confirm) => confirm,
        Err(error) => return (slot, Resolution::NotSent(message, error)),
    };
    drop(message);
    match confirm.await {
        Ok(Confirmation::Ack(returned)) => {
            (slot, Resolution::Confirmed { ack: true, returned: message_id_of(returned) })
        }
        Ok(Confirmation::Nack(returned)) => {
            (slot, Resolution::Confirmed { ack: false, returned: message_id_of(returned) })
        }
        Ok(Confirmation::NotRequested) => {
            unreachable!("confirm.select succeeded before the lane was made")
        }
        Err(error) => (slot, Resolution::Lost(error)),
    }
}

fn message_id_of(returned: Option<BasicReturnMessage>) -> Option<ShortText> {
    let id = returned?.delivery.properties.message_id().clone().map(String::from).unwrap_or_default();
    Some(ShortText::new(id).expect("lapin read it from a short string"))
}

/// Wakes the owner's task and remembers that it did, so that a pass can tell quiet from paused.
#[derive(Default)]
struct QuietWaker {
    woken: AtomicBool,
    owner: futures_util::task::AtomicWaker,
}

impl QuietWaker {
    fn listen(&self, owner: &Waker) {
        self.owner.register(owner);
    }

    fn woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for QuietWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.owner.wake();
    }
}
