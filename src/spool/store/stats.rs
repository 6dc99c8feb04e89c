//! What the store says of itself: a snapshot after each commit, read without asking anybody.

use super::entry::Seq;
use serde::{Deserialize, Serialize};

/// Whether the store takes changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "health", content = "failure", rename_all = "lowercase")]
pub enum StoreHealth {
    /// It does.
    #[default]
    Working,
    /// The disk failed it, for the given reason. It takes nothing more until it is opened again.
    Failed(Box<str>),
    /// It was closed.
    Closed,
}

/// Records that were acknowledged and are no longer in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTail {
    /// The last record that the database knows.
    pub known: Seq,
    /// The last record that had been committed.
    pub committed: Seq,
}

impl StoreHealth {
    /// Its name, as operators see it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            StoreHealth::Working => "working",
            StoreHealth::Failed(_) => "failed",
            StoreHealth::Closed => "closed",
        }
    }

    /// Why the disk failed it.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self {
            StoreHealth::Failed(reason) => Some(reason),
            StoreHealth::Working | StoreHealth::Closed => None,
        }
    }
}

impl LostTail {
    /// How many records are missing.
    #[must_use]
    pub fn records(self) -> u64 {
        self.committed.number().abs_diff(self.known.number())
    }
}

/// A snapshot of the store. JSON has what only the process knows that has the store open; the rest is in [`Summary`].
///
/// [`Summary`]: super::Summary
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Whether it takes changes.
    #[serde(flatten)]
    pub health: StoreHealth,
    /// Records to be delivered.
    #[serde(skip)]
    pub ready: u64,
    /// Records kept for an operator.
    #[serde(skip)]
    pub parked: u64,
    /// When the oldest record that is ready was appended, in Unix milliseconds. Looked up every second.
    #[serde(skip)]
    pub oldest_ms: Option<i64>,
    /// Bytes of the database in use.
    #[serde(skip)]
    pub live_bytes: u64,
    /// The largest size of the database, in bytes.
    pub max_bytes: u64,
    /// Whether appends are refused until there is room again.
    pub full: bool,
    /// Records stored since it was opened.
    pub appended: u64,
    /// Transactions committed since it was opened, each with one sync of the disk.
    pub commits: u64,
    /// The last record that was committed; of an earlier run, while this one has committed none.
    #[serde(skip)]
    pub last: Seq,
    /// What was missing when it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostTail>,
}
