//! How long bytes take over the slowest link that counts as healthy.

use std::time::Duration;

/// Bytes that any link carries in no noticeable time.
const CARRIED_AT_ONCE: usize = 1024 * 1024;

/// The speed of the slowest link that is not called stalled, in bytes per second. A probe waits
/// behind everything that was sent before it, in buffers of the network and the broker that the
/// sidecar cannot see.
const SLOWEST: usize = 1024 * 1024;

/// How long the bytes of unanswered publishes may take to reach the broker.
pub(crate) fn transfer_time(owed: usize) -> Duration {
    let behind = owed.saturating_sub(CARRIED_AT_ONCE);
    Duration::from_millis(u64::try_from(behind.saturating_mul(1000) / SLOWEST).unwrap_or(u64::MAX))
}
