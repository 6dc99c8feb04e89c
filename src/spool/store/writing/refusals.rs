//! The notes about refusals of a record and of a destination, and about how long records were
//! tried.

use super::change::Effect;
use super::ledger::Ledger;
use crate::spool::store::entry::{Address, RefusalNote, RefusedSince, Seq, TriedUntil, Tries};
use rusqlite::params;

impl Ledger {
    /// Notes that a delivery of a record was refused. Nothing happens if the record is gone.
    pub(super) fn refused(&mut self, note: &RefusalNote) -> rusqlite::Result<Effect> {
        let RefusalNote { seq, is_unsure, tries, clock } = note;
        if let Some((of, RefusedSince { since_ms, last })) = clock
            && let Some(dest) = self.destinations.id(of)
        {
            let mut start = self
                .connection
                .prepare_cached("INSERT OR REPLACE INTO refused(dest, since_ms, last) VALUES (?1, ?2, ?3)")?;
            start.execute([dest, *since_ms, last.number()])?;
        }
        if self.found(*seq)?.is_none() {
            return Ok(Effect::Changed(0));
        }
        self.noted = true;
        let mut put = self.connection.prepare_cached(
            "INSERT INTO note(seq, attempts, handed) VALUES (?1, ?2, 1)
             ON CONFLICT(seq) DO UPDATE SET attempts = attempts + excluded.attempts, handed = 1",
        )?;
        put.execute([seq.number(), i64::from(*is_unsure)])?;
        if let Some(Tries { count, first_ms, last_ms, word }) = tries {
            let mut put = self.connection.prepare_cached(
                "UPDATE note SET tries = ?2, first_ms = ?3, last_ms = ?4, word = ?5 WHERE seq = ?1",
            )?;
            put.execute(params![seq.number(), count, first_ms, last_ms, word])?;
        }
        Ok(Effect::Changed(1))
    }

    /// The broker has accepted a message of the destination: its clock stops.
    pub(super) fn accepted(&mut self, of: &Address) -> rusqlite::Result<Effect> {
        let Some(dest) = self.destinations.id(of) else { return Ok(Effect::Changed(0)) };
        let mut stop = self.connection.prepare_cached("DELETE FROM refused WHERE dest = ?1")?;
        Ok(Effect::Changed(stop.execute([dest])? as u64))
    }

    /// The first ready records of a destination, up to `last`.
    pub(super) fn kept_until(&self, of: &Address, last: Seq, limit: usize) -> rusqlite::Result<Vec<Seq>> {
        let Some(dest) = self.destinations.id(of) else { return Ok(Vec::new()) };
        let mut select = self.connection.prepare_cached(
            "SELECT msg.seq FROM stretch CROSS JOIN msg ON msg.seq BETWEEN first AND min(last, ?2)
             WHERE stretch.dest = ?1 AND first <= ?2 AND msg.dest = ?1 AND state = 0
             ORDER BY first, msg.seq LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let kept = select.query_map([dest, last.number(), limit], |row| row.get(0).map(Seq::new))?;
        kept.collect()
    }

    /// Adds a moment, and forgets those before `from_ms`.
    pub(super) fn tried(&mut self, until: TriedUntil, from_ms: i64) -> rusqlite::Result<Effect> {
        let TriedUntil { total_ms, last } = until;
        let mut forget = self.connection.prepare_cached("DELETE FROM tried WHERE total_ms < ?1")?;
        forget.execute([from_ms])?;
        let mut add =
            self.connection.prepare_cached("INSERT OR REPLACE INTO tried(total_ms, last) VALUES (?1, ?2)")?;
        add.execute([total_ms, last.number()])?;
        Ok(Effect::Changed(1))
    }
}
