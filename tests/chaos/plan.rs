//! Makes a schedule from a seed: faults, times, durations, load and limit.

use crate::harness::Direction;
use std::time::Duration;

/// The parameters of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Everything random follows from it.
    pub(crate) seed: u64,
    /// How long the load lasts.
    pub(crate) length: Duration,
}

/// A fault, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The broker dies by SIGKILL and is started again.
    BrokerKilled,
    /// The broker is stopped by SIGSTOP and goes on.
    BrokerPaused,
    /// The broker blocks publishers.
    MemoryAlarm,
    /// The broker closes every connection normally.
    ConnectionsClosed,
    /// An exchange that is in use disappears and is declared again.
    ExchangeDeleted,
    /// A queue that is in use disappears and is declared again.
    QueueDeleted,
    /// All connections end with RST.
    Reset,
    /// All connections end with FIN.
    Finished,
    /// All connections end with RST and no new one is accepted.
    Refused,
    /// Bytes vanish.
    BlackHole(Direction),
    /// Bytes are held back, and flow when the fault is over.
    Held(Direction),
    /// The broker's bytes vanish for a moment, then all connections end with RST.
    ConfirmsLost,
    /// Bytes arrive this much later.
    Delayed(Direction, Duration),
    /// Bytes arrive at this many a second.
    Throttled(Direction, u64),
    /// The sidecar dies by SIGKILL and is started again.
    SidecarKilled,
    /// The sidecar is asked to stop by SIGTERM and is started again.
    SidecarStopped,
}

/// The part that a fault needs exclusively, so that two faults do not undo each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The broker's process and the queues and exchanges in it.
    Broker,
    /// The proxy between sidecar and broker.
    Network,
    /// The sidecar's process.
    Sidecar,
}

/// A fault with its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheduled {
    /// What happens.
    pub(crate) fault: Fault,
    /// When it begins, counted from the episode's beginning.
    pub(crate) after: Duration,
    /// How long it lasts, apart from the time it takes to begin and to end it.
    pub(crate) length: Duration,
}

/// One or two faults, after a calm.
#[derive(Clone, Debug)]
pub(crate) struct Episode {
    /// The time without a fault before it.
    pub(crate) calm: Duration,
    /// The faults, which may overlap.
    pub(crate) faults: Vec<Scheduled>,
}

/// The schedule of a seed.
pub(crate) struct Plan {
    /// Requests a second.
    pub(crate) rate: u32,
    /// `publish.max_in_flight`.
    pub(crate) limit: usize,
    random: fastrand::Rng,
    deck: Vec<Fault>,
    first: bool,
}

/// The calm before the first fault: connections are up and destinations proven by then.
const WARM_UP: Duration = Duration::from_millis(3500);

impl Plan {
    /// The plan of this seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let rate = random.u32(400..=800);
        let limit = random.choice([192, 256, 384]).unwrap_or(256);
        Self { rate, limit, random, deck: Vec::new(), first: true }
    }

    /// The next episode. Every fault comes up before any comes up again.
    pub(crate) fn episode(&mut self) -> Episode {
        let calm = if std::mem::take(&mut self.first) {
            WARM_UP
        } else if self.random.u8(..100) < 30 {
            // Long enough for a look at undisturbed requests.
            ms(self.random.u64(4500..6000))
        } else {
            ms(self.random.u64(100..1500))
        };
        let first = self.draw(None);
        let mut faults = vec![self.scheduled(first, Duration::ZERO)];
        if self.random.u8(..100) < 40 {
            let second = self.draw(Some(part(first)));
            let after = ms(self.random.u64(0..1200));
            faults.push(self.scheduled(second, after));
        }
        Episode { calm, faults }
    }

    fn scheduled(&mut self, fault: Fault, after: Duration) -> Scheduled {
        let length = ms(match fault {
            Fault::Reset | Fault::Finished | Fault::ConnectionsClosed => 0,
            Fault::SidecarKilled | Fault::SidecarStopped => self.random.u64(0..300),
            Fault::BrokerKilled => self.random.u64(0..1500),
            Fault::ConfirmsLost => self.random.u64(50..900),
            Fault::ExchangeDeleted | Fault::QueueDeleted => self.random.u64(20..1500),
            Fault::Delayed(..) => self.random.u64(1000..3000),
            Fault::Throttled(..) => self.random.u64(2000..4000),
            Fault::BrokerPaused
            | Fault::MemoryAlarm
            | Fault::Refused
            | Fault::BlackHole(_)
            | Fault::Held(_) => self.random.u64(200..4500),
        });
        Scheduled { fault, after, length }
    }

    fn draw(&mut self, other_than: Option<Part>) -> Fault {
        let fits = |fault: &Fault| Some(part(*fault)) != other_than;
        if !self.deck.iter().any(fits) {
            let mut fresh = self.fresh_deck();
            self.random.shuffle(&mut fresh);
            fresh.append(&mut self.deck);
            self.deck = fresh;
        }
        let position = self.deck.iter().rposition(fits).expect("a fresh deck has faults of every part");
        self.deck.remove(position)
    }

    fn fresh_deck(&mut self) -> Vec<Fault> {
        use Direction::{Both, FromBroker, ToBroker};
        let later = ms(self.random.u64(50..700));
        let bytes_per_second = self.random.u64(20_000..200_000);
        vec![
            Fault::BrokerKilled,
            Fault::BrokerPaused,
            Fault::MemoryAlarm,
            Fault::ConnectionsClosed,
            Fault::ExchangeDeleted,
            Fault::QueueDeleted,
            Fault::Reset,
            Fault::Finished,
            Fault::Refused,
            Fault::BlackHole(ToBroker),
            Fault::BlackHole(FromBroker),
            Fault::BlackHole(Both),
            Fault::Held(if self.random.bool() { ToBroker } else { FromBroker }),
            Fault::Held(Both),
            Fault::ConfirmsLost,
            Fault::Delayed(if self.random.bool() { FromBroker } else { Both }, later),
            Fault::Throttled(ToBroker, bytes_per_second),
            Fault::Throttled(FromBroker, bytes_per_second / 20),
            Fault::SidecarKilled,
            Fault::SidecarStopped,
        ]
    }
}

/// What a fault needs for itself.
pub(crate) fn part(fault: Fault) -> Part {
    match fault {
        Fault::BrokerKilled
        | Fault::BrokerPaused
        | Fault::MemoryAlarm
        | Fault::ConnectionsClosed
        | Fault::ExchangeDeleted
        | Fault::QueueDeleted => Part::Broker,
        Fault::Reset
        | Fault::Finished
        | Fault::Refused
        | Fault::BlackHole(_)
        | Fault::Held(_)
        | Fault::ConfirmsLost
        | Fault::Delayed(..)
        | Fault::Throttled(..) => Part::Network,
        Fault::SidecarKilled | Fault::SidecarStopped => Part::Sidecar,
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
