//! Which process has a store. Asking does not take the store.

use crate::spool::store::errors::{OpenError, files};
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;

/// The file that is locked by the process that has the store.
pub(crate) const LOCK: &str = "lock";

/// The process that has a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id in its own namespace, if it wrote one.
    pub pid: Option<u32>,
}

impl Holder {
    /// The process whose id is in the lock file.
    pub(crate) fn named_in(lock: &mut File) -> Self {
        let mut text = String::new();
        // The id is only a name: the lock itself shows that a process has the store.
        let read = lock.read_to_string(&mut text);
        Self { pid: read.ok().and_then(|_| text.trim().parse().ok()) }
    }
}

/// The process that has the store in a directory; `None` if no process has it. Creates and changes
/// nothing.
///
/// # Errors
/// When the lock cannot be examined.
pub fn holder(directory: &Path) -> Result<Option<Holder>, OpenError> {
    let path = directory.join(LOCK);
    let failed = files("looking at", &path);
    let mut lock = match File::open(&path) {
        Ok(lock) => lock,
        // A copy of a store has no lock file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // A shared lock, released with the file: two processes that ask do not mistake each other for
    // the holder.
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(Holder::named_in(&mut lock))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
