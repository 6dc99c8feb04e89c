//! One transaction: changes in, verdicts out, and memory and tables alike whether it was committed or not.

use super::bounds::Bounds;
use super::dedup::Generations;
use super::destinations::Destinations;
use super::directory::Directory;
use super::entry::{Address, Appended, FirstUse, Idempotency, NewRecord, Seq};
use super::errors::FullReason;
use super::expiry::Expiry;
use super::record;
use super::settings::{PAGE_BYTES, StoreSettings};
use super::stretches::Stretches;
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode};
use std::time::{SystemTime, UNIX_EPOCH};

/// A record as it is written, encoded where it came from and not by the writer.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) destination: Address,
    pub(super) meta: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) expiration_ms: Option<u32>,
    pub(super) idempotency: Option<Idempotency>,
}

/// What the writer can be asked for.
#[derive(Debug)]
pub(super) enum Change {
    Append(Box<Prepared>),
    Remember(Idempotency),
    Confirm(Vec<Seq>),
    Attempted(Vec<Seq>),
    Park(Vec<Seq>, String),
    ParkExpired { now_ms: i64, limit: usize },
    Redrive(Vec<Seq>),
    Discard(Vec<Seq>),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Appended(Appended),
    Remembered(Option<FirstUse>),
    Changed(u64),
    Full(FullReason),
    Failed,
    Unsure,
}

/// Why a transaction was rolled back.
#[derive(Debug)]
pub(super) struct RolledBack {
    pub(super) fault: Fault,
    pub(super) at_commit: bool,
    pub(super) text: String,
}

/// What an error of SQLite means for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No room, in the file or on the disk. Nothing else is wrong.
    Full,
    /// Somebody else writes to the database.
    Busy,
    /// The disk, the file or the memory cannot be relied upon.
    Broken,
}

/// The write connection, and everything that is kept in memory beside the tables.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) connection: Connection,
    pub(super) directory: Directory,
    pub(super) settings: StoreSettings,
    pub(super) bounds: Bounds,
    pub(super) destinations: Destinations,
    pub(super) stretches: Stretches,
    pub(super) generations: Generations,
    pub(super) expiry: Expiry,
    /// Whether any record may have a note; few have, and to look for each is a third of a removal.
    pub(super) noted: bool,
    /// The last record that a run before, which did not end well, may have delivered.
    pub(super) suspected: Option<Seq>,
    /// The highest number that was committed, and the highest that was given out.
    pub(super) committed: Seq,
    pub(super) given: Seq,
}

impl Prepared {
    pub(super) fn of(record: NewRecord) -> Self {
        let NewRecord { message, idempotency } = record;
        Self {
            destination: Address::of(&message),
            meta: record::encode(&message),
            expiration_ms: message.properties.expiration_ms,
            body: message.payload,
            idempotency,
        }
    }
}

impl Change {
    /// The record, where this is an append.
    pub(super) fn appended(&self) -> Option<&Prepared> {
        if let Change::Append(record) = self { Some(record) } else { None }
    }
}

impl Fault {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Busy,
            _ => Fault::Broken,
        }
    }
}

impl Ledger {
    /// Makes the changes in one transaction: all of them on disk, with their verdicts, or none.
    pub(super) fn run<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<Vec<Effect>, RolledBack> {
        let trouble = |at_commit| {
            move |error: rusqlite::Error| RolledBack {
                fault: Fault::of(&error),
                at_commit,
                text: error.to_string(),
            }
        };
        self.begin().map_err(trouble(false))?;
        let changes: Vec<_> = changes.into_iter().collect();
        let flushed = self.apply_all(&changes, now_ms()).and_then(|verdicts| {
            self.stretches.flush(&self.connection)?;
            self.destinations.flush(&self.connection)?;
            Ok(verdicts)
        });
        match flushed.map_err(trouble(false)).and_then(|verdicts| {
            self.statement("COMMIT").map_err(trouble(true))?;
            Ok(verdicts)
        }) {
            Ok(verdicts) => {
                self.destinations.committed();
                self.committed = self.given;
                Ok(verdicts)
            }
            Err(trouble) => Err(self.roll_back(trouble)),
        }
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        // Where the disk does not say how much is free, only SQLite's own refusal bounds it.
        let free = self.directory.free_bytes().unwrap_or(u64::MAX);
        self.statement("BEGIN IMMEDIATE")?;
        let live = self.live_bytes()?;
        self.bounds.measured(live, free);
        Ok(())
    }

    fn roll_back(&mut self, trouble: RolledBack) -> RolledBack {
        self.given = self.committed;
        let back = || -> rusqlite::Result<()> {
            // SQLite rolls some failures back by itself.
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

    pub(super) fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// Pages of the file, and how many of them are free.
    pub(super) fn pages(&self) -> rusqlite::Result<(u64, u64)> {
        let pragma = |sql: &str| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        Ok((pragma("PRAGMA page_count")?, pragma("PRAGMA freelist_count")?))
    }

    pub(super) fn live_bytes(&self) -> rusqlite::Result<u64> {
        let (pages, free) = self.pages()?;
        Ok(pages.saturating_sub(free) * PAGE_BYTES)
    }

    /// Looks whether there are notes, between two transactions.
    pub(super) fn look_for_notes(&mut self) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare_cached("SELECT EXISTS(SELECT 1 FROM note)")?;
        self.noted = select.query_row([], |row| row.get(0))?;
        Ok(())
    }

    /// Turns the generations of idempotency keys when their window is over.
    pub(super) fn turn_generations(&mut self) -> Result<(), RolledBack> {
        let now_ms = now_ms();
        if !self.generations.is_due(now_ms) {
            return Ok(());
        }
        let trouble = |error: rusqlite::Error| RolledBack {
            fault: Fault::of(&error),
            at_commit: false,
            text: error.to_string(),
        };
        self.begin().map_err(trouble)?;
        let turned = self.generations.turned(&self.connection, now_ms).and_then(|turned| {
            self.statement("COMMIT")?;
            Ok(turned)
        });
        match turned {
            Ok(turned) => {
                self.generations = turned;
                Ok(())
            }
            Err(error) => Err(self.roll_back(trouble(error))),
        }
    }
}

/// Now, in Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
