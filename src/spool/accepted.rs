//! Tells the drain when a request's message was accepted by a destination that refuses the spool's,
//! and tells others for how long the drain has been refused.
//!
//! The drain watches the few destinations that it cannot deliver to. While it watches none, this
//! costs a request a look at one number.

use super::store::Address;
use crate::locking::lock;
use crate::message::Message;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// The largest number of watched destinations. The drain hears nothing of other destinations.
const WATCHED_MAX: usize = 16_384;

/// The destinations that the drain watches. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Acceptances(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    watched: Mutex<HashMap<Address, Arc<AtomicBool>>>,
    count: AtomicUsize,
    /// Accepted since the drain has looked last.
    news: Mutex<Vec<Address>>,
    told: Notify,
    /// The earliest of the clocks of refusing destinations, in Unix milliseconds.
    refused_since_ms: Mutex<Option<i64>>,
}

/// A request's message on its way to a watched destination.
#[derive(Debug)]
pub struct Watched {
    table: Arc<Table>,
    of: Address,
    accepted: Arc<AtomicBool>,
}

impl Acceptances {
    /// Whether the drain watches the destination of a message that is about to be published, and
    /// the message's confirm would prove the route.
    #[must_use]
    pub fn look(&self, message: &Message) -> Option<Box<Watched>> {
        if self.0.count.load(Ordering::Relaxed) == 0 || !message.proves_its_route() {
            return None;
        }
        let of = Address::of(message);
        let accepted = Arc::clone(lock(&self.0.watched).get(&of)?);
        Some(Box::new(Watched { table: Arc::clone(&self.0), of, accepted }))
    }

    /// Since when the broker refuses the destination that it has refused longest, in the store's
    /// Unix milliseconds.
    #[must_use]
    pub fn refused_since_ms(&self) -> Option<i64> {
        *lock(&self.0.refused_since_ms)
    }

    /// The drain's answer to [`Acceptances::refused_since_ms`].
    pub(super) fn are_refused_since(&self, ms: Option<i64>) {
        *lock(&self.0.refused_since_ms) = ms;
    }

    /// From now on requests tell what the destination accepts.
    pub(super) fn watch(&self, of: &Address) {
        let mut watched = lock(&self.0.watched);
        if watched.len() < WATCHED_MAX && !watched.contains_key(of) {
            watched.insert(of.clone(), Arc::default());
            self.0.count.store(watched.len(), Ordering::Relaxed);
        }
    }

    /// The drain has nothing more for the destination, or delivers to it again.
    pub(super) fn forget(&self, of: &Address) {
        if self.0.count.load(Ordering::Relaxed) > 0 {
            let mut watched = lock(&self.0.watched);
            watched.remove(of);
            self.0.count.store(watched.len(), Ordering::Relaxed);
        }
    }

    /// Whether the destination has accepted a message since this was asked last.
    pub(super) fn take(&self, of: &Address) -> bool {
        if self.0.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let watched = lock(&self.0.watched);
        watched.get(of).is_some_and(|accepted| accepted.swap(false, Ordering::AcqRel))
    }

    /// Whether [`Acceptances::take`] would say so.
    pub(super) fn has(&self, of: &Address) -> bool {
        lock(&self.0.watched).get(of).is_some_and(|accepted| accepted.load(Ordering::Acquire))
    }

    /// Waits for destinations that have accepted a message. Dropping the future loses none.
    pub(super) async fn news(&self) {
        self.0.told.notified().await;
    }

    /// The destinations that have accepted a message since this was asked last.
    pub(super) fn take_news(&self) -> Vec<Address> {
        std::mem::take(&mut *lock(&self.0.news))
    }
}

impl Watched {
    /// The broker has confirmed the message.
    pub fn accepted(&self) {
        // Each destination is listed once until the drain has heard of it, so that the list is no
        // longer than the table.
        if !self.accepted.swap(true, Ordering::AcqRel) {
            lock(&self.table.news).push(self.of.clone());
            self.table.told.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing::message_to;

    fn to(queue: &str) -> Message {
        message_to("", queue)
    }

    #[tokio::test]
    async fn an_accepted_message_is_told_once_until_the_drain_has_heard_of_it() {
        let acceptances = Acceptances::default();
        let of = Address::of(&to("q"));
        assert!(acceptances.look(&to("q")).is_none(), "nothing is watched");
        acceptances.watch(&of);
        assert!(acceptances.look(&to("other")).is_none());
        let watched = acceptances.look(&to("q")).unwrap();
        assert!(!acceptances.has(&of));
        watched.accepted();
        watched.accepted();
        acceptances.news().await;
        assert_eq!(acceptances.take_news(), std::slice::from_ref(&of));
        assert!(acceptances.has(&of) && acceptances.take(&of) && !acceptances.take(&of));
        watched.accepted();
        assert_eq!(acceptances.take_news(), std::slice::from_ref(&of));
        acceptances.forget(&of);
        assert!(acceptances.look(&to("q")).is_none() && !acceptances.take(&of));
    }

    #[test]
    fn the_number_of_watched_destinations_is_bounded() {
        let acceptances = Acceptances::default();
        for number in 0..2 * WATCHED_MAX {
            acceptances.watch(&Address::of(&to(&number.to_string())));
        }
        assert_eq!(lock(&acceptances.0.watched).len(), WATCHED_MAX);
    }
}
