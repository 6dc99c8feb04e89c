//! What a client is told for each outcome: status, headers, body.

use super::*;
use crate::http::counted::requests::without_a_broker;
use crate::http::dialect::envelope::ENVELOPE;
use crate::http::{respond, routes};
use crate::listener;
use crate::outcome::Outcome;
use hyper::{Method, Request};
use serde_json::Value;
use std::fmt::Write;

fn bare(outcome: Outcome) -> Settlement {
    Settlement::of(outcome)
}

fn detailed(outcome: Outcome, detail: &str) -> Settlement {
    Settlement { detail: Some(detail.to_owned()), ..bare(outcome) }
}

fn about(message_id: &str, settlement: Settlement) -> Settlement {
    settlement.about(ShortText::new(message_id).unwrap())
}

fn header(response: &Response, name: &str) -> Option<String> {
    let mut values = response.headers().get_all(name).iter();
    let value = values.next().map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap());
    assert_eq!(values.next(), None, "{name} is there twice");
    value
}

async fn text(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn shown(settlement: Settlement) -> String {
    let response = respond::response(ENVELOPE, &settlement);
    let mut shown = format!("{}\n", response.status());
    for (name, value) in response.headers() {
        writeln!(shown, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
    }
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    shown + &serde_json::to_string_pretty(&body).unwrap()
}

/// A line is written by hand: a text that is not escaped would break every parser.
#[test]
fn a_line_is_json_whatever_is_said_in_it() {
    for outcome in Outcome::ALL {
        let text = "\"quoted\" \\ \n \u{1} ünï";
        let settlement = Settlement { attempts: 3, replayed: true, ..about(text, detailed(outcome, text)) };
        let mut line = BytesMut::new();
        write_line(&settlement, 7, true, &mut line);
        let line: Value = serde_json::from_slice(&line).unwrap();
        let row = outcome.row();
        let mut expected = serde_json::json!({
            "index": 7, "outcome": row.class.as_str(), "code": row.code, "message_id": text, "attempts": 3,
            "replayed": true, "last": true,
        });
        if let Some(retry) = row.retry.as_str() {
            expected["retry"] = retry.into();
            expected["detail"] = text.into();
        }
        assert_eq!(line, expected);
    }
}

/// The table that clients, alerts and runbooks rely on: a change here changes what the product
/// promises.
#[test]
fn the_outcome_table_is_what_clients_rely_on() {
    let mut table = String::new();
    for outcome in Outcome::ALL {
        let row = outcome.row();
        let retry = row.retry.as_str().unwrap_or("-");
        let after = row.retry_after.map_or("-".to_owned(), |seconds| seconds.to_string());
        let (code, class, status, title) = (row.code, row.class.as_str(), row.status, row.title);
        writeln!(table, "{code} {class} {status} {retry} {after}: {title}").unwrap();
    }
    insta::assert_snapshot!(table, @r"
    confirmed confirmed 200 - -: The broker has the message
    spooled spooled 202 - -: The message is on disk and will be delivered
    link_down not_published 503 safe 1: No connection to the broker is up
    link_stalled not_published 503 safe 1: The broker has stopped answering
    broker_blocked not_published 503 safe 1: The broker accepts no publishes at the moment
    breaker_open not_published 503 safe 1: The circuit breaker of this destination is open
    overloaded not_published 503 safe 1: The in-flight limit is reached
    deadline_not_sent not_published 503 safe -: The deadline passed before the message was sent
    draining not_published 503 safe 1: The sidecar is shutting down
    spool_full not_published 503 safe 1: The spool has no room for the message
    spool_failed not_published 503 safe 1: The spool takes no messages
    destination_unavailable not_published 503 safe 1: The broker does not take this destination at the moment
    unroutable not_published 422 safe -: No queue takes this message
    exchange_not_found not_published 404 safe -: The exchange does not exist
    access_refused not_published 403 safe -: The broker refuses this user the exchange
    refused_by_broker not_published 400 safe -: The broker refuses this message
    invalid_request not_published 400 pointless -: The request is not valid
    idempotency_key_in_use not_published 409 safe 1: A request with this idempotency key is under way
    idempotency_key_reused not_published 422 pointless -: This idempotency key was used for another request
    unsupported_media_type not_published 415 pointless -: This endpoint does not take that media type
    payload_too_large not_published 413 pointless -: The body is too large
    request_timeout not_published 408 safe -: The body stopped arriving
    not_found not_published 404 pointless -: There is no such endpoint
    method_not_allowed not_published 405 pointless -: The endpoint does not take this method
    confirm_timeout unknown 504 may_duplicate -: The broker gave no verdict before the deadline
    link_lost unknown 502 may_duplicate -: The connection was lost before the broker's verdict
    nacked unknown 502 may_duplicate -: The broker refused the message (basic.nack)
    internal unknown 500 may_duplicate -: amqpost failed while it served this request
    spool_unsure unknown 502 may_duplicate -: It is not known whether the spool has the message
    ");
}

#[tokio::test]
async fn a_confirmed_message_is_answered_with_its_id() {
    let settlement = about("m-1", bare(Outcome::Confirmed));
    insta::assert_snapshot!(shown(settlement).await, @r#"
    200 OK
    content-type: application/json
    amqpost-outcome: confirmed
    amqpost-code: confirmed
    amqpost-message-id: m-1
    {
      "code": "confirmed",
      "message_id": "m-1",
      "outcome": "confirmed"
    }
    "#);
}

#[tokio::test]
async fn more_attempts_than_one_are_told() {
    let settlement = Settlement { attempts: 3, ..about("m-1", bare(Outcome::Nacked)) };
    let shown = shown(settlement).await;
    assert!(shown.contains("amqpost-attempts: 3") && shown.contains("\"attempts\": 3"), "{shown}");
}

#[tokio::test]
async fn a_problem_with_a_message_names_it() {
    let problem = detailed(Outcome::ExchangeNotFound, "the broker has no exchange 'orders'");
    let settlement = Settlement { attempts: 1, ..about("m-1", problem) };
    insta::assert_snapshot!(shown(settlement).await, @r#"
    404 Not Found
    content-type: application/problem+json
    amqpost-outcome: not_published
    amqpost-code: exchange_not_found
    amqpost-message-id: m-1
    {
      "code": "exchange_not_found",
      "detail": "the broker has no exchange 'orders'",
      "message_id": "m-1",
      "outcome": "not_published",
      "retry": "safe",
      "status": 404,
      "title": "The exchange does not exist",
      "type": "https://amqpost.invalid/problems/exchange_not_found"
    }
    "#);
}

#[tokio::test]
async fn a_problem_before_there_is_a_message_has_no_message_id() {
    let settlement = detailed(Outcome::InvalidRequest, "exchange: has 256 bytes");
    insta::assert_snapshot!(shown(settlement).await, @r#"
    400 Bad Request
    content-type: application/problem+json
    amqpost-outcome: not_published
    amqpost-code: invalid_request
    {
      "code": "invalid_request",
      "detail": "exchange: has 256 bytes",
      "outcome": "not_published",
      "retry": "pointless",
      "status": 400,
      "title": "The request is not valid",
      "type": "https://amqpost.invalid/problems/invalid_request"
    }
    "#);
}

#[tokio::test]
async fn a_problem_without_a_detail_repeats_its_title() {
    let body: Value =
        serde_json::from_str(&text(respond::response(ENVELOPE, &bare(Outcome::LinkLost))).await).unwrap();
    assert_eq!(body["detail"], body["title"]);
}

#[tokio::test]
async fn headers_and_body_say_the_same_for_every_outcome() {
    for outcome in Outcome::ALL {
        let row = outcome.row();
        let response = respond::response(ENVELOPE, &bare(outcome));
        assert_eq!(response.status().as_u16(), row.status, "{}", row.code);
        assert_eq!(header(&response, "amqpost-outcome").as_deref(), Some(row.class.as_str()));
        assert_eq!(header(&response, "amqpost-code").as_deref(), Some(row.code));
        assert_eq!(header(&response, "retry-after"), row.retry_after.map(|seconds| seconds.to_string()));
        let body: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!((&body["outcome"], &body["code"]), (&row.class.as_str().into(), &row.code.into()));
    }
}

#[tokio::test]
async fn every_outcome_but_success_is_a_problem_document() {
    for outcome in Outcome::ALL {
        let row = outcome.row();
        let response = respond::response(ENVELOPE, &bare(outcome));
        let is_problem = header(&response, "content-type").unwrap() == "application/problem+json";
        assert_eq!(is_problem, row.status >= 300, "{}", row.code);
        let body: Value = serde_json::from_str(&text(response).await).unwrap();
        if is_problem {
            assert_eq!(body["type"], format!("{PROBLEM_TYPE_BASE}{}", row.code));
            assert_eq!(body["status"], row.status, "{}", row.code);
            assert_eq!(body["retry"].as_str(), row.retry.as_str(), "{}", row.code);
        }
    }
}

#[tokio::test]
async fn a_message_id_beyond_ascii_comes_back_in_utf_8() {
    for id in ["käse-🧀", "an id with spaces", "\"quoted\\"] {
        let response = respond::response(ENVELOPE, &about(id, bare(Outcome::Confirmed)));
        assert_eq!(header(&response, "amqpost-message-id").as_deref(), Some(id));
        let body: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(body["message_id"], id);
    }
}

#[tokio::test]
async fn a_detail_with_quotes_and_line_breaks_is_still_json() {
    let detail = "payload: '\"'\n\u{1}";
    let response = respond::response(ENVELOPE, &detailed(Outcome::InvalidRequest, detail));
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(body["detail"], detail);
}

// === through the router ===

/// Status, code and message id of the answer to a request with a small body.
async fn asked(method: Method, uri: &str, headers: &[(&str, &str)]) -> (Response, String) {
    let (door, _stopper) = without_a_broker();
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = listener::testing::asked(routes(door), request.body(Body::from("{}")).unwrap()).await;
    let code = header(&response, "amqpost-code").unwrap();
    assert_eq!(header(&response, "amqpost-outcome").as_deref(), Some("not_published"));
    let status_and_code = format!("{} {code}", response.status().as_u16());
    (response, status_and_code)
}

#[tokio::test]
async fn every_endpoint_allows_post_and_nothing_else() {
    for uri in ["/v1/exchanges/e/messages", "/v1/queues/q/messages", "/v1/messages"] {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let (response, answer) = asked(method.clone(), uri, &[]).await;
            assert_eq!(answer, "405 method_not_allowed", "{uri}");
            assert_eq!(header(&response, "allow").as_deref(), Some("POST"), "{uri}");
            assert_eq!(text(response).await.is_empty(), method == Method::HEAD, "{method} {uri}");
        }
    }
}

#[tokio::test]
async fn what_is_no_endpoint_is_answered_in_the_same_form() {
    for uri in ["/", "/v1", "/v1/messages/", "/v1/exchanges/messages", "/v1/exchanges/a/b/messages", "/%ff"] {
        let (response, answer) = asked(Method::POST, uri, &[]).await;
        assert_eq!(answer, "404 not_found", "{uri}");
        assert_eq!(header(&response, "content-type").as_deref(), Some("application/problem+json"), "{uri}");
    }
}

#[tokio::test]
async fn a_request_is_checked_before_the_link_is_asked() {
    let json = ("content-type", "application/json");
    let cases = [
        ("/v1/exchanges/e/messages", ("amqp-priority", "300"), "400 invalid_request"),
        ("/v1/exchanges/%zz/messages", ("x", "x"), "400 invalid_request"),
        ("/v1/exchanges//messages", ("x", "x"), "400 invalid_request"),
        ("/v1/queues/q/messages?routing_key=a", ("x", "x"), "400 invalid_request"),
        ("/v1/queues/q/messages", ("amqpost-timeout", "61s"), "400 invalid_request"),
        ("/v1/queues/q/messages", ("amqpost-mode", "spool"), "400 invalid_request"),
        ("/v1/messages", ("content-type", "text/plain"), "415 unsupported_media_type"),
        ("/v1/messages", ("x", "x"), "415 unsupported_media_type"),
        ("/v1/messages", json, "503 link_down"),
        ("/v1/queues/q/messages", ("amqp-message-id", "m-1"), "503 link_down"),
    ];
    for (uri, header, expected) in cases {
        assert_eq!(asked(Method::POST, uri, &[header]).await.1, expected, "{uri} {header:?}");
    }
}

#[tokio::test]
async fn a_raw_message_that_is_not_published_keeps_its_id_for_the_retry() {
    let (response, answer) =
        asked(Method::POST, "/v1/queues/q/messages", &[("amqp-message-id", "m-1")]).await;
    assert_eq!(answer, "503 link_down");
    assert_eq!(header(&response, "retry-after").as_deref(), Some("1"));
    assert_eq!(header(&response, "amqpost-message-id").as_deref(), Some("m-1"));
}
