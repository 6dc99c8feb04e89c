//! Tests of the ledger in virtual time: its decisions, and that an outage is bounded whatever
//! happens.

use super::ledger::{Ledger, Trust};
use proptest::prelude::*;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A clock that starts anywhere.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn at(self, milliseconds: u64) -> Instant {
        self.0 + Duration::from_millis(milliseconds)
    }
}

fn scene() -> (Ledger<&'static str>, Clock) {
    (Ledger::new(), Clock(Instant::now()))
}

fn released(ledger: &mut Ledger<&'static str>) -> Vec<&'static str> {
    ledger.released().collect()
}

#[test]
fn the_permits_of_a_lost_connection_wait_until_its_sibling_answers_something_younger() {
    let (mut ledger, clock) = scene();
    let [first, second] = [0, 1].map(|_| ledger.join("a", clock.at(0), clock.at(0)));
    ledger.lost("permit", clock.at(100));
    ledger.leave(first);
    assert!(ledger.is_asked(second));
    ledger.answered(second, clock.at(99));
    assert!(released(&mut ledger).is_empty(), "this was sent before the loss");
    ledger.answered(second, clock.at(100));
    assert_eq!(released(&mut ledger), ["permit"]);
    assert!(!ledger.is_asked(second) && !ledger.answers_matter());
}

#[test]
fn permits_wait_for_a_connection_elsewhere_as_well() {
    let (mut ledger, clock) = scene();
    let [first, second] = ["a", "b"].map(|address| ledger.join(address, clock.at(0), clock.at(0)));
    ledger.lost("permit", clock.at(100));
    ledger.leave(first);
    assert!(released(&mut ledger).is_empty());
    ledger.answered(second, clock.at(101));
    assert_eq!(released(&mut ledger), ["permit"]);
}

#[test]
fn without_a_connection_permits_do_not_wait_so_that_the_spool_has_them() {
    let (mut ledger, clock) = scene();
    let only = ledger.join("a", clock.at(0), clock.at(0));
    ledger.lost("permit", clock.at(100));
    ledger.leave(only);
    assert_eq!(released(&mut ledger), ["permit"]);
    let next = ledger.join("a", clock.at(200), clock.at(201));
    assert_eq!(ledger.trust(next), Trust::Full, "its handshake is the proof");
}

#[test]
fn while_one_is_suspected_its_siblings_take_nothing_and_others_their_part() {
    let (mut ledger, clock) = scene();
    let [first, sibling, other] =
        ["a", "a", "b"].map(|address| ledger.join(address, clock.at(0), clock.at(0)));
    ledger.suspect(first, clock.at(100), clock.at(600));
    assert_eq!(ledger.trust(first), Trust::Nothing(clock.at(600)));
    assert_eq!(ledger.trust(sibling), Trust::Nothing(clock.at(600)));
    assert_eq!(ledger.trust(other), Trust::Part(clock.at(600)));

    ledger.answered(sibling, clock.at(99));
    assert_eq!(ledger.trust(sibling), Trust::Nothing(clock.at(600)), "older than the suspicion");
    ledger.answered(sibling, clock.at(100));
    ledger.answered(other, clock.at(100));
    assert_eq!([sibling, other].map(|number| ledger.trust(number)), [Trust::Full; 2]);
    assert_eq!(ledger.trust(first), Trust::Nothing(clock.at(600)), "it still says nothing");
    ledger.answered(first, clock.at(101));
    assert!(ledger.all_are_trusted());
}

#[test]
fn whoever_answered_when_one_was_asked_is_above_suspicion() {
    let (mut ledger, clock) = scene();
    let [first, sibling] = [0, 1].map(|_| ledger.join("a", clock.at(0), clock.at(0)));
    ledger.ask(clock.at(100));
    assert!(ledger.is_asked(first) && ledger.is_asked(sibling) && ledger.answers_matter());
    ledger.answered(sibling, clock.at(101));
    ledger.suspect(first, clock.at(100), clock.at(600));
    assert_eq!(ledger.trust(sibling), Trust::Full);
}

#[test]
fn a_second_suspicion_does_not_prolong_the_wait_of_messages() {
    let (mut ledger, clock) = scene();
    let [first, sibling] = [0, 1].map(|_| ledger.join("a", clock.at(0), clock.at(0)));
    ledger.suspect(first, clock.at(100), clock.at(600));
    ledger.suspect(sibling, clock.at(150), clock.at(650));
    assert_eq!(ledger.trust(sibling), Trust::Nothing(clock.at(600)));
}

#[test]
fn who_took_nothing_during_a_loss_proves_itself_younger_than_the_loss() {
    let (mut ledger, clock) = scene();
    let [first, sibling] = [0, 1].map(|_| ledger.join("a", clock.at(0), clock.at(0)));
    ledger.suspect(first, clock.at(100), clock.at(600));
    ledger.lost("permit", clock.at(2000));
    ledger.leave(first);
    assert_eq!(released(&mut ledger), ["permit"], "nobody takes messages");
    ledger.answered(sibling, clock.at(1999));
    assert_eq!(ledger.trust(sibling), Trust::Nothing(clock.at(600)));
    ledger.answered(sibling, clock.at(2000));
    assert_eq!(ledger.trust(sibling), Trust::Full);
}

#[test]
fn a_blocked_connection_is_not_asked_keeps_nothing_back_and_proves_itself_afterwards() {
    let (mut ledger, clock) = scene();
    let [first, blocked] = [0, 1].map(|_| ledger.join("a", clock.at(0), clock.at(0)));
    ledger.blocked(blocked);
    ledger.lost("permit", clock.at(100));
    ledger.leave(first);
    assert!(!ledger.is_asked(blocked));
    assert_eq!(released(&mut ledger), ["permit"]);
    ledger.unblocked(blocked, clock.at(500));
    assert_eq!(ledger.trust(blocked), Trust::Nothing(clock.at(500)));
    assert!(ledger.is_asked(blocked));
    ledger.answered(blocked, clock.at(501));
    assert_eq!(ledger.trust(blocked), Trust::Full);
}

const LIMIT: usize = 8;
const PLACES: usize = 4;
const ADDRESSES: [&str; PLACES] = ["a", "a", "b", "c"];

/// One step of a world of a few connections.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    Answer(usize),
    Probe(usize),
    /// An outage of the places whose bits are set.
    Outage(u8),
    Suspect(usize, u64),
    Ask,
    Lose(usize),
    Connect(usize),
    Block(usize),
    Unblock(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..PLACES;
    prop_oneof![
        8 => place.clone().prop_map(Step::Send),
        3 => place.clone().prop_map(Step::Answer),
        1 => place.clone().prop_map(Step::Probe),
        1 => any::<u8>().prop_map(Step::Outage),
        1 => (place.clone(), 0u64..20).prop_map(|(place, ago)| Step::Suspect(place, ago)),
        1 => Just(Step::Ask),
        2 => place.clone().prop_map(Step::Lose),
        1 => place.clone().prop_map(Step::Connect),
        1 => place.clone().prop_map(Step::Block),
        1 => place.prop_map(Step::Unblock),
    ]
}

struct Connection {
    number: u64,
    /// When each unanswered publish was sent, and its permit.
    flights: Vec<(Instant, Rc<()>)>,
    /// The outage that it is in: nothing is answered any more.
    outage: Option<usize>,
    is_blocked: bool,
}

struct World {
    ledger: Ledger<Rc<()>>,
    permits: Rc<()>,
    now: Instant,
    places: [Option<Connection>; PLACES],
    /// The publishes lost in each outage.
    lost: Vec<usize>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            ledger: Ledger::new(),
            permits: Rc::new(()),
            now: Instant::now(),
            places: [const { None }; PLACES],
            lost: Vec::new(),
        };
        (0..PLACES).for_each(|place| world.connect(place));
        world
    }

    fn permits_out(&self) -> usize {
        Rc::strong_count(&self.permits) - 1
    }

    fn connect(&mut self, place: usize) {
        if self.places[place].is_none() {
            let number = self.ledger.join(ADDRESSES[place], self.now, self.now);
            let connection = Connection { number, flights: Vec::new(), outage: None, is_blocked: false };
            self.places[place] = Some(connection);
        }
    }

    fn send(&mut self, place: usize) {
        let may_send = self.permits_out() < LIMIT;
        let Some(connection) = &mut self.places[place] else { return };
        let takes = match self.ledger.trust(connection.number) {
            Trust::Full => true,
            Trust::Part(_) => connection.flights.len() < LIMIT / PLACES,
            Trust::Nothing(_) => false,
        };
        if may_send && takes && !connection.is_blocked {
            connection.flights.push((self.now, Rc::clone(&self.permits)));
        }
    }

    fn answer(&mut self, place: usize) {
        let Some(connection) = &mut self.places[place] else { return };
        if connection.outage.is_none() && !connection.flights.is_empty() {
            let (sent, _permit) = connection.flights.remove(0);
            self.ledger.answered(connection.number, sent);
        }
    }

    fn probe(&mut self, place: usize) {
        let connection = self.places[place].as_ref();
        if let Some(connection) = connection.filter(|connection| connection.outage.is_none()) {
            self.ledger.answered(connection.number, self.now);
        }
    }

    fn outage(&mut self, places: u8) {
        let outage = self.lost.len();
        self.lost.push(0);
        for (place, connection) in self.places.iter_mut().enumerate() {
            let connection = connection.as_mut().filter(|_| places & (1 << place) != 0);
            if let Some(connection) = connection {
                connection.outage.get_or_insert(outage);
            }
        }
    }

    fn lose(&mut self, place: usize) {
        let Some(connection) = self.places[place].take() else { return };
        if let Some(outage) = connection.outage {
            self.lost[outage] += connection.flights.len();
        }
        for (_, permit) in connection.flights {
            self.ledger.lost(permit, self.now);
        }
        self.ledger.leave(connection.number);
    }

    fn block(&mut self, place: usize, is_blocked: bool) {
        let Some(connection) = &mut self.places[place] else { return };
        match (connection.is_blocked, is_blocked) {
            (false, true) => self.ledger.blocked(connection.number),
            (true, false) if connection.outage.is_none() => {
                self.ledger.unblocked(connection.number, self.now)
            }
            _ => return,
        }
        connection.is_blocked = is_blocked;
    }

    fn take(&mut self, step: Step) {
        self.now += Duration::from_millis(1);
        match step {
            Step::Send(place) => self.send(place),
            Step::Answer(place) => self.answer(place),
            Step::Probe(place) => self.probe(place),
            Step::Outage(places) => self.outage(places),
            Step::Suspect(place, ago) => {
                if let Some(connection) = &self.places[place] {
                    let since = self.now - Duration::from_millis(ago);
                    self.ledger.suspect(connection.number, since, self.now);
                }
            }
            Step::Ask => self.ledger.ask(self.now),
            Step::Lose(place) => self.lose(place),
            Step::Connect(place) => self.connect(place),
            Step::Block(place) => self.block(place, true),
            Step::Unblock(place) => self.block(place, false),
        }
        self.ledger.released().for_each(drop);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_outage_loses_more_than_the_limit_over_all_connections(
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            prop_assert!(world.lost.iter().all(|lost| *lost <= LIMIT), "{:?} after {step:?}", world.lost);
        }
    }

    #[test]
    fn once_all_connections_answer_every_permit_is_back_and_everybody_is_trusted(
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        for place in 0..PLACES {
            if world.places[place].as_ref().is_some_and(|connection| connection.outage.is_some()) {
                world.take(Step::Lose(place));
            }
            world.take(Step::Unblock(place));
        }
        for place in 0..PLACES {
            world.take(Step::Probe(place));
        }
        let flights = world.places.iter().flatten().map(|connection| connection.flights.len());
        prop_assert_eq!(world.permits_out(), flights.sum::<usize>());
        prop_assert!(world.ledger.all_are_trusted() && !world.ledger.answers_matter());
    }
}
