//! When a refused record is tried again, and when records are parked: by time. Pure.
//!
//! Each destination has a clock. It starts at the broker's first refusal after the last message
//! that the broker accepted for the destination, and it stops when the broker accepts a message
//! again. When the time is over, the records that were kept before the clock started are parked.
//! The next refusal starts the clock anew.
//!
//! A refusal that left no copy can be repeated often. A refusal that may have left a copy in some
//! queue is repeated a few times, with growing pauses; after that the record is no longer tried,
//! and it is parked when the time since the first of these refusals is over.

use crate::spool::store::{RefusedSince, Seq, Stored, Tries};

/// The pause after the first refusal that may have left a copy. Each further pause is twice as
/// long, up to this part of the time after which records are parked.
const PAUSE_FIRST_MS: i64 = 4_000;
const PAUSE_PART: i64 = 4;
/// The time of which the longest pause is a part, if records are never parked.
pub(super) const HOUR_MS: i64 = 60 * 60 * 1000;
/// When the destination has accepted a message meanwhile, only this part of a pause must have
/// passed.
const HASTE: i64 = 40;
/// A record is parked alone after this many refusals of the message itself within this time.
const REFUSALS_MAX: u32 = 3;
const REFUSALS_WITHIN_MS: i64 = 60_000;

/// The settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParkingRules {
    /// The time after which records are parked; `None`: never.
    pub(super) park_after_ms: Option<i64>,
    /// The largest number of refused deliveries of one record that may have left a copy.
    pub(super) tries_max: u32,
}

/// What the broker refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It refused the destination, and no queue has a copy.
    Destination,
    /// It refused the destination, and some queue may have a copy.
    Copied,
    /// It refused nothing: no verdict came in time. Some queue may have a copy.
    Unanswered,
    /// This message.
    Message,
}

/// What to do with the first record of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Deliver it.
    Try,
    /// Deliver it after a short pause.
    Soon,
    /// Look again at this moment, in Unix milliseconds.
    At(i64),
    /// Park it.
    ParkRecord,
    /// Park all records of the destination up to this one.
    ParkKept(Seq),
}

/// The changes by a refusal that must be noted on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) next: Next,
    /// The clock, if it started.
    pub(super) clock: Option<RefusedSince>,
    /// The record's tries, if this was one.
    pub(super) tries: Option<Tries>,
}

/// The knowledge about one destination and its first record.
#[derive(Clone, Debug, Default)]
pub(super) struct Parking {
    clock: Option<RefusedSince>,
    record: Option<Seq>,
    tries: Option<Tries>,
    /// Whether the last refusal left no copy. If so, the pause between the tries does not apply.
    left_no_copy: bool,
    /// Whether the destination has accepted a message since the record's last try.
    hastens: bool,
    /// Refusals of the message itself, and the first of them.
    refusals: u32,
    refused_since_ms: i64,
    /// Whether the disk failed to write the last note, so that it has less than memory.
    is_unwritten: bool,
}

impl Parking {
    /// Takes over the destination's clock as it is on disk.
    pub(super) fn clock_is(&mut self, clock: Option<RefusedSince>) {
        if !self.is_unwritten {
            self.clock = clock;
        }
    }

    /// Takes note that this is the first record of the destination.
    pub(super) fn first_is(&mut self, stored: &Stored) {
        if self.record != Some(stored.seq) {
            let is_unwritten = self.is_unwritten;
            *self = Self { record: Some(stored.seq), clock: self.clock, is_unwritten, ..Self::default() };
            self.tries.clone_from(&stored.tries);
        } else if !self.is_unwritten {
            self.tries.clone_from(&stored.tries);
        }
    }

    /// Whether the disk has what is known here. If not, memory is newer, and the next refusal is
    /// noted whole.
    pub(super) fn written(&mut self, is_written: bool) {
        self.is_unwritten = !is_written;
    }

