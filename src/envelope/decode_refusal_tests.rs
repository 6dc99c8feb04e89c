//! Tests of envelopes that are refused: the detail names the path of the wrong member.

use super::*;
use serde_json::{Value, json};

const HEADERS_TEXT_MAX: usize = 200 * 1024;

fn details<T: AsRef<str>>(envelopes: &[T]) -> String {
    envelopes.iter().map(|envelope| detail(envelope.as_ref())).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_value_of_the_wrong_type_is_refused_under_its_path() {
    let wrong = [
        r#""routing_key":1"#,
        r#""timeout":250"#,
        r#""mandatory":"true""#,
        r#""properties":["m-1","text/plain",null,2,9,null,null,null,null,null,null,null,{}]"#,
        r#""properties":null"#,
        r#""properties":{"priority":"9"}"#,
        r#""properties":{"priority":300}"#,
        r#""properties":{"priority":1.0}"#,
        r#""properties":{"delivery_mode":3}"#,
        r#""properties":{"delivery_mode":-1}"#,
        r#""properties":{"timestamp":"2024-01-01"}"#,
        r#""properties":{"timestamp":99999999999999999999}"#,
        r#""properties":{"expiration":-1}"#,
        r#""properties":{"expiration":4294967296}"#,
        r#""properties":{"expiration":"1s"}"#,
        r#""properties":{"expiration":""}"#,
        r#""properties":{"type":null,"app_id":7}"#,
        r#""properties":{"message_id":""}"#,
        r#""properties":{"message_id":"a\nb"}"#,
        r#""properties":{"headers":"h"}"#,
    ];
    insta::assert_snapshot!(details(&wrong.map(with)), @r#"
    routing_key: invalid type: integer `1`, expected a string at line 1 column 50
    timeout: invalid type: integer `250`, expected a string at line 1 column 48
    mandatory: invalid type: string, expected a boolean at line 1 column 53
    properties: invalid type: sequence, expected an object at line 1 column 48
    properties: invalid type: null, expected an object at line 1 column 52
    properties.priority: invalid type: string, expected u8 at line 1 column 63
    properties.priority: invalid value: integer `300`, expected u8 at line 1 column 63
    properties.priority: invalid type: floating point `1.0`, expected u8 at line 1 column 63
    properties.delivery_mode: expected 1 or 2
    properties.delivery_mode: invalid value: integer `-1`, expected u64 at line 1 column 67
    properties.timestamp: invalid type: string, expected u64 at line 1 column 73
    properties.timestamp: invalid type: floating point `1e+20`, expected u64 at line 1 column 81
    properties.expiration: expected milliseconds from 0 to 4294967295 at line 1 column 65
    properties.expiration: expected milliseconds from 0 to 4294967295 at line 1 column 73
    properties.expiration: expected milliseconds from 0 to 4294967295
    properties.expiration: expected milliseconds from 0 to 4294967295
    properties.app_id: invalid type: integer `7`, expected a string at line 1 column 71
    properties.message_id: is empty: leave it out and one is assigned
    properties.message_id: has control characters
    properties.headers: invalid type: string, expected a map
    "#);
}

#[test]
fn control_values_are_refused_as_in_the_raw_form() {
    let wrong = [r#""timeout":"250""#, r#""mode":"queue""#, r#""retry":"always""#];
    insta::assert_snapshot!(details(&wrong.map(with)), @r"
    timeout: expected a whole number with ms or s, such as 250ms or 5s, more than zero
    mode: expected direct, fallback or spool
    retry: expected off, safe or at_least_once
    ");
}

#[test]
fn a_member_that_nobody_reads_is_refused_and_not_ignored() {
    let wrong =
        [r#""exchnage":"e""#, r#""properties":{"prioritty":1}"#, r#""properties":{"cluster_id":"x"}"#];
    for (envelope, path) in
        wrong.map(with).iter().zip(["exchnage", "properties.prioritty", "properties.cluster_id"])
    {
        let detail = detail(envelope);
        assert!(detail.starts_with(&format!("{path}: unknown field ")), "{detail}");
    }
}

#[test]
fn a_member_given_twice_is_refused() {
    let wrong = [r#""exchange":"e""#, r#""payload":"q""#, r#""properties":{"priority":1,"priority":2}"#];
    for (envelope, name) in wrong.map(with).iter().zip(["exchange", "payload", "priority"]) {
        let detail = detail(envelope);
        assert!(detail.contains(&format!("duplicate field `{name}`")), "{detail}");
    }
}

#[test]
fn what_is_not_one_whole_envelope_is_refused() {
    let wrong = [
        "",
        "null",
        r#"["orders","key","payload","string",{},null,null,null,null]"#,
        "{}",
        r#"{"exchange":"e"}"#,
        r#"{"payload":"p"}"#,
        r#"{"exchange":"e","payload":"p"} x"#,
        r#"{"exchange":"e","payload":"p"}{"exchange":"e","payload":"p"}"#,
        r#"{"exchange":"e","payload":"p""#,
        r#"{"exchange":"e","payload":}"#,
    ];
    insta::assert_snapshot!(details(&wrong), @r"
    envelope: EOF while parsing a value at line 1 column 0
    envelope: invalid type: null, expected an object at line 1 column 4
    envelope: invalid type: sequence, expected an object at line 1 column 0
    envelope: missing field `exchange` at line 1 column 2
    envelope: missing field `payload` at line 1 column 16
    envelope: missing field `exchange` at line 1 column 15
    envelope: trailing characters at line 1 column 32
    envelope: trailing characters at line 1 column 31
    envelope: EOF while parsing an object at line 1 column 29
    payload: expected value at line 1 column 27
    ");
}

#[test]
fn a_text_of_256_bytes_is_refused_under_its_path() {
    let long = "é".repeat(128);
    let properties = [
        "message_id",
        "content_type",
        "content_encoding",
        "correlation_id",
        "reply_to",
        "type",
        "user_id",
        "app_id",
    ];
    for name in properties {
        let detail = detail(&with(&format!(r#""properties":{{"{name}":"{long}"}}"#)));
        assert_eq!(detail, format!("properties.{name}: has 256 bytes, at most 255 are allowed"));
    }
    let exchange = detail(&format!(r#"{{"exchange":"{long}","payload":""}}"#));
    assert_eq!(exchange, "exchange: has 256 bytes, at most 255 are allowed");
    let routing_key = detail(&with(&format!(r#""routing_key":"{long}""#)));
    assert_eq!(routing_key, "routing_key: has 256 bytes, at most 255 are allowed");
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    for envelope in
        [&b"{\"exchange\":\"\xff\",\"payload\":\"\"}"[..], b"{\"exchange\":\"e\",\"payload\":\"\xff\"}"]
    {
        assert!(decode(envelope, HEADERS_TEXT_MAX).is_err());
    }
}

/// The detail quotes the client's text. Without a bound, a body of 16 MiB would come back as an
/// answer of 16 MiB.
#[test]
fn a_detail_stays_short_however_long_the_value_it_quotes() {
    let long = "x".repeat(100_000);
    for member in [format!(r#""mandatory":"{long}""#), format!(r#""{long}":1"#)] {
        assert!(detail(&with(&member)).len() < 600);
    }
}

// === anything at all ===

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["direct", "safe", "5s", "json", "base64", "9"]).prop_map(Value::from),
        ".{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,12}", inner, 0..5).prop_map(Value::from_iter),
        ]
    })
}

fn is_read_or_refused(text: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(envelope) = decode(text, HEADERS_TEXT_MAX) {
        prop_assert!(!envelope.message.properties.message_id.is_empty());
    }
    Ok(())
}

proptest! {
    /// A panic here would cost the request its answer.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        is_read_or_refused(&bytes)?;
    }

    #[test]
    fn any_json_is_read_or_refused_in_any_place(
        value in any_json(),
        place in prop::sample::select(vec![
            "/exchange", "/routing_key", "/payload", "/payload_encoding", "/timeout", "/mandatory", "/mode",
            "/properties", "/properties/headers", "/properties/expiration", "/properties/priority", "",
        ]),
    ) {
        let mut envelope = json!({
            "exchange": "e", "routing_key": "k", "payload": "cA==", "payload_encoding": "base64",
            "timeout": "1s", "mandatory": true, "mode": "direct",
            "properties": {"headers": {}, "expiration": 1, "priority": 1},
        });
        *envelope.pointer_mut(place).unwrap() = value;
        is_read_or_refused(envelope.to_string().as_bytes())?;
    }

    #[test]
    fn any_text_arrives_as_it_was(payload in ".{0,80}", key in "\\PC{0,60}") {
        let envelope = json!({"exchange": "e", "routing_key": key, "payload": payload});
        let message = message(&envelope.to_string());
        prop_assert_eq!(message.payload, payload.as_bytes());
        prop_assert_eq!(message.routing_key.as_str(), key.as_str());
    }
}
