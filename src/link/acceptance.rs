//! Finds messages that no broker accepts, or that harm the queue that gets them, before they are
//! sent.

use crate::message::{HeaderTable, HeaderValue, Message};

/// The most bytes that the properties of a message may take. They travel in a frame of their own,
/// which has at most `frame_max` bytes.
#[must_use]
pub const fn properties_max(frame_max: usize) -> usize {
    const FRAME_ENVELOPE: usize = 8;
    frame_max.saturating_sub(FRAME_ENVELOPE)
}

/// Why no broker accepts this message; `None` if one may. `properties_max` is the limit on its
/// properties, in bytes.
#[must_use]
pub fn unacceptable(message: &Message, properties_max: usize) -> Option<String> {
    let size = message.properties.encoded_len();
    if size > properties_max {
        return Some(format!("properties and headers take {size} bytes, the broker takes {properties_max}"));
    }
    let problem = is_a_reply_address(message).or_else(|| is_encoded_as_amqp_1(message)).map(str::to_owned);
    problem.or_else(|| {
        let headers = message.properties.headers.iter();
        let mut brokers = headers.filter(|(name, _)| name.as_str().starts_with("x-"));
        brokers.find_map(|(name, value)| harmful_header(name.as_str(), value))
    })
}

/// Why the message is refused if its type says that its content is AMQP 1.0.
///
/// RabbitMQ 4 converts a message for a stream to AMQP 1.0 and takes such content as it is. If it is
/// not AMQP 1.0, the broker closes the whole connection (541). Recorded from RabbitMQ 4.0.5.
fn is_encoded_as_amqp_1(message: &Message) -> Option<&'static str> {
    let is_encoded = message.properties.kind.as_ref().is_some_and(|kind| kind.as_str() == "amqp-1.0");
    is_encoded.then_some("type: amqp-1.0 stands for content that is encoded as AMQP 1.0")
}

/// Why the message is refused if this header, whose name begins with `x-`, is for brokers and has a
/// form that harms one.
///
/// Consumers publish dead-lettered messages again with the headers that the broker wrote, so the
/// right form is fine. An `x-death` whose array holds anything but tables crashes the queue of
/// RabbitMQ 3.10 that dead-letters the message, and with it the queue's transient messages;
/// federation reads `x-received-from` in the same way. `x-amqp-1.0-*` and an
/// `x-stream-filter-value` that is no string make a stream of RabbitMQ 4.0.5 close the connection,
/// like the type `amqp-1.0`.
fn harmful_header(name: &str, value: &HeaderValue) -> Option<String> {
    let as_written = match name {
        "x-death" => {
            (!are_tables(value, is_a_death)).then_some("an array of tables, as the broker writes them")
        }
        "x-received-from" => (!are_tables(value, |_| true)).then_some("an array of tables"),
        "x-delivery-count" | "x-acquired-count" => (!is_number(value)).then_some("an integer"),
        "x-stream-filter-value" => {
            return (!is_text(value)).then(|| format!("headers.{name}: expected a string"));
        }
        name if name.starts_with("x-first-death-") || name.starts_with("x-last-death-") => {
            (!is_text(value)).then_some("a string")
        }
        name if name.starts_with("x-amqp-1.0-") => {
            let for_what = "names that begin with x-amqp-1.0- are for the broker's conversion of AMQP 1.0";
            return Some(format!("headers: {for_what}"));
        }
        _ => None,
    };
    as_written.map(|form| format!("headers.{name}: only the broker writes this header, and as {form}"))
}

fn is_text(value: &HeaderValue) -> bool {
    matches!(value, HeaderValue::Text(_))
}

fn is_number(value: &HeaderValue) -> bool {
    matches!(value, HeaderValue::Int(_))
}

fn are_tables(value: &HeaderValue, holds: impl Fn(&HeaderTable) -> bool) -> bool {
    let HeaderValue::Array(entries) = value else { return false };
    entries.iter().all(|entry| matches!(entry, HeaderValue::Table(table) if holds(table)))
}

/// Whether the fields of an entry of `x-death` have the types that the broker gives them.
fn is_a_death(entry: &HeaderTable) -> bool {
    entry.iter().all(|(name, value)| match name.as_str() {
        "queue" | "reason" | "exchange" => is_text(value),
        "count" | "time" => is_number(value),
        "routing-keys" => matches!(value, HeaderValue::Array(keys) if keys.iter().all(is_text)),
        _ => true,
    })
}

