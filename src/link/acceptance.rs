//! Finds messages that no broker accepts before they are sent: sending one costs a whole
//! connection.

use crate::message::{HeaderValue, Message};

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
    is_a_reply_address(message).map(str::to_owned)
}

/// Payloads of at least this size travel alone, since the broker closes the channel if one exceeds
/// its `max_message_size` (16 MiB on RabbitMQ 4, 128 MiB before), which a client cannot ask for.
const LARGE_PAYLOAD: usize = 8 * 1024 * 1024;

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
    let copies = ["CC", "BCC"].into_iter().any(|copy| {
        let header = message.properties.headers.iter().find(|(name, _)| name.as_str() == copy);
        header.is_some_and(|(_, value)| names_one(value))
    });
    let problem = "routing_key: amq.rabbitmq.reply-to addresses are not supported";
    (is_reply(message.routing_key.as_str()) || copies).then_some(problem)
}

/// Whether the broker may close the channel because of this message, whatever its destination.
///
/// It does so (406) for a user id that is not the connection's, for a `CC` or `BCC` header that is
/// not a list of texts, for a direct reply-to, and for a payload above its limit.
pub(super) fn may_close_its_channel(message: &Message, user: &str) -> bool {
    let properties = &message.properties;
    properties.user_id.as_ref().is_some_and(|id| id.as_str() != user)
        || properties.reply_to.as_ref().is_some_and(|reply_to| reply_to.as_str() == DIRECT_REPLY_TO)
        || message.payload.len() >= LARGE_PAYLOAD
        || properties.headers.keys().any(|name| matches!(name.as_str(), "CC" | "BCC"))
}
