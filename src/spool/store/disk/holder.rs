//! Which process has a store, found out without taking it.

use crate::spool::store::errors::OpenError;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;

/// Held by the process that has the store.
pub(crate) const LOCK: &str = "lock";

/// The process that has a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number as it knows it itself, when it left one.
    pub pid: Option<u32>,
}

impl Holder {
    /// The one that left its number in a lock.
    pub(crate) fn named_in(lock: &mut File) -> Self {
        let mut text = String::new();
        // The number only names the process: the lock itself says that somebody has the store.
        let read = lock.read_to_string(&mut text);
        Self { pid: read.ok().and_then(|_| text.trim().parse().ok()) }
    }
}

/// The process that has the store in a directory; `None` when nobody does. Nothing is made or changed.
///
/// # Errors
/// When its lock cannot be looked at.
pub fn holder(directory: &Path) -> Result<Option<Holder>, OpenError> {
    let path = directory.join(LOCK);
    let failed = |source| OpenError::Files { doing: "looking at", path: path.clone(), source };
    let mut lock = match File::open(&path) {
        Ok(lock) => lock,
        // A copy of a store has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // A shared lock, released with the file: two processes that look do not take each other for the holder.
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(Holder::named_in(&mut lock))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
