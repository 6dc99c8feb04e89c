//! Writes the envelope of a message, as `POST /v1/messages` takes it.

use crate::message::{DEFAULT_EXCHANGE, HeaderTable, HeaderValue, Message, Properties, ShortText};
use base64::Engine;
use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Serialize)]
struct Document<'a> {
    exchange: &'a str,
    routing_key: &'a str,
    payload_encoding: &'static str,
    payload: Value,
    mandatory: bool,
    properties: Map<String, Value>,
}

/// The envelope of a message, on one line. Published again it makes the same message, its id included.
#[must_use]
pub fn envelope_of(message: &Message) -> String {
    let Message { exchange, routing_key, mandatory, properties, payload } = message;
    let (payload_encoding, payload) = match str::from_utf8(payload) {
        Ok(text) => ("string", text.to_owned()),
        Err(_) => ("base64", base64::engine::general_purpose::STANDARD.encode(payload)),
    };
    let document = Document {
        exchange: if exchange.is_empty() { DEFAULT_EXCHANGE } else { exchange.as_str() },
        routing_key: routing_key.as_str(),
        payload_encoding,
        payload: Value::String(payload),
        mandatory: *mandatory,
        properties: members(properties),
    };
    serde_json::to_string(&document).expect("texts and numbers always serialise")
}

fn members(properties: &Properties) -> Map<String, Value> {
    let Properties {
        message_id,
        content_type,
        content_encoding,
        delivery_mode,
        priority,
        correlation_id,
        reply_to,
        expiration_ms,
        timestamp,
        kind,
        user_id,
        app_id,
        headers,
    } = properties;
    let text = |text: &Option<ShortText>| text.as_ref().map(|text| Value::from(text.as_str()));
    let members = [
        ("message_id", Some(Value::from(message_id.as_str()))),
        ("content_type", text(content_type)),
        ("content_encoding", text(content_encoding)),
        ("delivery_mode", Some(Value::from(delivery_mode.as_u8()))),
        ("priority", priority.map(Value::from)),
        ("correlation_id", text(correlation_id)),
        ("reply_to", text(reply_to)),
        ("expiration", expiration_ms.map(Value::from)),
        ("timestamp", timestamp.map(Value::from)),
        ("type", text(kind)),
        ("user_id", text(user_id)),
        ("app_id", text(app_id)),
        ("headers", (!headers.is_empty()).then(|| table(headers))),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn table(table: &HeaderTable) -> Value {
    Value::Object(table.iter().map(|(name, header)| (name.as_str().to_owned(), value(header))).collect())
}

fn value(header: &HeaderValue) -> Value {
    match header {
        HeaderValue::Void => Value::Null,
        HeaderValue::Bool(value) => Value::from(*value),
        HeaderValue::Int(number) => Value::from(*number),
        HeaderValue::Double(number) => Value::from(*number),
        HeaderValue::Text(text) => Value::from(text.as_str()),
        HeaderValue::Array(values) => values.iter().map(value).collect(),
        HeaderValue::Table(inner) => table(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;
    use crate::message::DeliveryMode;
    use proptest::prelude::*;

    fn short() -> impl Strategy<Value = ShortText> {
        "[ -~äß€]{0,40}".prop_map(|text| ShortText::new(text).unwrap())
    }

    fn header() -> impl Strategy<Value = HeaderValue> {
        let leaf = prop_oneof![
            Just(HeaderValue::Void),
            any::<bool>().prop_map(HeaderValue::Bool),
            any::<i64>().prop_map(HeaderValue::Int),
            (-1e300..1e300).prop_map(HeaderValue::Double),
            "\\PC{0,20}".prop_map(HeaderValue::Text),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(HeaderValue::Array),
                proptest::collection::btree_map(short(), inner, 0..4).prop_map(HeaderValue::Table),
            ]
        })
    }

    fn properties() -> impl Strategy<Value = Properties> {
        let texts = proptest::collection::vec(proptest::option::of(short()), 7);
        let numbers = (any::<Option<u8>>(), any::<Option<u32>>(), any::<Option<u64>>(), any::<bool>());
        let headers = proptest::collection::btree_map(short(), header(), 0..4);
        ("[a-z0-9-]{1,40}", texts, numbers, headers).prop_map(|(id, texts, numbers, headers)| {
            let mut texts = texts.into_iter();
            let mut text = || texts.next().flatten();
            let (priority, expiration_ms, timestamp, transient) = numbers;
            Properties {
                message_id: ShortText::new(id).unwrap(),
                content_type: text(),
                content_encoding: text(),
                delivery_mode: if transient { DeliveryMode::Transient } else { DeliveryMode::Persistent },
                priority,
                correlation_id: text(),
                reply_to: text(),
                expiration_ms,
                timestamp,
                kind: text(),
                user_id: text(),
                app_id: text(),
                headers,
            }
        })
    }

    proptest! {
        #[test]
        fn an_envelope_that_is_read_again_is_the_same_message(
            properties in properties(),
            (exchange, routing_key) in (short(), short()),
            text in any::<bool>(),
            bytes in any::<Vec<u8>>(),
            mandatory in any::<bool>(),
        ) {
            let payload = if text { String::from_utf8_lossy(&bytes).into_owned().into_bytes() } else { bytes };
            let message = Message { exchange, routing_key, mandatory, properties, payload: payload.into() };
            let line = envelope_of(&message);
            prop_assert!(!line.contains('\n'));
            let envelope = envelope::decode(line.as_bytes(), usize::MAX).unwrap();
            prop_assert_eq!(envelope.options.mandatory, Some(mandatory));
            // Whether it is mandatory is the request's until it is published.
            prop_assert_eq!(Message { mandatory, ..envelope.message }, message);
        }
    }
}
