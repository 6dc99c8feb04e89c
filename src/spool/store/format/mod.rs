//! The bytes of a record.

pub(super) mod record;
pub(super) mod wire;
