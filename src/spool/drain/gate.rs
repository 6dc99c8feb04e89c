//! The gate through which every delivery goes: paced, behind live traffic, and shut while the link is not up.

use super::pace::Pace;
use crate::admission::{Admission, Permit};
use crate::link::LinkHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// How long live traffic is given way before the next look.
const YIELD: Duration = Duration::from_millis(10);

/// A turn that wants to deliver one record.
#[derive(Debug)]
pub(super) struct Asking {
    /// Since when.
    pub(super) asked: Instant,
    /// Bytes of the content.
    pub(super) bytes: usize,
    /// Dropped when the link is not up, or nothing is delivered any more.
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

    /// Lets one delivery after the other through, in the order in which they asked, until the drain stops.
    pub(super) async fn run(
        mut self,
        mut asking: mpsc::Receiver<Asking>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let all = async {
            while let Some(one) = asking.recv().await {
                if let Some(permit) = self.permit(&one).await {
                    // A turn that was given up gives its permit back here.
                    drop(one.reply.send(permit));
                }
            }
        };
        tokio::select! {
            () = all => {}
            // Without a sender the drain itself is gone.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// The permit, once it is its turn; `None` while the link is not up.
    async fn permit(&mut self, asking: &Asking) -> Option<Permit> {
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
            } else if let Some(permit) = self.admit(asking.bytes) {
                self.pace.left(asking.asked, now);
                return Some(permit);
            } else {
                tokio::time::sleep(YIELD).await;
            }
        }
    }

    /// A permit, unless live traffic has half of them.
    fn admit(&self, bytes: usize) -> Option<Permit> {
        let most = (self.admission.limit() / 2).max(1);
        if self.admission.in_flight() >= most {
            return None;
        }
        let mut permit = self.admission.admit().ok()?;
        // A record larger than all that may be in flight goes when nothing else does.
        (permit.reserve(bytes).is_ok() || self.admission.in_flight() == 1).then_some(permit)
    }
}
