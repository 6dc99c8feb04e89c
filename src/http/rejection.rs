//! A request that is refused before anything is published, and why.

use crate::outcome::Outcome;

/// Why a request is refused at the door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Rejection {
    /// The outcome that is answered.
    pub(super) outcome: Outcome,
    /// Which header or field is wrong, and what was expected.
    pub(super) detail: String,
}

impl Rejection {
    /// `field` has a value that is not acceptable.
    pub(super) fn invalid(field: &str, problem: impl std::fmt::Display) -> Self {
        Self { outcome: Outcome::InvalidRequest, detail: format!("{field}: {problem}") }
    }

    pub(super) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into() }
    }
}
