//! Room for the lines of streams: within their share of the limits, so that requests of one message still get in.

use crate::admission::{Admission, Permit, Share};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// The places of all streams. Cloning shares them.
#[derive(Clone, Debug)]
pub(in crate::http) struct Places(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    admission: Admission,
    share: Share,
}

impl Places {
    pub(in crate::http) fn new(admission: Admission) -> Self {
        let share = Share::of(admission.limit(), admission.bytes_limit());
        Self(Arc::new(Limits { admission, share }))
    }

    /// A place for a line of `bytes`, if there is one now.
    pub(super) fn take(&self, bytes: usize) -> Option<Permit> {
        self.0.admission.admit_to(&self.0.share, bytes).ok()
    }

    /// The same once there is one, before `until`.
    pub(super) async fn take_by(self, bytes: usize, until: Instant) -> Option<Permit> {
        timeout_at(until, self.0.admission.admit_to_when_free(&self.0.share, bytes)).await.ok()
    }
}

/// Makes a place larger by `bytes` once there is room, before `until`; otherwise it is lost.
pub(super) async fn grow(mut permit: Permit, bytes: usize, until: Instant) -> Option<Permit> {
    timeout_at(until, permit.reserve_when_free(bytes)).await.ok().map(|()| permit)
}
