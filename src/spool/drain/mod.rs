//! The drain: takes messages from the spool to the broker, each destination's in order.
//!
//! * `destination` is one destination's turn: each record is settled before the next one leaves;
//! * `gate` lets deliveries through: at the `pace`, behind requests, while the link is up;
//! * `consequence` says what an outcome means for a record; `redelivery` says which records get a
//!   mark;
//! * `parking` says when a refused record is tried again and when records are parked; `tried` says
//!   which have been tried for long enough to be too old;
//! * `confirmed` removes delivered records, in batches;
//! * `owner` gives destinations their turns.

mod confirmed;
mod consequence;
mod destination;
mod gate;
mod owner;
mod pace;
mod parking;
mod redelivery;
mod tried;

use crate::admission::Admission;
use crate::config::{Live, ParkAfter};
use crate::link::LinkHandle;
use crate::metrics::Metrics;
use crate::spool::SpoolHandle;
use confirmed::Confirmed;
use destination::{MEMORY_KIB, Shared};
use gate::Gate;
use owner::Owner;
use parking::ParkingRules;
use redelivery::{DeliveringNote, Suspects};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// The largest number of concurrent turns.
const SIDE_BY_SIDE: usize = 64;

/// The running drain.
#[derive(Debug)]
pub struct Drain {
    stop: watch::Sender<bool>,
    owner: JoinHandle<()>,
}

impl Drain {
    /// Starts to deliver the records of the store in `directory`. The drain follows changes of
    /// `publish.timeout`, the deadline for the broker's verdict on one delivery.
    #[must_use]
    pub fn start(
        spool: SpoolHandle,
        link: LinkHandle,
        admission: Admission,
        directory: &Path,
        live: Live,
        metrics: Metrics,
    ) -> Self {
        let spool_config = live.now().spool.clone();
        let (drain_rate, tries_max) = (spool_config.drain_rate, spool_config.nacks_max);
        let SpoolHandle { store, backlog, flow, acceptances } = spool;
        let (stop, stopping) = watch::channel(false);
        let (gate, asking) = mpsc::channel(SIDE_BY_SIDE);
        let gatekeeper = Gate::new(link.clone(), admission, drain_rate);
        let gatekeeper = tokio::spawn(gatekeeper.run(asking, stopping.clone()));
        let (confirmed, remover) = Confirmed::start(store.clone(), metrics.clone());
        let suspected = store.suspected();
        let under_way = DeliveringNote::new(directory, suspected.is_some());
        let suspects = Suspects::new(suspected);
        let park_after_ms = match spool_config.park_after() {
            ParkAfter::Time(time) => Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
            ParkAfter::Never => None,
        };
        let rules = ParkingRules { park_after_ms, tries_max };
        let shared = Arc::new(Shared {
            store,
            link,
            gate,
            confirmed,
            metrics,
            backlog,
            flow,
            acceptances,
            rules,
            live,
            suspects: Mutex::new(suspects),
            memory: Arc::new(Semaphore::new(MEMORY_KIB as usize)),
            stopping,
        });
        let owner = Owner::new(shared, under_way, drain_rate);
        let owner = tokio::spawn(async move {
            owner.run().await;
            // Both are idle: the gate has stopped, and the remover has no sender left.
            gatekeeper.abort();
            drop(remover.await);
        });
        Self { stop, owner }
    }

    /// Stops delivering, waits for the verdicts on deliveries under way and removes delivered
    /// records, within `budget`.
    pub async fn stop(self, budget: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(budget, self.owner).await.is_err() {
            tracing::warn!("the spool's last deliveries have no verdict and will be repeated");
        }
    }
}
