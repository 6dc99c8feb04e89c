//! The settings of a store.

use std::path::PathBuf;
use std::time::Duration;

/// The size of a page of the database.
pub(super) const PAGE_BYTES: u64 = 8192;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The directory, created if it is missing. Other users cannot read it.
    pub directory: PathBuf,
    /// The largest size of the database file, in bytes. The log beside it takes up to 16 MiB more,
    /// or one large message.
    pub max_bytes: u64,
    /// One destination's share of `max_bytes`, in percent, 1 to 100.
    pub destination_percent: u8,
    /// Bytes that appends leave free on the disk.
    pub disk_reserve: u64,
    /// Records older than this are parked.
    pub max_age: Duration,
    /// How long an idempotency key is remembered.
    pub dedup_window: Duration,
}

impl StoreSettings {
    /// The defaults for a store in `directory`: 1 GiB, half of it for one destination, a day.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_bytes: 1 << 30,
            destination_percent: 50,
            disk_reserve: 64 << 20,
            max_age: 24 * HOUR,
            dedup_window: HOUR,
        }
    }

    /// When a record stored now expires, in Unix milliseconds. The message's own expiration may be
    /// earlier.
    pub(super) fn expires_ms(&self, now_ms: i64, expiration_ms: Option<u32>) -> i64 {
        let max_age = i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX);
        now_ms.saturating_add(expiration_ms.map_or(max_age, |own| max_age.min(own.into())))
    }

    /// Whether a message's own expiration decides when its record expires.
    pub(super) fn is_own(&self, expiration_ms: Option<u32>) -> bool {
        expiration_ms.is_some_and(|own| u128::from(own) < self.max_age.as_millis())
    }

    pub(super) fn max_pages(&self) -> u64 {
        (self.max_bytes / PAGE_BYTES).max(16)
    }
}
