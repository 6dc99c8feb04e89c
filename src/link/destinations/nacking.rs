//! Destinations that nothing but nacks come from on the shared channel: the channel itself may be the fault.
//!
//! A channel of RabbitMQ 3.10 whose first publish to a quorum queue falls into an election nacks that queue for as long
//! as the killed leader's node is away, while other channels of the same connection are well (ADR-0004). So after a few nacks
//! in a row one publish goes alone now and then; when it is acked, the shared channel is replaced.
//!
//! Pure: the caller brings the clock.

use super::fault_scope::FaultScope;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Nacks in a row after which a destination is tried alone.
const IN_A_ROW: u32 = 3;

/// After the first trial that was nacked; twice as long after each further one. An election takes a tenth of a second or
/// several seconds, and the channel should not nack much longer than it took.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Between two trials at most. A full queue nacks for long, and each trial costs it a channel. A trial without a verdict
/// gets company after as long.
const TRIAL_EVERY: Duration = Duration::from_secs(1);

/// Destinations kept. Beyond it everything is forgotten.
const NAMES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Nacked {
    in_a_row: u32,
    /// No trial before this.
    next_trial: Option<Instant>,
    /// After the next trial that is nacked.
    pause: Duration,
}

impl Default for Nacked {
    fn default() -> Self {
        Self { in_a_row: 0, next_trial: None, pause: FIRST_PAUSE }
    }
}

/// How often each destination was nacked on the shared channel since its last ack there.
#[derive(Debug, Default)]
pub(crate) struct NackingScopes(HashMap<FaultScope, Nacked>);

impl NackingScopes {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A nack on the shared channel.
    pub(crate) fn nacked(&mut self, scope: FaultScope) {
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let nacked = self.0.entry(scope).or_default();
        nacked.in_a_row = nacked.in_a_row.saturating_add(1);
    }

    /// Whether the next publish to this destination goes alone, as a trial. It is counted as one.
    pub(crate) fn tries_alone(&mut self, scope: &FaultScope, now: Instant) -> bool {
        let Some(nacked) = self.0.get_mut(scope) else { return false };
        let is_due = nacked.next_trial.is_none_or(|next| now >= next);
        let tries = nacked.in_a_row >= IN_A_ROW && is_due;
        if tries {
            nacked.next_trial = Some(now + TRIAL_EVERY);
        }
        tries
    }

    /// A nack on a channel of its own: the next trial comes after a pause, and the one after that after twice as long.
    pub(crate) fn nacked_alone(&mut self, scope: &FaultScope, now: Instant) {
        if let Some(nacked) = self.0.get_mut(scope) {
            nacked.next_trial = Some(now + nacked.pause);
            nacked.pause = (2 * nacked.pause).min(TRIAL_EVERY);
        }
    }

    /// An ack on the shared channel.
    pub(crate) fn acked_together(&mut self, scope: &FaultScope) {
        self.0.remove(scope);
    }

    /// An ack on a channel of its own. Whether that makes the shared channel the one at fault.
    pub(crate) fn acked_alone(&mut self, scope: &FaultScope) -> bool {
        let at_fault = self.0.get(scope).is_some_and(|nacked| nacked.in_a_row >= IN_A_ROW);
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
    use proptest::prelude::*;

    fn queue() -> FaultScope {
        FaultScope::of(&Message {
            exchange: ShortText::default(),
            routing_key: ShortText::new("orders").unwrap(),
            mandatory: true,
            properties: Properties::default(),
            payload: bytes::Bytes::new(),
        })
    }

    fn nacked(times: u32) -> NackingScopes {
        let mut nacking = NackingScopes::default();
        for _ in 0..times {
            nacking.nacked(queue());
        }
        nacking
    }

    /// The moments of trials, each answered at once, with publishes every ten milliseconds.
    fn trials(seconds: u64, mut answer: impl FnMut(&mut NackingScopes, Instant, u64)) -> Vec<u64> {
        let begun = Instant::now();
        let mut nacking = nacked(IN_A_ROW);
        let mut trials = Vec::new();
        for at in (0..1000 * seconds).step_by(10) {
            let now = begun + Duration::from_millis(at);
            if nacking.tries_alone(&queue(), now) {
                trials.push(at);
                answer(&mut nacking, now, at);
            }
        }
        trials
    }

    #[test]
    fn after_nothing_but_nacks_one_publish_goes_alone_and_further_ones_at_growing_intervals_up_to_a_second() {
        let always_nacked = trials(5, |nacking, now, _| nacking.nacked_alone(&queue(), now));
        assert_eq!(always_nacked, [0, 50, 150, 350, 750, 1550, 2550, 3550, 4550]);
    }

    #[test]
    fn a_trial_without_a_verdict_gets_company_after_a_second() {
        assert_eq!(trials(3, |_, _, _| {}), [0, 1000, 2000]);
    }

    proptest! {
        #[test]
        fn a_channel_at_fault_is_found_before_it_has_nacked_for_twice_as_long_as_the_election_took(
            election in 0u64..20_000,
        ) {
            let mut found = None;
            trials(22, |nacking, now, at| {
                if at < election {
                    nacking.nacked_alone(&queue(), now);
                } else if nacking.acked_alone(&queue()) {
                    found = Some(at);
                }
            });
            let latest = (2 * election + 60).min(election + 1010);
            prop_assert!(found.is_some_and(|at| at <= latest), "{:?} is after {}", found, latest);
        }
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
