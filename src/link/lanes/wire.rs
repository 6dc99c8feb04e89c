//! A message in lapin's types.

use crate::message::{HeaderTable, HeaderValue, Properties, ShortText};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use std::collections::BTreeMap;

/// A text as lapin's short string.
pub(crate) fn short_string(text: &ShortText) -> ShortString {
    ShortString::try_new(text.as_str()).expect("a ShortText has at most 255 bytes")
}

type SetText = fn(BasicProperties, ShortString) -> BasicProperties;

/// The properties of a message as lapin's.
pub(crate) fn basic_properties(properties: &Properties) -> BasicProperties {
    let mut basic = BasicProperties::default()
        .with_message_id(short_string(&properties.message_id))
        .with_delivery_mode(properties.delivery_mode.as_u8());
    let texts: [(&Option<ShortText>, SetText); 7] = [
        (&properties.content_type, BasicProperties::with_content_type),
        (&properties.content_encoding, BasicProperties::with_content_encoding),
        (&properties.correlation_id, BasicProperties::with_correlation_id),
        (&properties.reply_to, BasicProperties::with_reply_to),
        (&properties.kind, BasicProperties::with_type),
        (&properties.user_id, BasicProperties::with_user_id),
        (&properties.app_id, BasicProperties::with_app_id),
    ];
    for (text, set) in texts {
        if let Some(text) = text {
            basic = set(basic, short_string(text));
        }
    }
    if let Some(priority) = properties.priority {
        basic = basic.with_priority(priority);
    }
    if let Some(milliseconds) = properties.expiration_ms {
        basic = basic.with_expiration(ShortString::from(milliseconds.to_string()));
    }
    if let Some(seconds) = properties.timestamp {
        basic = basic.with_timestamp(seconds);
    }
    if !properties.headers.is_empty() {
        basic = basic.with_headers(field_table(&properties.headers));
    }
    basic
}

fn field_table(table: &HeaderTable) -> FieldTable {
    let entries: BTreeMap<_, _> =
        table.iter().map(|(name, value)| (short_string(name), amqp_value(value))).collect();
    FieldTable::from(entries)
}

fn amqp_value(value: &HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::Void => AMQPValue::Void,
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::Int(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::Double(value) => AMQPValue::Double(*value),
        HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        HeaderValue::Array(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(amqp_value).collect::<Vec<_>>()))
        }
        HeaderValue::Table(table) => AMQPValue::FieldTable(field_table(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_computed_size_is_the_size_on_the_wire(
            properties in testing::properties(any::<f64>().boxed()),
        ) {
            const CLASS_WEIGHT_AND_SIZE: usize = 2 + 2 + 8;
            let computed = properties.encoded_len();
            let basic = basic_properties(&properties);
            let written = lapin::protocol::basic::gen_properties(&basic)(Vec::new().into()).unwrap();
            prop_assert_eq!(computed, CLASS_WEIGHT_AND_SIZE + written.into_inner().0.len());
        }
    }
}
