//! Which destinations have waiting messages in the spool: no newer message may overtake those.
//!
//! The store itself counts its ready records, as of its last commit. This list has only the changes
//! that the store has not answered yet, so there is no second count that could diverge from the
//! first.

use super::store::{Address, StoreHandle};
use crate::locking::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The destinations with waiting messages. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Backlog {
    store: StoreHandle,
    /// Changes under way that make records ready.
    pending: Arc<Mutex<HashMap<Address, u64>>>,
    /// Operators' changes of what is ready.
    changes: Arc<AtomicU64>,
}

/// A change under way that makes records ready. If it is dropped without [`Pending::settled`], the
/// change stays under way: the store's answer is unknown.
#[derive(Debug)]
pub struct Pending {
    backlog: Backlog,
    destination: Address,
}

impl Backlog {
    pub(super) fn new(store: StoreHandle) -> Self {
        Self { store, pending: Arc::default(), changes: Arc::default() }
    }

    /// Whether records wait for the destination, or may wait.
    #[must_use]
    pub fn has(&self, destination: &Address) -> bool {
        // The order matters: the store reports a change before the change stops being pending.
        lock(&self.pending).contains_key(destination) || self.store.has_ready(destination)
    }

    /// Called before the store is asked for a change that makes records of the destination ready.
    #[must_use]
    pub fn pending(&self, destination: Address) -> Pending {
        *lock(&self.pending).entry(destination.clone()).or_default() += 1;
        Pending { backlog: self.clone(), destination }
    }

    /// An operator changes which records are ready: records read before this must not be delivered,
    /// and pauses that were meant for others end.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The number of calls of [`Backlog::changed`].
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

impl Pending {
    /// The store has answered; from now on its own count includes the change.
    pub fn settled(self) {
        let mut pending = lock(&self.backlog.pending);
        if let Some(count) = pending.get_mut(&self.destination) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Properties, ShortText};
    use crate::spool::store::{Appended, NewRecord, Seq, Store, StoreSettings};
    use tempfile::TempDir;

    fn to(queue: &str) -> Address {
        Address { exchange: ShortText::default(), routing_key: ShortText::new(queue).unwrap() }
    }

    fn opened() -> (TempDir, Store, Backlog) {
        let directory = tempfile::tempdir().unwrap();
        let (store, handle) = Store::open(StoreSettings::new(directory.path().join("spool"))).unwrap();
        (directory, store, Backlog::new(handle))
    }

    async fn append(backlog: &Backlog, queue: &str) -> Seq {
        let Address { exchange, routing_key } = to(queue);
        let properties = Properties::default();
        let message = Message { exchange, routing_key, mandatory: true, properties, payload: "x".into() };
        match backlog.store.append(NewRecord { message, idempotency: None }).await {
            Ok(Appended::Stored(seq)) => seq,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_destination_is_listed_from_before_the_append_until_its_last_record_is_gone() {
        let (_directory, _store, backlog) = opened();
        let pending = [backlog.pending(to("q")), backlog.pending(to("q"))];
        assert!(backlog.has(&to("q")) && !backlog.has(&to("other")));
        let seqs = [append(&backlog, "q").await, append(&backlog, "q").await];
        pending.into_iter().for_each(Pending::settled);
        for seq in seqs {
            assert!(backlog.has(&to("q")));
            backlog.store.confirm(vec![seq]).await.unwrap();
        }
        assert!(!backlog.has(&to("q")));
    }

    #[tokio::test]
    async fn what_was_not_stored_does_not_wait_and_what_nobody_answered_does() {
        let (_directory, _store, backlog) = opened();
        backlog.pending(to("q")).settled();
        assert!(!backlog.has(&to("q")));
        drop(backlog.pending(to("q")));
        assert!(backlog.has(&to("q")));
    }

    #[tokio::test]
    async fn a_record_delivered_before_its_append_was_answered_leaves_nothing() {
        let (_directory, _store, backlog) = opened();
        let pending = backlog.pending(to("q"));
        let seq = append(&backlog, "q").await;
        backlog.store.confirm(vec![seq]).await.unwrap();
        assert!(backlog.has(&to("q")), "nobody has answered the append yet");
        pending.settled();
        assert!(!backlog.has(&to("q")));
    }

    #[tokio::test]
    async fn what_is_parked_does_not_wait_and_is_counted_once_whoever_takes_it() {
        let (_directory, store, backlog) = opened();
        let seqs = [append(&backlog, "q").await, append(&backlog, "q").await];
        backlog.store.park(vec![seqs[0]], "operator").await.unwrap();
        backlog.store.confirm(vec![seqs[0]]).await.unwrap();
        assert!(backlog.has(&to("q")), "the second one waits");
        backlog.store.park(vec![seqs[1]], "operator").await.unwrap();
        assert!(!backlog.has(&to("q")));
        backlog.store.redrive(vec![seqs[1]]).await.unwrap();
        assert!(backlog.has(&to("q")));
        store.close();
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_waits_from_the_start() {
        let (directory, store, backlog) = opened();
        append(&backlog, "q").await;
        store.close();
        let (_store, handle) = Store::open(StoreSettings::new(directory.path().join("spool"))).unwrap();
        assert!(Backlog::new(handle).has(&to("q")));
    }
}
