//! A suspicion of one connection concerns all: the knowledge that all connections share of a broker
//! that may have stopped answering. `ledger` decides; this file shares the ledger between tasks and
//! wakes them.

mod ledger;
#[cfg(test)]
mod ledger_tests;

use crate::admission::Permit;
use crate::locking::lock;
use ledger::{Ledger, Trust};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The knowledge that all connections of a link share. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Suspicion(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger<Permit>>,
    /// Whether answers change anything now. Ordinarily they do not, and cost one load.
    answers_matter: AtomicBool,
    all_are_trusted: AtomicBool,
    /// Tells the connections that they are asked, and requests that trust has changed.
    changes: watch::Sender<()>,
    /// The most publishes in flight on a connection that may take only its part.
    part: usize,
    /// The longest time that a message waits for a connection to prove itself.
    patience: Duration,
}

/// One connection's place in the shared knowledge. It is given up when dropped.
#[derive(Debug)]
pub(super) struct Witness {
    shared: Arc<Shared>,
    number: u64,
}

/// Whether a connection takes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// It does.
    Yes,
    /// It has to prove itself first. A message may wait for that until this moment.
    NotBefore(Instant),
}

impl Suspicion {
    /// For `connections` that share an in-flight limit.
    pub(super) fn new(connections: usize, max_in_flight: usize, stall_timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            ledger: Mutex::new(Ledger::new()),
            answers_matter: AtomicBool::new(false),
            all_are_trusted: AtomicBool::new(true),
            changes: watch::channel(()).0,
            part: max_in_flight.div_ceil(connections.max(1)),
            patience: stall_timeout / 2,
        }))
    }

    /// A connection to `address` is open. Its newest answered request was sent at `proven`.
    pub(super) fn join(&self, address: &str, proven: Instant) -> Witness {
        let shared = Arc::clone(&self.0);
        let number = shared.change(|ledger| ledger.join(address, proven, Instant::now()));
        Witness { shared, number }
    }

    /// Whether every connection takes messages as usual. The ordinary case costs one load.
    pub(super) fn all_are_trusted(&self) -> bool {
        self.0.all_are_trusted.load(Ordering::Relaxed)
    }

    /// Changes whenever trust may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Ledger<Permit>) -> T) -> T {
        let mut ledger = lock(&self.ledger);
        let changed = change(&mut ledger);
        let released = ledger.released();
        self.answers_matter.store(ledger.answers_matter(), Ordering::Relaxed);
        self.all_are_trusted.store(ledger.all_are_trusted(), Ordering::Relaxed);
        drop(ledger);
        // A dropped permit wakes a task that waits for one, so permits are dropped outside of the
        // lock.
        released.for_each(drop);
        self.changes.send_replace(());
        changed
    }
}

impl Witness {
    /// The broker answered something that was sent at `sent`.
    pub(super) fn answered(&self, sent: Instant) {
        if self.shared.answers_matter.load(Ordering::Relaxed) {
            self.shared.change(|ledger| ledger.answered(self.number, sent));
        }
    }

    /// Nothing that was sent at `since` or later is answered, although the broker was asked.
    pub(super) fn suspect(&self, since: Instant) {
        self.shared.change(|ledger| ledger.suspect(self.number, since, Instant::now()));
    }

    /// Asks every connection to prove that it is alive now.
    pub(super) fn ask_everybody(&self, now: Instant) {
        self.shared.change(|ledger| ledger.ask(now));
    }

    /// The broker blocks publishers.
    pub(super) fn blocked(&self) {
        self.shared.change(|ledger| ledger.blocked(self.number));
    }

    /// The broker takes publishes again.
    pub(super) fn unblocked(&self) {
        self.shared.change(|ledger| ledger.unblocked(self.number, Instant::now()));
    }

    /// A publish was lost with this connection: its permit is given out again when that is safe.
    pub(super) fn lost(&self, permit: Permit) {
        self.shared.change(|ledger| ledger.lost(permit, Instant::now()));
    }

    /// The connection takes nothing more, for ever.
    pub(super) fn leave(&self) {
        // A connection that finishes says so in every turn, and news of it would be the next turn.
        if lock(&self.shared.ledger).has(self.number) {
            self.shared.change(|ledger| ledger.leave(self.number));
        }
    }

    /// Whether it should prove that it is alive.
    pub(super) fn is_asked(&self) -> bool {
        self.shared.answers_matter.load(Ordering::Relaxed) && lock(&self.shared.ledger).is_asked(self.number)
    }

    /// Whether every connection takes messages as ever.
    pub(super) fn all_are_trusted(&self) -> bool {
        self.shared.all_are_trusted.load(Ordering::Relaxed)
    }

    /// Whether the connection takes one more message while `in_flight` publishes are on it.
    pub(super) fn takes(&self, in_flight: usize) -> Taking {
        if self.shared.all_are_trusted.load(Ordering::Relaxed) {
            return Taking::Yes;
        }
        match lock(&self.shared.ledger).trust(self.number) {
            Trust::Full => Taking::Yes,
            Trust::Part(_) if in_flight < self.shared.part => Taking::Yes,
            Trust::Part(since) | Trust::Nothing(since) => Taking::NotBefore(since + self.shared.patience),
        }
    }

    /// Changes whenever the connection may be asked.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.leave();
    }
}
