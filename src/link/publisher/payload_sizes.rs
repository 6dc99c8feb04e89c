//! Knows which payload sizes the broker of one connection accepts.
//!
//! A client cannot ask for the broker's `max_message_size`. The broker closes the channel of a
//! message that is larger, and the others on that channel lose their verdicts. So a payload larger
//! than any that was accepted on this connection travels alone, and the first refusal tells the
//! limit. Both are forgotten with the connection: the next broker may have other limits.

use crate::link::lanes::refused_size;

/// Payloads of at most this many bytes always travel with others: no useful broker refuses them.
const SMALL: usize = 4096;

/// The sizes of payloads, in bytes.
#[derive(Debug, Default)]
pub(crate) struct PayloadSizes {
    accepted: usize,
    limit: Option<usize>,
}

impl PayloadSizes {
    /// Whether the broker may close the channel because of this size.
    pub(crate) fn is_unproven(&self, size: usize) -> bool {
        size > self.accepted.max(SMALL)
    }

    /// The broker gave a verdict on a message of this size.
    pub(crate) fn accepted(&mut self, size: usize) {
        self.accepted = self.accepted.max(size);
    }

    /// The broker closed a channel with this text. Whether the size of a payload was the reason.
    pub(crate) fn refused(&mut self, text: &str) -> bool {
        let Some((_, limit)) = refused_size(text) else { return false };
        if self.limit.replace(limit) != Some(limit) {
            tracing::info!(bytes = limit, "the broker limits the size of payloads");
        }
        true
    }

    /// Why the broker would refuse this size; `None` if it may accept it.
    pub(crate) fn problem(&self, size: usize) -> Option<String> {
        let limit = self.limit.filter(|limit| size > *limit)?;
        Some(format!("the payload has {size} bytes, the broker accepts {limit} (its max_message_size)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str =
        "PRECONDITION_FAILED - message size 1100000 is larger than configured max size 1048576";

    #[test]
    fn a_size_travels_alone_until_one_as_large_was_accepted() {
        let mut sizes = PayloadSizes::default();
        assert!(!sizes.is_unproven(SMALL));
        assert!(sizes.is_unproven(5000));
        sizes.accepted(6000);
        assert!(!sizes.is_unproven(5000));
        assert!(sizes.is_unproven(6001));
        sizes.accepted(10);
        assert!(!sizes.is_unproven(6000));
    }

    #[test]
    fn the_first_refusal_tells_the_limit() {
        let mut sizes = PayloadSizes::default();
        assert_eq!(sizes.problem(1_100_000), None);
        assert!(sizes.refused(REFUSED));
        assert_eq!(sizes.problem(1_048_576), None);
        let problem = "the payload has 1048577 bytes, the broker accepts 1048576 (its max_message_size)";
        assert_eq!(sizes.problem(1_048_577).as_deref(), Some(problem));
    }

    #[test]
    fn the_brokers_own_upper_bound_is_a_limit_too() {
        let text = "PRECONDITION_FAILED - message size 150000000 is larger than max size 134217728";
        assert!(PayloadSizes::default().refused(text));
    }

    #[test]
    fn other_refusals_and_limits_that_contradict_the_size_teach_nothing() {
        let mut sizes = PayloadSizes::default();
        let contradiction = "PRECONDITION_FAILED - message size 5 is larger than configured max size 7";
        let unknown = "PRECONDITION_FAILED - message size 5 is larger than configured max size x";
        for text in ["PRECONDITION_FAILED - invalid expiration", contradiction, unknown, ""] {
            assert!(!sizes.refused(text), "{text}");
        }
        assert_eq!(sizes.problem(usize::MAX), None);
    }
}
