//! The statements of each change, inside the ledger's open transaction.

use super::appends::Appends;
use super::change::{Change, Effect, SET_MAX};
use super::ledger::Ledger;
use crate::spool::store::entry::{Idempotency, RecordState, Seq};
use crate::spool::store::format::wire::Unreadable;
use crate::spool::store::index::destinations::ROW_OVERHEAD;
use rusqlite::{OptionalExtension, params};

/// Bytes counted for an idempotency key in addition to its texts.
const KEY_OVERHEAD: u64 = 64;

/// The reason for parking records that expired.
pub(crate) const EXPIRED: &str = "expired";

/// The counted values of a record.
pub(super) struct RecordRow {
    seq: Seq,
    dest: i64,
    state: RecordState,
    bytes: u64,
}

/// The lengths are in the row's header, so this does not read the content.
const FOUND: &str =
    "SELECT seq, dest, state, length(meta), length(body) FROM msg WHERE seq BETWEEN ?1 AND ?2";

impl RecordRow {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: Seq::new(row.get(0)?),
            dest: row.get(1)?,
            state: RecordState::from_number(row.get(2)?),
            bytes: (row.get::<_, i64>(3)? + row.get::<_, i64>(4)?).cast_unsigned() + ROW_OVERHEAD,
        })
    }
}

impl Ledger {
    /// Makes the changes in order; returns the effect of each.
    pub(crate) fn apply_all(&mut self, changes: &[&Change], now_ms: i64) -> rusqlite::Result<Vec<Effect>> {
        let mut verdicts = Vec::with_capacity(changes.len());
        for alike in changes.chunk_by(|one, next| one.appended().is_some() && next.appended().is_some()) {
            if let [alone] = alike {
                verdicts.push(self.apply(alone, now_ms)?);
            } else {
                let records: Vec<_> = alike.iter().filter_map(|change| change.appended()).collect();
                verdicts.extend(Appends::new(self, now_ms)?.all(&records)?);
            }
        }
        Ok(verdicts)
    }

    fn apply(&mut self, change: &Change, now_ms: i64) -> rusqlite::Result<Effect> {
        match change {
            Change::Append(record) => Appends::new(self, now_ms)?.one(record),
            Change::Remember(with) => self.remember(with, now_ms),
            Change::Confirm(seqs) => self.remove(seqs),
            Change::Attempted(seqs) => self.each(seqs, Self::attempted),
            Change::Park(seqs, reason) => self.each(seqs, |ledger, seq| ledger.park(seq, reason, now_ms)),
            Change::ParkExpired { now_ms: then, tried, limit } => {
                let expired = self.expiry.expired(&self.connection, *then, *tried, (*limit).min(SET_MAX))?;
                self.each(&expired, |ledger, seq| ledger.park(seq, EXPIRED, now_ms))
            }
            Change::Refused(note) => self.refused(note),
            Change::Accepted(of) => self.accepted(of),
            Change::ParkKept { of, last, reason, limit } => {
                let kept = self.kept_until(of, *last, (*limit).min(SET_MAX))?;
                self.each(&kept, |ledger, seq| ledger.park(seq, reason, now_ms))
            }
            Change::Tried { until, from_ms } => self.tried(*until, *from_ms),
            Change::Redrive(seqs) => self.each(seqs, |ledger, seq| ledger.redrive(seq, now_ms)),
            Change::Discard(seqs) => self.remove(seqs),
        }
    }

