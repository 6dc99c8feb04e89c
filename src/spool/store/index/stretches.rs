//! Where the ready records of a destination are: in stretches of numbers without records of other
//! destinations.
//!
//! An index by destination would have an entry for each record, written with the record and again
//! when the record goes. A stretch is one row for up to 256 records, because a commit numbers its
//! records destination by destination. Readers skip numbers of a stretch whose records are gone or
//! parked. A stretch without ready records has no row.
//!
//! What must stay true: all stretches are disjoint, and each ready record is in a stretch of its
//! destination, and no stretch has records of two destinations. So a stretch grows only by the
//! number that immediately follows it, and `verify` counts the records that stretches lead to.

use crate::spool::store::entry::Seq;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// The largest number of numbers in a stretch, which limits how many are skipped to find one
/// record.
const LENGTH_MAX: i64 = 256;
/// The number of stretches kept in memory while `find_all` runs.
const FOUND_MAX: usize = 1024;

/// The numbers from `first` to `last`; `ready` is the number of ready records among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: i64,
    last: i64,
    ready: u64,
}

/// The open transaction's changes to the table of stretches.
#[derive(Debug, Default)]
pub(crate) struct Stretches {
    /// The last used stretch, with its destination: the next record is usually in it as well.
    at_hand: Option<(i64, Stretch)>,
    /// The others, by destination and first number.
    changed: BTreeMap<(i64, i64), Stretch>,
}

impl Stretches {
    /// Adds an appended record of this destination, whose number is the highest. `follows` says
    /// whether the number before it belongs to the same destination.
    pub(crate) fn appended(
        &mut self,
        connection: &Connection,
        dest: i64,
        seq: Seq,
        follows: bool,
    ) -> rusqlite::Result<()> {
        let goes_on = |at_hand: &(i64, Stretch)| at_hand.0 == dest && at_hand.1.last + 1 == seq.number();
        if !self.at_hand.as_ref().is_some_and(goes_on) {
            self.put_down();
            if follows {
                self.pick_up(connection, dest, seq)?;
            }
        }
        self.enter(dest, seq);
        Ok(())
    }

    /// Adds a record of this destination that is ready again.
    pub(crate) fn restored(&mut self, connection: &Connection, dest: i64, seq: Seq) -> rusqlite::Result<()> {
        self.pick_up(connection, dest, seq)?;
        self.enter(dest, seq);
        Ok(())
    }

    /// Takes out a record of this destination that is gone or no longer ready.
    pub(crate) fn taken(&mut self, connection: &Connection, dest: i64, seq: Seq) -> rusqlite::Result<()> {
        self.pick_up(connection, dest, seq)?;
        // Damage to this table must not stop the removal of delivered records.
        if let Some((_, stretch)) = &mut self.at_hand
            && seq.number() <= stretch.last
        {
            stretch.ready = stretch.ready.saturating_sub(1);
        }
        Ok(())
    }

    /// Adds the record to the stretch at hand, or to a new one.
    fn enter(&mut self, dest: i64, seq: Seq) {
        let number = seq.number();
        match &mut self.at_hand {
            Some((_, stretch)) if number <= stretch.last => stretch.ready += 1,
            Some((_, stretch)) if number == stretch.last + 1 && number - stretch.first < LENGTH_MAX => {
                stretch.last = number;
                stretch.ready += 1;
            }
            Some(_) | None => {
                self.put_down();
                self.at_hand = Some((dest, Stretch { first: number, last: number, ready: 1 }));
            }
        }
    }

    /// Makes the destination's last stretch that begins at or before the record the one at hand, if
    /// there is one.
    fn pick_up(&mut self, connection: &Connection, dest: i64, seq: Seq) -> rusqlite::Result<()> {
        let number = seq.number();
        let has_it =
            |of: i64, stretch: &Stretch| of == dest && (stretch.first..=stretch.last).contains(&number);
        if self.at_hand.as_ref().is_some_and(|(of, stretch)| has_it(*of, stretch)) {
            return Ok(());
        }
        self.put_down();
        let changed = self.changed.range((dest, i64::MIN)..=(dest, number)).next_back();
        let changed = changed.map(|(_, stretch)| *stretch);
        if let Some(stretch) = changed.filter(|stretch| has_it(dest, stretch)) {
            self.at_hand = Some((dest, stretch));
            return Ok(());
        }
        let mut select = connection.prepare_cached(
            "SELECT first, last, ready FROM stretch WHERE dest = ?1 AND first <= ?2
             ORDER BY first DESC LIMIT 1",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let ready = row.get::<_, i64>(2)?.cast_unsigned();
            Ok(Stretch { first: row.get(0)?, last: row.get(1)?, ready })
        };
        let stored = select.query_row([dest, number], read).optional()?;
        // The table does not have this transaction's changes yet. If a stretch is in both, the
        // changed one counts.
        let found = [stored, changed].into_iter().flatten().max_by_key(|stretch| stretch.first);
        self.at_hand = found.map(|stretch| (dest, stretch));
        Ok(())
    }

    /// Fills the empty table from the records, one at a time: they may not fit in memory.
    pub(crate) fn find_all(connection: &Connection) -> rusqlite::Result<()> {
        let mut found = Self::default();
        let mut select = connection.prepare("SELECT seq, dest FROM msg WHERE state = 0 ORDER BY seq")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            found.appended(connection, row.get(1)?, Seq::new(row.get(0)?), false)?;
            if found.changed.len() >= FOUND_MAX {
                found.flush(connection)?;
            }
        }
        found.flush(connection)
    }

    fn put_down(&mut self) {
        if let Some((dest, stretch)) = self.at_hand.take() {
            self.changed.insert((dest, stretch.first), stretch);
        }
    }

    /// Writes the transaction's changes, before its commit.
    pub(crate) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.put_down();
        let mut put = connection.prepare_cached(
            "INSERT INTO stretch(dest, first, last, ready) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(dest, first) DO UPDATE SET last = excluded.last, ready = excluded.ready",
        )?;
        let mut delete = connection.prepare_cached("DELETE FROM stretch WHERE dest = ?1 AND first = ?2")?;
        for ((dest, first), Stretch { last, ready, .. }) in std::mem::take(&mut self.changed) {
            if ready == 0 {
                delete.execute([dest, first])?;
            } else {
                put.execute(params![dest, first, last, ready.cast_signed()])?;
            }
        }
        Ok(())
    }

    /// The transaction was rolled back.
    pub(crate) fn rolled_back(&mut self) {
        *self = Self::default();
    }
}
