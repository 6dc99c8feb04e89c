//! Destinations that nothing but nacks come from on the shared channel: the channel itself may be the fault.
//!
//! A channel of RabbitMQ 3.10 whose first publish to a quorum queue falls into an election nacks that queue for as long
//! as the killed leader's node is away, while other channels of the same connection are well (ADR-0004). So after a few nacks
//! in a row the next publish goes alone; when that one is acked, the shared channel is replaced.
//!
//! Pure: no I/O, no clock.

use super::destination::Destination;
use std::collections::HashMap;

/// Nacks in a row after which a destination goes alone.
const IN_A_ROW: u32 = 3;

/// Destinations kept. Beyond it everything is forgotten.
const NAMES_MAX: usize = 1024;

/// How often each destination was nacked on the shared channel since its last ack there.
#[derive(Debug, Default)]
pub(super) struct NackingDestinations(HashMap<Destination, u32>);

impl NackingDestinations {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A nack on the shared channel. Whether the destination has to go alone from now on.
    pub(super) fn nacked(&mut self, destination: Destination) -> bool {
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let in_a_row = self.0.entry(destination).or_default();
        *in_a_row = in_a_row.saturating_add(1);
        *in_a_row >= IN_A_ROW
    }

    /// An ack on the shared channel.
    pub(super) fn acked_together(&mut self, destination: &Destination) {
        self.0.remove(destination);
    }

    /// An ack on a channel of its own. Whether that makes the shared channel the one at fault.
    pub(super) fn acked_alone(&mut self, destination: &Destination) -> bool {
        let at_fault = self.0.get(destination).is_some_and(|in_a_row| *in_a_row >= IN_A_ROW);
        if at_fault {
            self.0.clear();
        }
        at_fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Properties, ShortText};

    fn queue() -> Destination {
        Destination::of(&Message {
            exchange: ShortText::default(),
            routing_key: ShortText::new("orders").unwrap(),
            mandatory: true,
            properties: Properties::default(),
            payload: bytes::Bytes::new(),
        })
    }

    fn nacked(times: u32) -> NackingDestinations {
        let mut nacking = NackingDestinations::default();
        for n in 1..=times {
            assert_eq!(nacking.nacked(queue()), n >= IN_A_ROW);
        }
        nacking
    }

    #[test]
    fn an_ack_elsewhere_after_nothing_but_nacks_makes_the_channel_the_one_at_fault() {
        let mut nacking = nacked(IN_A_ROW);
        assert!(nacking.acked_alone(&queue()) && nacking.is_empty());
    }

    #[test]
    fn an_ack_on_the_same_channel_makes_it_a_queue_that_nacks_now_and_then() {
        let mut nacking = nacked(IN_A_ROW);
        nacking.acked_together(&queue());
        assert!(!nacking.acked_alone(&queue()));
    }

    #[test]
    fn a_nack_or_two_accuse_nobody() {
        assert!(!nacked(IN_A_ROW - 1).acked_alone(&queue()));
    }
}
