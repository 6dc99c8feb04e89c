//! What the store says of itself: a snapshot after each commit, read without asking anybody.

use super::entry::Seq;
use std::sync::Arc;

/// Whether the store takes changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    #[default]
    Working,
    /// The disk failed it, for the given reason. It takes nothing more until it is opened again.
    Failed(Arc<str>),
    /// It was closed.
    Closed,
}

/// Records that were answered for and are not in the database any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostTail {
    /// The last record that the database knows.
    pub known: Seq,
    /// The last record that had been committed.
    pub committed: Seq,
}

/// A snapshot of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Whether it takes changes.
    pub health: StoreHealth,
    /// Records to be delivered.
    pub ready: u64,
    /// Records kept for an operator.
    pub parked: u64,
    /// When the oldest record that is ready was appended, in Unix milliseconds. Looked up every second.
    pub oldest_ms: Option<i64>,
    /// Bytes of the database in use.
    pub live_bytes: u64,
    /// Bytes of the database, at most.
    pub max_bytes: u64,
    /// Whether appends are refused until there is room again.
    pub full: bool,
    /// Transactions committed since it was opened.
    pub commits: u64,
    /// Records stored since it was opened.
    pub appended: u64,
    /// The last record that was committed; of an earlier run, while this one has committed none.
    pub last: Seq,
    /// What was missing when it was opened.
    pub lost: Option<LostTail>,
}
