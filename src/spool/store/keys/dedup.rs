//! Idempotency keys: the outcome of each first request, remembered for a window.
//!
//! Keys are in two tables, the current generation and the previous one. After each window the older
//! table is emptied and becomes the current one, so a key costs one row and no timer. `runs` knows
//! which parts of a table may contain a key; the writer updates it and the reader uses it.

use super::runs::Runs;
use crate::labels::Label;
use crate::locking::lock;
use crate::spool::store::entry::{FinalOutcome, FirstUse, Idempotency, Seq};
use crate::spool::store::format::wire::Unreadable;
use crate::spool::store::index::numbers::{fact, keep_fact};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Which table is the current generation, and since when it is.
#[derive(Clone, Debug)]
pub(crate) struct Generations {
    window_ms: i64,
    current: usize,
    since_ms: i64,
    runs: SharedRuns,
}

/// The runs of both tables. They may be ahead of the tables: a key that they exclude is not there.
#[derive(Clone, Debug)]
pub(crate) struct SharedRuns(Arc<Mutex<Runs>>);

/// The statements for each of the two tables.
struct KeyTable {
    find: &'static str,
    put: &'static str,
    empty: &'static str,
}

const TABLES: [KeyTable; 2] = [
    KeyTable {
        find: "SELECT request, seq, code, message_id FROM dedup_a
               WHERE run = ?1 AND key = ?2 AND created_ms > ?3",
        put: "INSERT OR REPLACE INTO dedup_a(run, key, request, created_ms, seq, code, message_id)
              VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        empty: "DELETE FROM dedup_a",
    },
    KeyTable {
        find: "SELECT request, seq, code, message_id FROM dedup_b
               WHERE run = ?1 AND key = ?2 AND created_ms > ?3",
        put: "INSERT OR REPLACE INTO dedup_b(run, key, request, created_ms, seq, code, message_id)
              VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        empty: "DELETE FROM dedup_b",
    },
];

impl Generations {
    /// Loads the generations from the tables.
    pub(crate) fn load(connection: &Connection, window: Duration, now_ms: i64) -> rusqlite::Result<Self> {
        let current = usize::from(fact(connection, "dedup_current")? == Some(1));
        let since_ms = fact(connection, "dedup_since_ms")?.unwrap_or(now_ms);
        let runs = SharedRuns(Arc::new(Mutex::new(Runs::load(connection)?)));
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Ok(Self { window_ms, current, since_ms, runs })
    }

    /// The runs, for readers.
    pub(crate) fn runs(&self) -> SharedRuns {
        self.runs.clone()
    }

    /// Loads the runs again from the tables, which are as they were before the transaction.
    pub(crate) fn rolled_back(&self, connection: &Connection) -> rusqlite::Result<()> {
        *lock(&self.runs.0) = Runs::load(connection)?;
        Ok(())
    }

    /// Adds the key and its outcome to the current generation.
    pub(crate) fn put(
        &self,
        connection: &Connection,
        with: &Idempotency,
        seq: Option<Seq>,
        now_ms: i64,
    ) -> rusqlite::Result<()> {
        let Idempotency { key, request, outcome, message_id } = with;
        let run = lock(&self.runs.0).add(connection, self.current, key)?;
        let mut put = connection.prepare_cached(TABLES[self.current].put)?;
        let seq = seq.map(Seq::number);
        put.execute(params![run, key, request, now_ms, seq, outcome.as_str(), message_id])?;
        Ok(())
    }

    /// Empties the older table in the open transaction and makes it the current one.
    pub(crate) fn turned(&self, connection: &Connection, now_ms: i64) -> rusqlite::Result<Self> {
        let next = Self { current: 1 - self.current, since_ms: now_ms, ..self.clone() };
        let mut runs = lock(&self.runs.0);
        runs.seal(connection)?;
        // All its keys are older than the window, so concurrent lookups miss none.
        runs.empty(connection, next.current)?;
        drop(runs);
        connection.execute(TABLES[next.current].empty, [])?;
        keep_fact(connection, "dedup_current", i64::from(next.current == 1))?;
        keep_fact(connection, "dedup_since_ms", now_ms)?;
        Ok(next)
    }

    /// Whether the window of the current generation is over.
    pub(crate) fn is_due(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= self.window_ms
    }

    /// The remembered use of a key.
    pub(crate) fn seen(
        &self,
        connection: &Connection,
        with: &Idempotency,
        now_ms: i64,
    ) -> rusqlite::Result<Option<Result<FirstUse, Unreadable>>> {
        let window = Duration::from_millis(self.window_ms.cast_unsigned());
        seen(connection, &self.runs, with.key, with.request, window, now_ms)
    }
}

/// The remembered use of a key, less than a window ago. An unreadable outcome is an error for that
/// key alone: a guess could report a success that never happened, or publish the message twice.
pub(crate) fn seen(
    connection: &Connection,
    runs: &SharedRuns,
    key: [u8; 16],
    request: [u8; 16],
    window: Duration,
    now_ms: i64,
) -> rusqlite::Result<Option<Result<FirstUse, Unreadable>>> {
    let after = now_ms.saturating_sub(i64::try_from(window.as_millis()).unwrap_or(i64::MAX));
    let read = |row: &Row<'_>| {
        let Some(outcome) = FinalOutcome::from_word(row.get_ref(2)?.as_str().unwrap_or_default()) else {
            return Ok(Err(Unreadable));
        };
        Ok(Ok(FirstUse {
            same_request: row.get::<_, [u8; 16]>(0)? == request,
            seq: row.get::<_, Option<i64>>(1)?.map(Seq::new),
            outcome,
            message_id: row.get(3)?,
        }))
    };
    let places = lock(&runs.0).may_have(&key);
    for (table, run) in places {
        let mut find = connection.prepare_cached(TABLES[table].find)?;
        let found = find.query_row(params![run, key, after], read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
