//! The bounds on what is in flight: publishes and bytes, admitted at once or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is in flight against two limits. Cloning shares the counts.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    publishes: AtomicUsize,
    bytes: AtomicUsize,
    publishes_max: usize,
    bytes_max: usize,
}

/// The right to have one publish, and the bytes reserved for it, in flight. Given back when dropped.
///
/// A permit moves with its message: from the request into the link, and stays there until the publish is
/// resolved. A request that gave up keeps its permit until then, so that the unresolved publishes of a silent
/// broker stay bounded however long it is silent (promise 3).
#[derive(Debug)]
pub struct Permit {
    counts: Arc<Counts>,
    bytes: usize,
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
        }))
    }

    /// A permit for one publish, with no bytes reserved yet.
    ///
    /// # Errors
    /// [`Overloaded`] when `publishes_max` permits are out.
    pub fn admit(&self) -> Result<Permit, Overloaded> {
        take(&self.0.publishes, 1, self.0.publishes_max)?;
        Ok(Permit { counts: Arc::clone(&self.0), bytes: 0 })
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

impl Permit {
    /// Reserves `bytes` more for this publish.
    ///
    /// # Errors
    /// [`Overloaded`] when the sum over all permits would exceed the limit.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Overloaded> {
        self.reserve_below(self.counts.bytes_max, bytes)
    }

    /// The same below a limit of the caller's own, to leave the rest to others.
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
}
