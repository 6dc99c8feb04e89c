//! Finds destinations that stand still on a healthy connection: many publishes handed over, none
//! confirmed.
//!
//! A quorum queue without its quorum confirms nothing. With more than 32 unanswered publishes,
//! RabbitMQ's channel grants no more credit to its connection, and after 200 to 400 further
//! publishes to any destination the broker stops reading the whole connection (ADR-0004). So the
//! destination is **held** before that (its messages wait, and others move to another channel). If
//! the standstill goes on, the destination is **silent** (its messages are refused). Any verdict
//! ends both states.
//!
//! A slow network is not a standstill: with it, no later publish is answered before an earlier one.
//!
//! Pure: the caller provides the clock and the unanswered publishes.

use super::fault_scope::FaultScope;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Where RabbitMQ's flow control for quorum queues begins (`rabbit_fifo_client`, its soft limit).
pub(crate) const MANY: usize = 32;

/// With little credit left, a destination is held after this long without a verdict. At least two
/// looks must see it.
const HELD_AFTER: Duration = Duration::from_millis(100);

/// With this many publishes after the oldest unanswered one, little is left of the channel's credit
/// of 200 to 400.
const LITTLE_CREDIT: usize = 128;

/// One unanswered publish, for which the destination owes a verdict.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    pub(crate) scope: FaultScope,
    pub(crate) handed_over_at: Instant,
    /// How many publishes were handed to its channel since.
    pub(crate) behind: usize,
}

/// When the broker was last heard on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// When it last said anything.
    pub(crate) last_word: Instant,
    /// The latest hand-over among the answered publishes.
    pub(crate) newest_answered: Instant,
}

/// How a destination stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It confirms, or owes few verdicts.
    Moving,
    /// It has confirmed nothing for a moment.
    Held,
    /// It has confirmed nothing for `silent_after`: its messages are refused.
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    oldest: Instant,
    unmoved_since: Instant,
    /// How long the broker has answered others meanwhile.
    heard: Duration,
    standing: Standing,
}

/// The destinations of one connection that owe many verdicts.
#[derive(Debug)]
pub(crate) struct Standstill {
    silent_after: Duration,
    seen: HashMap<FaultScope, Seen>,
    /// For each destination, the hand-over of an answered publish. Older unanswered publishes wait
    /// because of their channel, not because of the destination.
    answered: HashMap<FaultScope, Instant>,
    last_word: Option<Instant>,
    /// Whether any of them is held or silent. While none is, publishes skip the look-up.
    any: bool,
}

impl Standstill {
    pub(crate) fn new(silent_after: Duration) -> Self {
        Self { silent_after, seen: HashMap::new(), answered: HashMap::new(), last_word: None, any: false }
    }

    /// How a destination stands, by the last look and the verdicts since.
    pub(crate) fn of(&self, scope: &FaultScope) -> Standing {
        self.seen.get(scope).map_or(Standing::Moving, |seen| seen.standing)
    }

    /// Whether any destination is held or silent.
    pub(crate) fn any(&self) -> bool {
        self.any
    }

    /// A publish to this destination was settled. `answered`: when it was handed over, if the
    /// broker settled it.
    pub(crate) fn settled(&mut self, scope: &FaultScope, answered: Option<Instant>) {
        if self.any {
            if let (Some(_), Some(at)) = (self.seen.remove(scope), answered) {
                self.answered.insert(scope.clone(), at);
            }
            self.any = self.seen.values().any(|seen| seen.standing != Standing::Moving);
        }
    }

