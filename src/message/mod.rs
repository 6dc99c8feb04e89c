//! The vocabulary of all rooms: a message (checked once, and then always valid), the order to
//! publish it, and its settlement.
//!
//! Names no library of HTTP, AMQP or metrics: `http` builds these values, `publishing`, `link` and
//! `spool` act on them.

mod deadline;
mod headers;
mod id;
mod key;
mod order;
mod properties;
mod settlement;
#[cfg(test)]
pub(crate) mod testing;
mod text;

pub use deadline::Deadline;
pub use headers::{HeaderTable, HeaderValue, MAX_HEADER_DEPTH};
pub use id::new_message_id;
pub use key::ClientKey;
pub use order::{Client, Destination, Mode, Order, RetryPolicy};
pub use properties::{DeliveryMode, Properties};
pub use settlement::{Refusal, Settlement};
pub use text::{ShortText, TooLong};

use bytes::Bytes;
use std::fmt;

/// The name under which the default exchange is addressed over HTTP; on the wire its name is empty.
pub const DEFAULT_EXCHANGE: &str = "amq.default";

/// One message and where it goes.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// The exchange; empty is the broker's default exchange.
    pub exchange: ShortText,
    /// The routing key; with the default exchange the name of the queue.
    pub routing_key: ShortText,
    /// Whether a message that no queue takes is an error.
    pub mandatory: bool,
    /// The AMQP basic properties, the message id among them.
    pub properties: Properties,
    /// The content, byte for byte.
    pub payload: Bytes,
}

impl Message {
    /// Bytes this message keeps in memory while it is in flight, for the byte bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        const FRAME_OVERHEAD: usize = 512;
        self.payload.len() + self.properties.encoded_len() + FRAME_OVERHEAD
    }

    /// The headers, if any, that name further routing keys: the broker also routes by them.
    pub fn copies(&self) -> impl Iterator<Item = &HeaderValue> {
        let headers = self.properties.headers.iter();
        headers.filter(|(name, _)| matches!(name.as_str(), "CC" | "BCC")).map(|(_, value)| value)
    }

    /// Whether a confirm of this message says that a queue takes messages of its destination. It
    /// does not if the message need not be routed, or if another routing key may have been.
    #[must_use]
    pub fn proves_its_route(&self) -> bool {
        self.mandatory && self.copies().next().is_none()
    }
}

impl fmt::Debug for Message {
    /// Names the message without its content: payloads and header values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("message_id", &self.properties.message_id)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Entries of the headers table in which W3C trace context travels.
pub const TRACE_CONTEXT: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// The name over HTTP for an exchange name on the wire.
#[must_use]
pub fn exchange_over_http(name: &ShortText) -> &str {
    if name.is_empty() { DEFAULT_EXCHANGE } else { name.as_str() }
}

/// The exchange name on the wire for a name given over HTTP.
#[must_use]
pub fn exchange_on_the_wire(name: ShortText) -> ShortText {
    if name.as_str() == DEFAULT_EXCHANGE { ShortText::default() } else { name }
}
