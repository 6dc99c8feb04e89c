//! Messages for unit tests, and strategies that make them.

use super::{DeliveryMode, HeaderTable, HeaderValue, Message, Properties, ShortText};
use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// A text that is short enough.
pub(crate) fn short(text: &str) -> ShortText {
    ShortText::new(text).unwrap()
}

/// A mandatory message without properties and content.
pub(crate) fn message_to(exchange: &str, routing_key: &str) -> Message {
    Message {
        exchange: short(exchange),
        routing_key: short(routing_key),
        mandatory: true,
        properties: Properties::default(),
        payload: Bytes::new(),
    }
}

fn texts() -> impl Strategy<Value = ShortText> {
    prop_oneof![Just(String::new()), "\\PC{0,40}", "x{255}"].prop_map(|text| short(&text))
}

fn headers(doubles: impl Strategy<Value = f64> + 'static) -> impl Strategy<Value = HeaderTable> {
    let leaf = prop_oneof![
        Just(HeaderValue::Void),
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i64>().prop_map(HeaderValue::Int),
        doubles.prop_map(HeaderValue::Double),
        "\\PC{0,300}".prop_map(HeaderValue::Text),
    ];
    let value = leaf.prop_recursive(8, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(HeaderValue::Array),
            btree_map(texts(), inner, 0..4).prop_map(HeaderValue::Table),
        ]
    });
    btree_map(texts(), value, 0..6)
}

prop_compose! {
    /// Properties with these doubles in their headers.
    pub(crate) fn properties(doubles: BoxedStrategy<f64>)(
        texts in proptest::array::uniform8(proptest::option::of(texts())),
        persistent in any::<bool>(),
        priority in any::<Option<u8>>(),
        expiration_ms in any::<Option<u32>>(),
        timestamp in prop::option::of(0..=253_402_300_799u64),
        headers in headers(doubles),
    ) -> Properties {
        let [id, content_type, content_encoding, correlation_id, reply_to, kind, user_id, app_id] = texts;
        let delivery_mode = if persistent { DeliveryMode::Persistent } else { DeliveryMode::Transient };
        Properties {
            message_id: id.unwrap_or_default(),
            content_type, content_encoding, delivery_mode, priority, correlation_id, reply_to, expiration_ms,
            timestamp, kind, user_id, app_id, headers,
        }
    }
}

prop_compose! {
    /// Messages with these doubles in their headers.
    pub(crate) fn messages(doubles: BoxedStrategy<f64>)(
        exchange in texts(),
        routing_key in texts(),
        mandatory in any::<bool>(),
        properties in properties(doubles),
        payload in vec(any::<u8>(), 0..100),
    ) -> Message {
        Message { exchange, routing_key, mandatory, properties, payload: payload.into() }
    }
}
