//! What no broker could take, known before anything is sent: such a message costs a connection, not only itself.

use super::exchanges::is_a_reply_address;
use crate::message::Message;

/// What is wrong with a message whose properties may take `properties_max` bytes, if anything is.
#[must_use]
pub fn unacceptable(message: &Message, properties_max: usize) -> Option<String> {
    let size = message.properties.encoded_len();
    if size > properties_max {
        return Some(format!("properties and headers take {size} bytes, the broker takes {properties_max}"));
    }
    is_a_reply_address(message).map(str::to_owned)
}
