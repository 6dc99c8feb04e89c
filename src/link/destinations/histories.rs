//! Remembers what each destination accepted and since when it refuses. This memory belongs to the
//! process and outlives every connection.
//!
//! A refusal by the broker (403, 404, 312) is about the moment if the destination accepted messages
//! before: a node restarts, a permission is being changed, an exchange is declared again. It is a
//! verdict only if nothing is known of the destination, or if the refusals have lasted for
//! `publish.proven_for`.
//!
//! There are two grades of proof. A destination is *open* after any ack; a 403 or 404 is then about
//! the moment. It is *routable* after the ack of a mandatory message; a 312 is then about the
//! moment. With `CC` or `BCC` the ack says nothing about the destination's own routing key, so the
//! destination does not become routable.
//!
//! This is not [`ProvenDestinations`](super::ProvenDestinations), which says for one connection
//! whether a publish may share its channel.
//!
//! Pure: the caller provides the clock.

use crate::hashing::Map;
use crate::message::{Message, ShortText};
use std::time::Duration;
use tokio::time::Instant;

/// The most destinations that are remembered. If there are more, those whose last confirm is oldest
/// are forgotten.
pub(crate) const DESTINATIONS_MAX: usize = 16_384;

/// The share of the destinations that is forgotten at once, so that each new one costs little.
const FORGOTTEN_AT_ONCE: usize = DESTINATIONS_MAX / 8;

/// How long the broker's last refusal speaks against trying the destination again.
const LATELY: Duration = Duration::from_secs(1);

/// The kinds of refusal by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// 403 or 404.
    Closed,
    /// 312.
    Returned,
}

/// The knowledge about a destination apart from its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prior {
    /// Nothing.
    Unknown,
    /// The destination counts as proven, because its route says so, messages wait for it in the
    /// spool, or the broker knows its queue.
    Proven,
    /// The broker says that the fault is its own, so how long the refusals last does not matter.
    BrokerAtFault,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// What the broker says.
    Verdict,
    /// The refusal is about the moment: the broker has not taken the destination for this long.
    Moment(Duration),
}

#[derive(Clone, Copy, Debug, Default)]
struct History {
    /// The last confirm of any message.
    open: Option<Instant>,
    /// The last confirm of a mandatory message that names no other destination.
    routable: Option<Instant>,
    /// The first 403 or 404 since `open`.
    closed_since: Option<Instant>,
    /// The first 312 since `routable`.
    returned_since: Option<Instant>,
    /// The last message that was refused, nacked or not confirmed in time, since the last accepted
    /// one.
    refused: Option<Instant>,
}

impl History {
    /// By which the oldest is forgotten first.
    fn last_confirm(&self) -> Option<Instant> {
        self.open
    }

    /// When refusals of this kind began, and whether earlier confirms mean that such a refusal is
    /// about the moment.
    fn against(&mut self, word: Word) -> (&mut Option<Instant>, bool) {
        match word {
            Word::Closed => (&mut self.closed_since, self.open.is_some()),
            Word::Returned => (&mut self.returned_since, self.routable.is_some()),
        }
    }
}

/// The histories of all destinations: exchanges with a routing key.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    exchanges: Map<ShortText, Map<ShortText, History>>,
    count: usize,
}

impl Histories {
    /// The broker confirmed the message, and did not return it.
    pub(crate) fn accepted(&mut self, message: &Message, now: Instant) {
        let history = self.of(message, now);
        (history.open, history.closed_since) = (Some(now), None);
        if message.proves_its_route() {
            (history.routable, history.returned_since) = (Some(now), None);
            history.refused = None;
        }
    }

    /// Whether a mandatory message to this destination was ever confirmed.
    pub(crate) fn was_routable(&self, message: &Message) -> bool {
        self.history(message).is_some_and(|history| history.routable.is_some())
    }

    fn history(&self, message: &Message) -> Option<&History> {
        self.exchanges.get(&message.exchange)?.get(&message.routing_key)
    }

    /// The broker nacked the message, or did not confirm it in time.
    pub(crate) fn not_confirmed(&mut self, message: &Message, now: Instant) {
        self.of(message, now).refused = Some(now);
    }

