//! One way to lock a mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks the mutex, even after a thread has panicked while it held the lock. So the guarded data
/// must be consistent between any two statements that can panic, like a count or a whole entry of a
/// map.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