    /// What the disk lacks since it failed to write: the clock.
    pub(super) fn unwritten(&self) -> Option<RefusedSince> {
        self.clock.filter(|_| self.is_unwritten)
    }

    /// The broker has accepted a message of the destination. Returns whether the clock ran.
    pub(super) fn accepted(&mut self) -> bool {
        self.hastens = true;
        self.clock.take().is_some()
    }

    /// When the destination's clock started, in Unix milliseconds; `None` while it stands.
    pub(super) fn refused_since_ms(&self) -> Option<i64> {
        self.clock.map(|clock| clock.since_ms)
    }

    /// The code of the broker's last word on the record, if it may have left a copy.
    pub(super) fn word(&self) -> Option<&str> {
        self.tries.as_ref().map(|tries| tries.word.as_str())
    }

    /// Whether the first record is to be delivered now.
    pub(super) fn before(&self, now_ms: i64, rules: ParkingRules) -> Next {
        let Some(tries) = &self.tries else { return Next::Try };
        if is_exhausted(tries, rules) {
            return self.rest(now_ms, rules);
        }
        let pause = pause_ms(tries.count, rules) / if self.hastens { HASTE } else { 1 };
        let again = tries.last_ms.saturating_add(pause);
        let is_due = self.due(rules).is_some_and(|due| due <= now_ms);
        if self.left_no_copy || again <= now_ms || is_due { Next::Try } else { Next::At(again) }
    }

    /// The broker has refused the first record, with this code. `kept` is the last record that was
    /// kept for any destination.
    pub(super) fn refused(
        &mut self,
        what: Refused,
        word: &str,
        now_ms: i64,
        kept: Seq,
        rules: ParkingRules,
    ) -> Noted {
        self.hastens = false;
        self.left_no_copy = what == Refused::Destination;
        let starts = matches!(what, Refused::Destination | Refused::Copied) && self.clock.is_none();
        if starts {
            self.clock = Some(RefusedSince { since_ms: now_ms, last: kept });
        }
        let clock = self.clock.filter(|_| starts);
        match what {
            Refused::Message => {
                if self.refusals == 0 || now_ms - self.refused_since_ms > REFUSALS_WITHIN_MS {
                    (self.refusals, self.refused_since_ms) = (0, now_ms);
                }
                self.refusals += 1;
                let next = if self.refusals < REFUSALS_MAX { Next::Soon } else { Next::ParkRecord };
                Noted { next, clock, tries: None }
            }
            Refused::Destination => {
                let next = self.over(now_ms, rules).unwrap_or(Next::Soon);
                Noted { next, clock, tries: None }
            }
            Refused::Copied | Refused::Unanswered => {
                let before = self.tries.take();
                let tries = Tries {
                    count: before.as_ref().map_or(0, |tries| tries.count).saturating_add(1),
                    first_ms: before.map_or(now_ms, |tries| tries.first_ms),
                    last_ms: now_ms,
                    word: word.to_owned(),
                };
                self.tries = Some(tries.clone());
                Noted { next: self.rest(now_ms, rules), clock, tries: Some(tries) }
            }
        }
    }

    /// The next step after a try that may have left a copy.
    fn rest(&self, now_ms: i64, rules: ParkingRules) -> Next {
        if let Some(over) = self.over(now_ms, rules) {
            return over;
        }
        let Some(tries) = &self.tries else { return Next::Try };
        let again = tries.last_ms.saturating_add(pause_ms(tries.count, rules));
        match self.due(rules) {
            Some(due) if is_exhausted(tries, rules) => Next::At(due),
            Some(due) => Next::At(due.min(again)),
            None => Next::At(again),
        }
    }

    /// The records to park, if the time of any record is over.
    fn over(&self, now_ms: i64, rules: ParkingRules) -> Option<Next> {
        let is_over = |since_ms| due(since_ms, rules).is_some_and(|due| due <= now_ms);
        if let Some(RefusedSince { since_ms, last }) = self.clock
            && is_over(since_ms)
        {
            return Some(Next::ParkKept(last));
        }
        self.tries.as_ref().filter(|tries| is_over(tries.first_ms)).map(|_| Next::ParkRecord)
    }

