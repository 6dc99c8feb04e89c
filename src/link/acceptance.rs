//! What no broker could take, known before anything is sent: such a message costs a connection, not only itself.

use super::exchanges::is_a_reply_address;
use crate::message::Message;

/// What the properties of a message may take, in bytes, where a frame takes `frame_max`: they have one of their own.
#[must_use]
pub const fn properties_max(frame_max: usize) -> usize {
    const FRAME_ENVELOPE: usize = 8;
    frame_max.saturating_sub(FRAME_ENVELOPE)
}

/// What is wrong with a message whose properties may take `properties_max` bytes, if anything is.
#[must_use]
pub fn unacceptable(message: &Message, properties_max: usize) -> Option<String> {
    let size = message.properties.encoded_len();
    if size > properties_max {
        return Some(format!("properties and headers take {size} bytes, the broker takes {properties_max}"));
    }
    is_a_reply_address(message).map(str::to_owned)
}
