//! Signs of life of one connection, written by its publisher and read by its supervisor.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When the broker last gave a verdict, and for how much it owes one.
#[derive(Debug)]
pub(super) struct Vitals {
    begun: Instant,
    /// Microseconds after `begun`.
    last_word: AtomicU64,
    owed: AtomicUsize,
}

impl Vitals {
    /// Of a connection that was opened now.
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), last_word: AtomicU64::new(0), owed: AtomicUsize::new(0) }
    }

    /// The broker gave a verdict.
    pub(super) fn word(&self) {
        let since = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_word.store(since, Ordering::Relaxed);
    }

    /// When the broker last gave a verdict; the opening where it never did.
    pub(super) fn last_word(&self) -> Instant {
        self.begun + Duration::from_micros(self.last_word.load(Ordering::Relaxed))
    }

    pub(super) fn set_owed(&self, bytes: usize) {
        self.owed.store(bytes, Ordering::Relaxed);
    }

    /// Bytes of publishes that the broker owes verdicts for.
    pub(super) fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed)
    }
}
