//! What waits in the spool for each destination, counted in memory: nothing may overtake it on the way to the broker.
//!
//! A destination is listed from before an append until its last ready record is confirmed or parked. Listed in
//! vain costs a message a detour over the disk; not listed in vain would cost its order, so every doubt lists it.

use super::store::{Destination, ReadError, StoreHandle};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Destinations that are compared with the store at a time, at most.
const DESTINATIONS_MAX: usize = 1 << 20;

/// The destinations with ready records. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    destinations: HashMap<Destination, Line>,
    /// Appends begun, over all destinations.
    begun: u64,
}

/// What waits for one destination.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// Records that are ready, appends under way included.
    ready: u64,
    /// Appends under way.
    pending: u64,
    /// The last append to it, by its number over all.
    last_begun: u64,
}

/// A moment in the life of a destination's line: before a look at the store, to judge after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    begun: u64,
    was_pending: bool,
}

/// An append under way. Dropped without a word it counts as stored: the store was asked, and nobody heard it answer.
#[derive(Debug)]
pub struct Pending {
    backlog: Backlog,
    destination: Destination,
    stored: bool,
}

impl Backlog {
    /// Whether records wait for the destination, or may.
    #[must_use]
    pub fn has(&self, destination: &Destination) -> bool {
        self.lock().destinations.contains_key(destination)
    }

    /// Records that are ready, over all destinations, appends under way included.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.lock().destinations.values().map(|line| line.ready).sum()
    }

    /// An append to the destination is about to be sent.
    #[must_use]
    pub fn append(&self, destination: Destination) -> Pending {
        let mut waiting = self.lock();
        waiting.begun += 1;
        let begun = waiting.begun;
        let line = waiting.destinations.entry(destination.clone()).or_default();
        line.ready += 1;
        line.pending += 1;
        line.last_begun = begun;
        drop(waiting);
        Pending { backlog: self.clone(), destination, stored: true }
    }

    /// Records of the destination became ready that were not appended now: an operator's redrive.
    pub fn added(&self, destination: &Destination, records: u64) {
        if records > 0 {
            self.lock().destinations.entry(destination.clone()).or_default().ready += records;
        }
    }

    /// Records of the destination are no longer ready, and the store has committed that.
    pub fn removed(&self, destination: &Destination, records: u64) {
        self.lock().take(destination, records);
    }

    /// Before a look at the store that may find the destination empty.
    #[must_use]
    pub fn mark(&self, destination: &Destination) -> Mark {
        self.lock().mark(destination)
    }

    /// The look, begun after `mark`, found nothing ready: whatever the count says, nothing waits, unless an append
    /// was or came under way.
    pub fn found_empty(&self, destination: &Destination, mark: Mark) {
        let mut waiting = self.lock();
        if !mark.was_pending
            && waiting.destinations.get(destination).is_some_and(|line| line.last_begun <= mark.begun)
        {
            waiting.destinations.remove(destination);
        }
    }

    /// Makes the list that of the store: at the start, and after changes that do not say which records they were
    /// about (expiry, redrive, discard).
    ///
    /// # Errors
    /// When the store cannot be read; the list is then as it was.
    pub async fn reconcile(&self, store: &StoreHandle) -> Result<(), ReadError> {
        let marks: Vec<(Destination, Mark)> = {
            let waiting = self.lock();
            waiting.destinations.keys().map(|known| (known.clone(), waiting.mark(known))).collect()
        };
        let found: HashMap<_, _> = store
            .destinations(DESTINATIONS_MAX)
            .await?
            .into_iter()
            .map(|found| (found.destination, found.ready))
            .collect();
        for (known, mark) in &marks {
            if !found.contains_key(known) {
                self.found_empty(known, *mark);
            }
        }
        let mut waiting = self.lock();
        for (destination, ready) in found {
            let line = waiting.destinations.entry(destination).or_default();
            line.ready = line.ready.max(ready);
        }
        Ok(())
    }

    // Plain counts: a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn mark(&self, destination: &Destination) -> Mark {
        let was_pending = self.destinations.get(destination).is_some_and(|line| line.pending > 0);
        Mark { begun: self.begun, was_pending }
    }

    fn take(&mut self, destination: &Destination, records: u64) {
        let Some(line) = self.destinations.get_mut(destination) else { return };
        line.ready = line.ready.saturating_sub(records);
        if line.ready == 0 && line.pending == 0 {
            self.destinations.remove(destination);
        }
    }
}

impl Pending {
    /// The store answered that it has no such record.
    pub fn not_stored(mut self) {
        self.stored = false;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut waiting = self.backlog.lock();
        if let Some(line) = waiting.destinations.get_mut(&self.destination) {
            line.pending = line.pending.saturating_sub(1);
        }
        waiting.take(&self.destination, u64::from(!self.stored));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ShortText;

    fn to(queue: &str) -> Destination {
        Destination { exchange: ShortText::default(), routing_key: ShortText::new(queue).unwrap() }
    }

    #[test]
    fn a_destination_is_listed_from_before_the_append_until_its_last_record_is_gone() {
        let backlog = Backlog::default();
        let first = backlog.append(to("q"));
        assert!(backlog.has(&to("q")) && !backlog.has(&to("other")));
        let second = backlog.append(to("q"));
        drop(first);
        drop(second);
        backlog.removed(&to("q"), 1);
        assert!(backlog.has(&to("q")));
        backlog.removed(&to("q"), 1);
        assert!(!backlog.has(&to("q")));
    }

    #[test]
    fn what_was_not_stored_does_not_wait() {
        let backlog = Backlog::default();
        backlog.append(to("q")).not_stored();
        assert!(!backlog.has(&to("q")));
    }

    #[test]
    fn a_record_delivered_before_its_append_was_answered_leaves_nothing() {
        let backlog = Backlog::default();
        let pending = backlog.append(to("q"));
        backlog.removed(&to("q"), 1);
        assert!(backlog.has(&to("q")), "nobody has answered the append yet");
        drop(pending);
        assert!(!backlog.has(&to("q")));
    }

    #[test]
    fn an_empty_look_counts_only_without_appends_since() {
        let backlog = Backlog::default();
        drop(backlog.append(to("q")));
        let mark = backlog.mark(&to("q"));
        drop(backlog.append(to("q")));
        backlog.found_empty(&to("q"), mark);
        assert!(backlog.has(&to("q")), "an append began after the mark");
        let pending = backlog.append(to("q"));
        let mark = backlog.mark(&to("q"));
        drop(pending);
        backlog.found_empty(&to("q"), mark);
        assert!(backlog.has(&to("q")), "an append was under way at the mark");
        let mark = backlog.mark(&to("q"));
        drop(backlog.append(to("other")));
        backlog.found_empty(&to("q"), mark);
        assert!(!backlog.has(&to("q")) && backlog.has(&to("other")));
    }
}
