//! The store's operations, for tasks: changes go to the writer, questions to the reader.

use super::clock::StoreClock;
use super::entry::{
    Address, Appended, Batch, Filter, FirstUse, Idempotency, NewRecord, Page, ReadyAddress, RecordEntry,
    RefusalNote, Seq, TriedUntil, Whole,
};
use super::errors::{AppendError, ChangeError, ReadError};
use super::stats::Stats;
use crate::spool::store::format::wire::Unreadable;
use crate::spool::store::index::ready::ReadyCounts;
use crate::spool::store::keys::dedup::{self, SharedRuns};
use crate::spool::store::reading::queries::{self, Want};
use crate::spool::store::reading::reader::Asking;
use crate::spool::store::writing::change::{Change, Effect, Prepared, SET_MAX};
use crate::spool::store::writing::inbox::QueuedChange;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};

/// The largest size of the changes that wait for the writer, in KiB. Callers with further changes
/// wait until there is room.
pub(super) const QUEUE_KIB: u32 = 64 << 10;

/// The way to an open store. Cloning shares it. A question fails if the store cannot be read.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    pub(super) changes: mpsc::Sender<Option<QueuedChange>>,
    pub(super) room: Arc<Semaphore>,
    pub(super) asking: Asking,
    pub(super) stats: watch::Receiver<Stats>,
    pub(super) ready: ReadyCounts,
    pub(super) suspected: Option<Seq>,
    pub(super) clock: StoreClock,
    pub(super) dedup_window: Duration,
    pub(super) dedup_runs: SharedRuns,
}

impl StoreHandle {
    /// Stores a message. Returns when it is on disk.
    ///
    /// Dropping the future is safe: before the hand-over to the writer nothing is stored; after it
    /// the message is stored and its number is lost.
    ///
    /// # Errors
    /// [`AppendError::Full`] and [`AppendError::Failed`] leave no trace; after
    /// [`AppendError::Unsure`] the message may be there when the store is opened again.
    pub async fn append(&self, record: NewRecord) -> Result<Appended, AppendError> {
        let prepared = Prepared::of(record);
        let bytes = prepared.meta.len() + prepared.body.len();
        match self.change(Change::Append(Box::new(prepared)), bytes).await {
            Ok(Effect::Appended(appended)) => Ok(appended),
            Ok(Effect::Full(reason)) => Err(AppendError::Full(reason)),
            Ok(Effect::Unsure) | Err(Lost::After) => Err(AppendError::Unsure),
            Ok(Effect::Failed | Effect::Changed(_) | Effect::Remembered(_)) | Err(Lost::Before) => {
                Err(AppendError::Failed)
            }
        }
    }

    /// Remembers the outcome of a request that was not stored. If its key is remembered already,
    /// changes nothing and returns that first use.
    ///
    /// # Errors
    /// When the outcome could not be stored.
    pub async fn remember(&self, with: Idempotency) -> Result<Option<FirstUse>, ChangeError> {
        match self.change(Change::Remember(with), 0).await {
            Ok(Effect::Remembered(seen)) => Ok(seen),
            other => Err(refusal(&other)),
        }
    }

    /// The remembered use of a key, for this request.
    ///
    /// # Errors
    /// When the store or the remembered outcome cannot be read.
    pub async fn recall(&self, key: [u8; 16], request: [u8; 16]) -> Result<Option<FirstUse>, ReadError> {
        let (window, runs, now_ms) = (self.dedup_window, self.dedup_runs.clone(), self.now_ms());
        let seen = move |db: &_| match dedup::seen(db, &runs, key, request, window, now_ms)? {
            None => Ok(None),
            Some(Ok(seen)) => Ok(Some(seen)),
            Some(Err(Unreadable)) => Err(ReadError::Outcome),
        };
        self.asking.ask(seen).await
    }

    /// Removes records that the broker has; returns how many there were. Removals gather until an
    /// append commits them too.
    ///
    /// # Errors
    /// When they could not be removed: they will be delivered again.
    pub async fn confirm(&self, seqs: Vec<Seq>) -> Result<u64, ChangeError> {
        self.changed(Change::Confirm(seqs)).await
    }

    /// Counts one delivery attempt for each of the records.
    ///
    /// # Errors
    /// When the attempts could not be stored.
    pub async fn attempted(&self, seqs: Vec<Seq>) -> Result<u64, ChangeError> {
        self.changed(Change::Attempted(seqs)).await
    }

    /// Keeps records from delivery, for an operator. Returns how many were ready.
    ///
    /// # Errors
    /// When they could not be parked: they stay ready.
    pub async fn park(&self, seqs: Vec<Seq>, reason: impl Into<String>) -> Result<u64, ChangeError> {
        self.changed(Change::Park(seqs, reason.into())).await
    }

    /// Notes a refused delivery.
    ///
    /// # Errors
    /// When it could not be noted.
    pub async fn refused(&self, note: RefusalNote) -> Result<u64, ChangeError> {
        self.changed(Change::Refused(Box::new(note))).await
    }

    /// Stops the clock of a destination.
    ///
    /// # Errors
    /// When it could not be stopped.
    pub async fn accepted(&self, of: Address) -> Result<u64, ChangeError> {
        self.changed(Change::Accepted(of)).await
    }

