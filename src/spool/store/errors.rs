//! Everything that can go wrong at the store's border.

use std::io;
use std::path::{Path, PathBuf};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the spool {directory} is in use by another process{holder}", directory = .directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// ` (pid 123)`, if that process wrote its id.
        holder: String,
    },
    /// The directory is on a network file system, where locks and shared memory do not work.
    #[error("the spool {directory} is on {kind}; it needs a local disk", directory = .directory.display())]
    NotLocal {
        /// The directory.
        directory: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// The directory has other uses: making it private, as a spool must be, could break them.
    #[error(
        "{directory} has other files, no spool, and is open to other users; \
         give the spool a directory of its own",
        directory = .0.display()
    )]
    ForeignDirectory(PathBuf),
    /// An earlier run ended during a checkpoint, and another process has the spool open. Whether
    /// the disk kept the moved pages is unknown.
    #[error(
        "another process reads the spool {directory}, and an earlier run ended during a checkpoint; \
         end that process (amqpost spool, sqlite3) and start again",
        directory = .0.display()
    )]
    LookedInto(PathBuf),
    /// The linked SQLite, with a version number such as 3051003, has a known fault.
    #[error("SQLite {0} loses data; 3.51.3 or newer is needed")]
    OldSqlite(i32),
    /// The database belongs to another program.
    #[error("{path} is not a spool", path = .0.display())]
    Foreign(PathBuf),
    /// A newer amqpost wrote the database.
    #[error(
        "the spool has version {found}, this amqpost reads up to {known}; start the newer one or drain first"
    )]
    Newer {
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// An older amqpost wrote the database, and this connection can only read.
    #[error("the spool has version {found}, this amqpost reads {known}; start this sidecar with it once")]
    Older {
        /// The version found.
        found: i64,
        /// The version known.
        known: i64,
    },
    /// A setting of the database did not take effect.
    #[error("the spool's {setting} is {found}, not {wanted}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// The actual value.
        found: String,
        /// The required value.
        wanted: String,
    },
    /// The directory or a file in it cannot be used.
    #[error("{doing} {path}: {source}", path = .path.display())]
    Files {
        /// The attempted action.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// SQLite refuses.
    #[error("the spool's database: {0}")]
    Database(String),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// The bound that an append exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FullReason {
    /// The spool's own size.
    #[error("the spool is full")]
    Spool,
    /// One destination's share of the spool.
    #[error("the destination's share of the spool is full")]
    Destination,
    /// The free space of the disk.
    #[error("the disk is full")]
    Disk,
}

/// Why a message was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no space. Nothing of the message is stored.
    #[error(transparent)]
    Full(#[from] FullReason),
    /// The store is closed or has failed. Nothing of the message is stored.
    #[error("the spool has failed")]
    Failed,
    /// The disk failed at the commit: the message may be there after a restart.
    #[error("the disk failed while the message was written")]
    Unsure,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no space even for the change.
    #[error("the disk is full")]
    Full,
    /// The store is closed or has failed; a restart shows whether the change was made.
    #[error("the spool has failed")]
    Failed,
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store is closed.
    #[error("the spool is closed")]
    Closed,
    /// The remembered outcome of an idempotency key is damaged.
    #[error("the outcome that the spool remembers for it is damaged")]
    Outcome,
    /// SQLite refuses.
    #[error("the spool's database: {0}")]
    Database(String),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// The error of an operation on a file, such as `locking`.
pub(super) fn files<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl Fn(E) -> OpenError {
    move |source| OpenError::Files { doing, path: path.to_owned(), source: source.into() }
}