    /// Looks at every unanswered publish. Returns whether a destination is newly held. A broker
    /// that is silent to everybody is not the fault of its destinations.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        heard: Heard,
        unanswered: impl Iterator<Item = Owed>,
    ) -> bool {
        let spoken = self.spoken_until(heard.last_word);
        let owed = self.owed(unanswered);
        let mut newly_held = false;
        let mut seen = HashMap::new();
        for (scope, (count, oldest)) in owed {
            let since = oldest.handed_over_at;
            let before = self.seen.remove(&scope).filter(|before| before.oldest == since);
            let stood = before.map_or(Standing::Moving, |before| before.standing);
            if count <= MANY && stood == Standing::Moving {
                continue;
            }
            let unmoved_since = before.map_or(now, |before| before.unmoved_since);
            let unmoved = now.duration_since(unmoved_since);
            let spoken = match (before, spoken) {
                (Some(before), Some(spoken)) => before.heard + spoken,
                (None, _) | (_, None) => Duration::ZERO,
            };
            let is_overtaken = heard.newest_answered > since;
            let is_long = unmoved >= self.silent_after / 2;
            let is_urgent = oldest.behind >= LITTLE_CREDIT && unmoved >= HELD_AFTER;
            let standing = if is_overtaken && unmoved >= self.silent_after && spoken >= self.silent_after / 2
            {
                Standing::Silent
            } else if is_overtaken && (is_urgent || is_long) {
                Standing::Held
            } else {
                stood
            };
            newly_held |= stood == Standing::Moving && standing != Standing::Moving;
            seen.insert(scope, Seen { oldest: since, unmoved_since, heard: spoken, standing });
        }
        self.seen = seen;
        self.any = self.seen.values().any(|seen| seen.standing != Standing::Moving);
        newly_held
    }

    /// How many verdicts each destination owes, and its oldest publish. Publishes that wait because
    /// of an older channel do not count.
    fn owed(&mut self, unanswered: impl Iterator<Item = Owed>) -> HashMap<FaultScope, (usize, Owed)> {
        let mut owed: HashMap<FaultScope, (usize, Owed)> = HashMap::new();
        let mut answered = HashMap::new();
        for one in unanswered {
            if let Some(at) = self.answered.get(&one.scope).filter(|at| one.handed_over_at < **at) {
                answered.insert(one.scope, *at);
                continue;
            }
            match owed.get_mut(&one.scope) {
                Some((count, oldest)) => {
                    *count += 1;
                    if one.handed_over_at < oldest.handed_over_at {
                        *oldest = one;
                    }
                }
                None => drop(owed.insert(one.scope.clone(), (1, one))),
            }
        }
        self.answered = answered;
        owed
    }

    /// How long the broker has spoken since the last look; `None` if it has just begun again after
    /// a silence of its own, in which it could not answer for any destination.
    fn spoken_until(&mut self, last_word: Instant) -> Option<Duration> {
        let before = self.last_word.replace(last_word);
        let spoken = before.map_or(Duration::ZERO, |before| last_word.saturating_duration_since(before));
        (spoken <= (self.silent_after / 2).max(3 * HELD_AFTER)).then_some(spoken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing::message_to;
    use proptest::prelude::*;

    const SILENT_AFTER: Duration = Duration::from_secs(1);

    fn queue(name: &str) -> FaultScope {
        FaultScope::of(&message_to("", name))
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// `count` publishes to `name`, one per millisecond starting at `first`.
    fn unanswered(name: &str, first: Instant, count: u64) -> Vec<Owed> {
        let owed = |n: u64| Owed {
            scope: queue(name),
            handed_over_at: first + ms(n),
            behind: 2 * LITTLE_CREDIT - usize::try_from(n).unwrap().min(LITTLE_CREDIT),
        };
        (0..count).map(owed).collect()
    }

    /// The broker said something `at` that moment about a publish that had just been handed over.
    fn heard(at: Instant) -> Heard {
        Heard { last_word: at, newest_answered: at }
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
            if standstill.look(now, heard(now), dead.into_iter().chain(fine)) {
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
                heard(begun + ms(100 * step)),
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
                heard(begun + ms(100 * step)),
                unanswered("dead", begun, 40).into_iter(),
            );
        }
        standstill.settled(&queue("dead"), None);
        assert_eq!((standstill.of(&queue("dead")), standstill.any()), (Standing::Moving, false));
    }

    #[test]
    fn on_a_connection_that_is_silent_altogether_nobody_stands_still() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        for step in 0..50 {
            standstill.look(begun + ms(100 * step), heard(begun), unanswered("dead", begun, 40).into_iter());
        }
        assert_eq!(standstill.of(&queue("dead")), Standing::Moving);
    }

    #[test]
    fn on_a_long_way_to_the_broker_nobody_stands_still() {
        let begun = Instant::now();
        let way = ms(500);
        let mut standstill = Standstill::new(SILENT_AFTER);
        for step in 0..50 {
            // One publish per millisecond; the verdicts come in batches, one per round trip.
            let now = begun + ms(100 * step);
            let batch = begun + way * u32::try_from(step / 5).unwrap();
            let heard = Heard { last_word: now, newest_answered: batch.checked_sub(way).unwrap() };
            standstill.look(now, heard, unanswered("far", batch, 500).into_iter());
            assert!(!standstill.any(), "after {step} looks");
        }
    }

    #[test]
    fn with_much_credit_left_a_destination_is_held_only_after_half_the_time() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        let mut held_at = None;
        for step in 0..10 {
            let now = begun + ms(100 * step);
            let few_behind = unanswered("dead", begun, 40).into_iter().map(|one| Owed { behind: 40, ..one });
            if standstill.look(now, heard(now), few_behind) {
                held_at = Some(step);
            }
        }
        assert_eq!(held_at, Some(5));
    }

    #[test]
    fn it_lasts_while_even_a_few_of_them_are_owed() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        for step in 0..12 {
            let left = if step < 5 { 40 } else { 10 };
            standstill.look(
                begun + ms(100 * step),
                heard(begun + ms(100 * step)),
                unanswered("dead", begun, left).into_iter(),
            );
        }
        assert_eq!(standstill.of(&queue("dead")), Standing::Silent);
    }

    #[test]
    fn a_broker_that_answers_again_after_a_silence_is_given_time_to_come_to_every_destination() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        let look = |standstill: &mut Standstill, at: u64, last_word: u64| {
            standstill.look(
                begun + ms(at),
                heard(begun + ms(last_word)),
                unanswered("fine", begun, 40).into_iter(),
            );
            standstill.of(&queue("fine"))
        };
        for at in [0, 100, 200, 300] {
            look(&mut standstill, at, at);
        }
        for at in [400, 500, 600] {
            look(&mut standstill, at, 300);
        }
        // The publisher was paused meanwhile: nobody looked.
        assert_eq!(look(&mut standstill, 2000, 2000), Standing::Held);
        assert_eq!(look(&mut standstill, 2300, 2300), Standing::Held);
        assert_eq!(look(&mut standstill, 2600, 2600), Standing::Silent);
    }

    #[test]
    fn what_went_before_an_answered_publish_is_the_fault_of_its_channel() {
        let begun = Instant::now();
        let mut standstill = Standstill::new(SILENT_AFTER);
        let look = |standstill: &mut Standstill, at: u64, later: u64| {
            let (now, old, new) = (
                begun + ms(at),
                unanswered("queue", begun, 40),
                unanswered("queue", begun + ms(1200), later),
            );
            standstill.look(now, heard(now), old.into_iter().chain(new));
            standstill.of(&queue("queue"))
        };
        for step in 0..12 {
            look(&mut standstill, 100 * step, 0);
        }
        standstill.settled(&queue("queue"), Some(begun + ms(1150)));
        for step in 12..50 {
            assert_eq!(look(&mut standstill, 100 * step, 0), Standing::Moving);
        }
        for step in 50..70 {
            look(&mut standstill, 100 * step, 40);
        }
        assert_eq!(standstill.of(&queue("queue")), Standing::Silent, "what came later counts");
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
                let unanswered = unanswered("slow", now, in_flight);
                prop_assert!(!standstill.look(now, heard(now), unanswered.into_iter()));
                prop_assert!(!standstill.any());
            }
        }
    }
}
