//! The settlement: what became of an order, as its client is told.

use super::ShortText;
use crate::outcome::Outcome;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The outcome.
    pub outcome: Outcome,
    /// More than the outcome says, for the client: no host names, no credentials.
    pub detail: Option<String>,
    /// Attempts made at publishing; 0 for an order that was refused before the first.
    pub attempts: u32,
    /// The id of the message, once it has one: that of the first request, where this one repeats it.
    pub message_id: Option<ShortText>,
    /// Whether this is the outcome of an earlier request, and nothing was done for this one.
    pub replayed: bool,
}

impl Settlement {
    /// An outcome without a detail and without an attempt.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, detail: None, attempts: 0, message_id: None, replayed: false }
    }

    /// The same about the message with this id.
    #[must_use]
    pub fn about(self, message_id: ShortText) -> Self {
        Self { message_id: Some(message_id), ..self }
    }
}
