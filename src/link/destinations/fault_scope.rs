//! What a fault of the broker's side can be the fault of: an exchange, or one queue on the default exchange.

use crate::message::{Message, ShortText};

/// An exchange; on the default exchange one of its queues, where the fault is the queue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FaultScope {
    exchange: ShortText,
    queue: ShortText,
}

impl FaultScope {
    /// Where a message goes.
    pub(crate) fn of(message: &Message) -> Self {
        let is_default = message.exchange.is_empty();
        let queue = if is_default { message.routing_key.clone() } else { ShortText::default() };
        Self { exchange: message.exchange.clone(), queue }
    }

    /// The exchange's name, empty for the default exchange.
    pub(crate) fn exchange(&self) -> &str {
        self.exchange.as_str()
    }

    /// The queue's name, empty unless the exchange is the default one.
    pub(crate) fn queue(&self) -> &str {
        self.queue.as_str()
    }
}
