//! Signs of life of one connection, shared by its publisher and its vigil.

use crate::link::destinations::Heard;
use crate::link::suspicion::{Taking, Witness};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When the broker last spoke, and how many bytes it owes verdicts for.
#[derive(Debug)]
pub(crate) struct Vitals {
    begun: Instant,
    /// Microseconds after `begun`.
    last_word: AtomicU64,
    /// When the latest message with an answer was handed over, in microseconds after `begun`.
    newest_answered: AtomicU64,
    owed: AtomicUsize,
    in_flight: AtomicUsize,
    unwritten: Arc<AtomicUsize>,
    witness: Witness,
}

impl Vitals {
    /// The vitals of a connection that was opened now. Each sign of life also goes to `witness`.
    pub(crate) fn new(witness: Witness) -> Self {
        Self {
            begun: Instant::now(),
            last_word: AtomicU64::new(0),
            newest_answered: AtomicU64::new(0),
            owed: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            unwritten: Arc::default(),
            witness,
        }
    }

    /// The broker said something.
    pub(crate) fn word(&self) {
        self.last_word.store(self.microseconds(Instant::now()), Ordering::Relaxed);
    }

    /// The broker answered a publish or a probe that was sent at that moment.
    pub(crate) fn answered(&self, handed_over_at: Instant) {
        self.word();
        self.newest_answered.fetch_max(self.microseconds(handed_over_at), Ordering::Relaxed);
        self.witness.answered(handed_over_at);
    }

    /// What was heard so far.
    pub(crate) fn heard(&self) -> Heard {
        let newest_answered = Duration::from_micros(self.newest_answered.load(Ordering::Relaxed));
        Heard { last_word: self.last_word(), newest_answered: self.begun + newest_answered }
    }

    fn microseconds(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }

    /// When the broker last gave a verdict. Before the first one: when the connection was opened.
    pub(crate) fn last_word(&self) -> Instant {
        self.begun + Duration::from_micros(self.last_word.load(Ordering::Relaxed))
    }

    pub(crate) fn set_owed(&self, bytes: usize) {
        self.owed.store(bytes, Ordering::Relaxed);
    }

    /// The knowledge that the connection shares with the others.
    pub(crate) fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Publishes that are with the broker or wait in the publisher. Only current while a connection
    /// is not trusted.
    pub(crate) fn set_in_flight(&self, publishes: usize) {
        self.in_flight.store(publishes, Ordering::Relaxed);
    }

    /// Whether the connection takes one more message now.
    pub(crate) fn takes(&self) -> Taking {
        self.witness.takes(self.in_flight.load(Ordering::Relaxed))
    }

    /// Bytes handed to lapin and not yet on the socket. The lanes count them.
    pub(crate) fn unwritten(&self) -> &Arc<AtomicUsize> {
        &self.unwritten
    }

    /// Bytes of publishes that the broker owes verdicts for.
    pub(crate) fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed)
    }
}
