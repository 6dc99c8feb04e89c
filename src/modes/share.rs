//! The spool's share of what may be in flight: half of the requests and of the bytes, so that a disk that hangs leaves the rest to the broker.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The share. Appends that hang keep their part of it, however long ago their requests were answered.
#[derive(Debug)]
pub(super) struct Share {
    appends: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    kib_max: u32,
}

/// One append's part of the share. Given back when dropped.
#[derive(Debug)]
pub(super) struct Part {
    _append: OwnedSemaphorePermit,
    _kib: OwnedSemaphorePermit,
}

impl Share {
    /// Half of these limits.
    pub(super) fn of(publishes_max: usize, bytes_max: usize) -> Self {
        let kib_max = u32::try_from(bytes_max / 2 / 1024).unwrap_or(u32::MAX).max(1);
        Self {
            appends: Arc::new(Semaphore::new((publishes_max / 2).max(1))),
            kib: Arc::new(Semaphore::new(kib_max as usize)),
            kib_max,
        }
    }

    /// A part for an append of `bytes`; `None` when too much is under way. What is larger than the share goes alone.
    pub(super) fn part(&self, bytes: usize) -> Option<Part> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.kib_max);
        let append = Arc::clone(&self.appends).try_acquire_owned().ok()?;
        let kib = Arc::clone(&self.kib).try_acquire_many_owned(kib).ok()?;
        Some(Part { _append: append, _kib: kib })
    }
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
