//! One publish on its way through lapin: from its frames to its confirm.

use super::wire::{basic_properties, short_string};
use crate::locking::lock;
use crate::message::{Message, ShortText};
use futures_util::future::{BoxFuture, FutureExt};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, BasicQosOptions};
use lapin::{Channel, Confirmation, PublisherConfirm};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

/// Bytes handed to lapin that are not on the socket yet. Dropping subtracts them, when the frames
/// are written or never will be.
pub(crate) struct Unwritten {
    counter: Arc<AtomicUsize>,
    bytes: usize,
}

impl Unwritten {
    pub(crate) fn add(counter: &Arc<AtomicUsize>, bytes: usize) -> Self {
        counter.fetch_add(bytes, Ordering::Relaxed);
        Self { counter: Arc::clone(counter), bytes }
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How lapin resolved a publish. Errors are boxed, so that they do not enlarge every publish.
pub(crate) enum Resolution {
    /// `basic_publish` failed: nothing of it was published (ADR-0001).
    NotSent(Box<lapin::Error>),
    /// An ack or a nack, and the id of the returned message that came with it, which may be another
    /// publish's.
    Confirmed {
        ack: bool,
        returned: Option<ShortText>,
    },
    Lost(Box<lapin::Error>),
}

/// A resolved publish with its place in the order in which lapin took them.
pub(crate) struct Resolved {
    pub(crate) slot: usize,
    pub(crate) order: usize,
    pub(crate) resolution: Resolution,
}

/// Slots that the broker is known to have processed, added as their publishes learn it.
pub(crate) type Processed = Arc<Mutex<Vec<usize>>>;

/// The place in the channel's order, and the result of `basic_publish`.
type Sent = (usize, Result<PublisherConfirm, lapin::Error>);

/// One publish on its way through lapin: sent, processed (where that is asked for), confirmed.
///
/// Each step's future is dropped when it ends: that of `basic_publish` takes a KiB, and hundreds of
/// publishes may wait for their confirm.
pub(crate) struct Publishing {
    slot: usize,
    order: usize,
    sending: Option<BoxFuture<'static, Sent>>,
    passing: Option<BoxFuture<'static, ()>>,
    confirm: Option<PublisherConfirm>,
}

impl Publishing {
    /// Nothing happens before the first poll, which puts the frames into lapin's queue and
    /// increments `order`. `tell_processed` receives the slot when the broker has processed the
    /// publish, whether or not it confirms.
    pub(crate) fn new(
        channel: &Arc<Channel>,
        message: &Arc<Message>,
        slot: usize,
        order: &Arc<AtomicUsize>,
        unwritten: Unwritten,
        tell_processed: Option<Processed>,
    ) -> Self {
        let passing = tell_processed.map(|processed| pass(Arc::clone(channel), processed, slot).boxed());
        let sending = send(Arc::clone(channel), Arc::clone(message), Arc::clone(order), unwritten);
        Self { slot, order: 0, sending: Some(sending.boxed()), passing, confirm: None }
    }

    fn resolved(&self, resolution: Resolution) -> Poll<Resolved> {
        Poll::Ready(Resolved { slot: self.slot, order: self.order, resolution })
    }
}

impl Future for Publishing {
    type Output = Resolved;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Resolved> {
        if let Some(sending) = &mut self.sending {
            let (order, sent) = ready!(sending.as_mut().poll(cx));
            self.sending = None;
            self.order = order;
            match sent {
                Ok(confirm) => self.confirm = Some(confirm),
                Err(error) => return self.resolved(Resolution::NotSent(Box::new(error))),
            }
        }
        if let Some(passing) = &mut self.passing {
            ready!(passing.as_mut().poll(cx));
            self.passing = None;
        }
        let confirm = self.confirm.as_mut().expect("it was sent, and is polled until it has ended only");
        let resolution = match ready!(Pin::new(confirm).poll(cx)) {
            Ok(Confirmation::Ack(returned)) => {
                Resolution::Confirmed { ack: true, returned: message_id_of(returned) }
            }
            Ok(Confirmation::Nack(returned)) => {
                Resolution::Confirmed { ack: false, returned: message_id_of(returned) }
            }
            Ok(Confirmation::NotRequested) => {
                unreachable!("confirm.select succeeded before the lane was made")
            }
            Err(error) => Resolution::Lost(Box::new(error)),
        };
        self.resolved(resolution)
    }
}

async fn send(
    channel: Arc<Channel>,
    message: Arc<Message>,
    order: Arc<AtomicUsize>,
    unwritten: Unwritten,
) -> Sent {
    // Nothing is awaited between this line and lapin taking the frames, so this is the order on the
    // wire.
    let order = order.fetch_add(1, Ordering::Relaxed);
    let sent = channel
        .basic_publish(
            short_string(&message.exchange),
            short_string(&message.routing_key),
            BasicPublishOptions { mandatory: message.mandatory, immediate: false },
            &message.payload,
            basic_properties(&message.properties),
        )
        .await;
    drop(unwritten);
    (order, sent)
}

/// The broker processes a channel in order, so the answer to this request means that it has
/// processed the publish before it. The confirm may come late or never, and must not keep other
/// publishes off the lane.
async fn pass(channel: Arc<Channel>, processed: Processed, slot: usize) {
    if channel.basic_qos(0, BasicQosOptions::default()).await.is_ok() {
        lock(&processed).push(slot);
    }
}

fn message_id_of(returned: Option<BasicReturnMessage>) -> Option<ShortText> {
    let id = returned?.delivery.properties.message_id().clone().map(String::from).unwrap_or_default();
    Some(ShortText::new(id).expect("lapin read it from a short string"))
}
