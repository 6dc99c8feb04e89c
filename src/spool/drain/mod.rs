//! The drain: takes messages from the spool to the broker, each destination's in order.
//!
//! * `destination` is one destination's turn: each record is settled before the next one leaves;
//! * `gate` lets deliveries through: at the `pace`, behind requests, while the link is up;
//! * `consequence` says what an outcome means for a record; `redelivery` says which records get a
//!   mark;
//! * `confirmed` removes delivered records, in batches;
//! * `owner` gives destinations their turns.

mod confirmed;
mod consequence;
mod destination;
mod gate;
mod owner;
mod pace;
mod redelivery;

use crate::admission::Admission;
use crate::config::{Live, SpoolConfig, Undeliverable};
use crate::link::LinkHandle;
use crate::metrics::Metrics;
use crate::spool::SpoolHandle;
use confirmed::Confirmed;
use consequence::Rules;
use destination::{MEMORY_KIB, Shared};
use gate::Gate;
use owner::Owner;
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
        let SpoolConfig { drain_rate, nacks_max, undeliverable, .. } = live.now().spool;
        let SpoolHandle { store, backlog, flow } = spool;
        let (stop, stopping) = watch::channel(false);
        let (gate, asking) = mpsc::channel(SIDE_BY_SIDE);
        let gatekeeper = Gate::new(link.clone(), admission, drain_rate);
        let gatekeeper = tokio::spawn(gatekeeper.run(asking, stopping.clone()));
        let (confirmed, remover) = Confirmed::start(store.clone(), metrics.clone());
        let suspected = store.suspected();
        let under_way = DeliveringNote::new(directory, suspected.is_some());
        let suspects = Suspects::new(suspected);
        let rules = Rules { nacks_max, parks: undeliverable == Undeliverable::Park };
        let shared = Arc::new(Shared {
            store,
            link,
            gate,
            confirmed,
            metrics,
            backlog,
            flow,
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
