//! Which destinations are proven: known to be open to this user, so that a publish to them harms nobody.

use crate::hashing::{Map, Set};
use crate::message::{HeaderValue, Message, ShortText};

/// After so many different routing keys without a refusal an exchange is trusted with any key.
const KEYS_UNTIL_TRUSTED: usize = 256;

/// Names kept in all. Beyond it everything proves itself again.
const NAMES_MAX: usize = 16_384;

/// Destinations that the broker gave a verdict for on this connection.
///
/// A 404 or 403 closes the channel, and on a shared channel hundreds of neighbours lose their verdict with
/// it. So publishes to a destination that is not proven go alone over a channel of their own, where the error
/// hits exactly the publish that caused it. A destination is an exchange with a routing key, since permissions
/// can depend on either; an exchange whose keys were never refused becomes trusted as a whole, but for the default one.
#[derive(Debug, Default)]
pub(super) struct ProvenDestinations {
    exchanges: Map<ShortText, Keys>,
    names: usize,
}

#[derive(Debug)]
enum Keys {
    /// Any routing key.
    All,
    /// These, so far; whether one was ever refused.
    These { proven: Set<ShortText>, one_was_refused: bool },
}

impl ProvenDestinations {
    pub(super) fn contains(&self, message: &Message) -> bool {
        match self.exchanges.get(&message.exchange) {
            None => false,
            Some(Keys::All) => true,
            Some(Keys::These { proven, .. }) => proven.contains(&message.routing_key),
        }
    }

    /// The broker gave a verdict for this message.
    pub(super) fn insert(&mut self, message: &Message) {
        if self.contains(message) {
            return;
        }
        if self.names >= NAMES_MAX {
            self.clear();
        }
        self.names += 1;
        let keys = self
            .exchanges
            .entry(message.exchange.clone())
            .or_insert_with(|| Keys::These { proven: Set::default(), one_was_refused: false });
        if let Keys::These { proven, one_was_refused } = keys {
            proven.insert(message.routing_key.clone());
            // On the default exchange every key is a queue, and each may be one without its quorum: the first publish to
            // it can hang its channel for a minute (ADR-0004).
            let is_trusted = proven.len() >= KEYS_UNTIL_TRUSTED && !*one_was_refused;
            if is_trusted && !message.exchange.is_empty() {
                self.names -= proven.len() - 1;
                *keys = Keys::All;
            }
        }
    }

    /// The exchange is gone, or closed to the user.
    pub(super) fn remove(&mut self, exchange: &ShortText) {
        match self.exchanges.remove(exchange) {
            None => {}
            Some(Keys::All) => self.names -= 1,
            Some(Keys::These { proven, .. }) => self.names -= proven.len(),
        }
    }

    /// A routing key of this exchange was refused: from now on each key proves itself.
    pub(super) fn key_refused(&mut self, exchange: &ShortText) {
        self.remove(exchange);
        let keys = Keys::These { proven: Set::default(), one_was_refused: true };
        self.exchanges.insert(exchange.clone(), keys);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Payloads from this size on go alone: the broker closes the channel when one exceeds its
/// `max_message_size` (16 MiB on RabbitMQ 4, 128 MiB before), which clients cannot see beforehand.
const LARGE_PAYLOAD: usize = 8 * 1024 * 1024;

/// The reply address that works only for a consumer on the same channel, which a sidecar never is.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Why a message to this address is refused: a direct reply-to address among its routing keys.
///
/// The broker reports such a message as returned even when it was delivered, so no answer would be the truth, and a
/// malformed one makes it close the whole connection (541).
pub(super) fn is_a_reply_address(message: &Message) -> Option<&'static str> {
    fn is_reply(key: &str) -> bool {
        key.starts_with(DIRECT_REPLY_TO)
    }
    fn names_one(value: &HeaderValue) -> bool {
        match value {
            HeaderValue::Text(key) => is_reply(key),
            HeaderValue::Array(values) => values.iter().any(names_one),
            HeaderValue::Void
            | HeaderValue::Bool(_)
            | HeaderValue::Int(_)
            | HeaderValue::Double(_)
            | HeaderValue::Table(_) => false,
        }
    }
    let copies = ["CC", "BCC"].into_iter().any(|copy| {
        let header = message.properties.headers.iter().find(|(name, _)| name.as_str() == copy);
        header.is_some_and(|(_, value)| names_one(value))
    });
    let problem = "routing_key: amq.rabbitmq.reply-to addresses are not supported";
    (is_reply(message.routing_key.as_str()) || copies).then_some(problem)
}

/// Whether the broker may close the channel because of this message, whatever its destination.
///
/// It does (406) for a user id that is not the connection's, for a `CC` or `BCC` header that is not a list of
/// texts, for a direct reply-to, and for a payload above its limit.
pub(super) fn may_close_its_channel(message: &Message, user: &str) -> bool {
    let properties = &message.properties;
    properties.user_id.as_ref().is_some_and(|id| id.as_str() != user)
        || properties.reply_to.as_ref().is_some_and(|reply_to| reply_to.as_str() == DIRECT_REPLY_TO)
        || message.payload.len() >= LARGE_PAYLOAD
        || properties.headers.keys().any(|name| matches!(name.as_str(), "CC" | "BCC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;

    fn to(exchange: &str, routing_key: &str) -> Message {
        let text = |text: &str| ShortText::new(text).unwrap();
        Message {
            exchange: text(exchange),
            routing_key: text(routing_key),
            mandatory: true,
            properties: Properties::default(),
            payload: bytes::Bytes::new(),
        }
    }

    #[test]
    fn a_new_routing_key_proves_itself_until_the_exchange_is_trusted() {
        let mut proven = ProvenDestinations::default();
        proven.insert(&to("e", "a"));
        assert!(proven.contains(&to("e", "a")) && !proven.contains(&to("e", "b")));
        for n in 0..KEYS_UNTIL_TRUSTED {
            proven.insert(&to("e", &format!("k{n}")));
        }
        assert!(proven.contains(&to("e", "never seen")));
    }

    #[test]
    fn after_a_refused_key_no_number_of_good_ones_is_enough() {
        let mut proven = ProvenDestinations::default();
        proven.key_refused(&to("e", "").exchange);
        for n in 0..2 * KEYS_UNTIL_TRUSTED {
            proven.insert(&to("e", &format!("k{n}")));
        }
        assert!(proven.contains(&to("e", "k0")) && !proven.contains(&to("e", "bad")));
    }

    #[test]
    fn on_the_default_exchange_each_queue_proves_itself() {
        let mut proven = ProvenDestinations::default();
        for n in 0..2 * KEYS_UNTIL_TRUSTED {
            proven.insert(&to("", &format!("queue-{n}")));
        }
        assert!(proven.contains(&to("", "queue-1")) && !proven.contains(&to("", "others")));
    }

    #[test]
    fn the_names_kept_are_bounded() {
        let mut proven = ProvenDestinations::default();
        for n in 0..3 * NAMES_MAX {
            proven.insert(&to(&format!("e{}", n / 7), &format!("k{n}")));
            assert!(proven.names <= NAMES_MAX);
        }
    }

    #[test]
    fn a_removed_exchange_is_unproven() {
        let mut proven = ProvenDestinations::default();
        proven.insert(&to("a", ""));
        proven.insert(&to("b", ""));
        proven.remove(&to("a", "").exchange);
        assert!(!proven.contains(&to("a", "")) && proven.contains(&to("b", "")));
        assert_eq!(proven.names, 1);
    }
}
