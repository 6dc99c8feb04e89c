//! What a JSON envelope becomes: the message, its properties and headers, its payload.

use super::*;
use crate::message::{Mode, RetryPolicy};
use proptest::prelude::*;
use std::time::Duration;

const HEADERS_TEXT_MAX: usize = 200 * 1024;

#[path = "decode_refusal_tests.rs"]
mod refusal;

fn text(text: &str) -> ShortText {
    ShortText::new(text).unwrap()
}

/// The envelope of these members, beside an exchange and a payload.
fn with(members: &str) -> String {
    format!(r#"{{"exchange":"orders","payload":"p",{members}}}"#)
}

fn message(envelope: &str) -> Message {
    decode(envelope.as_bytes(), HEADERS_TEXT_MAX).unwrap().message
}

fn detail(envelope: &str) -> String {
    decode(envelope.as_bytes(), HEADERS_TEXT_MAX).unwrap_err().to_string()
}

/// The value of one entry of the headers table.
fn header(json: &str) -> HeaderValue {
    let message = message(&with(&format!(r#""properties":{{"headers":{{"h":{json}}}}}"#)));
    message.properties.headers[&text("h")].clone()
}

fn header_detail(json: &str) -> String {
    detail(&with(&format!(r#""properties":{{"headers":{{"h":{json}}}}}"#)))
}

fn payload_of(payload: &str, encoding: &str) -> Vec<u8> {
    let envelope = format!(r#"{{"exchange":"e","payload":{payload},"payload_encoding":"{encoding}"}}"#);
    message(&envelope).payload.to_vec()
}

fn payload_detail(payload: &str, encoding: &str) -> String {
    detail(&format!(r#"{{"exchange":"e","payload":{payload},"payload_encoding":"{encoding}"}}"#))
}

// === the message ===

#[test]
fn an_envelope_of_exchange_and_payload_takes_every_default() {
    let envelope = decode(br#"{"exchange":"orders","payload":"hello"}"#, HEADERS_TEXT_MAX).unwrap();
    assert_eq!(envelope.options, PublishOptions::default());
    let expected = Message {
        exchange: text("orders"),
        routing_key: ShortText::default(),
        mandatory: true,
        properties: Properties {
            message_id: envelope.message.properties.message_id.clone(),
            ..Properties::default()
        },
        payload: Bytes::from_static(b"hello"),
    };
    assert_eq!(envelope.message, expected);
}

#[test]
fn every_property_arrives_in_its_place() {
    let properties = message(&with(
        r#""properties":{"message_id":"m-1","content_type":"text/plain","content_encoding":"gzip",
        "delivery_mode":1,"priority":9,"correlation_id":"c-1","reply_to":"replies","expiration":60000,
        "timestamp":1700000000,"type":"order.created","user_id":"bob","app_id":"shop",
        "headers":{"attempt":3}}"#,
    ))
    .properties;
    let expected = Properties {
        message_id: text("m-1"),
        content_type: Some(text("text/plain")),
        content_encoding: Some(text("gzip")),
        delivery_mode: DeliveryMode::Transient,
        priority: Some(9),
        correlation_id: Some(text("c-1")),
        reply_to: Some(text("replies")),
        expiration_ms: Some(60000),
        timestamp: Some(1_700_000_000),
        kind: Some(text("order.created")),
        user_id: Some(text("bob")),
        app_id: Some(text("shop")),
        headers: HeaderTable::from([(text("attempt"), HeaderValue::Int(3))]),
    };
    assert_eq!(properties, expected);
}

#[test]
fn a_message_without_an_id_is_given_a_uuid_of_version_7() {
    let id = message(&with(r#""properties":{}"#)).properties.message_id;
    assert_eq!(uuid::Uuid::parse_str(id.as_str()).unwrap().get_version_num(), 7);
}

#[test]
fn the_default_exchange_has_two_names() {
    for exchange in ["amq.default", ""] {
        let message = message(&format!(r#"{{"exchange":"{exchange}","routing_key":"q","payload":""}}"#));
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", "q"), "{exchange}");
    }
}

#[test]
fn the_expiration_is_a_number_or_the_text_that_amqp_uses() {
    for (json, milliseconds) in [("0", 0), ("4294967295", u32::MAX), (r#""60000""#, 60000)] {
        let message = message(&with(&format!(r#""properties":{{"expiration":{json}}}"#)));
        assert_eq!(message.properties.expiration_ms, Some(milliseconds), "{json}");
    }
}

#[test]
fn every_control_member_arrives_in_its_place() {
    let envelope = with(r#""timeout":"250ms","mandatory":false,"mode":"fallback","retry":"off""#);
    let expected = PublishOptions {
        timeout: Some(Duration::from_millis(250)),
        mandatory: Some(false),
        mode: Some(Mode::Fallback),
        retry: Some(RetryPolicy::Off),
    };
    assert_eq!(decode(envelope.as_bytes(), HEADERS_TEXT_MAX).unwrap().options, expected);
}

#[test]
fn what_the_envelope_says_wins_over_the_headers_of_its_request() {
    let own = PublishOptions { timeout: Some(Duration::from_secs(1)), ..PublishOptions::default() };
    let request = PublishOptions {
        timeout: Some(Duration::from_secs(2)),
        mandatory: Some(false),
        mode: Some(Mode::Fallback),
        retry: Some(RetryPolicy::Off),
    };
    assert_eq!(own.or(request), PublishOptions { timeout: own.timeout, ..request });
}

// === headers table ===

#[test]
fn each_json_type_becomes_the_amqp_type_that_holds_it() {
    let cases = [
        ("null", HeaderValue::Void),
        ("true", HeaderValue::Bool(true)),
        ("3", HeaderValue::Int(3)),
        ("-9223372036854775808", HeaderValue::Int(i64::MIN)),
        ("9223372036854775807", HeaderValue::Int(i64::MAX)),
        ("3.0", HeaderValue::Double(3.0)),
        ("1e3", HeaderValue::Double(1000.0)),
        (r#""3""#, HeaderValue::Text("3".to_owned())),
        (r#"[1,"a",[]]"#, {
            let (one, a) = (HeaderValue::Int(1), HeaderValue::Text("a".to_owned()));
            HeaderValue::Array(vec![one, a, HeaderValue::Array(vec![])])
        }),
        (r#"{"b":{"c":null}}"#, {
            let inner = HeaderTable::from([(text("c"), HeaderValue::Void)]);
            HeaderValue::Table(HeaderTable::from([(text("b"), HeaderValue::Table(inner))]))
        }),
    ];
    for (json, value) in cases {
        assert_eq!(header(json), value, "{json}");
    }
}

#[test]
fn a_number_that_no_amqp_type_holds_is_refused() {
    let details =
        ["9223372036854775808", "18446744073709551616", "-9223372036854775809", "1e400"].map(header_detail);
    insta::assert_snapshot!(details.join("\n"), @r"
    properties.headers.h: is above 9223372036854775807
    properties.headers.h: is above 9223372036854775807
    properties.headers.h: is below -9223372036854775808
    properties.headers.h: number out of range
    ");
}

#[test]
fn a_name_that_stands_twice_in_a_table_is_refused_at_any_depth() {
    assert_eq!(header_detail(r#"{"a":1,"a":1}"#), "properties.headers.h.a: given twice");
    assert_eq!(header_detail(r#"[{"b":1,"\u0062":2}]"#), "properties.headers.h[0].b: given twice");
}

#[test]
fn entries_nest_to_the_limit_and_no_deeper() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(matches!(header(&nested(MAX_HEADER_DEPTH - 1)), HeaderValue::Array(_)));
    assert!(header_detail(&nested(MAX_HEADER_DEPTH + 1)).ends_with(": nested deeper than 16"));
    let tables = |depth| format!(r#"{}1{}"#, r#"{"t":"#.repeat(depth), "}".repeat(depth));
    assert!(header_detail(&tables(MAX_HEADER_DEPTH)).starts_with("properties.headers.h.t.t.t"));
}

#[test]
fn nesting_that_would_exhaust_the_stack_is_refused() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(header_detail(&nested(50_000)).ends_with(": nested deeper than 16"));
    let detail = header_detail(&nested(1_000_000));
    assert!(detail.contains("has more than 204800 bytes of JSON"), "{detail}");
}

#[test]
fn the_name_of_a_nested_entry_is_checked_too() {
    let long = "n".repeat(256);
    let detail = header_detail(&format!(r#"[{{"{long}":1}}]"#));
    assert_eq!(detail, format!("properties.headers.h[0].{long}: has 256 bytes, at most 255 are allowed"));
}

// === payload ===

#[test]
fn a_json_payload_is_published_exactly_as_it_is_written() {
    for written in [
        r#"{"b": 1,  "a":[1.0, 1e2],"é":"\u00e9","b":2}"#,
        "123456789012345678901234567890.10",
        "null",
        "[\n  1,\t2\r\n]",
        r#""text""#,
    ] {
        assert_eq!(payload_of(&format!("  {written}\n"), "json"), written.as_bytes(), "{written}");
    }
}

#[test]
fn a_json_payload_may_nest_deeper_than_any_stack() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(payload_of(&deep, "json").len(), deep.len());
}

#[test]
fn a_json_payload_is_labelled_as_such_unless_the_properties_say_otherwise() {
    let content_type = |properties: &str| {
        let members = format!(r#""payload_encoding":"json","properties":{properties}"#);
        message(&with(&members)).properties.content_type.unwrap().as_str().to_owned()
    };
    assert_eq!(content_type("{}"), "application/json");
    assert_eq!(
        content_type(r#"{"content_type":"application/cloudevents+json"}"#),
        "application/cloudevents+json"
    );
}

#[test]
fn a_string_payload_is_its_text_with_escapes_resolved() {
    let cases: [(&str, &[u8]); 5] = [
        (r#""hello""#, b"hello"),
        (r#""a\u0000b""#, b"a\0b"),
        (r#""\"\\\/\n\t\u00e9""#, "\"\\/\n\té".as_bytes()),
        (r#""\ud83d\udc30""#, "🐰".as_bytes()),
        (r#""""#, b""),
    ];
    for (json, bytes) in cases {
        assert_eq!(payload_of(json, "string"), bytes, "{json}");
    }
}

proptest! {
    #[test]
    fn any_text_arrives_as_it_is_however_it_is_written(text in ".*") {
        let written = serde_json::to_string(&text).unwrap();
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        prop_assert_eq!(payload_of(&written, "string"), text.as_bytes());
        prop_assert_eq!(payload_of(&format!("\"{escaped}\""), "string"), text.as_bytes());
    }
}

#[test]
fn a_base64_payload_is_the_bytes_it_stands_for() {
    assert_eq!(payload_of(r#""AP+A/w==""#, "base64"), [0x00, 0xff, 0x80, 0xff]);
    assert_eq!(payload_of(r#""""#, "base64"), [0; 0]);
}

#[test]
fn a_payload_that_its_encoding_does_not_fit_is_refused() {
    let details = [
        payload_detail(r#""AP-A_w==""#, "base64"),
        payload_detail(r#""AP+A/w""#, "base64"),
        payload_detail(r#""AP+A/w==\n""#, "base64"),
        payload_detail("[1]", "base64"),
        payload_detail(r#"{"a":1}"#, "string"),
        payload_detail("null", "string"),
        payload_detail(r#""\ud800""#, "string"),
        payload_detail("\"a\u{1}b\"", "string"),
        payload_detail(r#""p""#, "hex"),
    ];
    insta::assert_snapshot!(details.join("\n"), @r"
    payload: is not base64: Invalid symbol 45, offset 2.
    payload: is not base64: Invalid padding
    payload: is not base64: Invalid symbol 10, offset 8.
    payload: expected a string with this payload_encoding
    payload: expected a string with this payload_encoding
    payload: expected a string with this payload_encoding
    payload: unexpected end of hex escape at line 1 column 8
    payload: control character (\u0000-\u001F) found while parsing a string at line 1 column 28
    payload_encoding: unknown variant `hex`, expected one of `string`, `base64`, `json` at line 1 column 54
    ");
}