    /// When the time of the clock or of the record is over, whichever is sooner.
    fn due(&self, rules: ParkingRules) -> Option<i64> {
        let clock = self.clock.map(|clock| clock.since_ms);
        let record = self.tries.as_ref().map(|tries| tries.first_ms);
        clock.into_iter().chain(record).filter_map(|since_ms| due(since_ms, rules)).min()
    }
}

fn due(since_ms: i64, rules: ParkingRules) -> Option<i64> {
    rules.park_after_ms.map(|after| since_ms.saturating_add(after))
}

/// If nothing is ever parked, a record that is no longer tried would wait for ever.
fn is_exhausted(tries: &Tries, rules: ParkingRules) -> bool {
    rules.park_after_ms.is_some() && tries.count >= rules.tries_max.max(1)
}

fn pause_ms(count: u32, rules: ParkingRules) -> i64 {
    let doubled = PAUSE_FIRST_MS.saturating_mul(1i64 << count.saturating_sub(1).min(40));
    doubled.min(rules.park_after_ms.unwrap_or(HOUR_MS) / PAUSE_PART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Properties, ShortText};
    use proptest::prelude::*;
    use std::collections::HashMap;

    const RULES: ParkingRules = ParkingRules { park_after_ms: Some(HOUR_MS), tries_max: 10 };
    const NEVER: ParkingRules = ParkingRules { park_after_ms: None, tries_max: 10 };
    /// The longest of the short pauses.
    const SOON_MS: i64 = 30_000;

    fn stored(seq: i64, tries: Option<Tries>) -> Stored {
        let message = Message {
            exchange: ShortText::default(),
            routing_key: ShortText::default(),
            mandatory: true,
            properties: Properties::default(),
            payload: bytes::Bytes::new(),
        };
        let (seq, handed_over) = (Seq::new(seq), tries.is_some());
        Stored { seq, message, created_ms: 0, expires_ms: i64::MAX, attempts: 0, handed_over, tries }
    }

    /// The moments at which a record is tried while the broker always refuses it in this way, and
    /// what happens to the record at the end.
    fn play(what: Refused, rules: ParkingRules, until_ms: i64) -> (Vec<i64>, Option<(i64, Next)>) {
        let (mut parking, mut now, mut tried) = (Parking::default(), 0, Vec::new());
        parking.first_is(&stored(1, None));
        while now < until_ms {
            let mut next = parking.before(now, rules);
            if next == Next::Try {
                tried.push(now);
                next = parking.refused(what, "word", now, Seq::new(1), rules).next;
            }
            match next {
                Next::Try => panic!("a refused record is not tried at once"),
                Next::Soon => now += 4_000,
                Next::At(then) => now = then.max(now + 1),
                Next::ParkRecord | Next::ParkKept(_) => return (tried, Some((now, next))),
            }
        }
        (tried, None)
    }

    #[test]
    fn what_left_no_copy_is_repeated_every_few_seconds_and_parked_after_the_time() {
        let (tried, end) = play(Refused::Destination, RULES, 2 * HOUR_MS);
        assert!(tried.len() > 800);
        assert_eq!(end, Some((HOUR_MS, Next::ParkKept(Seq::new(1)))));
    }

    #[test]
    fn what_may_have_left_a_copy_is_tried_ten_times_that_span_most_of_the_time() {
        let (tried, end) = play(Refused::Copied, RULES, 2 * HOUR_MS);
        assert_eq!(tried.len(), 10);
        assert_eq!(tried[..3], [0, 4_000, 12_000]);
        assert!(tried[9] > HOUR_MS / 2, "{tried:?}");
        assert_eq!(end, Some((HOUR_MS, Next::ParkKept(Seq::new(1)))));
        let (unanswered, end) = play(Refused::Unanswered, RULES, 2 * HOUR_MS);
        assert_eq!((unanswered, end), (tried, Some((HOUR_MS, Next::ParkRecord))), "it starts no clock");
    }

    #[test]
    fn a_refused_message_is_parked_alone_after_three_refusals_and_starts_no_clock() {
        let (tried, end) = play(Refused::Message, RULES, HOUR_MS);
        assert_eq!((tried.len(), end), (3, Some((8_000, Next::ParkRecord))));
        let mut parking = Parking::default();
        parking.first_is(&stored(1, None));
        for now in [0, 61_000, 122_000] {
            let noted = parking.refused(Refused::Message, "word", now, Seq::new(1), RULES);
            assert_eq!(noted, Noted { next: Next::Soon, clock: None, tries: None }, "not within a minute");
        }
    }

    #[test]
    fn where_nothing_is_parked_everything_is_tried_again_for_ever() {
        for what in [Refused::Destination, Refused::Copied, Refused::Unanswered] {
            let (tried, end) = play(what, NEVER, 20 * HOUR_MS);
            assert!(tried.len() >= 80 && end.is_none(), "{what:?}: {}", tried.len());
        }
    }

    #[test]
    fn an_accepted_message_stops_the_clock_and_hastens_the_next_try() {
        let mut parking = Parking::default();
        parking.first_is(&stored(1, None));
        let noted = parking.refused(Refused::Copied, "nacked", 1_000, Seq::new(1), RULES);
        assert_eq!((noted.next, parking.before(1_100, RULES)), (Next::At(5_000), Next::At(5_000)));
        assert!(parking.accepted());
        assert_eq!(parking.before(1_100, RULES), Next::Try);
        let noted = parking.refused(Refused::Copied, "nacked", 1_100, Seq::new(1), RULES);
        assert_eq!(noted.clock.map(|clock| clock.since_ms), Some(1_100), "the clock starts anew");
        assert!(parking.accepted());
        assert_eq!(parking.before(1_150, RULES), Next::At(1_300), "each time a little later");
    }

    #[test]
    fn after_a_restart_the_pauses_and_the_clock_go_on() {
        let tries = Tries { count: 5, first_ms: 1_000, last_ms: 61_000, word: "nacked".to_owned() };
        let mut parking = Parking::default();
        parking.clock_is(Some(RefusedSince { since_ms: 1_000, last: Seq::new(7) }));
        parking.first_is(&stored(1, Some(tries)));
        assert_eq!((parking.before(70_000, RULES), parking.word()), (Next::At(125_000), Some("nacked")));
        assert_eq!(parking.before(125_000, RULES), Next::Try);
        assert_eq!(parking.before(HOUR_MS + 1_000, RULES), Next::Try, "once more before it is parked");
        let noted = parking.refused(Refused::Destination, "x", HOUR_MS + 1_000, Seq::new(9), RULES);
        assert_eq!(noted.next, Next::ParkKept(Seq::new(7)));
    }

    /// What happens to a destination.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The broker's next word on a delivery.
        Word(Refused),
        /// A delivery is confirmed.
        Confirmed,
        /// A request to the destination is accepted.
        Accepted,
        /// A record is kept.
        Kept,
        /// Time passes.
        Passes(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => Just(Event::Word(Refused::Destination)),
            6 => Just(Event::Word(Refused::Copied)),
            2 => Just(Event::Word(Refused::Unanswered)),
            1 => Just(Event::Word(Refused::Message)),
            1 => Just(Event::Confirmed),
            1 => Just(Event::Accepted),
            2 => Just(Event::Kept),
            3 => (0..HOUR_MS).prop_map(Event::Passes),
        ]
    }

    /// A destination with its records, and the rules that must hold for it.
    #[derive(Default)]
    struct Model {
        now: i64,
        parking: Parking,
        queue: Vec<(Seq, Option<Tries>)>,
        last: i64,
        kept_at: HashMap<Seq, i64>,
        /// The first refusal since the last acceptance.
        refused_at: Option<i64>,
        copies: HashMap<Seq, Vec<i64>>,
        refusals: HashMap<Seq, Vec<i64>>,
    }

    impl Model {
        fn keep(&mut self) {
            self.last += 1;
            self.queue.push((Seq::new(self.last), None));
            self.kept_at.insert(Seq::new(self.last), self.now);
        }

        fn accept(&mut self) {
            self.parking.accepted();
            self.refused_at = None;
        }

        /// The record is tried, if it may be, and the broker says this of it.
        fn word(&mut self, word: Option<Refused>) {
            let Some((seq, tries)) = self.queue.first().cloned() else { return };
            self.parking.first_is(&stored(seq.number(), tries));
            let mut next = self.parking.before(self.now, RULES);
            if next == Next::Try {
                let Some(what) = word else {
                    self.queue.remove(0);
                    return self.accept();
                };
                if matches!(what, Refused::Destination | Refused::Copied) {
                    self.refused_at = self.refused_at.or(Some(self.now));
                }
                if matches!(what, Refused::Copied | Refused::Unanswered) {
                    self.copies.entry(seq).or_default().push(self.now);
                }
                if what == Refused::Message {
                    self.refusals.entry(seq).or_default().push(self.now);
                }
                let noted = self.parking.refused(what, "word", self.now, Seq::new(self.last), RULES);
                if let Some(tries) = noted.tries {
                    self.queue[0].1 = Some(tries);
                }
                next = noted.next;
            }
            self.follow(seq, next);
        }

        fn follow(&mut self, seq: Seq, next: Next) {
            match next {
                Next::Try => {}
                Next::Soon => self.now += SOON_MS,
                Next::At(then) => assert!(then > self.now && then <= self.now + HOUR_MS),
                Next::ParkRecord => {
                    let first = self.copies.get(&seq).map(|copies| copies[0]);
                    let is_over = first.is_some_and(|first| self.now >= first + HOUR_MS);
                    let often = self.refusals.get(&seq).is_some_and(|refusals| refusals.len() >= 3);
                    assert!(is_over || often, "{seq} is parked at {}", self.now);
                    self.queue.remove(0);
                }
                Next::ParkKept(last) => {
                    let since = self.refused_at.take().expect("a clock runs only after a refusal");
                    assert!(self.now >= since + HOUR_MS, "parked {} ms after the refusal", self.now - since);
                    self.queue.retain(|(seq, _)| *seq > last);
                    assert!((1..=last.number()).all(|seq| self.kept_at[&Seq::new(seq)] <= since));
                    self.parking = Parking::default();
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_parked_before_its_time_and_no_record_leaves_more_copies_than_allowed(
            events in prop::collection::vec(event(), 1..400),
        ) {
            let mut model = Model::default();
            for event in events {
                match event {
                    Event::Word(what) => model.word(Some(what)),
                    Event::Confirmed => model.word(None),
                    Event::Accepted => model.accept(),
                    Event::Kept => model.keep(),
                    Event::Passes(ms) => model.now += ms,
                }
            }
            prop_assert!(model.copies.values().all(|copies| copies.len() <= 10));
        }

        #[test]
        fn what_is_always_refused_is_parked_in_its_time(
            words in prop::collection::vec(0..3usize, 1..2_000),
        ) {
            let kinds = [Refused::Destination, Refused::Copied, Refused::Unanswered];
            let mut model = Model::default();
            model.keep();
            model.word(Some(Refused::Destination));
            for word in words.into_iter().cycle() {
                if model.queue.is_empty() {
                    break;
                }
                prop_assert!(model.now <= HOUR_MS + SOON_MS, "still there at {}", model.now);
                model.word(Some(kinds[word]));
                model.now += 1_000;
            }
        }
    }
}
