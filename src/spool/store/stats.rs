//! The store's state: a snapshot after each commit, readable at any time.

use super::entry::Seq;
use serde::{Deserialize, Serialize};

/// Whether the store accepts changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "health", content = "failure", rename_all = "lowercase")]
pub enum StoreHealth {
    /// It does.
    #[default]
    Working,
    /// The disk failed, for the given reason. The store accepts nothing until it is opened again.
    Failed(Box<str>),
    /// It was closed.
    Closed,
}

/// Records that were acknowledged and are no longer in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTail {
    /// The last record in the database.
    pub known: Seq,
    /// The last record that was committed.
    pub committed: Seq,
}

impl StoreHealth {
    /// The name that operators see.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            StoreHealth::Working => "working",
            StoreHealth::Failed(_) => "failed",
            StoreHealth::Closed => "closed",
        }
    }

    /// Why the disk failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self {
            StoreHealth::Failed(reason) => Some(reason),
            StoreHealth::Working | StoreHealth::Closed => None,
        }
    }
}

impl LostTail {
    /// The records that are missing from a database that knows the records up to `known`, by the
    /// number in the file beside it.
    pub(super) fn between(known: Seq, noted: Option<Seq>) -> Option<Self> {
        noted.filter(|committed| *committed > known).map(|committed| Self { known, committed })
    }

    /// The number of missing records.
    #[must_use]
    pub fn records(self) -> u64 {
        self.committed.number().abs_diff(self.known.number())
    }
}

/// A snapshot of the store. Its JSON has the values that only the store's process knows;
/// [`Summary`] has the others.
///
/// [`Summary`]: super::Summary
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Whether it accepts changes.
    #[serde(flatten)]
    pub health: StoreHealth,
    /// Ready records.
    #[serde(skip)]
    pub ready: u64,
    /// Parked records.
    #[serde(skip)]
    pub parked: u64,
    /// When the oldest ready record was appended, in Unix milliseconds. Read every second.
    #[serde(skip)]
    pub oldest_ms: Option<i64>,
    /// Bytes of the database in use.
    #[serde(skip)]
    pub live_bytes: u64,
    /// The largest size of the database, in bytes.
    pub max_bytes: u64,
    /// Whether appends are refused until there is space again.
    pub full: bool,
    /// Records appended since the start.
    pub appended: u64,
    /// Transactions committed since the start, each with one sync of the disk.
    pub commits: u64,
    /// The last record that was committed.
    #[serde(skip)]
    pub last: Seq,
    /// The records that were missing at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostTail>,
}
