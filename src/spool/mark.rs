//! The mark of a message that the broker may already have. Consumers use it to drop duplicates.

use crate::message::{HeaderValue, Message, ShortText};

/// The header that is the mark, after an attempt with an unknown outcome or a crash. Its value is
/// the text `true`.
pub const REDELIVERED: &str = "x-amqpost-redelivered";

/// The largest size of the mark on the wire, in bytes: a table, a name and a text.
pub const MARK_BYTES: usize = 4 + 1 + REDELIVERED.len() + 1 + 4 + 4;

/// The message, with the mark.
#[must_use]
pub fn marked(mut message: Message) -> Message {
    if let Ok(name) = ShortText::new(REDELIVERED) {
        message.properties.headers.insert(name, HeaderValue::Text("true".to_owned()));
    }
    message
}
