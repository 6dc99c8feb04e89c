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
        /// ` (pid 123)`, when the other one left its number.
        holder: String,
    },
    /// The directory is on a network: its locks and its shared memory do not hold there.
    #[error("the spool {directory} is on {kind}; it needs a local disk", directory = .directory.display())]
    NotLocal {
        /// The directory.
        directory: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// The directory is somebody else's: to close it to other users, as a spool's is, could do harm.
    #[error(
        "{directory} holds other files and no spool, and others may enter it; give the spool a directory of its own",
        directory = .directory.display()
    )]
    ForeignDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// A run before ended while its log was being moved, and how far is known only by another process that looks into the spool: whether
    /// the disk kept what was moved is not known any more.
    #[error(
        "another process looks into the spool {directory}, and the run before ended while its log was being moved; \
         end that process (amqpost spool, sqlite3) and start again",
        directory = .directory.display()
    )]
    LookedInto {
        /// The directory.
        directory: PathBuf,
    },
    /// The SQLite that was linked has a known fault.
    #[error("SQLite {found} loses data; 3.51.3 or newer is needed")]
    OldSqlite {
        /// Its number, such as 3051003.
        found: i32,
    },
    /// The database belongs to another program.
    #[error("{path} is not a spool", path = .path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The database was written by a newer amqpost.
    #[error(
        "the spool has version {found}, this amqpost reads up to {known}; start the newer one, or drain it first"
    )]
    Newer {
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// The database was written by an older amqpost, and can only be looked at here.
    #[error(
        "the spool has version {found}, this amqpost reads {known}; start this one's sidecar with it once"
    )]
    Older {
        /// The version found.
        found: i64,
        /// The version known.
        known: i64,
    },
    /// A setting of the database did not take.
    #[error("the spool's {setting} is {found}, not {wanted}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: String,
    },
    /// The directory or a file in it cannot be used.
    #[error("{doing} {path}: {source}", path = .path.display())]
    Files {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
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

/// Which bound an append met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FullReason {
    /// The spool's own size.
    #[error("the spool is full")]
    Spool,
    /// The part of it that one destination may take.
    #[error("the destination's share of the spool is full")]
    Destination,
    /// The disk below it.
    #[error("the disk is full")]
    Disk,
}

/// Why a message was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room, and no trace of the message.
    #[error(transparent)]
    Full(#[from] FullReason),
    /// The store is closed or has failed, and there is no trace of the message.
    #[error("the spool has failed")]
    Failed,
    /// The disk failed at the commit: the message may be found after a restart.
    #[error("the disk failed while the message was written")]
    Unsure,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no room even for the change.
    #[error("the disk is full")]
    Full,
    /// The store is closed or has failed; after a restart the change may be found made or not.
    #[error("the spool has failed")]
    Failed,
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store is closed.
    #[error("the spool is closed")]
    Closed,
    /// The outcome that is remembered with an idempotency key is damaged.
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

pub(super) fn threads_failed(directory: &Path, source: io::Error) -> OpenError {
    OpenError::Files { doing: "starting the threads of", path: directory.to_owned(), source }
}
