//! Writes the envelope of a message, as `POST /v1/messages` takes it.

use crate::message::{HeaderTable, HeaderValue, Message, Properties, ShortText, exchange_over_http};
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

/// The envelope of a message, on one line. If it is published, it makes the same message with the
/// same id.
#[must_use]
pub fn envelope_of(message: &Message) -> String {
    let Message { exchange, routing_key, mandatory, properties, payload } = message;
    let (payload_encoding, payload) = match str::from_utf8(payload) {
        Ok(text) => ("string", text.to_owned()),
        Err(_) => ("base64", base64::engine::general_purpose::STANDARD.encode(payload)),
    };
    let document = Document {
        exchange: exchange_over_http(exchange),
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
    use crate::message::testing;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_envelope_that_is_read_again_is_the_same_message(
            mut message in testing::messages((-1e300..1e300).boxed()),
            message_id in "[a-z0-9-]{1,40}",
            is_text in any::<bool>(),
        ) {
            message.properties.message_id = testing::short(&message_id);
            if is_text {
                message.payload = String::from_utf8_lossy(&message.payload).into_owned().into();
            }
            let line = envelope_of(&message);
            prop_assert!(!line.contains('\n'));
            let envelope = envelope::decode(line.as_bytes(), usize::MAX).unwrap();
            prop_assert_eq!(envelope.options.mandatory, Some(message.mandatory));
            // Until a message is published, the request and not the message says whether it is
            // mandatory.
            prop_assert_eq!(Message { mandatory: message.mandatory, ..envelope.message }, message);
        }
    }
}
