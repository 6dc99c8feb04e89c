//! Knows which destinations are proven: they are open to this user, so a publish to them does not
//! close a shared channel.

use crate::hashing::{Map, Set};
use crate::message::{Message, ShortText};

/// After this many different routing keys without a refusal, an exchange is trusted with any key.
const KEYS_UNTIL_TRUSTED: usize = 256;

/// The most names that are kept. If there are more, all are forgotten, and every destination proves
/// itself again.
const NAMES_MAX: usize = 16_384;

/// Destinations for which the broker gave a verdict on this connection.
///
/// A 404 or 403 closes the channel, and on a shared channel hundreds of other publishes lose their
/// verdict with it. So a publish to an unproven destination travels over a channel of its own,
/// where the error hits exactly the publish that caused it. A destination here is an exchange with
/// a routing key, since permissions can depend on both. An exchange whose keys were never refused
/// becomes trusted as a whole, except the default exchange.
#[derive(Debug, Default)]
pub(crate) struct ProvenDestinations {
    exchanges: Map<ShortText, ProvenKeys>,
    names: usize,
}

#[derive(Debug)]
enum ProvenKeys {
    /// Any routing key.
    All,
    /// The routing keys so far, and whether one was ever refused.
    These { proven: Set<ShortText>, one_was_refused: bool },
}

impl ProvenDestinations {
    pub(crate) fn contains(&self, message: &Message) -> bool {
        match self.exchanges.get(&message.exchange) {
            None => false,
            Some(ProvenKeys::All) => true,
            Some(ProvenKeys::These { proven, .. }) => proven.contains(&message.routing_key),
        }
    }

    /// The broker gave a verdict for this message.
    pub(crate) fn insert(&mut self, message: &Message) {
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
            .or_insert_with(|| ProvenKeys::These { proven: Set::default(), one_was_refused: false });
        if let ProvenKeys::These { proven, one_was_refused } = keys {
            proven.insert(message.routing_key.clone());
            // On the default exchange every key is a queue, and each queue may have lost its
            // quorum: the first publish to such a queue can hang its channel for a minute
            // (ADR-0004).
            let is_trusted = proven.len() >= KEYS_UNTIL_TRUSTED && !*one_was_refused;
            if is_trusted && !message.exchange.is_empty() {
                self.names -= proven.len() - 1;
                *keys = ProvenKeys::All;
            }
        }
    }

    /// The exchange is gone, or closed to the user.
    pub(crate) fn remove(&mut self, exchange: &ShortText) {
        match self.exchanges.remove(exchange) {
            None => {}
            Some(ProvenKeys::All) => self.names -= 1,
            Some(ProvenKeys::These { proven, .. }) => self.names -= proven.len(),
        }
    }

    /// A routing key of this exchange was refused: from now on each key proves itself.
    pub(crate) fn key_refused(&mut self, exchange: &ShortText) {
        self.remove(exchange);
        let keys = ProvenKeys::These { proven: Set::default(), one_was_refused: true };
        self.exchanges.insert(exchange.clone(), keys);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing::message_to as to;

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
