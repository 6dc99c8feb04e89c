//! Removes delivered records and parks undeliverable ones, in batches. Bounds the records that are
//! delivered and not yet removed.

use super::redelivery::UNSETTLED_MAX;
use crate::labels::DeliveryResult;
use crate::metrics::Metrics;
use crate::spool::store::{ChangeError, Seq, StoreHandle, StoreHealth};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// The pause before the next attempt of a removal that found no space.
const AGAIN: Duration = Duration::from_millis(200);

/// A message from a turn to the remover.
#[derive(Debug)]
enum Notice {
    Delivered {
        seq: Seq,
        unit: Unit,
    },
    Park {
        seqs: Vec<Seq>,
        reason: &'static str,
        reply: oneshot::Sender<()>,
    },
    /// Answered when everything before it is removed.
    Flush(oneshot::Sender<()>),
}

/// The right to have one delivered record that is not yet removed.
pub(super) type Unit = OwnedSemaphorePermit;

/// Nothing can be removed any more: the store has failed or is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over;

/// The way to the remover. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Confirmed {
    letters: mpsc::Sender<Notice>,
    units: Arc<Semaphore>,
}

impl Confirmed {
    /// Starts the task that removes. It ends when every sender is gone or nothing can be removed.
    pub(super) fn start(store: StoreHandle, metrics: Metrics) -> (Self, JoinHandle<()>) {
        let (letters, receiver) = mpsc::channel(2 * UNSETTLED_MAX);
        let units = Arc::new(Semaphore::new(UNSETTLED_MAX));
        let remover = Remover { store, metrics };
        let task = tokio::spawn(remover.run(receiver, Arc::clone(&units)));
        (Self { letters, units }, task)
    }

    /// Taken before a delivery. Waits while too many delivered records are not yet removed.
    pub(super) async fn unit(&self) -> Result<Unit, Over> {
        Arc::clone(&self.units).acquire_owned().await.map_err(|_| Over)
    }

    /// The broker has confirmed the record.
    pub(super) async fn delivered(&self, seq: Seq, unit: Unit) -> Result<(), Over> {
        self.letters.send(Notice::Delivered { seq, unit }).await.map_err(|_| Over)
    }

    /// Parks records; those behind them wait for it. Returns `false` when parking is impossible
    /// now.
    pub(super) async fn park(&self, seqs: Vec<Seq>, reason: &'static str) -> Result<bool, Over> {
        let (reply, parked) = oneshot::channel();
        self.letters.send(Notice::Park { seqs, reason, reply }).await.map_err(|_| Over)?;
        Ok(parked.await.is_ok())
    }

    /// Waits until every record delivered so far is removed.
    pub(super) async fn flush(&self) -> Result<(), Over> {
        let (reply, removed) = oneshot::channel();
        self.letters.send(Notice::Flush(reply)).await.map_err(|_| Over)?;
        removed.await.map_err(|_| Over)
    }
}

/// The messages that gathered while the last batch was committed.
#[derive(Default)]
struct Gathered {
    delivered: Vec<Seq>,
    units: Vec<Unit>,
    parks: HashMap<&'static str, Parks>,
    flushes: Vec<oneshot::Sender<()>>,
}

/// Records that are parked for the same reason.
#[derive(Default)]
struct Parks {
    seqs: Vec<Seq>,
    replies: Vec<oneshot::Sender<()>>,
}

impl Gathered {
    fn add(&mut self, letter: Notice) {
        match letter {
            Notice::Delivered { seq, unit } => {
                self.delivered.push(seq);
                self.units.push(unit);
            }
            Notice::Park { seqs, reason, reply } => {
                let parks = self.parks.entry(reason).or_default();
                parks.seqs.extend(seqs);
                parks.replies.push(reply);
            }
            Notice::Flush(reply) => self.flushes.push(reply),
        }
    }
}

/// The remover's state.
struct Remover {
    store: StoreHandle,
    metrics: Metrics,
}

impl Remover {
    async fn run(self, mut letters: mpsc::Receiver<Notice>, units: Arc<Semaphore>) {
        while let Some(first) = letters.recv().await {
            let mut gathered = Gathered::default();
            gathered.add(first);
            while gathered.delivered.len() < UNSETTLED_MAX
                && let Ok(letter) = letters.try_recv()
            {
                gathered.add(letter);
            }
            if self.settle(gathered).await.is_err() {
                break;
            }
        }
        // A task must not wait for a unit that never returns.
        units.close();
    }

    async fn settle(&self, gathered: Gathered) -> Result<(), Over> {
        let Gathered { delivered, units, parks, flushes } = gathered;
        if !delivered.is_empty() {
            remove(&self.store, &delivered).await?;
        }
        drop(units);
        for (reason, parks) in parks {
            self.park(reason, parks).await;
        }
        for reply in flushes {
            // A cancelled turn no longer waits.
            reply.send(()).ok();
        }
        Ok(())
    }

    async fn park(&self, reason: &'static str, Parks { seqs, replies }: Parks) {
        let (records, first) = (seqs.len(), seqs.first().map(|seq| seq.number()));
        match self.store.park(seqs, reason).await {
            Ok(parked) => {
                tracing::warn!(parked, reason, first, "records of the spool are parked");
                self.metrics.spool_delivered(DeliveryResult::Parked, parked);
                for reply in replies {
                    reply.send(()).ok();
                }
            }
            // The turn learns of it: its reply channel closes.
            Err(error) => {
                tracing::error!(records, reason, first, %error, "records of the spool could not be parked");
            }
        }
    }
}

/// Retries until the records are removed or the store has failed.
async fn remove(store: &StoreHandle, seqs: &[Seq]) -> Result<(), Over> {
    loop {
        match store.confirm(seqs.to_vec()).await {
            Ok(_) => return Ok(()),
            Err(error @ (ChangeError::Full | ChangeError::Failed)) => {
                if store.stats().health != StoreHealth::Working {
                    let records = seqs.len();
                    tracing::error!(records, %error, "delivered records remain and will arrive again");
                    return Err(Over);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
