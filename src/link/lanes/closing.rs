//! Determines what the end of a channel means for each publish that was on it.
//!
//! RabbitMQ processes a channel in order. If it closes the channel because of one publish, the
//! publishes before that one were processed (their confirms are lost), and those after it were not.
//! The broker's text names the exchange of the cause, and with topic permissions its routing key.

use crate::message::{Message, exchange_over_http};
use lapin::ErrorKind;
use lapin::protocol::AMQPErrorKind;
use std::sync::Arc;

/// A publish whose channel died before its verdict.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) slot: usize,
    /// Its place in the order on the wire.
    pub(crate) order: usize,
    /// Whether all of its frames were written. A publish that was not written completely was not
    /// published.
    pub(crate) sent: bool,
    /// Whether the broker is known to have processed it: then it is not the cause.
    pub(crate) processed: bool,
    pub(crate) message: Arc<Message>,
}

/// What is certain about such a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The broker closed the channel because of it.
    Cause,
    /// The broker never processed it, or never received all of it.
    NotProcessed,
    /// It may be in a queue.
    Unknown,
}

/// The fate of every publish that was unresolved when the channel closed. `text` is the broker's
/// reason when it closed this channel; `None` if the connection died, which accuses no publish.
pub(crate) fn fates(text: Option<&str>, unresolved: &[Unresolved]) -> Vec<(usize, Fate)> {
    let possible: Vec<_> = match text {
        Some(_) => unresolved.iter().filter(|publish| !publish.processed).collect(),
        None => Vec::new(),
    };
    let named = |publish: &&&Unresolved| text.is_some_and(|text| accuses(text, &publish.message));
    let suspects: Vec<_> = possible.iter().filter(named).collect();
    let cause = match (suspects.as_slice(), possible.as_slice()) {
        ([only], _) => Some(only.slot),
        // The only publish that the broker had not processed yet is the cause, whatever the text
        // says.
        ([], [only]) => Some(only.slot),
        (_, _) => None,
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

/// Whether the broker's text is about this message: its destination or its size.
fn accuses(text: &str, message: &Message) -> bool {
    refused_size(text).map_or_else(|| names(text, message), |(size, _)| message.payload.len() == size)
}

/// The size of the payload that the broker refused and its limit, both in bytes, if its text is
/// about that. RabbitMQ 3.8 to 4.0: `message size 1100000 is larger than configured max size
/// 1048576`, and without `configured` for its own upper bound.
pub(crate) fn refused_size(text: &str) -> Option<(usize, usize)> {
    let (size, limit) =
        text.strip_prefix("PRECONDITION_FAILED - message size ")?.split_once(" is larger than ")?;
    let (_, limit) = limit.split_once("max size ")?;
    let (size, limit) = (size.parse().ok()?, limit.parse().ok()?);
    (size > limit).then_some((size, limit))
}

/// The broker's text, if it closed the channel and not the connection.
pub(crate) fn channel_error_text(error: &lapin::Error) -> Option<&str> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) if matches!(amqp.kind(), AMQPErrorKind::Soft(_)) => {
            Some(amqp.get_message().as_str())
        }
        _ => None,
    }
}

/// Whether the broker refused a routing key rather than a whole exchange.
pub(crate) fn refuses_a_routing_key(text: &str) -> bool {
    let text = text.strip_prefix("ACCESS_REFUSED - ").unwrap_or_default();
    text.strip_prefix("write ").unwrap_or(text).starts_with("access to topic '")
}

/// Whether the broker refused the message only because it could not check the user's permissions:
/// its backend for them failed, or the connection's token has expired. A closed list of texts, as
/// brokers gave them; the tests have them word by word.
pub(crate) fn blames_the_broker(text: &str, message: &Message) -> bool {
    // Clients choose the names at the beginning of the text.
    let Some(about) = about_the_exchange(text, message) else { return false };
    let Some((_, reason)) = about.split_once("' refused for user '") else { return false };
    reason.contains("', backend ") && reason.contains(" returned an error: ")
}

