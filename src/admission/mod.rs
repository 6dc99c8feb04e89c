//! The bounds on publishes and bytes in flight. A publish is admitted or refused at once, or may
//! wait for room.

mod share;

pub use share::{Part, Share};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Counts publishes and bytes in flight against two limits. Cloning shares the counts.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    publishes: AtomicUsize,
    bytes: AtomicUsize,
    publishes_max: usize,
    bytes_max: usize,
    /// Wakes one waiting publish for each permit that is given back.
    freed: Notify,
}

/// The right to have one publish, and the bytes reserved for it, in flight. Given back when
/// dropped.
///
/// A permit moves with its message from the request into the link, and stays there until the
/// publish is resolved. The permit stays even if the request has given up, so that the unresolved
/// publishes stay bounded, however long the broker is silent.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<Counts>,
    bytes: usize,
    /// Its part of a share, if it has one: unresolved publishes count in the share, too.
    part: Option<Part>,
}

/// A limit is reached; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the in-flight limit is reached")]
pub struct Overloaded;

impl Admission {
    /// Bounds of `publishes_max` publishes and `bytes_max` bytes.
    #[must_use]
    pub fn new(publishes_max: usize, bytes_max: usize) -> Self {
        Self(Arc::new(Counts {
            publishes: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            publishes_max,
            bytes_max,
            freed: Notify::new(),
        }))
    }

    /// A permit for one publish, with no bytes reserved yet.
    ///
    /// # Errors
    /// [`Overloaded`] when `publishes_max` permits are out.
    pub fn admit(&self) -> Result<Permit, Overloaded> {
        take(&self.0.publishes, 1, self.0.publishes_max)?;
        Ok(Permit { counts: Arc::clone(&self.0), bytes: 0, part: None })
    }

    /// A permit for a publish of `bytes` inside a share.
    ///
    /// # Errors
    /// [`Overloaded`] when the share or a limit is reached.
    pub fn admit_to(&self, share: &Share, bytes: usize) -> Result<Permit, Overloaded> {
        let part = share.part(bytes).ok_or(Overloaded)?;
        let mut permit = self.admit()?;
        permit.reserve(bytes)?;
        permit.part = Some(part);
        Ok(permit)
    }

    /// The same, but waits for room. If the future is dropped while it waits, it takes nothing.
    pub async fn admit_to_when_free(&self, share: &Share, bytes: usize) -> Permit {
        let part = share.part_when_free(bytes).await;
        let mut permit = self.0.when_freed(|| self.admit()).await;
        self.0.when_freed(|| permit.reserve(bytes)).await;
        permit.part = Some(part);
        permit
    }

    /// A share of its own for one kind of work: half of the limits.
    #[must_use]
    pub fn share(&self) -> Share {
        Share::of(self.limit(), self.bytes_limit())
    }

    /// Publishes in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.publishes.load(Ordering::Relaxed)
    }

    /// The most publishes in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.publishes_max
    }

    /// The most bytes in flight.
    #[must_use]
    pub fn bytes_limit(&self) -> usize {
        self.0.bytes_max
    }
}

impl Counts {
    /// The result of `attempt` once it succeeds. It is tried again whenever a permit is given back.
    async fn when_freed<T>(&self, mut attempt: impl FnMut() -> Result<T, Overloaded>) -> T {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Listens from here on, so that no permit given back after the attempt is missed.
            freed.as_mut().enable();
            if let Ok(taken) = attempt() {
                return taken;
            }
            freed.await;
        }
    }
}

impl Permit {
    /// Reserves `bytes` more for this publish.
    ///
    /// # Errors
    /// [`Overloaded`] when the sum over all permits would exceed the limit.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Overloaded> {
        self.reserve_below(self.counts.bytes_max, bytes)
    }

    /// The same, but below a limit that the caller sets to leave the rest to others.
    ///
    /// # Errors
    /// [`Overloaded`] when the sum over all permits would exceed `most`, or the limit.
    pub fn reserve_below(&mut self, most: usize, bytes: usize) -> Result<(), Overloaded> {
        take(&self.counts.bytes, bytes, most.min(self.counts.bytes_max))?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counts.publishes.fetch_sub(1, Ordering::Relaxed);
        self.counts.freed.notify_one();
    }
}

fn take(counter: &AtomicUsize, amount: usize, max: usize) -> Result<(), Overloaded> {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            taken.checked_add(amount).filter(|sum| *sum <= max)
        })
        .map(|_| ())
        .map_err(|_| Overloaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_number_of_permits_out() {
        let admission = Admission::new(2, 100);
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert_eq!(admission.admit().unwrap_err(), Overloaded);
        drop(first);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn a_refused_reservation_takes_nothing() {
        let admission = Admission::new(2, 100);
        let mut first = admission.admit().unwrap();
        let mut second = admission.admit().unwrap();
        first.reserve(60).unwrap();
        assert_eq!(second.reserve(41).unwrap_err(), Overloaded);
        second.reserve(40).unwrap();
        drop(first);
        second.reserve(60).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_is_given_back_and_a_share_leaves_the_rest_to_others() {
        let (admission, share) = (Admission::new(4, 8 << 10), Share::of(4, 8 << 10));
        let mut held: Vec<_> =
            std::iter::from_fn(|| admission.admit_to(&share, 1 << 10).ok()).take(4).collect();
        assert_eq!(held.len(), 2, "half of four");
        let others = [admission.admit().unwrap(), admission.admit().unwrap()];
        let waiting = admission.admit_to_when_free(&share, 1 << 10);
        tokio::pin!(waiting);
        let moment = std::time::Duration::from_millis(1);
        held.pop();
        assert_eq!(admission.in_flight(), 3);
        drop(tokio::time::timeout(moment, &mut waiting).await.expect("one was given back"));
        held.push(admission.admit_to_when_free(&share, 3 << 10).await);
        let waiting = admission.admit_to_when_free(&share, 3 << 10);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(moment, &mut waiting).await.is_err(), "half of the bytes");
        drop((held, others));
        tokio::time::timeout(moment, &mut waiting).await.expect("all else is given back");
    }
}
