//! Tests of what amqpost makes of the headers of a raw request, and of refused headers.

use super::*;
use crate::http::headers;
use crate::message::{HeaderTable, Mode, RetryPolicy};
use crate::outcome::Outcome;
use hyper::header::HeaderName;
use proptest::prelude::*;
use std::time::Duration;

#[path = "raw_destination_tests.rs"]
mod destination;

/// Headers that become a property of at most 255 bytes.
const TEXT_HEADERS: [&str; 8] = [
    "content-type",
    "content-encoding",
    "amqp-message-id",
    "amqp-correlation-id",
    "amqp-reply-to",
    "amqp-type",
    "amqp-app-id",
    "amqp-user-id",
];

/// The other headers that are read, each with a value that it takes.
const VALUE_HEADERS: [(&str, &str); 8] = [
    ("amqp-expiration", "60000"),
    ("amqp-priority", "9"),
    ("amqp-timestamp", "1700000000"),
    ("amqp-delivery-mode", "1"),
    ("amqp-header-tenant", "acme"),
    ("amqpost-timeout", "250ms"),
    ("amqpost-mandatory", "false"),
    ("amqpost-retry", "off"),
];

fn text(text: &str) -> ShortText {
    ShortText::new(text).unwrap()
}

fn header_map<V: AsRef<[u8]>>(pairs: &[(&str, V)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, hyper::header::HeaderValue::from_bytes(value.as_ref()).unwrap());
    }
    headers
}

fn head_of(pairs: &[(&str, &str)]) -> Said {
    said(&header_map(pairs)).unwrap()
}

/// The detail of a 400.
fn detail_of<T: std::fmt::Debug>(refused: Result<T, Rejection>) -> String {
    let rejection = refused.unwrap_err();
    assert_eq!(rejection.outcome, Outcome::InvalidRequest);
    rejection.to_string()
}

fn details_of(pairs: &[(&str, &str)]) -> String {
    let lines = pairs.iter().map(|(name, value)| detail_of(said(&header_map(&[(name, value)]))));
    lines.collect::<Vec<_>>().join("\n")
}

// === properties ===

#[test]
fn every_property_header_arrives_in_its_property() {
    let head = head_of(&[
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Encoding", "gzip"),
        ("Amqp-Message-Id", "m-1"),
        ("Amqp-Correlation-Id", "c-1"),
        ("Amqp-Reply-To", "replies"),
        ("Amqp-Type", "order.created"),
        ("Amqp-App-Id", "shop"),
        ("Amqp-User-Id", "bob"),
        ("Amqp-Expiration", "60000"),
        ("Amqp-Priority", "9"),
        ("Amqp-Timestamp", "1700000000"),
        ("Amqp-Delivery-Mode", "1"),
        ("Amqp-Header-Tenant", "acme"),
    ]);
    let expected = Properties {
        message_id: text("m-1"),
        content_type: Some(text("text/plain; charset=utf-8")),
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
        headers: HeaderTable::from([(text("tenant"), HeaderValue::Text("acme".to_owned()))]),
    };
    assert_eq!(head.properties, expected);
}

#[test]
fn headers_that_are_not_about_the_message_leave_no_trace_in_it() {
    let id = ("amqp-message-id", "m-1");
    let foreign =
        [id, ("host", "h"), ("authorization", "secret"), ("x-priority", "1"), ("content-length", "3")];
    assert_eq!(head_of(&foreign), head_of(&[id]));
}

#[test]
fn a_message_without_headers_is_persistent() {
    assert_eq!(head_of(&[]).properties.delivery_mode, DeliveryMode::Persistent);
}

#[test]
fn a_message_without_an_id_is_given_a_uuid_of_version_7() {
    let id = head_of(&[]).properties.message_id;
    assert_eq!(uuid::Uuid::parse_str(id.as_str()).unwrap().get_version_num(), 7);
}

