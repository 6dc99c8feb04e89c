//! Single numbers that are kept in the database, and the highest record number that was ever given
//! out.

use crate::spool::store::entry::Seq;
use rusqlite::{Connection, OptionalExtension, params};

/// The kept number of this name.
pub(crate) fn fact(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT value FROM fact WHERE name = ?1")?;
    select.query_row([name], |row| row.get(0)).optional()
}

/// Keeps a number in place of the one with the same name.
pub(crate) fn keep_fact(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let mut keep = connection.prepare_cached("INSERT OR REPLACE INTO fact(name, value) VALUES (?1, ?2)")?;
    keep.execute(params![name, value]).map(|_| ())
}

/// The highest number in the database; zero before the first record.
pub(crate) fn known(connection: &Connection) -> rusqlite::Result<Seq> {
    const KNOWN: &str = "SELECT max((SELECT coalesce(max(last), 0) FROM dest),
        (SELECT coalesce(max(seq), 0) FROM msg),
        (SELECT coalesce(max(value), 0) FROM fact WHERE name = 'last'))";
    connection.query_row(KNOWN, [], |row| row.get(0).map(Seq::new))
}

/// Keeps a number from being given out again when no destination has it.
pub(crate) fn keep_known(connection: &Connection, last: Seq) -> rusqlite::Result<()> {
    const KEEP: &str = "INSERT INTO fact(name, value) VALUES ('last', ?1)
        ON CONFLICT(name) DO UPDATE SET value = max(value, excluded.value)";
    connection.prepare_cached(KEEP)?.execute([last.number()]).map(|_| ())
}
