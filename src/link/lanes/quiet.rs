//! A waker that remembers that it was woken, so that a pass can tell whether it is really quiet.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Wakes the owner's task and remembers the wake.
#[derive(Default)]
pub(crate) struct QuietWaker {
    woken: AtomicBool,
    owner: AtomicWaker,
}

impl QuietWaker {
    /// The task to wake from now on.
    pub(crate) fn listen(&self, owner: &Waker) {
        self.owner.register(owner);
    }

    /// Whether it woke since the last call.
    pub(crate) fn woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for QuietWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.owner.wake();
    }
}
