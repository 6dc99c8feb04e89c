//! The idempotency keys in memory: a pure table with a window and a bound. The caller passes the
//! time in.

use super::fingerprint::Fingerprint;
use crate::message::ShortText;
use crate::outcome::Outcome;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// The keys of a window.
#[derive(Debug)]
pub(super) struct Keys {
    window: Duration,
    max: usize,
    entries: HashMap<Fingerprint, Entry>,
    /// The keys that are not under way, in the order in which their requests ended: the numbers
    /// ascend with time.
    ended: BTreeMap<u64, Fingerprint>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    request: Fingerprint,
    message_id: ShortText,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// A request with the key is under way.
    UnderWay,
    /// It ended. `replay` is its final outcome; without one the request may be tried again.
    Ended { number: u64, at: Instant, replay: Option<Outcome> },
}

/// Why a request with a key is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoClaim {
    /// It was published before, with this outcome and message id.
    Replay(Outcome, ShortText),
    /// It is refused with this outcome.
    Refused(Outcome),
}

impl Keys {
    pub(super) fn new(window: Duration, max: usize) -> Self {
        Self { window, max, entries: HashMap::new(), ended: BTreeMap::new(), last: 0 }
    }

    /// A request with this key begins. If it is to be published (with the message id of the first
    /// attempt), its end must be reported.
    pub(super) fn begin(
        &mut self,
        key: Fingerprint,
        request: Fingerprint,
        message_id: &ShortText,
        now: Instant,
    ) -> Result<ShortText, NoClaim> {
        self.expire(now);
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.request != request {
                return Err(NoClaim::Refused(Outcome::IdempotencyKeyReused));
            }
            return match entry.phase {
                Phase::UnderWay => Err(NoClaim::Refused(Outcome::IdempotencyKeyInUse)),
                Phase::Ended { replay: Some(outcome), .. } => {
                    Err(NoClaim::Replay(outcome, entry.message_id.clone()))
                }
                Phase::Ended { number, replay: None, .. } => {
                    entry.phase = Phase::UnderWay;
                    self.ended.remove(&number);
                    Ok(entry.message_id.clone())
                }
            };
        }
        if self.entries.len() >= self.max && !self.forget_oldest() {
            // Too many keys are under way to remember one more.
            return Err(NoClaim::Refused(Outcome::Overloaded));
        }
        let entry = Entry { request, message_id: message_id.clone(), phase: Phase::UnderWay };
        self.entries.insert(key, entry);
        Ok(message_id.clone())
    }

    /// The request ended. Repeated requests are answered `replay`, if there is one, with this
    /// message id.
    pub(super) fn end(&mut self, key: Fingerprint, replay: Option<(Outcome, &ShortText)>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        self.last += 1;
        if let Some((_, message_id)) = replay {
            entry.message_id = message_id.clone();
        }
        let replay = replay.map(|(outcome, _)| outcome);
        entry.phase = Phase::Ended { number: self.last, at: now, replay };
        self.ended.insert(self.last, key);
    }

    /// The request ended and left nothing to remember.
    pub(super) fn forget(&mut self, key: Fingerprint) {
        if let Some(Entry { phase: Phase::Ended { number, .. }, .. }) = self.entries.remove(&key) {
            self.ended.remove(&number);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, key)) = self.ended.first_key_value() {
            let over = match self.entries.get(key).map(|entry| entry.phase) {
                Some(Phase::Ended { at, .. }) => now.saturating_duration_since(at) >= self.window,
                Some(Phase::UnderWay) | None => true,
            };
            if !over || !self.forget_oldest() {
                return;
            }
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let oldest = self.ended.pop_first();
        oldest.is_some_and(|(_, key)| self.entries.remove(&key).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn id(text: &str) -> ShortText {
        ShortText::new(text).unwrap()
    }

    const IN_USE: Result<ShortText, NoClaim> = Err(NoClaim::Refused(Outcome::IdempotencyKeyInUse));
    const REUSED: Result<ShortText, NoClaim> = Err(NoClaim::Refused(Outcome::IdempotencyKeyReused));
    const FULL: Result<ShortText, NoClaim> = Err(NoClaim::Refused(Outcome::Overloaded));

    fn key(number: u8) -> Fingerprint {
        [number; 16]
    }

    #[test]
    fn a_request_is_published_once_and_its_outcome_given_again() {
        let (mut keys, now) = (Keys::new(WINDOW, 8), Instant::now());
        assert_eq!(keys.begin(key(1), key(9), &id("m-1"), now), Ok(id("m-1")));
        assert_eq!(keys.begin(key(1), key(9), &id("m-2"), now), IN_USE);
        assert_eq!(keys.begin(key(1), key(8), &id("m-2"), now), REUSED);
        keys.end(key(1), Some((Outcome::Confirmed, &id("m-1"))), now);
        let replay = Err(NoClaim::Replay(Outcome::Confirmed, id("m-1")));
        assert_eq!(keys.begin(key(1), key(9), &id("m-2"), now + WINDOW / 2), replay);
        assert_eq!(keys.begin(key(1), key(8), &id("m-2"), now), REUSED);
        assert_eq!(keys.begin(key(1), key(8), &id("m-3"), now + WINDOW), Ok(id("m-3")));
    }

    #[test]
    fn what_is_not_final_is_tried_again_with_the_first_message_id() {
        let (mut keys, now) = (Keys::new(WINDOW, 8), Instant::now());
        keys.begin(key(1), key(9), &id("m-1"), now).unwrap();
        keys.end(key(1), None, now);
        assert_eq!(keys.begin(key(1), key(9), &id("m-2"), now), Ok(id("m-1")));
        assert_eq!(keys.begin(key(1), key(9), &id("m-3"), now), IN_USE);
    }

    #[test]
    fn at_the_bound_the_one_that_ended_first_goes_and_none_that_is_under_way() {
        let (mut keys, now) = (Keys::new(WINDOW, 2), Instant::now());
        for number in [1, 2] {
            keys.begin(key(number), key(9), &id("m"), now).unwrap();
        }
        assert_eq!(keys.begin(key(3), key(9), &id("m"), now), FULL);
        keys.end(key(2), None, now);
        assert_eq!(keys.begin(key(3), key(9), &id("m"), now), Ok(id("m")));
        assert_eq!(keys.begin(key(1), key(9), &id("m"), now), IN_USE);
    }

    proptest! {
        #[test]
        fn the_table_keeps_to_its_bound_and_never_lets_two_go_at_once(
            steps in prop::collection::vec((0_u8..6, 0_u8..4, 0_u64..400), 1..200)
        ) {
            let (mut keys, mut now) = (Keys::new(WINDOW, 4), Instant::now());
            let mut under_way = std::collections::HashSet::new();
            for (number, step, seconds) in steps {
                now += Duration::from_secs(seconds);
                match step {
                    0 | 1 => {
                        let begun = keys.begin(key(number), key(9), &id("m"), now);
                        if begun.is_ok() {
                            prop_assert!(under_way.insert(number), "two under way");
                        }
                        prop_assert_eq!(begun == FULL, under_way.len() == 4 && !under_way.contains(&number));
                    }
                    _ if !under_way.remove(&number) => {}
                    2 => keys.end(key(number), Some((Outcome::Spooled, &id("m"))), now),
                    _ => keys.end(key(number), None, now),
                }
                prop_assert!(keys.entries.len() <= 4);
                prop_assert_eq!(keys.entries.len(), keys.ended.len() + under_way.len());
            }
        }
    }
}