/// The part of a 403's text behind the name of the message's exchange.
fn about_the_exchange<'a>(text: &'a str, message: &Message) -> Option<&'a str> {
    let exchange = exchange_over_http(&message.exchange);
    let refused = text.strip_prefix("ACCESS_REFUSED - ")?;
    let refused = refused.strip_prefix("write ").unwrap_or(refused).strip_prefix("access to ")?;
    let topic = format!("topic '{}' in ", message.routing_key.as_str());
    let refused = refused.strip_prefix(topic.as_str()).unwrap_or(refused);
    refused.strip_prefix(format!("exchange '{exchange}' in vhost '").as_str())
}

/// Whether the broker's text is about this message's destination. It is compared from its
/// beginning, since clients choose the names in it. A truncated text names nobody.
pub(crate) fn names(text: &str, message: &Message) -> bool {
    if text.ends_with("...") {
        return false;
    }
    let exchange = exchange_over_http(&message.exchange);
    let place = format!("exchange '{exchange}' in vhost '");
    let topic = format!("access to topic '{}' in {place}", message.routing_key.as_str());
    if let Some(missing) = text.strip_prefix("NOT_FOUND - no ") {
        return missing.starts_with(&place);
    }
    let Some(refused) = text.strip_prefix("ACCESS_REFUSED - ") else { return false };
    let refused = refused.strip_prefix("write ").unwrap_or(refused);
    let by_exchange = ["access to ", "cannot publish to internal "];
    refused.starts_with(&topic)
        || by_exchange.iter().any(|by| refused.strip_prefix(by).is_some_and(|rest| rest.starts_with(&place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing::message_to;

    fn publish(order: usize, exchange: &str, routing_key: &str) -> Unresolved {
        let message = message_to(exchange, routing_key);
        Unresolved { slot: order, order, sent: true, processed: false, message: Arc::new(message) }
    }

    const GONE: Option<&str> = Some("NOT_FOUND - no exchange 'gone' in vhost '/'");

    fn only_fates(text: Option<&str>, unresolved: &[Unresolved]) -> Vec<Fate> {
        fates(text, unresolved).into_iter().map(|(_, fate)| fate).collect()
    }

    #[test]
    fn those_behind_the_cause_were_not_processed_and_those_before_it_are_unknown() {
        let seen = only_fates(GONE, &[publish(0, "a", ""), publish(1, "gone", ""), publish(2, "a", "")]);
        assert_eq!(seen, [Fate::Unknown, Fate::Cause, Fate::NotProcessed]);
    }

    #[test]
    fn with_several_suspects_none_is_the_certain_cause() {
        let unresolved =
            [publish(0, "gone", ""), publish(1, "a", ""), publish(2, "gone", ""), publish(3, "a", "")];
        let seen = only_fates(GONE, &unresolved);
        assert_eq!(seen, [Fate::Unknown, Fate::Unknown, Fate::Unknown, Fate::NotProcessed]);
    }

    #[test]
    fn a_refused_routing_key_is_told_from_its_neighbours_on_the_same_exchange() {
        for write in ["", "write "] {
            let text = format!(
                "ACCESS_REFUSED - {write}access to topic 'bad' in exchange 'e' in vhost '/' refused for \
                 user 'u'"
            );
            assert!(refuses_a_routing_key(&text));
            let seen = only_fates(Some(&text), &[publish(0, "e", "good"), publish(1, "e", "bad")]);
            assert_eq!(seen, [Fate::Unknown, Fate::Cause]);
        }
    }

    #[test]
    fn a_name_that_reads_like_another_destination_accuses_nobody_else() {
        let key = "x' in exchange 'e' in vhost '/' access to topic 'victim";
        let text = format!("ACCESS_REFUSED - access to topic '{key}' in exchange 'e' in vhost '/' refused");
        let seen = only_fates(Some(&text), &[publish(0, "e", "victim"), publish(1, "e", key)]);
        assert_eq!(seen, [Fate::Unknown, Fate::Cause]);
    }

    #[test]
    fn a_text_that_was_cut_off_names_nobody() {
        let text = "NOT_FOUND - no exchange 'gone' in vhost '/ and so on...";
        let seen = only_fates(Some(text), &[publish(0, "gone", ""), publish(1, "a", "")]);
        assert_eq!(seen, [Fate::Unknown, Fate::Unknown]);
    }

    #[test]
    fn the_only_one_still_to_be_processed_is_the_cause_whatever_the_text_says() {
        let text = Some("PRECONDITION_FAILED - something about a property");
        assert_eq!(only_fates(text, &[publish(0, "a", "")]), [Fate::Cause]);
        let processed = Unresolved { processed: true, ..publish(0, "a", "") };
        assert_eq!(only_fates(text, &[processed, publish(1, "a", "")]), [Fate::Unknown, Fate::Cause]);
    }

    #[test]
    fn a_payload_that_is_too_large_is_found_among_its_neighbours() {
        let text = "PRECONDITION_FAILED - message size 3 is larger than configured max size 2";
        assert_eq!(refused_size(text), Some((3, 2)));
        let of = |order, payload: &'static str| {
            let mut publish = publish(order, "e", "k");
            Arc::get_mut(&mut publish.message).unwrap().payload = payload.into();
            publish
        };
        let seen = only_fates(Some(text), &[of(0, "x"), of(1, "xxx"), of(2, "x")]);
        assert_eq!(seen, [Fate::Unknown, Fate::Cause, Fate::NotProcessed]);
    }

    #[test]
    fn a_connection_that_dies_says_nothing_of_its_publishes() {
        assert_eq!(only_fates(None, &[publish(0, "a", "")]), [Fate::Unknown]);
    }

    #[test]
    fn what_was_not_written_whole_was_not_published() {
        let half_written = Unresolved { sent: false, ..publish(0, "a", "") };
        let seen = only_fates(None, &[half_written, publish(1, "a", "")]);
        assert_eq!(seen, [Fate::NotProcessed, Fate::Unknown]);
    }

    #[test]
    fn a_broker_that_cannot_check_permissions_is_told_from_one_that_refuses() {
        // Recorded from RabbitMQ 3.10.8 and 4.0.5. Only the latter says "write". With
        // `rabbitmq_auth_backend_http` and its server down, both cut the text off.
        let about = "access to exchange 'amq.fanout' in vhost '/orders' refused for user 'guest'";
        let away = "backend rabbit_auth_backend_http returned an error: {failed_connect,\n      ...";
        let expired = "backend rabbit_auth_backend_oauth2 returned an error: \"Provided JWT token \
            has expired at timestamp 1795957780 (validated at 1795957781)\"";
        for write in ["", "write "] {
            for (text, exchange, blames) in [
                (format!("ACCESS_REFUSED - {write}{about}, {away}"), "amq.fanout", true),
                (format!("ACCESS_REFUSED - {write}{about}, {expired}"), "amq.fanout", true),
                (format!("ACCESS_REFUSED - {write}{about}"), "amq.fanout", false),
                (format!("ACCESS_REFUSED - {write}{about}, {away}"), "other", false),
            ] {
                let message = &publish(0, exchange, "k").message;
                assert_eq!(blames_the_broker(&text, message), blames, "{text}");
            }
        }
    }

    #[test]
    fn no_name_of_an_exchange_blames_the_broker() {
        let name = "e' in vhost '/' refused for user 'u', backend b returned an error: x";
        let text = format!("ACCESS_REFUSED - access to exchange '{name}' in vhost '/' refused for user 'u'");
        assert!(!blames_the_broker(&text, &publish(0, name, "k").message));
    }
}
