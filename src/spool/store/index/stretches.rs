//! Where the ready records of a destination are: stretches of numbers that no other destination's record interrupts.
//!
//! An index by destination has an entry for each record, written with the record and once more when it goes. A stretch
//! is one row for up to 256 of them, since the records of one commit are numbered destination by destination. Numbers
//! of a stretch whose records are gone or parked are passed by; a stretch without a ready record has no row.
//!
//! What must stay true: the stretches of all destinations are disjoint, each ready record is in one of its own
//! destination, and no record of another destination is in it. So new numbers lengthen a stretch only where they
//! follow it immediately, and `Verify` counts what is found by them.

use crate::spool::store::entry::Seq;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// Numbers from the first of a stretch to its last, at most: what is passed by to find one record.
const LENGTH_MAX: i64 = 256;
/// Stretches that are kept in memory while all of them are found.
const FOUND_MAX: usize = 1024;

/// The numbers from `first` to `last`; `ready` of them have ready records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: i64,
    last: i64,
    ready: u64,
}

/// What the open transaction has changed of the table of stretches.
#[derive(Debug, Default)]
pub(crate) struct Stretches {
    /// The one that was looked at last, with its destination: the next record is mostly in it as well.
    at_hand: Option<(i64, Stretch)>,
    /// The others, by destination and first number.
    changed: BTreeMap<(i64, i64), Stretch>,
}

impl Stretches {
    /// A record is appended to this destination, with a number above all others. `follows` says whether the number
    /// before it was given to the same destination.
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

    /// A record of this destination is ready again.
    pub(crate) fn restored(&mut self, connection: &Connection, dest: i64, seq: Seq) -> rusqlite::Result<()> {
        self.pick_up(connection, dest, seq)?;
        self.enter(dest, seq);
        Ok(())
    }

    /// A ready record of this destination is gone, or is not ready any more.
    pub(crate) fn taken(&mut self, connection: &Connection, dest: i64, seq: Seq) -> rusqlite::Result<()> {
        self.pick_up(connection, dest, seq)?;
        // Damage to this table must not stop the removal of what was delivered.
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

    /// Takes the last stretch of the destination at hand that begins at the record or before it, if there is one.
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
            "SELECT first, last, ready FROM stretch WHERE dest = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let ready = row.get::<_, i64>(2)?.cast_unsigned();
            Ok(Stretch { first: row.get(0)?, last: row.get(1)?, ready })
        };
        let stored = select.query_row([dest, number], read).optional()?;
        // What this transaction has changed is not in the table yet: of the same stretch the changed one holds.
        let found = [stored, changed].into_iter().flatten().max_by_key(|stretch| stretch.first);
        self.at_hand = found.map(|stretch| (dest, stretch));
        Ok(())
    }

    /// Fills the empty table from the records, one after the other: there may be more of them than memory.
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

    /// Writes what the transaction has changed, before its commit.
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
