//! The unit to which a broker-side fault is attributed: an exchange, or a single queue behind the
//! default exchange.

use crate::message::{Message, ShortText};

/// An exchange, or one queue behind the default exchange, where a fault is the queue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FaultScope {
    /// Empty for the default exchange.
    pub(crate) exchange: ShortText,
    /// Empty unless the exchange is the default one.
    pub(crate) queue: ShortText,
}

impl FaultScope {
    /// The scope that a fault of this message's publish is attributed to.
    pub(crate) fn of(message: &Message) -> Self {
        let is_default = message.exchange.is_empty();
        let queue = if is_default { message.routing_key.clone() } else { ShortText::default() };
        Self { exchange: message.exchange.clone(), queue }
    }
}
