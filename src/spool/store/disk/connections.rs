//! Connections to the database, and their settings.

use super::schema;
use crate::spool::store::errors::{OpenError, files};
use crate::spool::store::settings::{PAGE_BYTES, StoreSettings};
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// How long to wait for a lock. Operators may use other tools on the database.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const LOG_BYTES: i64 = 16 << 20;

/// The connection that writes. Creates the tables or migrates them to the newest version.
pub(crate) fn writing(path: &Path, settings: &StoreSettings) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    let is_new = is_new(&connection, path)?;
    if is_new {
        // Both take effect only before the first table.
        connection.pragma_update(None, "page_size", PAGE_BYTES.cast_signed())?;
        connection.pragma_update(None, "auto_vacuum", 2)?;
    }
    set(&connection, "journal_mode", "wal".to_owned())?;
    set(&connection, "synchronous", 2)?;
    set(&connection, "wal_autocheckpoint", 0)?;
    set(&connection, "journal_size_limit", LOG_BYTES)?;
    set(&connection, "cache_size", -16384)?;
    common(&connection)?;
    schema::migrate(&mut connection, schema::MIGRATIONS)?;
    check(&connection, "page_size", PAGE_BYTES.cast_signed())?;
    check(&connection, "auto_vacuum", 2)?;
    // SQLite never goes below the current size of the file; then the bounds refuse appends.
    let pages = i64::try_from(settings.max_pages()).unwrap_or(i64::MAX);
    let used: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    set(&connection, "max_page_count", pages.max(used))?;
    Ok(connection)
}

/// Whether there are no tables yet: the file is new, or a power cut interrupted its creation.
/// Another program's file is left alone.
fn is_new(connection: &Connection, path: &Path) -> Result<bool, OpenError> {
    let foreign = || OpenError::Foreign(path.to_owned());
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let id = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    match (tables, id) {
        (Ok(0), Ok(0)) => Ok(true),
        (Ok(_), Ok(schema::APPLICATION_ID)) => Ok(false),
        (Ok(_), Ok(_)) => Err(foreign()),
        (Err(error), _) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => Err(foreign()),
        (Err(error), _) | (_, Err(error)) => Err(error.into()),
    }
}

/// A read-only connection to an existing database.
pub(crate) fn existing(path: &Path) -> Result<Connection, OpenError> {
    // SQLite would only say that it cannot open the file; the system's error says why.
    std::fs::metadata(path).map_err(files("looking for", path))?;
    let connection = reading(path)?;
    if is_new(&connection, path)? {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    schema::check(&connection)?;
    Ok(connection)
}

/// A connection for checkpoints, which sync as the writer's connection does.
pub(crate) fn moving(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    set(&connection, "synchronous", 2)?;
    set(&connection, "wal_autocheckpoint", 0)?;
    common(&connection)?;
    // A connection discovers the log when it first reads the file.
    schema::check(&connection)?;
    Ok(connection)
}

/// A read-only connection to a database of the newest version.
pub(crate) fn reading(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    common(&connection)?;
    set(&connection, "cache_size", -4096)?;
    set(&connection, "query_only", 1)?;
    Ok(connection)
}

fn common(connection: &Connection) -> Result<(), OpenError> {
    // Some builds of SQLite map the file. A failing disk would then raise a signal.
    connection.pragma_update(None, "mmap_size", 0)?;
    // By default the last connection to close moves and removes the log, whatever failed before.
    // Only a writer that ends normally may do that.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Statements are compiled once, whatever is bound to them. Otherwise each new end of a range
    // compiles them again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // With foreign keys, the removal of a destination would scan all records. The ledger keeps the
    // references right, and `verify` checks them.
    set(connection, "foreign_keys", 0)?;
    set(connection, "temp_store", 2)?;
    set(connection, "cell_size_check", 1)?;
    set(connection, "trusted_schema", 0)
}

/// Sets a pragma and checks that it took effect.
fn set(connection: &Connection, name: &'static str, value: impl Into<Value>) -> Result<(), OpenError> {
    let value = value.into();
    connection.pragma_update(None, name, &value)?;
    check(connection, name, value)
}

fn check(connection: &Connection, setting: &'static str, wanted: impl Into<Value>) -> Result<(), OpenError> {
    let (wanted, found) = (wanted.into(), connection.pragma_query_value(None, setting, |row| row.get(0))?);
    if wanted == found {
        return Ok(());
    }
    Err(OpenError::Setting { setting, found: text(&found), wanted: text(&wanted) })
}

fn text(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        other @ (Value::Null | Value::Real(_) | Value::Blob(_)) => format!("{other:?}"),
    }
}