    /// Whether the last message to the destination, within the last second, was refused, nacked or
    /// not confirmed.
    pub(crate) fn refused_lately(&self, message: &Message, now: Instant) -> bool {
        let refused = self.history(message).and_then(|history| history.refused);
        refused.is_some_and(|at| now.saturating_duration_since(at) < LATELY)
    }

    /// The broker refused the message in this way. Returns what that means.
    pub(crate) fn refused(
        &mut self,
        message: &Message,
        word: Word,
        prior: Prior,
        proven_for: Duration,
        now: Instant,
    ) -> Meaning {
        if word == Word::Returned {
            // Its ack came with it.
            let history = self.of(message, now);
            (history.open, history.closed_since) = (Some(now), None);
        }
        if prior == Prior::Unknown && self.history(message).is_none() {
            return Meaning::Verdict;
        }
        let history = self.of(message, now);
        history.refused = Some(now);
        let (since, is_proven) = history.against(word);
        if !is_proven && prior == Prior::Unknown {
            return Meaning::Verdict;
        }
        let lasts = now.saturating_duration_since(*since.get_or_insert(now));
        if lasts < proven_for || prior == Prior::BrokerAtFault {
            Meaning::Moment(lasts)
        } else {
            Meaning::Verdict
        }
    }

    fn of(&mut self, message: &Message, now: Instant) -> &mut History {
        if self.history(message).is_none() {
            if self.count >= DESTINATIONS_MAX {
                self.forget_the_oldest(now);
            }
            self.count += 1;
            let keys = self.exchanges.entry(message.exchange.clone()).or_default();
            keys.insert(message.routing_key.clone(), History::default());
        }
        let keys = self.exchanges.get_mut(&message.exchange);
        keys.and_then(|keys| keys.get_mut(&message.routing_key)).expect("it was inserted if it was missing")
    }

