//! Reading: the thread that answers questions, and the questions.

pub(super) mod queries;
pub(super) mod reader;
pub(super) mod store_reader;
pub(super) mod verify;
