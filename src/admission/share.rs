//! A share of the limits: half of the publishes and of the bytes, so that one kind of work leaves
//! the rest to others.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The share of one kind of work. A publish that hangs keeps its part, however long ago its request
/// was answered.
#[derive(Clone, Debug)]
pub struct Share {
    publishes: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    kib_max: u32,
}

/// The part of the share that one publish has. Given back when dropped.
#[derive(Debug)]
pub struct Part {
    _publish: OwnedSemaphorePermit,
    _kib: OwnedSemaphorePermit,
}

impl Share {
    /// Half of these limits.
    pub(super) fn of(publishes_max: usize, bytes_max: usize) -> Self {
        let kib_max = u32::try_from(bytes_max / 2 / 1024).unwrap_or(u32::MAX).max(1);
        Self {
            publishes: Arc::new(Semaphore::new((publishes_max / 2).max(1))),
            kib: Arc::new(Semaphore::new(kib_max as usize)),
            kib_max,
        }
    }

    /// A part for `bytes`; `None` when too much is under way. A publish larger than the share goes
    /// alone.
    #[must_use]
    pub fn part(&self, bytes: usize) -> Option<Part> {
        let publish = Arc::clone(&self.publishes).try_acquire_owned().ok()?;
        let kib = Arc::clone(&self.kib).try_acquire_many_owned(kib_of(bytes).min(self.kib_max)).ok()?;
        Some(Part { _publish: publish, _kib: kib })
    }

    /// The same, but waits for room. First come, first served.
    pub async fn part_when_free(&self, bytes: usize) -> Part {
        let publish = acquire(&self.publishes, 1).await;
        let kib = acquire(&self.kib, kib_of(bytes).min(self.kib_max)).await;
        Part { _publish: publish, _kib: kib }
    }
}

fn kib_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

async fn acquire(semaphore: &Arc<Semaphore>, count: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_many_owned(count).await.expect("nobody closes a share")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_half_of_the_requests_and_half_of_the_bytes() {
        let share = Share::of(4, 64 << 10);
        let parts = [share.part(1), share.part(1)];
        assert!(parts.iter().all(Option::is_some) && share.part(1).is_none());
        drop(parts);
        let large = share.part(100 << 10).expect("what is larger than the share goes alone");
        assert!(share.part(1).is_none());
        drop(large);
        assert!(share.part(32 << 10).is_some());
    }
}
