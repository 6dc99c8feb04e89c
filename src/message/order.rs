//! The order: a message and everything its client says about publishing it.

use super::{ClientKey, Deadline, Message, ShortText};
use crate::labels::labels;
use bytes::Bytes;
use std::sync::Arc;

/// A message and everything that was said about publishing it.
///
/// The message is behind a pointer. Otherwise each future that an order passes through would
/// contain a whole message.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Whose order it is.
    pub client: Client,
    /// The message.
    pub message: Arc<Message>,
    /// The moment by which the outcome is due.
    pub deadline: Deadline,
    /// Which attempts are repeated.
    pub retry: RetryPolicy,
    /// Broker or spool.
    pub mode: Mode,
    /// The client's idempotency key.
    pub key: Option<ClientKey>,
    /// Whether the message id was assigned here. Such an id says nothing about the request.
    pub id_is_assigned: bool,
}

impl Order {
    /// The id of the message.
    #[must_use]
    pub fn message_id(&self) -> &ShortText {
        &self.message.properties.message_id
    }

    /// Sets the payload, for a message whose head was read before its body.
    pub fn set_payload(&mut self, payload: Bytes) {
        Arc::make_mut(&mut self.message).payload = payload;
    }
}

/// Who sends a request. Its idempotency keys are its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The name by which its credentials are known; `None` for a client without credentials. No
    /// client has any, because requests are not authenticated.
    pub name: Option<ShortText>,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The exchange, as named on the wire; empty is the broker's default exchange.
    pub exchange: ShortText,
    /// The routing key; with the default exchange the name of the queue.
    pub routing_key: ShortText,
}

labels! {
    /// How a message is published.
    #[derive(Default)]
    Mode {
        /// The message goes to the broker, or the answer is an error. The spool is not used.
        #[default]
        Direct = "direct",
        /// To the broker, else to the spool.
        Fallback = "fallback",
        /// The message goes to the spool, and from there to the broker, in order.
        Spool = "spool",
    }
}

/// Whether a publish is tried again before its deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// One attempt.
    Off,
    /// Repeats only an attempt that was provably not handed over to the link.
    #[default]
    Safe,
    /// Also repeats, with the same message id, an attempt that may have been published or was
    /// nacked.
    AtLeastOnce,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Label;

    #[test]
    fn words_and_modes_stand_in_the_same_order() {
        let written = Mode::ALL.map(|mode| serde_json::to_value(mode).unwrap());
        assert_eq!(written.as_slice(), Mode::WORDS);
        assert!(Mode::ALL.into_iter().all(|mode| Mode::from_word(mode.as_str()) == Some(mode)));
    }
}
