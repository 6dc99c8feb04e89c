//! The mark of a message that the broker may have had before: for its consumers, who drop what they know already.

use crate::message::{HeaderValue, Message, ShortText};

/// The header that is the mark: from an attempt whose outcome is unknown, or from before a crash. Its value is the
/// text `true`.
pub const REDELIVERED: &str = "x-amqpost-redelivered";

/// What the mark takes on the wire, in bytes, at most: a table, a name, a text.
pub const MARK_BYTES: usize = 4 + 1 + REDELIVERED.len() + 1 + 4 + 4;

/// The message, with the mark.
#[must_use]
pub fn marked(mut message: Message) -> Message {
    if let Ok(name) = ShortText::new(REDELIVERED) {
        message.properties.headers.insert(name, HeaderValue::Text("true".to_owned()));
    }
    message
}
