//! The number of ready records for each destination as of the last commit, in memory.

use crate::locking::lock;
use crate::spool::store::entry::Address;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The counts. The writer updates them after each commit, before it answers. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadyCounts(Arc<Mutex<HashMap<Address, u64>>>);

impl ReadyCounts {
    pub(crate) fn has(&self, destination: &Address) -> bool {
        lock(&self.0).contains_key(destination)
    }

    /// Sets the counts of these destinations.
    pub(crate) fn tell(&self, counts: impl IntoIterator<Item = (Address, u64)>) {
        let mut known = lock(&self.0);
        for (destination, ready) in counts {
            if ready == 0 {
                known.remove(&destination);
            } else {
                known.insert(destination, ready);
            }
        }
    }
}
