//! Room for the lines of streams: in flight, within their share of the limits, and in memory while
//! a long line arrives.

use super::rejection::Rejection;
use crate::admission::{Admission, Permit, Share};
use crate::outcome::Outcome;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Arriving lines may take this part of the limit on bytes in flight, in addition to it.
const ARRIVING_PART: usize = 4;

/// The places of all streams. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    admission: Admission,
    share: Share,
    /// KiB of long lines that are still arriving.
    arriving: Arc<Semaphore>,
    /// One line at a time needs no KiB. Without this rule all lines could wait for ever, because
    /// each line that waits for more holds some.
    elder: Arc<Semaphore>,
}

/// Room for a long line until it is in flight. Given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    kib: Option<OwnedSemaphorePermit>,
    elder: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new(admission: Admission) -> Self {
        let share = admission.share();
        let arriving = admission.bytes_limit() / ARRIVING_PART / 1024;
        Self(Arc::new(Limits {
            admission,
            share,
            arriving: Arc::new(Semaphore::new(arriving.min(Semaphore::MAX_PERMITS))),
            elder: Arc::new(Semaphore::new(1)),
        }))
    }

    /// A place in flight for a line of `bytes`, if there is one now.
    pub(super) fn take(&self, bytes: usize) -> Option<Permit> {
        self.0.admission.admit_to(&self.0.share, bytes).ok()
    }

    /// The same, waiting for it until `until`.
    pub(super) async fn take_by(self, bytes: usize, until: Instant) -> Option<Permit> {
        timeout_at(until, self.0.admission.admit_to_when_free(&self.0.share, bytes)).await.ok()
    }

    /// Room for `bytes` more of an arriving line, waiting until `until`. `None` gives back the room
    /// that it had, too.
    pub(super) async fn make_room(self, mut room: Room, bytes: usize, until: Instant) -> Option<Room> {
        if room.elder.is_some() {
            return Some(room);
        }
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let (arriving, elder) = (Arc::clone(&self.0.arriving), Arc::clone(&self.0.elder));
        let more = async {
            tokio::select! {
                biased;
                more = arriving.acquire_many_owned(kib) => Err(more),
                elder = elder.acquire_owned() => Ok(elder),
            }
        };
        match timeout_at(until, more).await.ok()? {
            Ok(elder) => room.elder = elder.ok(),
            Err(more) => match (&mut room.kib, more.ok()?) {
                (Some(kib), more) => kib.merge(more),
                (kib @ None, more) => *kib = Some(more),
            },
        }
        Some(room)
    }
}

impl Room {
    /// No room yet.
    pub(super) fn none() -> Self {
        Self { kib: None, elder: None }
    }
}

/// Why a message that has waited for its place until its deadline is not published.
pub(super) fn no_room() -> Rejection {
    let detail = "the limits on what is in flight left no room for it before its deadline";
    Rejection::new(Outcome::DeadlineNotSent, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn of_those_that_wait_for_more_than_there_is_one_at_a_time_gets_it() {
        let places = Places::new(Admission::new(8, 400 << 10));
        let until = Instant::now() + Duration::from_secs(1);
        let make = |room, kib: usize| places.clone().make_room(room, kib << 10, until);
        let half = make(Room::none(), 50).await.unwrap();
        let other_half = make(Room::none(), 50).await.unwrap();

        let elder = make(half, 50).await.expect("one goes on");
        let elder = make(elder, 1_000).await.expect("as far as it has to");
        let waiting = make(other_half, 50);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut waiting).await.is_err());
        drop(elder);

        assert!(waiting.await.is_some(), "then the other");
        let late = make(Room::none(), 1_000).await;
        assert!(late.is_some_and(|room| room.elder.is_some()), "all was given back");
    }
}