#[test]
fn numbers_are_taken_at_their_borders() {
    let at = |expiration, priority, timestamp| {
        let properties = head_of(&[
            ("amqp-expiration", expiration),
            ("amqp-priority", priority),
            ("amqp-timestamp", timestamp),
        ])
        .properties;
        (properties.expiration_ms, properties.priority, properties.timestamp)
    };
    assert_eq!(at("0", "0", "0"), (Some(0), Some(0), Some(0)));
    let last = (Some(u32::MAX), Some(255), Some(253_402_300_799));
    assert_eq!(at("4294967295", "255", "253402300799"), last);
}

#[test]
fn values_outside_their_range_are_refused_under_the_name_of_their_header() {
    let details = details_of(&[
        ("Amqp-Priority", "256"),
        ("Amqp-Priority", "300"),
        ("Amqp-Priority", "-1"),
        ("Amqp-Priority", "+1"),
        ("Amqp-Priority", ""),
        ("Amqp-Expiration", "-1"),
        ("Amqp-Expiration", "4294967296"),
        ("Amqp-Expiration", "1s"),
        ("Amqp-Timestamp", "2024-01-01T00:00:00Z"),
        ("Amqp-Timestamp", "18446744073709551616"),
        ("Amqp-Delivery-Mode", "0"),
        ("Amqp-Delivery-Mode", "3"),
        ("Amqp-Delivery-Mode", "persistent"),
        ("Amqp-Message-Id", ""),
        ("Amqp-Message-Id", "a\tb"),
        ("Amqp-Timestamp", "253402300800"),
    ]);
    insta::assert_snapshot!(details, @r"
    amqp-priority: expected a number from 0 to 255
    amqp-priority: expected a number from 0 to 255
    amqp-priority: expected a number from 0 to 255
    amqp-priority: expected a number from 0 to 255
    amqp-priority: expected a number from 0 to 255
    amqp-expiration: expected milliseconds from 0 to 4294967295
    amqp-expiration: expected milliseconds from 0 to 4294967295
    amqp-expiration: expected milliseconds from 0 to 4294967295
    amqp-timestamp: expected Unix seconds, at most 253402300799 (the end of the year 9999)
    amqp-timestamp: expected Unix seconds, at most 253402300799 (the end of the year 9999)
    amqp-delivery-mode: expected 1 or 2
    amqp-delivery-mode: expected 1 or 2
    amqp-delivery-mode: expected 1 or 2
    amqp-message-id: is empty: leave it out and one is assigned
    amqp-message-id: has control characters
    amqp-timestamp: expected Unix seconds, at most 253402300799 (the end of the year 9999)
    ");
}

#[test]
fn a_text_of_255_bytes_is_taken() {
    for name in TEXT_HEADERS {
        assert!(said(&header_map(&[(name, "é".repeat(127) + "x")])).is_ok(), "{name}");
    }
}

#[test]
fn a_text_of_256_bytes_is_refused_under_the_name_of_its_header() {
    for name in TEXT_HEADERS {
        let detail = detail_of(said(&header_map(&[(name, "é".repeat(128))])));
        assert_eq!(detail, format!("{name}: has 256 bytes, at most 255 are allowed"));
    }
}

#[test]
fn a_header_given_twice_is_refused_even_when_the_values_agree() {
    let texts = TEXT_HEADERS.map(|name| (name, "same"));
    for (name, value) in texts.into_iter().chain(VALUE_HEADERS) {
        let detail = detail_of(said(&header_map(&[(name, value), (name, value)])));
        assert_eq!(detail, format!("{name}: given twice"));
    }
}

#[test]
fn a_value_that_is_not_utf_8_is_refused_under_the_name_of_its_header() {
    let others = VALUE_HEADERS.map(|(name, _)| name);
    for name in TEXT_HEADERS.into_iter().chain(others) {
        let detail = detail_of(said(&header_map(&[(name, b"caf\xe9")])));
        assert_eq!(detail, format!("{name}: is not UTF-8"));
    }
}

#[test]
fn a_trace_header_that_is_not_utf_8_or_too_long_is_left_out() {
    for name in TRACE_CONTEXT {
        for value in [b"caf\xe9".to_vec(), vec![b'x'; 8193]] {
            let said = said(&header_map(&[(name, value)])).unwrap();
            assert!(said.properties.headers.is_empty(), "{name}");
        }
        let said = said(&header_map(&[(name, vec![b'x'; 8192])])).unwrap();
        assert_eq!(said.properties.headers.len(), 1, "{name}");
    }
}

#[test]
fn an_unknown_property_is_refused_and_not_ignored() {
    let details = details_of(&[("Amqp-Prioritty", "1"), ("Amqp-Cluster-Id", "x"), ("Amqp-", "x")]);
    insta::assert_snapshot!(details, @r"
    amqp-prioritty: unknown property
    amqp-cluster-id: unknown property
    amqp-: unknown property
    ");
}

// === headers table ===

#[test]
fn an_entry_of_the_headers_table_keeps_its_text_under_a_lower_case_name() {
    let head =
        head_of(&[("Amqp-Header-X-Attempt", "3"), ("AMQP-HEADER-PLACE", "Köln"), ("amqp-header-e", "")]);
    let expected = [("e", ""), ("place", "Köln"), ("x-attempt", "3")]
        .map(|(name, value)| (text(name), HeaderValue::Text(value.to_owned())));
    assert_eq!(head.properties.headers, HeaderTable::from(expected));
}

#[test]
fn an_entry_without_a_name_or_with_one_too_long_is_refused() {
    let long = format!("amqp-header-{}", "n".repeat(256));
    assert_eq!(details_of(&[("amqp-header-", "x")]), "amqp-header-: the name of the entry is missing");
    let expected = format!("{long}: has 256 bytes, at most 255 are allowed");
    assert_eq!(details_of(&[(&long, "x")]), expected);
}

#[test]
fn the_trace_context_travels_in_the_headers_table_with_its_lists_joined() {
    let head = head_of(&[
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("baggage", "user=bob"),
    ]);
    let expected = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1,b=2"),
        ("baggage", "user=bob"),
    ]
    .map(|(name, value)| (text(name), HeaderValue::Text(value.to_owned())));
    assert_eq!(head.properties.headers, HeaderTable::from(expected));
}

/// The order of the two on the wire must not decide what a consumer sees.
#[test]
fn an_entry_of_the_message_itself_wins_over_the_trace_context_of_the_request() {
    let (own, request) = (("amqp-header-baggage", "own"), ("baggage", "request"));
    for pairs in [[own, request], [request, own]] {
        let headers = head_of(&pairs).properties.headers;
        assert_eq!(headers.get(&text("baggage")), Some(&HeaderValue::Text("own".to_owned())));
    }
}

#[test]
fn an_envelope_takes_the_trace_context_that_it_does_not_carry_itself() {
    let mut table = HeaderTable::from([(text("baggage"), HeaderValue::Int(1))]);
    add_trace_context(&mut table, &header_map(&[("baggage", "b"), ("tracestate", "t"), ("x", "x")]));
    let expected =
        [(text("baggage"), HeaderValue::Int(1)), (text("tracestate"), HeaderValue::Text("t".to_owned()))];
    assert_eq!(table, HeaderTable::from(expected));
}

// === control ===

#[test]
fn every_control_header_arrives_in_its_place() {
    let controls = [
        ("Amqpost-Timeout", "250ms"),
        ("Amqpost-Mandatory", "false"),
        ("Amqpost-Mode", "spool"),
        ("Amqpost-Retry", "off"),
    ];
    let expected = PublishOptions {
        timeout: Some(Duration::from_millis(250)),
        mandatory: Some(false),
        mode: Some(Mode::Spool),
        retry: Some(RetryPolicy::Off),
    };
    assert_eq!(head_of(&controls).options, expected);
    assert_eq!(headers::options(&header_map(&controls)), Ok(expected));
}

#[test]
fn a_request_without_control_headers_leaves_every_default_open() {
    assert_eq!(head_of(&[]).options, PublishOptions::default());
}

#[test]
fn unknown_control_values_and_headers_are_refused_by_name() {
    let wrong = [
        ("Amqpost-Timeout", "250"),
        ("Amqpost-Timeout", "0ms"),
        ("Amqpost-Mandatory", "yes"),
        ("Amqpost-Mode", "queue"),
        ("Amqpost-Retry", "always"),
        ("Amqpost-Prioritty", "1"),
    ];
    insta::assert_snapshot!(details_of(&wrong), @r"
    amqpost-timeout: expected a whole number with ms or s, such as 250ms or 5s, more than zero
    amqpost-timeout: expected a whole number with ms or s, such as 250ms or 5s, more than zero
    amqpost-mandatory: expected true or false
    amqpost-mode: expected direct, fallback or spool
    amqpost-retry: expected off, safe or at_least_once
    amqpost-prioritty: unknown control header
    ");
    for pair in wrong {
        let in_envelope = detail_of(headers::options(&header_map(&[pair])));
        assert_eq!(in_envelope, details_of(&[pair]));
    }
}

#[test]
fn an_idempotency_key_is_taken_bare_and_quoted_and_anything_else_is_refused() {
    let key = |value: &str| headers::idempotency_key(&header_map(&[("Idempotency-Key", value)]));
    assert_eq!(key("\"8e03978e\""), key("8e03978e"));
    assert!(key("8e03978e").unwrap().is_some());
    assert_eq!(headers::idempotency_key(&HeaderMap::new()), Ok(None));
    let expected = "idempotency-key: expected 1 to 255 printable ASCII characters, bare or in double quotes";
    assert_eq!(detail_of(key("\"open")), expected);
    let twice = header_map(&[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]);
    assert_eq!(detail_of(headers::idempotency_key(&twice)), "idempotency-key: given twice");
}

#[test]
fn property_headers_beside_an_envelope_are_refused_and_not_ignored() {
    for name in ["amqp-priority", "amqp-header-tenant", "amqp-message-id"] {
        let detail = detail_of(headers::options(&header_map(&[(name, "1")])));
        assert_eq!(detail, format!("{name}: an envelope carries its properties itself"));
    }
}

// === anything at all ===

fn any_header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let known: Vec<_> = TEXT_HEADERS
        .into_iter()
        .chain(VALUE_HEADERS.map(|(name, _)| name))
        .chain(TRACE_CONTEXT)
        .chain(["amqpost-mode", "idempotency-key", "amqp-header-", "host"])
        .map(str::to_owned)
        .collect();
    let name = prop_oneof![
        3 => prop::sample::select(known),
        1 => "amqp-[a-z0-9-]{0,12}",
        1 => "amqpost-[a-z0-9-]{0,12}",
        1 => "[a-z0-9!#$%&'*+.^_`|~-]{1,12}",
    ];
    let value = prop_oneof![
        "[0-9]{0,21}(ms|s)?".prop_map(String::into_bytes),
        "true|false|off|safe|direct|spool".prop_map(String::into_bytes),
        prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..300),
    ];
    (name, value)
}

proptest! {
    /// A panic here would cost the request its answer.
    #[test]
    fn every_set_of_headers_is_read_or_refused_by_the_name_of_one_of_them(
        pairs in prop::collection::vec(any_header(), 0..12),
    ) {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let headers = header_map(&pairs);
        let named = |detail: &str| headers.keys().any(|name| detail.starts_with(&format!("{name}: ")));
        match said(&headers) {
            Ok(head) => prop_assert!(!head.properties.message_id.is_empty()),
            Err(rejection) => {
                prop_assert_eq!(rejection.outcome, Outcome::InvalidRequest);
                prop_assert!(named(&rejection.to_string()), "{rejection}");
            }
        }
        if let Err(rejection) = headers::options(&headers) {
            prop_assert!(named(&rejection.to_string()), "{rejection}");
        }
    }
}