    fn forget_the_oldest(&mut self, now: Instant) {
        // Those that never took a mandatory message go first: a client that invents names must not
        // displace what is known of others.
        let age = |history: &History| {
            let since = |confirm| now.saturating_duration_since(confirm);
            (history.routable.is_none(), history.last_confirm().map_or(Duration::MAX, since))
        };
        let mut ages: Vec<_> = self.exchanges.values().flat_map(Map::values).map(age).collect();
        let kept = ages.len().saturating_sub(FORGOTTEN_AT_ONCE).min(ages.len() - 1);
        let (_, youngest_forgotten, _) = ages.select_nth_unstable(kept);
        let limit = *youngest_forgotten;
        self.exchanges.retain(|_, keys| {
            keys.retain(|_, history| age(history) < limit);
            !keys.is_empty()
        });
        self.count = self.exchanges.values().map(Map::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HeaderValue;
    use crate::message::testing::{message_to as to, short};
    use proptest::prelude::*;

    const PROVEN_FOR: Duration = Duration::from_secs(600);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn refused(histories: &mut Histories, word: Word, now: Instant) -> Meaning {
        histories.refused(&to("e", "k"), word, Prior::Unknown, PROVEN_FOR, now)
    }

    #[test]
    fn nothing_known_makes_a_refusal_a_verdict() {
        let mut histories = Histories::default();
        for word in [Word::Closed, Word::Returned, Word::Returned] {
            assert_eq!(refused(&mut histories, word, Instant::now()), Meaning::Verdict);
        }
    }

    #[test]
    fn a_refusal_after_a_confirm_is_about_the_moment_until_refusals_have_lasted_long() {
        for word in [Word::Closed, Word::Returned] {
            let (mut histories, begun) = (Histories::default(), Instant::now());
            histories.accepted(&to("e", "k"), begun);
            // However long ago the confirm was.
            let first = begun + seconds(86_400);
            for (after, meaning) in [
                (0, Meaning::Moment(seconds(0))),
                (599, Meaning::Moment(seconds(599))),
                (600, Meaning::Verdict),
                (900, Meaning::Verdict),
            ] {
                assert_eq!(refused(&mut histories, word, first + seconds(after)), meaning);
            }
            histories.accepted(&to("e", "k"), first + seconds(1000));
            let again = refused(&mut histories, word, first + seconds(1001));
            assert_eq!(again, Meaning::Moment(seconds(0)), "it took a message meanwhile");
        }
    }

    #[test]
    fn a_confirm_without_mandatory_or_with_copies_speaks_against_403_and_404_only() {
        let mut copied = to("e", "k");
        let cc = HeaderValue::Array(vec![HeaderValue::Text("other".to_owned())]);
        copied.properties.headers.insert(short("CC"), cc);
        for message in [Message { mandatory: false, ..to("e", "k") }, copied] {
            let (mut histories, now) = (Histories::default(), Instant::now());
            histories.accepted(&message, now);
            assert_eq!(refused(&mut histories, Word::Returned, now), Meaning::Verdict);
            assert_eq!(refused(&mut histories, Word::Closed, now), Meaning::Moment(seconds(0)));
        }
    }

    #[test]
    fn a_returned_message_shows_that_the_exchange_is_open() {
        let (mut histories, now) = (Histories::default(), Instant::now());
        assert_eq!(refused(&mut histories, Word::Returned, now), Meaning::Verdict);
        assert_eq!(refused(&mut histories, Word::Closed, now), Meaning::Moment(seconds(0)));
    }

    #[test]
    fn what_counts_as_proven_is_unavailable_for_as_long_and_a_broker_at_fault_for_longer() {
        let (mut histories, begun) = (Histories::default(), Instant::now());
        let mut refused = |prior, after| {
            histories.refused(&to("e", "k"), Word::Closed, prior, PROVEN_FOR, begun + seconds(after))
        };
        assert_eq!(refused(Prior::Proven, 0), Meaning::Moment(seconds(0)));
        assert_eq!(refused(Prior::Proven, 600), Meaning::Verdict);
        assert_eq!(refused(Prior::BrokerAtFault, 601), Meaning::Moment(seconds(601)));
    }

    #[test]
    fn other_destinations_of_the_exchange_are_not_proven_with_it() {
        let (mut histories, now) = (Histories::default(), Instant::now());
        histories.accepted(&to("e", "other"), now);
        assert_eq!(refused(&mut histories, Word::Closed, now), Meaning::Verdict);
    }

    #[test]
    fn returned_messages_to_invented_names_displace_no_proven_destination() {
        let (mut histories, begun) = (Histories::default(), Instant::now());
        histories.accepted(&to("orders", "created"), begun);
        for n in 0..2 * DESTINATIONS_MAX {
            let now = begun + Duration::from_millis(u64::try_from(n).unwrap());
            let invented = to("orders", &format!("invented-{n}"));
            histories.refused(&invented, Word::Returned, Prior::Unknown, PROVEN_FOR, now);
        }
        assert!(histories.was_routable(&to("orders", "created")));
    }

    #[test]
    fn the_destinations_are_bounded_and_the_oldest_confirm_is_forgotten_first() {
        let (mut histories, begun) = (Histories::default(), Instant::now());
        for n in 0..3 * DESTINATIONS_MAX {
            let now = begun + Duration::from_millis(u64::try_from(n).unwrap());
            histories.accepted(&to("busy", ""), now);
            histories.accepted(&to(&format!("e{}", n % 7), &format!("k{n}")), now);
            assert!(histories.count <= DESTINATIONS_MAX);
        }
        assert!(histories.was_routable(&to("busy", "")), "it was confirmed last");
        assert!(!histories.was_routable(&to("e0", "k0")));
    }

    proptest! {
        #[test]
        fn a_moment_is_never_longer_than_the_time_since_the_last_confirm(
            steps in prop::collection::vec((0u64..400, 0u8..3), 1..60),
        ) {
            let (mut histories, mut now) = (Histories::default(), Instant::now());
            let mut last_confirm: Option<Instant> = None;
            for (pause, what) in steps {
                now += seconds(pause);
                let word = match what {
                    0 => {
                        histories.accepted(&to("e", "k"), now);
                        last_confirm = Some(now);
                        continue;
                    }
                    1 => Word::Closed,
                    _ => Word::Returned,
                };
                match (refused(&mut histories, word, now), last_confirm) {
                    (Meaning::Moment(lasts), Some(confirm)) => {
                        prop_assert!(lasts < PROVEN_FOR && lasts <= now - confirm);
                    }
                    (Meaning::Moment(_), None) => prop_assert_eq!(word, Word::Closed),
                    (Meaning::Verdict, _) => {}
                }
            }
        }
    }
}
