//! The highest record number given out, even if its record is gone.

use crate::spool::store::entry::Seq;
use rusqlite::Connection;

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
