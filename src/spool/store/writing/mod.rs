//! Writing: changes gather, are committed together, and are answered.

pub(super) mod appends;
pub(super) mod bounds;
pub(super) mod change;
pub(super) mod changes;
pub(super) mod expiry;
pub(super) mod inbox;
pub(super) mod ledger;
pub(super) mod reclaim;
mod refusals;
pub(super) mod replies;
pub(super) mod writer;
