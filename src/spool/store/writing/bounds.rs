//! The bounds of the store: its size, a destination's share of it, and the disk's free space.

use crate::spool::store::errors::FullReason;
use crate::spool::store::settings::{PAGE_BYTES, StoreSettings};

/// Appends are refused above this, so that confirms and parks find space below the hard limit.
const HIGH_PERCENT: u64 = 95;
/// A full store accepts appends again below this.
const LOW_PERCENT: u64 = 90;

/// Measurements at the beginning of a transaction, and the bytes that it has added since.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) max_bytes: u64,
    share_bytes: u64,
    disk_reserve: u64,
    pub(crate) live: u64,
    added: u64,
    free_disk: u64,
    pub(crate) full: bool,
}

impl Bounds {
    pub(crate) fn new(settings: &StoreSettings) -> Self {
        let max_bytes = settings.max_pages() * PAGE_BYTES;
        Self {
            max_bytes,
            share_bytes: percent(max_bytes, settings.destination_percent.into()),
            disk_reserve: settings.disk_reserve,
            live: 0,
            added: 0,
            free_disk: u64::MAX,
            full: false,
        }
    }

    /// Called when a transaction begins: the bytes in use and the bytes free on the disk.
    pub(crate) fn measured(&mut self, live: u64, free_disk: u64) {
        (self.live, self.added, self.free_disk) = (live, 0, free_disk);
        if live >= percent(self.max_bytes, HIGH_PERCENT) {
            self.full = true;
        } else if live <= percent(self.max_bytes, LOW_PERCENT) {
            self.full = false;
        }
    }

    /// Whether a row of `bytes` fits, for a destination that has `destination_bytes`.
    pub(crate) fn admit(&mut self, bytes: u64, destination_bytes: u64) -> Result<(), FullReason> {
        let cost = cost(bytes);
        if self.full || self.live + self.added + cost > percent(self.max_bytes, HIGH_PERCENT) {
            return Err(FullReason::Spool);
        }
        if destination_bytes + bytes > self.share_bytes {
            return Err(FullReason::Destination);
        }
        if self.free_disk.saturating_sub(self.added + cost) < self.disk_reserve {
            return Err(FullReason::Disk);
        }
        self.added += cost;
        Ok(())
    }

    /// The bound that was exceeded when SQLite found no space.
    pub(crate) fn met(&self) -> FullReason {
        let hard = self.live + self.added >= percent(self.max_bytes, HIGH_PERCENT);
        if hard { FullReason::Spool } else { FullReason::Disk }
    }
}

/// The bytes that a row takes in the file. A row larger than a quarter of a page takes whole pages.
fn cost(bytes: u64) -> u64 {
    if bytes < PAGE_BYTES / 4 { bytes + bytes / 8 } else { bytes.next_multiple_of(PAGE_BYTES) + PAGE_BYTES }
}

fn percent(of: u64, percent: u64) -> u64 {
    of / 100 * percent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        let settings = StoreSettings {
            max_bytes: 100 * PAGE_BYTES,
            destination_percent: 10,
            disk_reserve: 1000,
            ..StoreSettings::new("unused")
        };
        Bounds::new(&settings)
    }

    #[test]
    fn full_at_the_high_mark_and_open_again_only_at_the_low_one() {
        let mut bounds = bounds();
        for (pages, open) in [(94, true), (95, false), (94, false), (91, false), (90, true), (94, true)] {
            bounds.measured(pages * PAGE_BYTES, u64::MAX);
            assert_eq!(bounds.admit(100, 0).is_ok(), open, "{pages} pages");
        }
    }

    #[test]
    fn what_a_transaction_adds_counts_at_once() {
        let mut bounds = bounds();
        bounds.measured(90 * PAGE_BYTES, u64::MAX);
        let admitted = (0..1000).take_while(|_| bounds.admit(1000, 0).is_ok()).count();
        assert!((30..=40).contains(&admitted), "{admitted} rows of 1000 bytes in five pages");
        bounds.measured(90 * PAGE_BYTES, u64::MAX);
        assert_eq!(bounds.admit(5 * PAGE_BYTES, 0), Err(FullReason::Spool));
        assert_eq!(bounds.admit(100, 0), Ok(()), "a smaller one fits");
    }

    #[test]
    fn a_destination_keeps_to_its_share_and_all_to_the_reserve() {
        let mut bounds = bounds();
        bounds.measured(0, 1_000_000);
        assert_eq!(bounds.admit(100, 10 * PAGE_BYTES), Err(FullReason::Destination));
        bounds.measured(0, 1100);
        assert_eq!(bounds.admit(100, 0), Err(FullReason::Disk));
    }
}