    /// Changes each record; the effect is the number of changed records.
    fn each(
        &mut self,
        seqs: &[Seq],
        change: impl Fn(&mut Self, Seq) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<Effect> {
        let mut changed = 0;
        for seq in seqs {
            changed += u64::from(change(self, *seq)?);
        }
        Ok(Effect::Changed(changed))
    }

    fn remember(&mut self, with: &Idempotency, now_ms: i64) -> rusqlite::Result<Effect> {
        match self.generations.seen(&self.connection, with, now_ms)? {
            Some(Ok(seen)) => return Ok(Effect::Remembered(Some(seen))),
            Some(Err(Unreadable)) => return Ok(Effect::Failed),
            None => {}
        }
        let bytes = (with.outcome.as_str().len() + with.message_id.len()) as u64 + KEY_OVERHEAD;
        if let Err(reason) = self.bounds.admit(bytes, 0) {
            return Ok(Effect::Full(reason));
        }
        self.generations.put(&self.connection, with, None, now_ms)?;
        Ok(Effect::Remembered(None))
    }

    pub(super) fn found(&self, seq: Seq) -> rusqlite::Result<Option<RecordRow>> {
        self.connection.prepare_cached(FOUND)?.query_row([seq.number(); 2], RecordRow::read).optional()
    }

    /// Removes each record; returns how many there were. Records with consecutive numbers are
    /// removed together.
    fn remove(&mut self, seqs: &[Seq]) -> rusqlite::Result<Effect> {
        let Self { connection, destinations, stretches, noted, .. } = self;
        let mut select = connection.prepare_cached(FOUND)?;
        let mut delete = connection.prepare_cached("DELETE FROM msg WHERE seq BETWEEN ?1 AND ?2")?;
        let mut delete_notes = connection.prepare_cached("DELETE FROM note WHERE seq BETWEEN ?1 AND ?2")?;
        let mut numbers: Vec<i64> = seqs.iter().map(|seq| seq.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut removed = 0;
        for consecutive in numbers.chunk_by(|one, next| one + 1 == *next) {
            let range = [consecutive[0], consecutive[consecutive.len() - 1]];
            let mut rows = select.query(range)?;
            while let Some(row) = rows.next()? {
                let RecordRow { seq, dest, state, bytes } = RecordRow::read(row)?;
                if state == RecordState::Ready {
                    stretches.taken(connection, dest, seq)?;
                }
                destinations.removed(dest, state, bytes);
                removed += 1;
            }
            drop(rows);
            delete.execute(range)?;
            if *noted {
                delete_notes.execute(range)?;
            }
        }
        Ok(Effect::Changed(removed))
    }

    fn attempted(&mut self, seq: Seq) -> rusqlite::Result<bool> {
        if self.found(seq)?.is_none() {
            return Ok(false);
        }
        let mut note = self.connection.prepare_cached(
            "INSERT INTO note(seq, attempts, handed) VALUES (?1, 1, 1)
             ON CONFLICT(seq) DO UPDATE SET attempts = attempts + 1, handed = 1",
        )?;
        self.noted = true;
        note.execute([seq.number()])?;
        Ok(true)
    }

    fn park(&mut self, seq: Seq, reason: &str, now_ms: i64) -> rusqlite::Result<bool> {
        let Some(RecordRow { dest, state: RecordState::Ready, .. }) = self.found(seq)? else {
            return Ok(false);
        };
        self.set_state(seq, RecordState::Parked)?;
        self.stretches.taken(&self.connection, dest, seq)?;
        let mut note = self.connection.prepare_cached(
            "INSERT INTO note(seq, reason, parked_ms, attempts) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(seq) DO UPDATE SET reason = excluded.reason, parked_ms = excluded.parked_ms,
                 attempts = max(attempts, excluded.attempts)",
        )?;
        self.noted = true;
        // At a redrive, the store may no longer know which records are suspected.
        let suspected = self.suspected.is_some_and(|last| seq <= last);
        note.execute(params![seq.number(), reason, now_ms, i64::from(suspected)])?;
        drop(note);
        self.destinations.moved(dest, RecordState::Ready, RecordState::Parked);
        Ok(true)
    }

    /// Makes a record ready again, in its old place, with its whole time to live and all its tries.
    /// Its attempts and its hand-over stay: the broker may have the message from one of them, so
    /// the next delivery needs the mark.
    fn redrive(&mut self, seq: Seq, now_ms: i64) -> rusqlite::Result<bool> {
        let Some(RecordRow { dest, state: RecordState::Parked, .. }) = self.found(seq)? else {
            return Ok(false);
        };
        let mut update =
            self.connection.prepare_cached("UPDATE msg SET expires_ms = ?2, ages = 0 WHERE seq = ?1")?;
        update.execute([seq.number(), self.settings.expires_ms(now_ms, None)])?;
        drop(update);
        self.set_state(seq, RecordState::Ready)?;
        self.stretches.restored(&self.connection, dest, seq)?;
        for sql in [
            "DELETE FROM note WHERE seq = ?1 AND attempts = 0 AND handed = 0",
            "UPDATE note SET reason = NULL, parked_ms = NULL, tries = 0 WHERE seq = ?1",
        ] {
            self.connection.prepare_cached(sql)?.execute([seq.number()])?;
        }
        self.destinations.moved(dest, RecordState::Parked, RecordState::Ready);
        Ok(true)
    }

    fn set_state(&self, seq: Seq, state: RecordState) -> rusqlite::Result<()> {
        let mut update = self.connection.prepare_cached("UPDATE msg SET state = ?2 WHERE seq = ?1")?;
        update.execute([seq.number(), state.as_number()])?;
        Ok(())
    }
}
