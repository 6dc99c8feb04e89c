//! Destinations that nothing but nacks come from on the shared channel: the channel itself may be the fault.
//!
//! A channel of RabbitMQ 3.10 whose first publish to a quorum queue falls into an election nacks that queue for as long
//! as the killed leader's node is away, while other channels of the same connection are well (ADR-0004). So after a few nacks
//! in a row one publish goes alone now and then; when it is acked, the shared channel is replaced.
//!
//! Pure: the caller brings the clock.

use super::destination::Destination;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Nacks in a row after which a destination is tried alone.
const IN_A_ROW: u32 = 3;

/// Between two such trials. A full queue nacks for long, and each trial costs it a channel.
const TRIAL_EVERY: Duration = Duration::from_secs(1);

/// Destinations kept. Beyond it everything is forgotten.
const NAMES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Default)]
struct Nacked {
    in_a_row: u32,
    tried: Option<Instant>,
}

/// How often each destination was nacked on the shared channel since its last ack there.
#[derive(Debug, Default)]
pub(super) struct NackingDestinations(HashMap<Destination, Nacked>);

impl NackingDestinations {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A nack on the shared channel.
    pub(super) fn nacked(&mut self, destination: Destination) {
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let nacked = self.0.entry(destination).or_default();
        nacked.in_a_row = nacked.in_a_row.saturating_add(1);
    }

    /// Whether the next publish to this destination goes alone, as a trial. It is counted as one.
    pub(super) fn tries_alone(&mut self, destination: &Destination, now: Instant) -> bool {
        let Some(nacked) = self.0.get_mut(destination) else { return false };
        let is_due = nacked.tried.is_none_or(|tried| now >= tried + TRIAL_EVERY);
        let tries = nacked.in_a_row >= IN_A_ROW && is_due;
        if tries {
            nacked.tried = Some(now);
        }
        tries
    }

    /// An ack on the shared channel.
    pub(super) fn acked_together(&mut self, destination: &Destination) {
        self.0.remove(destination);
    }

    /// An ack on a channel of its own. Whether that makes the shared channel the one at fault.
    pub(super) fn acked_alone(&mut self, destination: &Destination) -> bool {
        let at_fault = self.0.get(destination).is_some_and(|nacked| nacked.in_a_row >= IN_A_ROW);
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
        for _ in 0..times {
            nacking.nacked(queue());
        }
        nacking
    }

    #[test]
    fn after_nothing_but_nacks_one_publish_a_second_goes_alone() {
        let now = Instant::now();
        let mut nacking = nacked(IN_A_ROW);
        assert!(nacking.tries_alone(&queue(), now) && !nacking.tries_alone(&queue(), now));
        assert!(nacking.tries_alone(&queue(), now + TRIAL_EVERY));
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
        let mut nacking = nacked(IN_A_ROW - 1);
        assert!(!nacking.tries_alone(&queue(), Instant::now()) && !nacking.acked_alone(&queue()));
    }
}
