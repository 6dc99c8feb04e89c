//! How long bytes take over the slowest link that still counts as well.

use std::time::Duration;

/// Bytes that any link carries without being noticed.
const CARRIED_AT_ONCE: usize = 1024 * 1024;

/// The slowest link, in bytes a second, that is not called stalled. A probe waits behind whatever was sent before
/// it, in buffers of the network and of the broker that cannot be looked into.
const SLOWEST: usize = 1024 * 1024;

/// How long the bytes that a broker owes verdicts for may take to get there.
pub(crate) fn transfer_time(owed: usize) -> Duration {
    let behind = owed.saturating_sub(CARRIED_AT_ONCE);
    Duration::from_millis(u64::try_from(behind.saturating_mul(1000) / SLOWEST).unwrap_or(u64::MAX))
}
