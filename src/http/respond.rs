//! The responses of every dialect: its own answer, with the headers that every answer has.

use super::dialect::Dialect;
use crate::message::{Settlement, ShortText};
use crate::outcome::{Class, Outcome};
use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

const OUTCOME: HeaderName = HeaderName::from_static("amqpost-outcome");
const CODE: HeaderName = HeaderName::from_static("amqpost-code");
const ATTEMPTS: HeaderName = HeaderName::from_static("amqpost-attempts");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MESSAGE_ID: HeaderName = HeaderName::from_static("amqpost-message-id");

/// The response about one message, or about a request without one.
pub(super) fn response(dialect: Dialect, settlement: &Settlement) -> Response {
    let mut response = (dialect.encode)(settlement);
    let headers = response.headers_mut();
    name_outcome(headers, settlement);
    // Ids with control characters are refused when they come in, so this holds for every id.
    let id = settlement.message_id.as_ref().map(ShortText::as_str);
    if let Some(id) = id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()) {
        headers.insert(MESSAGE_ID, id);
    }
    if !is_ordinary(settlement.attempts) {
        headers.insert(ATTEMPTS, HeaderValue::from(settlement.attempts));
    }
    if settlement.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The response about a batch: its headers name the outcome that needs the most care.
pub(super) fn response_to_all(encode: fn(&[Settlement]) -> Response, settlements: &[Settlement]) -> Response {
    let mut response = encode(settlements);
    let care = |outcome: &Outcome| match outcome.class() {
        Class::Confirmed => 0,
        Class::Spooled => 1,
        Class::NotPublished => 2,
        Class::Unknown => 3,
    };
    if let Some(settlement) = settlements.iter().max_by_key(|settlement| care(&settlement.outcome)) {
        name_outcome(response.headers_mut(), settlement);
    }
    response
}

fn name_outcome(headers: &mut HeaderMap, settlement: &Settlement) {
    let row = settlement.outcome.row();
    headers.insert(OUTCOME, HeaderValue::from_static(row.class.as_str()));
    headers.insert(CODE, HeaderValue::from_static(row.code));
    if let Some(seconds) = settlement.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// The status of an outcome.
pub(super) fn status(outcome: Outcome) -> StatusCode {
    StatusCode::from_u16(outcome.row().status).expect("the outcome table holds HTTP statuses only")
}

/// Everybody expects one attempt or none. Only a larger number is worth a header.
pub(super) fn is_ordinary(attempts: u32) -> bool {
    attempts <= 1
}

/// The head of a response with many answers, which are its body.
pub(super) fn many(media_type: &'static str, answers: Body) -> Response {
    let mut response = Response::new(answers);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
