//! One transaction: changes in, effects out. Memory and tables agree after a commit and after a
//! rollback.
//!
//! `changes` and `reclaim` have the other methods of the ledger.

use super::bounds::Bounds;
use super::change::{Change, Effect};
use super::expiry::Expiry;
use crate::spool::store::clock::StoreClock;
use crate::spool::store::disk::directory::OwnedDirectory;
use crate::spool::store::entry::Seq;
use crate::spool::store::index::destinations::Destinations;
use crate::spool::store::index::stretches::Stretches;
use crate::spool::store::keys::dedup::Generations;
use crate::spool::store::settings::{PAGE_BYTES, StoreSettings};
use rusqlite::{Connection, ErrorCode};

/// Why a transaction was rolled back.
#[derive(Debug)]
pub(crate) struct RolledBack {
    pub(crate) fault: Fault,
    pub(crate) at_commit: bool,
    pub(crate) text: String,
}

/// What an error of SQLite means for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No space, in the file or on the disk. Nothing else is wrong.
    Full,
    /// Another process writes to the database.
    Busy,
    /// The disk, the file or the memory has failed.
    Broken,
}

/// The connection that writes, and the data in memory that belongs to the tables.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) connection: Connection,
    pub(crate) directory: OwnedDirectory,
    pub(crate) settings: StoreSettings,
    pub(crate) bounds: Bounds,
    pub(crate) destinations: Destinations,
    pub(crate) stretches: Stretches,
    pub(crate) generations: Generations,
    pub(crate) expiry: Expiry,
    pub(crate) clock: StoreClock,
    /// Whether any record may have a note. Few have one, and a lookup costs a third of a removal.
    pub(crate) noted: bool,
    /// The last record that an earlier run, which did not end normally, may have delivered.
    pub(crate) suspected: Option<Seq>,
    /// The highest committed number, and the highest given out.
    pub(crate) committed: Seq,
    pub(crate) given: Seq,
}

impl RolledBack {
    fn before_commit(error: rusqlite::Error) -> Self {
        Self { fault: Fault::of(&error), at_commit: false, text: error.to_string() }
    }
}

impl Fault {
    pub(crate) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Busy,
            _ => Fault::Broken,
        }
    }
}

impl Ledger {
    /// Makes the changes in one transaction: all of them are on disk and their effects are
    /// returned, or none is.
    pub(crate) fn run<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<Vec<Effect>, RolledBack> {
        self.begin().map_err(RolledBack::before_commit)?;
        let changes: Vec<_> = changes.into_iter().collect();
        let flushed = self.apply_all(&changes, self.clock.now_ms()).and_then(|verdicts| {
            self.stretches.flush(&self.connection)?;
            self.destinations.flush(&self.connection)?;
            Ok(verdicts)
        });
        let committed = flushed.map_err(RolledBack::before_commit).and_then(|verdicts| {
            let trouble = |error| RolledBack { at_commit: true, ..RolledBack::before_commit(error) };
            self.statement("COMMIT").map_err(trouble).map(|()| verdicts)
        });
        match committed {
            Ok(verdicts) => {
                self.destinations.committed();
                self.committed = self.given;
                Ok(verdicts)
            }
            Err(trouble) => Err(self.roll_back(trouble)),
        }
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        // If the free space is unknown, only SQLite's own errors bound the store.
        let free = self.directory.free_bytes().unwrap_or(u64::MAX);
        self.statement("BEGIN IMMEDIATE")?;
        let live = self.live_bytes()?;
        self.bounds.measured(live, free);
        Ok(())
    }

    fn roll_back(&mut self, trouble: RolledBack) -> RolledBack {
        self.given = self.committed;
        let back = || -> rusqlite::Result<()> {
            // SQLite rolls back by itself after some failures.
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            self.stretches.rolled_back();
            self.expiry = Expiry::load(&self.connection)?;
            self.generations.rolled_back(&self.connection)?;
            self.destinations.rolled_back(&self.connection)
        }();
        match back {
            Ok(()) => trouble,
            Err(error) => {
                RolledBack { fault: Fault::Broken, text: format!("{}; {error}", trouble.text), ..trouble }
            }
        }
    }

    pub(crate) fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// The pages of the file, and the free ones among them.
    pub(crate) fn pages(&self) -> rusqlite::Result<(u64, u64)> {
        let pragma = |sql: &str| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        Ok((pragma("PRAGMA page_count")?, pragma("PRAGMA freelist_count")?))
    }

    pub(crate) fn live_bytes(&self) -> rusqlite::Result<u64> {
        let (pages, free) = self.pages()?;
        Ok(pages.saturating_sub(free) * PAGE_BYTES)
    }

    /// Checks whether there are notes, between two transactions.
    pub(crate) fn look_for_notes(&mut self) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare_cached("SELECT EXISTS(SELECT 1 FROM note)")?;
        self.noted = select.query_row([], |row| row.get(0))?;
        Ok(())
    }

    /// Turns the generations of idempotency keys when their window is over.
    pub(crate) fn turn_generations(&mut self) -> Result<(), RolledBack> {
        let now_ms = self.clock.now_ms();
        if !self.generations.is_due(now_ms) {
            return Ok(());
        }
        self.begin().map_err(RolledBack::before_commit)?;
        let turned = self.generations.turned(&self.connection, now_ms).and_then(|turned| {
            self.statement("COMMIT")?;
            Ok(turned)
        });
        match turned {
            Ok(turned) => {
                self.generations = turned;
                Ok(())
            }
            Err(error) => Err(self.roll_back(RolledBack::before_commit(error))),
        }
    }
}
