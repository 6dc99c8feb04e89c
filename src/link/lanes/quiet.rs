//! A waker that remembers that it woke, so that a pass can tell quiet from paused.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Wakes the owner's task and remembers that it did.
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
