//! Destinations that return only nacks on the shared channel. The channel itself may be at fault,
//! so one publish is tried on a channel of its own.
//!
//! If the first publish of a channel to a quorum queue comes during an election, RabbitMQ 3.10
//! nacks that queue on this channel for as long as the killed leader's node is away, while other
//! channels of the same connection work (ADR-0004). So after a few nacks in a row, one publish now
//! and then travels alone, as a trial. If it is acked, the shared channel is replaced.
//!
//! Pure: the caller provides the clock.

use super::fault_scope::FaultScope;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Nacks in a row after which a destination is tried alone.
const IN_A_ROW: u32 = 3;

/// The pause after the first nacked trial; it doubles with each further one. An election takes from
/// a tenth of a second to several seconds, and the channel should not nack much longer than the
/// election took.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two trials. A full queue nacks for a long time, and each nacked trial
/// costs a channel. If a trial has no verdict after this long, another one starts.
const TRIAL_EVERY: Duration = Duration::from_secs(1);

/// The most destinations that are kept. If there are more, all are forgotten.
const NAMES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Nacked {
    in_a_row: u32,
    /// No trial before this.
    next_trial: Option<Instant>,
    /// The pause after the next trial that is nacked.
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

    /// Whether the next publish to this destination travels alone, as a trial; then it is noted as
    /// one.
    pub(crate) fn tries_alone(&mut self, scope: &FaultScope, now: Instant) -> bool {
        let Some(nacked) = self.0.get_mut(scope) else { return false };
        let is_due = nacked.next_trial.is_none_or(|next| now >= next);
        let tries = nacked.in_a_row >= IN_A_ROW && is_due;
        if tries {
            nacked.next_trial = Some(now + TRIAL_EVERY);
        }
        tries
    }

    /// A trial was nacked: the next one comes after a pause, which doubles each time.
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

    /// A trial was acked. Returns whether the shared channel is at fault.
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
    use crate::message::testing::message_to;
    use proptest::prelude::*;

    fn queue() -> FaultScope {
        FaultScope::of(&message_to("", "orders"))
    }

    fn nacked(times: u32) -> NackingScopes {
        let mut nacking = NackingScopes::default();
        for _ in 0..times {
            nacking.nacked(queue());
        }
        nacking
    }

    /// The moments of the trials when publishes come every ten milliseconds and each trial is
    /// answered at once.
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
