//! The headers table of a message: typed values and their size on the wire.

use super::ShortText;
use std::collections::BTreeMap;

/// How deep tables and arrays may nest; deeper ones are refused at the door.
pub const MAX_HEADER_DEPTH: usize = 16;

/// The headers table. Names are unique.
pub type HeaderTable = BTreeMap<ShortText, HeaderValue>;

/// One value of the headers table, with the AMQP type it is sent as.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValue {
    /// Void (`V`), JSON `null`.
    Void,
    /// Boolean (`t`).
    Bool(bool),
    /// Signed 64 bit integer (`l`), the type RabbitMQ's own HTTP API gives to JSON integers.
    Int(i64),
    /// 64 bit floating point (`d`).
    Double(f64),
    /// Long string (`S`).
    Text(String),
    /// Array (`A`).
    Array(Vec<HeaderValue>),
    /// Nested table (`F`).
    Table(HeaderTable),
}

impl HeaderValue {
    /// Bytes of the value on the wire, including its type octet.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        const TYPE: usize = 1;
        const LENGTH: usize = 4;
        TYPE + match self {
            HeaderValue::Void => 0,
            HeaderValue::Bool(_) => 1,
            HeaderValue::Int(_) | HeaderValue::Double(_) => 8,
            HeaderValue::Text(text) => LENGTH + text.len(),
            HeaderValue::Array(values) => LENGTH + values.iter().map(HeaderValue::encoded_len).sum::<usize>(),
            HeaderValue::Table(table) => table_encoded_len(table),
        }
    }
}

/// Bytes of a table on the wire, including its length field.
#[must_use]
pub(super) fn table_encoded_len(table: &HeaderTable) -> usize {
    4 + table.iter().map(|(name, value)| 1 + name.len() + value.encoded_len()).sum::<usize>()
}
