//! The AMQP basic properties of a message.

use super::{HeaderTable, ShortText, headers::table_encoded_len};

/// Whether the broker writes the message to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// 1: lost when the broker restarts.
    Transient,
    /// 2: kept by durable queues. The default.
    #[default]
    Persistent,
}

impl DeliveryMode {
    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            DeliveryMode::Transient => 1,
            DeliveryMode::Persistent => 2,
        }
    }

    /// The mode for the number a client gives: 1 or 2.
    #[must_use]
    pub const fn from_u64(number: u64) -> Option<Self> {
        match number {
            1 => Some(DeliveryMode::Transient),
            2 => Some(DeliveryMode::Persistent),
            _ => None,
        }
    }
}

/// Basic properties (AMQP 0.9.1 §1.8.3). Only the message id is always there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// The application's id, or the UUIDv7 assigned here. Never empty: returns are matched by it.
    pub message_id: ShortText,
    /// MIME type of the payload.
    pub content_type: Option<ShortText>,
    /// MIME encoding of the payload.
    pub content_encoding: Option<ShortText>,
    /// Transient or persistent.
    pub delivery_mode: DeliveryMode,
    /// 0 to 255.
    pub priority: Option<u8>,
    /// Correlates requests and replies.
    pub correlation_id: Option<ShortText>,
    /// Where a reply is expected.
    pub reply_to: Option<ShortText>,
    /// Milliseconds until the broker drops the message from a queue.
    pub expiration_ms: Option<u32>,
    /// Unix seconds.
    pub timestamp: Option<u64>,
    /// The application's name for the kind of message.
    pub kind: Option<ShortText>,
    /// The user; the broker checks it against the connection's.
    pub user_id: Option<ShortText>,
    /// The application that made the message.
    pub app_id: Option<ShortText>,
    /// The headers table; absent when empty.
    pub headers: HeaderTable,
}

impl Properties {
    /// Bytes of the content header frame's payload: class, weight, body size, flags and the
    /// properties.
    ///
    /// The broker closes the whole connection when this exceeds its frame_max minus 8 (ADR-0001),
    /// so it is computed here and checked before anything is handed to the link.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        const CLASS_WEIGHT_SIZE_FLAGS: usize = 2 + 2 + 8 + 2;
        const DELIVERY_MODE: usize = 1;
        let texts = [
            &self.content_type,
            &self.content_encoding,
            &self.correlation_id,
            &self.reply_to,
            &self.kind,
            &self.user_id,
            &self.app_id,
        ];
        let texts: usize = texts.into_iter().flatten().map(|text| 1 + text.len()).sum();
        let headers = if self.headers.is_empty() { 0 } else { table_encoded_len(&self.headers) };
        CLASS_WEIGHT_SIZE_FLAGS
            + DELIVERY_MODE
            + (1 + self.message_id.len())
            + texts
            + headers
            + self.priority.map_or(0, |_| 1)
            + self.timestamp.map_or(0, |_| 8)
            + self.expiration_ms.map_or(0, |ms| 1 + decimal_digits(ms))
    }
}

fn decimal_digits(number: u32) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_at_the_borders() {
        assert_eq!([0, 9, 10, 99, 100, u32::MAX].map(decimal_digits), [1, 1, 2, 2, 3, 10]);
    }
}
