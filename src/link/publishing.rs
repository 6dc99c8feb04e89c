//! One publish on its way through lapin: from its frames to its confirm.

use super::wire::{basic_properties, short_string};
use crate::message::{Message, ShortText};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, BasicQosOptions};
use lapin::{Channel, Confirmation};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes handed to lapin and not yet on the socket; given back when the frames are written or will never be.
pub(super) struct Unwritten {
    counter: Arc<AtomicUsize>,
    bytes: usize,
}

impl Unwritten {
    pub(super) fn add(counter: &Arc<AtomicUsize>, bytes: usize) -> Self {
        counter.fetch_add(bytes, Ordering::Relaxed);
        Self { counter: Arc::clone(counter), bytes }
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How lapin ended a publish.
pub(super) enum Resolution {
    /// `basic_publish` failed: nothing of it was published (ADR-0001).
    NotSent(lapin::Error),
    /// An ack or a nack, and the id of the returned message that came with it, whosesoever it is.
    Confirmed {
        ack: bool,
        returned: Option<ShortText>,
    },
    Lost(lapin::Error),
}

/// A publish with the place in the channel's order at which lapin took it.
pub(super) struct Resolved {
    pub(super) slot: usize,
    pub(super) order: usize,
    pub(super) resolution: Resolution,
}

pub(super) type Resolving = Pin<Box<dyn Future<Output = Resolved> + Send>>;

/// One publish on its way through lapin.
pub(super) struct Publishing {
    pub(super) channel: Channel,
    pub(super) message: Arc<Message>,
    pub(super) slot: usize,
    pub(super) order: Arc<AtomicUsize>,
    pub(super) unwritten: Unwritten,
    pub(super) tell_processed: Option<Arc<Mutex<Vec<usize>>>>,
}

impl Publishing {
    pub(super) async fn run(self) -> Resolved {
        let Self { channel, message, slot, order, unwritten, tell_processed } = self;
        // Nothing is awaited between this line and lapin taking the frames, so the order is that of the wire.
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
        let confirm = match sent {
            Ok(confirm) => confirm,
            Err(error) => return Resolved { slot, order, resolution: Resolution::NotSent(error) },
        };
        if let Some(processed) = tell_processed {
            // A channel is worked through in order: with this answered, the broker let the publish pass. Its confirm may
            // be long in coming, or never come, and must not keep the lane from others.
            if channel.basic_qos(0, BasicQosOptions::default()).await.is_ok() {
                processed.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
            }
        }
        let resolution = match confirm.await {
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
        };
        Resolved { slot, order, resolution }
    }
}

fn message_id_of(returned: Option<BasicReturnMessage>) -> Option<ShortText> {
    let id = returned?.delivery.properties.message_id().clone().map(String::from).unwrap_or_default();
    Some(ShortText::new(id).expect("lapin read it from a short string"))
}
