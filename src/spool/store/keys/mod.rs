//! Idempotency keys: their tables, and where in them a key may be.

pub(super) mod dedup;
pub(super) mod runs;
