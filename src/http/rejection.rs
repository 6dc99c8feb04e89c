//! A request that is refused before anything is published, and why.

use crate::message::Settlement;
use crate::outcome::Outcome;

/// The longest detail, in bytes: a client's own text may be quoted in it, and that may be a whole body.
const DETAIL_BYTES_MAX: usize = 512;

/// Why a request is refused at the door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", detail.as_deref().unwrap_or(outcome.row().title))]
pub(super) struct Rejection {
    /// The outcome that is answered.
    pub(super) outcome: Outcome,
    /// Which header or field is wrong, and what was expected; where there is more to say than the outcome.
    pub(super) detail: Option<String>,
}

impl Rejection {
    /// `field` has a value that is not acceptable.
    pub(super) fn invalid(field: &str, problem: impl std::fmt::Display) -> Self {
        Self { outcome: Outcome::InvalidRequest, detail: Some(shortened(format!("{field}: {problem}"))) }
    }

    /// The outcome says it all.
    pub(super) fn of(outcome: Outcome) -> Self {
        Self { outcome, detail: None }
    }

    pub(super) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: Some(detail.into()) }
    }
}

impl From<Rejection> for Settlement {
    fn from(rejection: Rejection) -> Self {
        let Rejection { outcome, detail } = rejection;
        Self { detail, ..Self::of(outcome) }
    }
}

fn shortened(mut detail: String) -> String {
    if detail.len() > DETAIL_BYTES_MAX {
        let end = (0..=DETAIL_BYTES_MAX).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
        detail.truncate(end);
        detail.push('…');
    }
    detail
}
