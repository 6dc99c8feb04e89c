//! What the end of a channel says of each publish that was on it.
//!
//! RabbitMQ works through a channel in order. When one publish makes it close the channel, those before it were
//! processed (their confirms are lost), and those after it were not. The broker's text names the exchange, and
//! with topic permissions the routing key, of the one that did it.

use crate::message::Message;
use lapin::ErrorKind;
use lapin::protocol::AMQPErrorKind;
use std::sync::Arc;

/// A publish whose channel died before its verdict.
#[derive(Debug)]
pub(super) struct Unresolved {
    pub(super) slot: usize,
    /// Its place in the order on the wire.
    pub(super) order: usize,
    /// Whether all of its frames were written. Those that were not written whole were not published.
    pub(super) sent: bool,
    pub(super) message: Arc<Message>,
}

/// What is certain of such a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The broker closed the channel because of it.
    Cause,
    /// The broker never came to it, or never had all of it.
    NotProcessed,
    /// It may be in a queue.
    Unknown,
}

/// The fate of every publish that was unresolved when the channel died with `error`.
pub(super) fn fates(error: &lapin::Error, unresolved: Vec<Unresolved>) -> Vec<(usize, Fate)> {
    let suspects: Vec<_> = match channel_error_text(error) {
        Some(text) => unresolved.iter().filter(|publish| names(text, &publish.message)).collect(),
        None => Vec::new(),
    };
    // Alone on its channel a publish is the cause whatever the text says.
    let alone = unresolved.len() == 1 && channel_error_text(error).is_some();
    let cause = match suspects.as_slice() {
        [only] => Some(only.slot),
        _ if alone => unresolved.first().map(|publish| publish.slot),
        _ => None,
    };
    let last_suspect = suspects.iter().map(|publish| publish.order).max();
    let fate = |publish: &Unresolved| {
        if cause == Some(publish.slot) {
            Fate::Cause
        } else if !publish.sent || last_suspect.is_some_and(|last| publish.order > last) {
            Fate::NotProcessed
        } else {
            Fate::Unknown
        }
    };
    unresolved.iter().map(|publish| (publish.slot, fate(publish))).collect()
}

/// The broker's text, when it closed the channel and not the connection.
pub(super) fn channel_error_text(error: &lapin::Error) -> Option<&str> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) if matches!(amqp.kind(), AMQPErrorKind::Soft(_)) => {
            Some(amqp.get_message().as_str())
        }
        _ => None,
    }
}

/// Whether the broker refused a routing key rather than a whole exchange.
pub(super) fn refuses_a_routing_key(text: &str) -> bool {
    text.contains("access to topic '")
}

/// Whether the broker's text is about this message's destination.
pub(super) fn names(text: &str, message: &Message) -> bool {
    let exchange = if message.exchange.is_empty() { "" } else { message.exchange.as_str() };
    let is_key = !refuses_a_routing_key(text)
        || text.contains(&format!("access to topic '{}' in exchange", message.routing_key.as_str()));
    let is_default = exchange.is_empty() && text.contains("default exchange");
    is_key && (is_default || text.contains(&format!("exchange '{exchange}' in vhost")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Properties, ShortText};
    use lapin::protocol::{AMQPError, AMQPHardError, AMQPSoftError};

    fn publish(order: usize, exchange: &str, routing_key: &str) -> Unresolved {
        let text = |text: &str| ShortText::new(text).unwrap();
        let message = Message {
            exchange: text(exchange),
            routing_key: text(routing_key),
            mandatory: true,
            properties: Properties::default(),
            payload: bytes::Bytes::new(),
        };
        Unresolved { slot: order, order, sent: true, message: Arc::new(message) }
    }

    fn error(soft: AMQPSoftError, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(soft.into(), text.into())).into()
    }

    fn only_fates(error: &lapin::Error, unresolved: Vec<Unresolved>) -> Vec<Fate> {
        fates(error, unresolved).into_iter().map(|(_, fate)| fate).collect()
    }

    #[test]
    fn those_behind_the_cause_were_not_processed_and_those_before_it_are_unknown() {
        let error = error(AMQPSoftError::NOTFOUND, "NOT_FOUND - no exchange 'gone' in vhost '/'");
        let seen = only_fates(&error, vec![publish(0, "a", ""), publish(1, "gone", ""), publish(2, "a", "")]);
        assert_eq!(seen, [Fate::Unknown, Fate::Cause, Fate::NotProcessed]);
    }

    #[test]
    fn with_several_suspects_none_is_the_certain_cause() {
        let error = error(AMQPSoftError::NOTFOUND, "NOT_FOUND - no exchange 'gone' in vhost '/'");
        let unresolved =
            vec![publish(0, "gone", ""), publish(1, "a", ""), publish(2, "gone", ""), publish(3, "a", "")];
        let seen = only_fates(&error, unresolved);
        assert_eq!(seen, [Fate::Unknown, Fate::Unknown, Fate::Unknown, Fate::NotProcessed]);
    }

    #[test]
    fn a_refused_routing_key_is_told_from_its_neighbours_on_the_same_exchange() {
        let text = "ACCESS_REFUSED - access to topic 'bad' in exchange 'e' in vhost '/' refused for user 'u'";
        let error = error(AMQPSoftError::ACCESSREFUSED, text);
        let seen = only_fates(&error, vec![publish(0, "e", "good"), publish(1, "e", "bad")]);
        assert_eq!(seen, [Fate::Unknown, Fate::Cause]);
    }

    #[test]
    fn alone_on_its_channel_a_publish_is_the_cause_whatever_the_text_says() {
        let error =
            error(AMQPSoftError::PRECONDITIONFAILED, "PRECONDITION_FAILED - something about a property");
        assert_eq!(only_fates(&error, vec![publish(0, "a", "")]), [Fate::Cause]);
    }

    #[test]
    fn a_connection_that_dies_says_nothing_of_its_publishes() {
        let hard = AMQPError::new(AMQPHardError::CONNECTIONFORCED.into(), "no exchange 'a' in vhost".into());
        let error: lapin::Error = ErrorKind::ProtocolError(hard).into();
        assert_eq!(only_fates(&error, vec![publish(0, "a", "")]), [Fate::Unknown]);
    }

    #[test]
    fn what_was_not_written_whole_was_not_published() {
        let error: lapin::Error = std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
        let half_written = Unresolved { sent: false, ..publish(0, "a", "") };
        assert_eq!(
            only_fates(&error, vec![half_written, publish(1, "a", "")]),
            [Fate::NotProcessed, Fate::Unknown]
        );
    }
}