    /// Parks the first ready records of a destination up to `last`: at most `limit`, and never more
    /// than 256. Returns how many there were.
    ///
    /// # Errors
    /// When they could not be parked: they stay ready.
    pub async fn park_kept(
        &self,
        of: Address,
        last: Seq,
        reason: impl Into<String>,
        limit: usize,
    ) -> Result<u64, ChangeError> {
        self.changed(Change::ParkKept { of, last, reason: reason.into(), limit }).await
    }

    /// Notes how long the link has been up while records waited, and forgets the moments with
    /// totals below `from_ms`.
    ///
    /// # Errors
    /// When it could not be noted.
    pub async fn note_tried(&self, until: TriedUntil, from_ms: i64) -> Result<u64, ChangeError> {
        self.changed(Change::Tried { until, from_ms }).await
    }

    /// What [`StoreHandle::note_tried`] noted, the earliest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tried(&self) -> Result<Vec<TriedUntil>, ReadError> {
        self.asking.ask(queries::tried).await
    }

    /// The store's time, in Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Parks at most `limit` records, never more than 256, that expired before `now_ms` (Unix
    /// milliseconds), with the reason `expired`. Returns how many there were. An age above
    /// `max_age` counts only for records up to `tried`; a message's own expiration counts for every
    /// record.
    ///
    /// # Errors
    /// When they could not be parked: they stay ready.
    pub async fn take_expired(&self, now_ms: i64, tried: Seq, limit: usize) -> Result<u64, ChangeError> {
        self.changed(Change::ParkExpired { now_ms, tried, limit }).await
    }

    /// Makes parked records ready again, in their old places and with their whole time to live.
    /// Returns how many there were.
    ///
    /// # Errors
    /// When not all of them could be changed.
    pub async fn redrive(&self, seqs: Vec<Seq>) -> Result<u64, ChangeError> {
        self.in_parts(seqs, Change::Redrive).await
    }

    /// Removes records for ever, without delivering them. Returns how many there were.
    ///
    /// # Errors
    /// When not all of them could be changed.
    pub async fn discard(&self, seqs: Vec<Seq>) -> Result<u64, ChangeError> {
        self.in_parts(seqs, Change::Discard).await
    }

    /// The next ready, unexpired records of a destination, after the given one: at most
    /// `limit_rows`, and no more once `limit_bytes` are reached.
    pub async fn next_batch(
        &self,
        of: &Address,
        after: Option<Seq>,
        limit_rows: usize,
        limit_bytes: usize,
    ) -> Result<Batch, ReadError> {
        let of = of.clone();
        let want = Want { after, rows: limit_rows, bytes: limit_bytes };
        self.asking.ask(move |db| queries::next_batch(db, &of, want)).await
    }

    /// Destinations with ready records, the one with the oldest first.
    pub async fn destinations(&self, limit: usize) -> Result<Vec<ReadyAddress>, ReadError> {
        self.asking.ask(move |db| queries::destinations(db, limit)).await
    }

    /// Whether the destination has ready records, as of the last commit. Every answered change is
    /// included.
    #[must_use]
    pub fn has_ready(&self, of: &Address) -> bool {
        self.ready.has(of)
    }

    /// The last record that an earlier run may have delivered without removing it; `None` if the
    /// previous run ended normally.
    #[must_use]
    pub fn suspected(&self) -> Option<Seq> {
        self.suspected
    }

    /// A part of the list of records, without their contents.
    pub async fn list(&self, filter: Filter, page: Page) -> Result<Vec<RecordEntry>, ReadError> {
        self.asking.ask(move |db| queries::list(db, &filter, page)).await
    }

    /// One record with its message.
    pub async fn get(&self, seq: Seq) -> Result<Option<Whole>, ReadError> {
        self.asking.ask(move |db| queries::whole(db, seq)).await
    }

    /// The newest snapshot.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.borrow().clone()
    }

    /// A receiver of the snapshots.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// Changes many records in parts, so that other changes go in between.
    async fn in_parts(
        &self,
        seqs: Vec<Seq>,
        change: impl Fn(Vec<Seq>) -> Change,
    ) -> Result<u64, ChangeError> {
        let mut sum = 0;
        for part in seqs.chunks(SET_MAX) {
            sum += self.changed(change(part.to_vec())).await?;
        }
        Ok(sum)
    }

    async fn changed(&self, change: Change) -> Result<u64, ChangeError> {
        match self.change(change, 0).await {
            Ok(Effect::Changed(count)) => Ok(count),
            other => Err(refusal(&other)),
        }
    }

    async fn change(&self, change: Change, bytes: usize) -> Result<Effect, Lost> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Lost::Before)?;
        let (reply, verdict) = oneshot::channel();
        let job = QueuedChange { change, reply, room };
        self.changes.send(Some(job)).map_err(|_| Lost::Before)?;
        verdict.await.map_err(|_| Lost::After)
    }
}

/// There is no verdict: the writer ended, before or after the change was handed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Before,
    After,
}

fn refusal(verdict: &Result<Effect, Lost>) -> ChangeError {
    match verdict {
        Ok(Effect::Full(_)) => ChangeError::Full,
        Ok(
            Effect::Failed
            | Effect::Unsure
            | Effect::Appended(_)
            | Effect::Changed(_)
            | Effect::Remembered(_),
        )
        | Err(Lost::Before | Lost::After) => ChangeError::Failed,
    }
}
