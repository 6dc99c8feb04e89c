//! The tables, and the migration from each version to the next.

use crate::spool::store::errors::OpenError;
use crate::spool::store::index::stretches::Stretches;
use crate::spool::store::keys::runs::Runs;
use rusqlite::{Connection, Transaction};
use std::cmp::Ordering;

/// Marks the file as a spool: `amqp` in ASCII.
pub(crate) const APPLICATION_ID: i64 = 0x616d_7170;

/// The migrations. Each one takes the tables from the version that is its index to the next
/// version. A released migration never changes.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { sql: V1, then: None },
    Migration { sql: V2, then: Some(find_anew) },
    Migration { sql: V3, then: None },
];

/// One migration: statements, then a function that computes new values from the rows.
#[derive(Clone, Copy)]
pub(crate) struct Migration {
    pub(crate) sql: &'static str,
    pub(crate) then: Option<fn(&Connection) -> rusqlite::Result<()>>,
}

/// A value of a record that changes is in `note` or has a fixed width. If the length of a row
/// changes, SQLite writes the whole row again, with the message in it.
///
/// Each table and index that an append touches costs a page of the log, so there are few.
/// `dest.last` is the highest number given to the destination, so that none is used twice;
/// AUTOINCREMENT would write one more page. `ages` is 1 for a record that expires no earlier than
/// those before it, as nearly all do. Those are found in the order of their numbers; only the
/// others are in `msg_expires`.
const V1: &str = "
CREATE TABLE dest(
    id          INTEGER PRIMARY KEY,
    exchange    TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    ready       INTEGER NOT NULL DEFAULT 0,
    parked      INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER NOT NULL DEFAULT 0,
    last        INTEGER NOT NULL DEFAULT 0,
    latest_ms   INTEGER NOT NULL DEFAULT 0,
    UNIQUE(exchange, routing_key)) STRICT;
CREATE TABLE msg(
    seq        INTEGER PRIMARY KEY,
    dest       INTEGER NOT NULL REFERENCES dest(id),
    state      INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    ages       INTEGER NOT NULL,
    crc        INTEGER NOT NULL,
    meta       BLOB NOT NULL,
    body       BLOB NOT NULL) STRICT;
CREATE TABLE note(
    seq       INTEGER PRIMARY KEY,
    attempts  INTEGER NOT NULL DEFAULT 0,
    reason    TEXT,
    parked_ms INTEGER) STRICT;
CREATE INDEX msg_dest ON msg(dest, state, seq);
CREATE INDEX msg_expires ON msg(expires_ms) WHERE ages = 0 AND state = 0;
CREATE TABLE dedup_a(
    run        INTEGER NOT NULL,
    key        BLOB NOT NULL,
    request    BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    seq        INTEGER,
    code       TEXT NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY(run, key)) STRICT, WITHOUT ROWID;
CREATE TABLE dedup_b(
    run        INTEGER NOT NULL,
    key        BLOB NOT NULL,
    request    BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    seq        INTEGER,
    code       TEXT NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY(run, key)) STRICT, WITHOUT ROWID;
CREATE TABLE dedup_run(
    run        INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    filter     BLOB NOT NULL) STRICT;
CREATE TABLE fact(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// Records are found by their stretches, not by an index with an entry for each; see `stretches`.
///
/// A record counts 32 bytes less, the size of its former entry. The filters of idempotency keys use
/// eight bits per key instead of four and are built again from the keys.
const V2: &str = "
CREATE TABLE stretch(
    dest  INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL,
    ready INTEGER NOT NULL,
    PRIMARY KEY(dest, first)) STRICT, WITHOUT ROWID;
DROP INDEX msg_dest;
UPDATE dest SET bytes = max(0, bytes - 32 * (ready + parked));
";

/// Parking by time. It needs to know since when the broker refuses a destination and a record, and
/// how long records have been tried.
///
/// `note.handed` is 1 for a record that was handed over to the link. `note.tries` counts those of
/// its deliveries that were refused and may have left a copy; `first_ms` and `last_ms` say when,
/// and `word` is the code of the last refusal. A row of `refused` is the clock of a destination:
/// since when it is refused, and the last record that was kept by then. A row of `tried` is a
/// moment: how long the link had been up while records waited, and the last record that was kept by
/// then. `msg.ages` is 2 for a record whose message has an expiration of its own.
const V3: &str = "
ALTER TABLE note ADD COLUMN handed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE note ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE note ADD COLUMN first_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE note ADD COLUMN last_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE note ADD COLUMN word TEXT NOT NULL DEFAULT '';
UPDATE note SET handed = 1 WHERE attempts > 0;
CREATE TABLE refused(
    dest     INTEGER PRIMARY KEY,
    since_ms INTEGER NOT NULL,
    last     INTEGER NOT NULL) STRICT;
CREATE TABLE tried(
    total_ms INTEGER PRIMARY KEY,
    last     INTEGER NOT NULL) STRICT;
DROP INDEX msg_expires;
CREATE INDEX msg_expires ON msg(expires_ms) WHERE ages <> 1 AND state = 0;
";

/// Computes the values that version 2 adds, from the existing rows.
fn find_anew(connection: &Connection) -> rusqlite::Result<()> {
    Stretches::find_all(connection)?;
    Runs::make_filters(connection)
}

/// Checks that the tables have the newest version, for a connection that cannot migrate them.
pub(crate) fn check(connection: &Connection) -> Result<(), OpenError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match found.cmp(&known) {
        Ordering::Greater => Err(OpenError::Newer { found, known }),
        Ordering::Less => Err(OpenError::Older { found, known }),
        Ordering::Equal => Ok(()),
    }
}

/// Migrates the tables to the newest version, completely or not at all.
pub(crate) fn migrate(connection: &mut Connection, migrations: &[Migration]) -> Result<(), OpenError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if found > known || found < 0 {
        return Err(OpenError::Newer { found, known });
    }
    if found == known {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    step(&transaction, &migrations[usize::try_from(found).unwrap_or(0)..])?;
    transaction.pragma_update(None, "user_version", known)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

fn step(transaction: &Transaction<'_>, migrations: &[Migration]) -> Result<(), OpenError> {
    for Migration { sql, then } in migrations {
        transaction.execute_batch(sql)?;
        then.map_or(Ok(()), |then| then(transaction))?;
    }
    Ok(())
}
