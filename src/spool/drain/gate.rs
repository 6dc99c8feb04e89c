//! The gate for every delivery: it keeps the pace, lets requests go first, and closes while the
//! link is down.
//!
//! If requests hold more than half of the permits all the time, the drain keeps a tenth of its
//! pace.

use super::pace::Pace;
use crate::admission::{Admission, Permit};
use crate::link::LinkHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// The pause before the gate tries again, while requests go first.
const YIELD: Duration = Duration::from_millis(10);

/// A turn's request to deliver one record.
#[derive(Debug)]
pub(super) struct PermitRequest {
    /// When the turn asked.
    pub(super) asked: Instant,
    /// The size of the content, in bytes.
    pub(super) bytes: usize,
    /// Dropped when the link is not up or the drain has stopped.
    pub(super) reply: oneshot::Sender<Permit>,
}

/// The gate's state, owned by its task.
#[derive(Debug)]
pub(super) struct Gate {
    link: LinkHandle,
    admission: Admission,
    pace: Pace,
    up_since: Option<SystemTime>,
}

impl Gate {
    pub(super) fn new(link: LinkHandle, admission: Admission, rate: u32) -> Self {
        Self { link, admission, pace: Pace::new(rate, Instant::now()), up_since: None }
    }

    /// Lets deliveries through one at a time, in the order of their requests, until the drain
    /// stops.
    pub(super) async fn run(
        mut self,
        mut asking: mpsc::Receiver<PermitRequest>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let all = async {
            while let Some(one) = asking.recv().await {
                if let Some(permit) = self.permit(&one).await {
                    // If the turn was cancelled, its permit returns here.
                    drop(one.reply.send(permit));
                }
            }
        };
        tokio::select! {
            () = all => {}
            // If no sender is left, the drain itself is gone.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Waits for the permit. `None` while the link is not up.
    async fn permit(&mut self, asking: &PermitRequest) -> Option<Permit> {
        loop {
            let up_since = self.link.up_since()?;
            let now = Instant::now();
            if self.up_since != Some(up_since) {
                self.up_since = Some(up_since);
                self.pace.begin_again(now);
            }
            let due = self.pace.due(asking.asked);
            if due > now {
                tokio::time::sleep_until(due).await;
            } else if let Some(permit) = behind_requests(&self.admission, asking.bytes) {
                self.pace.left(asking.asked, now);
                return Some(permit);
            } else if self.pace.due_among_requests(asking.asked, now) <= now
                && let Some(permit) = among_requests(&self.admission, asking.bytes)
            {
                self.pace.left_among_requests(now);
                return Some(permit);
            } else {
                tokio::time::sleep(YIELD).await;
            }
        }
    }
}

/// A permit, unless half of the permits or of the bytes is taken: the other half belongs to
/// requests.
fn behind_requests(admission: &Admission, bytes: usize) -> Option<Permit> {
    let most = (admission.limit() / 2).max(1);
    if admission.in_flight() >= most {
        return None;
    }
    let mut permit = admission.admit().ok()?;
    let half = admission.bytes_limit() / 2;
    // A record larger than half may use all bytes that requests leave.
    let most = if bytes <= half { half } else { admission.bytes_limit() };
    // A record larger than the whole limit goes when nothing else is in flight.
    (permit.reserve_below(most, bytes).is_ok() || admission.in_flight() == 1).then_some(permit)
}

/// A permit from the requests' half, so that endless requests do not stop the drain. The record is
/// already in memory, within the drain's own bound, so it does not wait for bytes.
fn among_requests(admission: &Admission, bytes: usize) -> Option<Permit> {
    let mut permit = admission.admit().ok()?;
    permit.reserve(bytes).ok();
    Some(permit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_permits_are_for_requests_alone() {
        let admission = Admission::new(10, 1_000);
        let taken: Vec<_> = std::iter::from_fn(|| behind_requests(&admission, 1)).take(10).collect();
        assert_eq!(taken.len(), 5);
        let requests: Vec<_> = std::iter::from_fn(|| admission.admit().ok()).collect();
        assert_eq!(requests.len(), 5);
        drop(taken);
        assert!(behind_requests(&admission, 1).is_none(), "requests have their half");
        let trickle: Vec<_> = std::iter::from_fn(|| among_requests(&admission, 2_000)).collect();
        assert_eq!(trickle.len(), 5, "unless it has waited too long");
    }

    #[test]
    fn half_of_the_bytes_are_for_requests_alone() {
        let admission = Admission::new(100, 1_000);
        let taken: Vec<_> = std::iter::from_fn(|| behind_requests(&admission, 100)).take(10).collect();
        assert_eq!(taken.len(), 5);
        let mut request = admission.admit().unwrap();
        assert!(request.reserve(500).is_ok());
        drop(taken);
        assert!(behind_requests(&admission, 1).is_none(), "requests have their half");
        assert!(behind_requests(&admission, 501).is_none());
        drop(request);
        assert!(behind_requests(&admission, 501).is_some());
    }

    #[test]
    fn where_one_is_allowed_it_goes_when_nothing_else_does() {
        let admission = Admission::new(1, 1_000);
        let only = behind_requests(&admission, 1).unwrap();
        assert!(behind_requests(&admission, 1).is_none());
        drop(only);
        assert!(behind_requests(&admission, 1).is_some());
    }

    #[test]
    fn a_record_too_large_for_the_bytes_in_flight_goes_alone_and_not_beside_others() {
        let admission = Admission::new(10, 1_000);
        let request = admission.admit().unwrap();
        assert!(behind_requests(&admission, 2_000).is_none());
        drop(request);
        assert!(behind_requests(&admission, 2_000).is_some());
    }
}
