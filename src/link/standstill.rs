//! Which destinations stand still while the connection is well: much handed over, nothing confirmed.
//!
//! A quorum queue without its quorum confirms nothing. With more than 32 publishes unanswered RabbitMQ's channel takes
//! credit from its connection, and 200 to 400 publishes later, whosesoever they are, the whole connection is no longer
//! read (ADR-0004). So the first sign already counts: the destination is **held** (its messages wait, and others
//! move to another channel), and when it lasts it is **silent** (its messages are refused). Any verdict ends both.
//!
//! Pure: the caller brings the clock and what is unanswered.

use super::destination::Destination;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Where RabbitMQ's flow control for quorum queues begins (`rabbit_fifo_client`, its soft limit).
pub(super) const MANY: usize = 32;

/// Without a verdict for so long, with many of them owed, a destination is held. Two looks apart at least.
const HELD_AFTER: Duration = Duration::from_millis(100);

/// How a destination stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It confirms, or is owed little.
    Moving,
    /// It has confirmed nothing for a moment.
    Held,
    /// It has confirmed nothing for so long that its messages are refused.
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    oldest: Instant,
    unmoved_since: Instant,
    standing: Standing,
}

/// The destinations of one connection that are owed many verdicts.
#[derive(Debug)]
pub(super) struct Standstill {
    silent_after: Duration,
    seen: HashMap<Destination, Seen>,
    /// Whether any of them is held or silent, so that a publish looks no further while none is.
    any: bool,
}

impl Standstill {
    pub(super) fn new(silent_after: Duration) -> Self {
        Self { silent_after, seen: HashMap::new(), any: false }
    }

    /// How a destination stood at the last look. Verdicts since then count.
    pub(super) fn of(&self, destination: &Destination) -> Standing {
        self.seen.get(destination).map_or(Standing::Moving, |seen| seen.standing)
    }

    /// Whether any destination is held or silent.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// A publish to this destination was settled.
    pub(super) fn settled(&mut self, destination: &Destination) {
        if self.any {
            self.seen.remove(destination);
            self.any = self.seen.values().any(|seen| seen.standing != Standing::Moving);
        }
    }

    /// Looks at every unanswered publish: where it went and when it was handed over. Whether a destination is held
    /// now that was not. `last_word`: when the broker last said anything on this connection; one that is silent
    /// altogether is not its destinations' fault.
    pub(super) fn look(
        &mut self,
        now: Instant,
        last_word: Instant,
        unanswered: impl Iterator<Item = (Destination, Instant)>,
    ) -> bool {
        let mut owed: HashMap<Destination, (usize, Instant)> = HashMap::new();
        for (destination, handed_over_at) in unanswered {
            let (count, oldest) = owed.entry(destination).or_insert((0, handed_over_at));
            *count += 1;
            *oldest = handed_over_at.min(*oldest);
        }
        let mut newly_held = false;
        let mut seen = HashMap::new();
        for (destination, (count, oldest)) in owed {
            let before = self.seen.remove(&destination).filter(|before| before.oldest == oldest);
            let stood = before.map_or(Standing::Moving, |before| before.standing);
            if count <= MANY && stood == Standing::Moving {
                continue;
            }
            let unmoved_since = before.map_or(now, |before| before.unmoved_since);
            let unmoved = now.duration_since(unmoved_since);
            let others_are_answered = last_word > unmoved_since + self.silent_after / 2;
            let standing = if unmoved >= self.silent_after && others_are_answered {
                Standing::Silent
            } else if unmoved >= HELD_AFTER {
                Standing::Held
            } else {
                stood
            };
            newly_held |= stood == Standing::Moving && standing != Standing::Moving;
            seen.insert(destination, Seen { oldest, unmoved_since, standing });
        }
        self.seen = seen;
        self.any = self.seen.values().any(|seen| seen.standing != Standing::Moving);
        newly_held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Properties, ShortText};
    use proptest::prelude::*;

    const SILENT_AFTER: Duration = Duration::from_secs(1);

    fn queue(name: &str) -> Destination {
        Destination::of(&Message {
            exchange: ShortText::default(),
            routing_key: ShortText::new(name).unwrap(),
            mandatory: true,
            properties: Properties::default(),
            payload: bytes::Bytes::new(),
        })
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// `count` publishes to `name`, one a millisecond from `first` on.
    fn unanswered(name: &str, first: Instant, count: u64) -> Vec<(Destination, Instant)> {
        (0..count).map(|n| (queue(name), first + ms(n))).collect()
    }

    #[test]
    fn one_that_confirms_nothing_is_held_and_then_silent_and_its_neighbour_neither() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        let mut held_at = None;
        for step in 0..12 {
            let now = begun + ms(100 * step);
            let dead = unanswered("dead", begun, 40);
            let fine = unanswered("fine", now, 40);
            if standstill.look(now, now, dead.into_iter().chain(fine)) {
                assert_eq!(held_at.replace(step), None, "said once");
            }
        }
        assert_eq!(held_at, Some(1));
        assert_eq!(standstill.of(&queue("dead")), Standing::Silent);
        assert_eq!(standstill.of(&queue("fine")), Standing::Moving);
    }

    #[test]
    fn few_unanswered_publishes_are_no_standstill() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        for step in 0..50 {
            standstill.look(
                begun + ms(100 * step),
                begun + ms(100 * step),
                unanswered("slow", begun, 32).into_iter(),
            );
        }
        assert!(!standstill.any());
    }

    #[test]
    fn a_verdict_ends_it() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        for step in 0..12 {
            standstill.look(
                begun + ms(100 * step),
                begun + ms(100 * step),
                unanswered("dead", begun, 40).into_iter(),
            );
        }
        standstill.settled(&queue("dead"));
        assert_eq!((standstill.of(&queue("dead")), standstill.any()), (Standing::Moving, false));
    }

    #[test]
    fn on_a_connection_that_is_silent_altogether_nobody_is_more_than_held() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        for step in 0..50 {
            standstill.look(begun + ms(100 * step), begun, unanswered("dead", begun, 40).into_iter());
        }
        assert_eq!(standstill.of(&queue("dead")), Standing::Held);
    }

    #[test]
    fn it_lasts_while_even_a_few_of_them_are_owed() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        for step in 0..12 {
            let left = if step < 5 { 40 } else { 10 };
            standstill.look(
                begun + ms(100 * step),
                begun + ms(100 * step),
                unanswered("dead", begun, left).into_iter(),
            );
        }
        assert_eq!(standstill.of(&queue("dead")), Standing::Silent);
    }

    proptest! {
        #[test]
        fn a_slow_destination_that_confirms_between_any_two_looks_is_never_held(
            in_flight in 33u64..500,
            delays in prop::collection::vec(100u64..1000, 1..40),
        ) {
            let mut now = Instant::now();
            let mut standstill = Standstill::new(SILENT_AFTER);
            for delay in delays {
                now += ms(delay);
                prop_assert!(!standstill.look(now, now, unanswered("slow", now, in_flight).into_iter()));
                prop_assert!(!standstill.any());
            }
        }
    }
}
