//! How many records are ready for each destination, as the last commit left them: asked in memory, without waiting.

use super::entry::Destination;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts, told by the writer after each commit and before it answers anybody. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadyCounts(Arc<Mutex<HashMap<Destination, u64>>>);

impl ReadyCounts {
    pub(super) fn has(&self, destination: &Destination) -> bool {
        self.lock().contains_key(destination)
    }

    /// These destinations have so many now.
    pub(super) fn tell(&self, counts: impl IntoIterator<Item = (Destination, u64)>) {
        let mut known = self.lock();
        for (destination, ready) in counts {
            if ready == 0 {
                known.remove(&destination);
            } else {
                known.insert(destination, ready);
            }
        }
    }

    // Each entry is whole: a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<Destination, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
