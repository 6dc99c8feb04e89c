//! The settlement: the result of an order, as its client gets it.

use super::ShortText;
use crate::outcome::Outcome;

/// The result of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The outcome.
    pub outcome: Outcome,
    /// Further information for the client. It has no host names and no credentials.
    pub detail: Option<String>,
    /// Attempts made at publishing; 0 for an order that was refused before the first.
    pub attempts: u32,
    /// The id of the message, once it has one. If the request repeats another, this is the id of
    /// the first one.
    pub message_id: Option<ShortText>,
    /// Whether this is the outcome of an earlier request, and nothing was done for this one.
    pub replayed: bool,
    /// Seconds for `Retry-After`, if the outcome's row has too few for this answer.
    pub retry_after: Option<u32>,
    /// The broker's answer from which the outcome was made, if that was a refusal of the
    /// destination.
    pub refusal: Option<Refusal>,
}

/// The broker's word against a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The outcome if the refusal is a verdict.
    pub word: Outcome,
    /// For a return: whether the exchange is known not to keep the messages that it returns.
    pub returns_are_certain: bool,
}

impl Settlement {
    /// An outcome without a detail and without an attempt.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            detail: None,
            attempts: 0,
            message_id: None,
            replayed: false,
            retry_after: None,
            refusal: None,
        }
    }

    /// The outcome by the broker's own answer, whether or not that answer is about the moment.
    #[must_use]
    pub fn word(&self) -> Outcome {
        self.refusal.map_or(self.outcome, |refusal| refusal.word)
    }

    /// Seconds for `Retry-After`; `None` sends no such header.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after.or(self.outcome.row().retry_after)
    }

    /// The same settlement, with this id of the message.
    #[must_use]
    pub fn about(self, message_id: ShortText) -> Self {
        Self { message_id: Some(message_id), ..self }
    }
}
