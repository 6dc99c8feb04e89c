//! Knows whether the broker limits how many channels the sidecar's user may open.
//!
//! The broker closes a whole connection (530) for one channel too many, counted over all
//! connections of the user or of its node. So the sidecar learns once that there is a limit, and
//! from then on does without the channels that it can spare: messages to unproven destinations
//! travel with the others, and the broker is not asked about queues.

use std::sync::atomic::{AtomicBool, Ordering};

/// The beginning of the broker's text when it closes the connection. The rest of the text names the
/// user or node, and the limit. Recorded from RabbitMQ 3.10.8 and 4.0.5 with the user limit
/// `max-channels`.
const ONE_TOO_MANY: &str = "number of channels opened ";

/// What is known for all connections.
#[derive(Debug, Default)]
pub(crate) struct ChannelLimit {
    is_reached: AtomicBool,
}

impl ChannelLimit {
    /// A connection was lost or refused for this reason.
    pub(crate) fn heard(&self, reason: &str) {
        if reason.contains(ONE_TOO_MANY) && !self.is_reached.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the broker limits the channels of the sidecar's user: a refused exchange may now take \
                 the verdicts of other messages with it. Allow each connection at least ten channels, \
                 and restart amqpost"
            );
        }
    }

    /// Whether the limit was reached once.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_brokers_word_about_channels_counts() {
        let limit = ChannelLimit::default();
        limit
            .heard("NOT_ALLOWED - connection refused for user 'guest': user connection limit (1) is reached");
        assert!(!limit.is_reached());
        limit.heard(
            "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed user \
             limit of (3)",
        );
        assert!(limit.is_reached());
    }
}