/// The reply address that works only for a consumer on the same channel. A sidecar never consumes.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Why the message is refused if one of its routing keys is a direct reply-to address.
///
/// The broker reports such a message as returned even if it was delivered, so no answer would be
/// true. A malformed address makes the broker close the whole connection (541).
fn is_a_reply_address(message: &Message) -> Option<&'static str> {
    fn is_reply(key: &str) -> bool {
        key.starts_with(DIRECT_REPLY_TO)
    }
    fn names_one(value: &HeaderValue) -> bool {
        match value {
            HeaderValue::Text(key) => is_reply(key),
            HeaderValue::Array(values) => values.iter().any(names_one),
            HeaderValue::Void
            | HeaderValue::Bool(_)
            | HeaderValue::Int(_)
            | HeaderValue::Double(_)
            | HeaderValue::Table(_) => false,
        }
    }
    let problem = "routing_key: amq.rabbitmq.reply-to addresses are not supported";
    (is_reply(message.routing_key.as_str()) || message.copies().any(names_one)).then_some(problem)
}

/// Whether the broker may close the channel because of a property of this message, whatever its
/// destination.
///
/// The broker closes the channel (406) for a user id that is not the connection's, for a `CC` or
/// `BCC` header that is not a list of texts, and for a direct reply-to.
pub(super) fn may_close_its_channel(message: &Message, user: &str) -> bool {
    let properties = &message.properties;
    properties.user_id.as_ref().is_some_and(|id| id.as_str() != user)
        || properties.reply_to.as_ref().is_some_and(|reply_to| reply_to.as_str() == DIRECT_REPLY_TO)
        || message.copies().next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ShortText;
    use crate::message::testing::message_to;

    fn table(fields: &[(&str, HeaderValue)]) -> HeaderValue {
        let field = |(name, value): &(&str, HeaderValue)| (ShortText::new(*name).unwrap(), value.clone());
        HeaderValue::Table(fields.iter().map(field).collect())
    }

    fn text(text: &str) -> HeaderValue {
        HeaderValue::Text(text.to_owned())
    }

    fn problem(name: &str, value: HeaderValue) -> Option<String> {
        let mut message = message_to("e", "k");
        message.properties.headers.insert(ShortText::new(name).unwrap(), value);
        unacceptable(&message, 1 << 16)
    }

    #[test]
    fn a_dead_lettered_message_may_be_published_again_with_its_headers() {
        let death = table(&[
            ("count", HeaderValue::Int(1)),
            ("reason", text("rejected")),
            ("queue", text("orders")),
            ("time", HeaderValue::Int(1_700_000_000)),
            ("exchange", text("")),
            ("routing-keys", HeaderValue::Array(vec![text("orders")])),
        ]);
        assert_eq!(problem("x-death", HeaderValue::Array(vec![death])), None);
        assert_eq!(problem("x-death", HeaderValue::Array(vec![])), None);
        assert_eq!(problem("x-first-death-reason", text("rejected")), None);
        assert_eq!(problem("x-tenant", HeaderValue::Int(7)), None);
    }

    #[test]
    fn what_crashes_the_conversion_for_a_stream_is_refused() {
        assert_eq!(problem("x-stream-filter-value", text("eu")), None);
        for (name, value) in [
            ("x-stream-filter-value", HeaderValue::Int(5)),
            ("x-stream-filter-value", HeaderValue::Void),
            ("x-amqp-1.0-properties", text("any")),
            ("x-amqp-1.0-footer", text("any")),
        ] {
            assert!(problem(name, value).is_some(), "{name}");
        }
        let mut message = message_to("e", "k");
        message.properties.kind = Some(ShortText::new("amqp-1.0").unwrap());
        assert!(unacceptable(&message, 1 << 16).is_some());
    }

    #[test]
    fn a_header_of_the_broker_in_another_form_is_refused_with_its_name() {
        let of_one = |value| HeaderValue::Array(vec![value]);
        for (name, value) in [
            ("x-death", text("rejected")),
            ("x-death", HeaderValue::Void),
            ("x-death", of_one(text("rejected"))),
            ("x-death", of_one(table(&[("queue", HeaderValue::Int(1))]))),
            ("x-death", of_one(table(&[("routing-keys", text("k"))]))),
            ("x-first-death-queue", HeaderValue::Int(1)),
            ("x-last-death-reason", HeaderValue::Void),
            ("x-received-from", of_one(text("elsewhere"))),
            ("x-acquired-count", text("1")),
        ] {
            let problem = problem(name, value).unwrap_or_default();
            assert!(problem.contains(&format!("headers.{name}:")), "{problem}");
        }
    }
}
