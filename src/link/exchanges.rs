//! Which exchanges are proven: known to exist and to be open to this user, so that a publish to them harms nobody.

use crate::message::{Message, ShortText};
use std::collections::HashSet;

/// Exchanges that the broker gave a verdict for on this connection.
///
/// A 404 or 403 closes the channel, and on a shared channel hundreds of neighbours lose their verdict with
/// it. So publishes to an exchange that is not proven go alone over a channel of their own, where the error
/// hits exactly the publish that caused it. Two generations bound the set without a clock.
#[derive(Debug)]
pub(super) struct ProvenExchanges {
    recent: HashSet<ShortText>,
    older: HashSet<ShortText>,
    generation_max: usize,
}

impl ProvenExchanges {
    /// At most twice `generation_max` names are kept.
    pub(super) fn new(generation_max: usize) -> Self {
        Self { recent: HashSet::new(), older: HashSet::new(), generation_max }
    }

    pub(super) fn contains(&self, exchange: &ShortText) -> bool {
        self.recent.contains(exchange) || self.older.contains(exchange)
    }

    pub(super) fn insert(&mut self, exchange: ShortText) {
        if self.recent.contains(&exchange) {
            return;
        }
        if self.recent.len() >= self.generation_max {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(exchange);
    }

    pub(super) fn remove(&mut self, exchange: &ShortText) {
        self.recent.remove(exchange);
        self.older.remove(exchange);
    }

    pub(super) fn clear(&mut self) {
        self.recent.clear();
        self.older.clear();
    }
}

/// Payloads from this size on go alone: the broker closes the channel when one exceeds its
/// `max_message_size` (16 MiB on RabbitMQ 4, 128 MiB before), which clients cannot see beforehand.
const LARGE_PAYLOAD: usize = 8 * 1024 * 1024;

/// Whether the broker may close the channel because of this message, whatever its exchange.
///
/// It does (406) for a user id that is not the connection's, for a `CC` or `BCC` header that is not a list of
/// texts, and for a payload above its limit.
pub(super) fn may_close_its_channel(message: &Message, user: &str) -> bool {
    let properties = &message.properties;
    properties.user_id.as_ref().is_some_and(|id| id.as_str() != user)
        || message.payload.len() >= LARGE_PAYLOAD
        || properties.headers.keys().any(|name| matches!(name.as_str(), "CC" | "BCC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ShortText {
        ShortText::new(text).unwrap()
    }

    #[test]
    fn the_set_is_bounded_and_keeps_the_newest() {
        let mut proven = ProvenExchanges::new(10);
        for n in 0..1000 {
            proven.insert(name(&format!("e{n}")));
        }
        assert!(proven.contains(&name("e999")));
        assert!(!proven.contains(&name("e0")));
        assert!(proven.recent.len() + proven.older.len() <= 20);
    }

    #[test]
    fn a_removed_exchange_is_unproven_in_both_generations() {
        let mut proven = ProvenExchanges::new(1);
        proven.insert(name("a"));
        proven.insert(name("b"));
        proven.remove(&name("a"));
        assert!(!proven.contains(&name("a")) && proven.contains(&name("b")));
    }
}
