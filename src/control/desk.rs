//! An operator's changes to the spool: one at a time, each to a bounded part of the selected
//! messages.

use super::looking::PAGE_MAX;
use super::wire::{ChangeRequest, Done, Operation};
use crate::spool::store::{ChangeError, Filter, Page, ReadError, RecordEntry, RecordState, Seq, StoreReader};
use crate::spool::{Pending, SpoolHandle, SpoolSnapshot};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The default reason for parking.
const BY_OPERATOR: &str = "operator";
/// The reason for parking messages just before their removal.
const DROPPED: &str = "dropped";

/// Makes the requested changes. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Desk {
    spool: SpoolHandle,
    reader: Arc<StoreReader>,
    turn: Arc<Semaphore>,
}

/// Why a requested change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// The request is not valid.
    #[error("{0}")]
    Order(String),
    /// Another change is under way.
    #[error("another change is under way; try again when it is done")]
    Busy,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store refused the change or a part of it.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Its task has ended early.
    #[error("the change was given up; a part of it may be done")]
    GivenUp,
}

impl Desk {
    /// A desk for an open spool. `reader` is a separate connection, so that no delivery waits for
    /// it.
    #[must_use]
    pub fn new(spool: SpoolHandle, reader: StoreReader) -> Self {
        Self { spool, reader: Arc::new(reader), turn: Arc::new(Semaphore::new(1)) }
    }

    pub(super) fn reader(&self) -> &Arc<StoreReader> {
        &self.reader
    }

    pub(super) fn live(&self) -> SpoolSnapshot {
        self.spool.snapshot()
    }

    /// Makes a change to one page of the selected messages, even if the caller stops waiting.
    ///
    /// # Errors
    /// When the request is not valid, another change is under way, or the store refuses it.
    pub async fn change(&self, change: Operation, order: ChangeRequest) -> Result<Done, DeskError> {
        let turn = Arc::clone(&self.turn).try_acquire_owned().map_err(|_| DeskError::Busy)?;
        let desk = self.clone();
        // In a separate task: a future dropped half-way would leave a page partly changed and not
        // counted.
        let carried_out = tokio::spawn(async move {
            let done = desk.carry_out(change, order).await;
            drop(turn);
            done
        });
        carried_out.await.map_err(|_| DeskError::GivenUp)?
    }

    async fn carry_out(&self, change: Operation, order: ChangeRequest) -> Result<Done, DeskError> {
        let (entries, next) = self.meant(&order).await?;
        let matched = entries.len() as u64;
        let changed = match change {
            Operation::Redrive => self.redrive(&in_state(&entries, RecordState::Parked)).await?,
            Operation::Park => {
                let reason = order.reason.as_deref().unwrap_or(BY_OPERATOR);
                self.park(&in_state(&entries, RecordState::Ready), reason).await?
            }
            // The messages are parked first, so that either a delivery or this change takes a
            // message, never both.
            Operation::Drop => {
                self.park(&in_state(&entries, RecordState::Ready), DROPPED).await?;
                let all = entries.iter().map(|entry| entry.seq).collect();
                self.spool.store.discard(all).await?
            }
        };
        tracing::info!(?change, matched, changed, "an operator changed the spool");
        Ok(Done { matched, changed, next })
    }

    /// Lists the destinations in the backlog before their messages are ready, so that no new
    /// message overtakes those.
    async fn redrive(&self, parked: &[&RecordEntry]) -> Result<u64, DeskError> {
        let SpoolHandle { store, backlog, .. } = &self.spool;
        let destinations: HashSet<_> = parked.iter().map(|entry| &entry.destination).collect();
        let under_way: Vec<_> = destinations.into_iter().map(|of| backlog.pending(of.clone())).collect();
        let seqs = parked.iter().map(|entry| entry.seq).collect();
        backlog.changed();
        let changed = store.redrive(seqs).await?;
        under_way.into_iter().for_each(Pending::settled);
        Ok(changed)
    }

    /// Parks ready records. The drain may have read some of them already; it delivers at most the
    /// one that is in flight.
    async fn park(&self, ready: &[&RecordEntry], reason: &str) -> Result<u64, DeskError> {
        if ready.is_empty() {
            return Ok(0);
        }
        let seqs = ready.iter().map(|entry| entry.seq).collect();
        let changed = self.spool.store.park(seqs, reason).await?;
        self.spool.backlog.changed();
        Ok(changed)
    }

    /// A page of the selected messages, and where the next page begins.
    async fn meant(&self, order: &ChangeRequest) -> Result<(Vec<RecordEntry>, Option<i64>), DeskError> {
        match (&order.seqs, &order.filter) {
            (Some(seqs), None) if seqs.len() <= PAGE_MAX => Ok((self.named(seqs).await?, None)),
            (Some(_), None) => Err(DeskError::Order(format!("seqs: at most {PAGE_MAX} at a time"))),
            (None, Some(query)) => {
                let limit = query.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
                let page = Page { after: query.after.map(Seq::new), limit };
                let filter = query.filter().map_err(DeskError::Order)?;
                let mut entries = self.reader.list(filter, page).await?;
                let is_last = entries.len() < limit;
                let until = order.until.map_or(Seq::new(i64::MAX), Seq::new);
                let found = entries.len();
                entries.retain(|entry| entry.seq <= until);
                let is_last = is_last || entries.len() < found;
                let next = entries.last().filter(|_| !is_last).map(|entry| entry.seq.number());
                Ok((entries, next))
            }
            (None, None) | (Some(_), Some(_)) => {
                Err(DeskError::Order("expected either seqs or filter".to_owned()))
            }
        }
    }

    async fn named(&self, seqs: &[i64]) -> Result<Vec<RecordEntry>, ReadError> {
        let mut seqs = seqs.to_vec();
        seqs.sort_unstable();
        seqs.dedup();
        let mut entries = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let page = Page { after: Some(Seq::new(seq.saturating_sub(1))), limit: 1 };
            let found = self.reader.list(Filter::default(), page).await?;
            entries.extend(found.into_iter().filter(|entry| entry.seq.number() == seq));
        }
        Ok(entries)
    }
}

fn in_state(entries: &[RecordEntry], state: RecordState) -> Vec<&RecordEntry> {
    entries.iter().filter(|entry| entry.state == state).collect()
}
