//! The directory and its files: who has them, how they are opened, how the log gets into the
//! database.

pub(super) mod checkpoints;
pub(super) mod connections;
pub(super) mod directory;
pub(super) mod high_water;
pub(super) mod holder;
pub(super) mod schema;
