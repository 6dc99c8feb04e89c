//! A request that is refused before anything is published, and why.

use crate::envelope::Invalid;
use crate::message::Settlement;
use crate::outcome::Outcome;

/// Why a request is refused at the door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", detail.as_deref().unwrap_or(outcome.row().title))]
pub(super) struct Rejection {
    /// The outcome that is answered.
    pub(super) outcome: Outcome,
    /// More than the outcome says, if there is more: which header or field is wrong, and what was
    /// expected.
    pub(super) detail: Option<String>,
}

impl Rejection {
    /// `field` has a value that is not acceptable.
    pub(super) fn invalid(field: &str, problem: impl std::fmt::Display) -> Self {
        Invalid::new(field, problem).into()
    }

    /// A rejection without a detail.
    pub(super) fn of(outcome: Outcome) -> Self {
        Self { outcome, detail: None }
    }

    pub(super) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: Some(detail.into()) }
    }
}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Self::new(Outcome::InvalidRequest, invalid.into_detail())
    }
}

impl From<Rejection> for Settlement {
    fn from(rejection: Rejection) -> Self {
        let Rejection { outcome, detail } = rejection;
        Self { detail, ..Self::of(outcome) }
    }
}
