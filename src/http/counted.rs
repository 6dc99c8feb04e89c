//! The decoding of requests and the making of responses, whose instructions `scripts/instructions`
//! counts.

use super::dialect::{envelope as envelopes, raw};
use super::respond;
use super::routes::{Found, TABLE, find};
use crate::envelope;
use crate::message::{Settlement, ShortText};
use crate::outcome::Outcome;
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::hint::black_box;

const MESSAGE_ID: &str = "01a20773-75b3-737a-be79-8f769451d59e";

#[path = "counted_requests_tests.rs"]
pub(super) mod requests;

/// How often the script wants the work done; once in an ordinary run of the tests.
fn times() -> usize {
    std::env::var("COUNTED_TIMES").map_or(1, |times| times.parse().unwrap())
}

fn repeat<T>(mut work: impl FnMut() -> T) {
    for _ in 0..times() {
        black_box(work());
    }
}

/// The headers of an ordinary client, those that an application sets among them.
fn headers() -> HeaderMap {
    let headers = [
        ("host", "sidecar"),
        ("user-agent", "client/1.0"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("amqp-correlation-id", "c-42"),
        ("amqp-type", "order.created"),
        ("amqp-header-tenant", "acme"),
        ("amqpost-timeout", "2s"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let entry = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    headers.map(entry).into_iter().collect()
}

#[test]
fn a_raw_head() {
    let (headers, uri) =
        (headers(), Uri::from_static("/v1/exchanges/orders/messages?routing_key=eu.created"));
    repeat(|| {
        let path = black_box(&uri).path();
        let Found::Route(_, name) = find(TABLE, "POST", path) else { panic!("the path of an exchange") };
        let destination = raw::exchange_destination(&path[name], uri.query()).unwrap();
        (destination, raw::said(black_box(&headers)).unwrap())
    });
}

/// As many fields as the raw head, with a text of 1 KiB that has a quotation mark in every eight
/// bytes.
#[test]
fn an_envelope() {
    let text = r#"{
        "exchange": "orders",
        "routing_key": "eu.created",
        "payload": "PAYLOAD",
        "timeout": "2s",
        "properties": {
            "content_type": "application/json",
            "correlation_id": "c-42",
            "type": "order.created",
            "headers": {"tenant": "acme", "traceparent": "TRACEPARENT"}
        }
    }"#;
    let text = text
        .replace("PAYLOAD", &r#"seven x\""#.repeat(128))
        .replace("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    repeat(|| envelope::decode(black_box(text.as_bytes()), 1 << 16).unwrap());
}

fn answered(outcome: Outcome, detail: Option<&str>, attempts: u32) {
    let detail = detail.map(str::to_owned);
    let message_id = ShortText::new(MESSAGE_ID).unwrap();
    let settlement = Settlement { detail, attempts, ..Settlement::of(outcome) }.about(message_id);
    repeat(|| respond::response(envelopes::ENVELOPE, black_box(&settlement)));
}

#[test]
fn a_response_of_confirmed() {
    answered(Outcome::Confirmed, None, 1);
}

#[test]
fn a_response_of_link_down() {
    answered(Outcome::LinkDown, None, 0);
}

#[test]
fn a_response_of_unroutable() {
    answered(Outcome::Unroutable, Some("no queue is bound to 'orders' for the routing key 'eu.created'"), 1);
}
