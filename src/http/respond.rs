//! An outcome as an HTTP response: the only place where responses are made.

use crate::message::{Settlement, ShortText};
use crate::outcome::{Outcome, Retry};
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use std::io::{self, Write};

/// What every problem type starts with. An identifier, not an address; docs/problems.md lists them.
pub const PROBLEM_TYPE_BASE: &str = "https://amqpost.invalid/problems/";

const OUTCOME: HeaderName = HeaderName::from_static("amqpost-outcome");
const CODE: HeaderName = HeaderName::from_static("amqpost-code");
const ATTEMPTS: HeaderName = HeaderName::from_static("amqpost-attempts");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MESSAGE_ID: HeaderName = HeaderName::from_static("amqpost-message-id");

/// One attempt, or none, is what everybody expects; more are worth a word.
fn is_ordinary(attempts: u32) -> bool {
    attempts <= 1
}

/// The response for this settlement.
pub(super) fn response(settlement: &Settlement) -> Response {
    let row = settlement.outcome.row();
    let media_type = if is_success(settlement) { "application/json" } else { "application/problem+json" };
    let mut response = Response::new(Body::from(body(settlement)));
    *response.status_mut() =
        StatusCode::from_u16(row.status).expect("the outcome table holds HTTP statuses only");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(OUTCOME, HeaderValue::from_static(row.class.as_str()));
    headers.insert(CODE, HeaderValue::from_static(row.code));
    if let Some(seconds) = row.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    // Ids with control characters are refused when they come in, so this holds for every id.
    if let Some(id) =
        settlement.message_id.as_ref().and_then(|id| HeaderValue::from_bytes(id.as_str().as_bytes()).ok())
    {
        headers.insert(MESSAGE_ID, id);
    }
    if !is_ordinary(settlement.attempts) {
        headers.insert(ATTEMPTS, HeaderValue::from(settlement.attempts));
    }
    if settlement.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if settlement.outcome == Outcome::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The answer as one line of many, without the line break: what is said in heads otherwise is in it. `last`: it stands for all the
/// lines behind it as well.
pub(super) fn write_line(settlement: &Settlement, index: u64, last: bool, into: &mut BytesMut) {
    let mut line = into.writer();
    write_as_line(settlement, index, last, &mut line).expect("it grows");
}

fn write_as_line(settlement: &Settlement, index: u64, last: bool, into: &mut impl Write) -> io::Result<()> {
    let row = settlement.outcome.row();
    let retry = row.retry.as_str();
    into.write_all(b"{\"index\":")?;
    write_json(into, &index)?;
    write_word(into, "outcome", row.class.as_str())?;
    write_word(into, "code", row.code)?;
    if let Some(retry) = retry {
        write_word(into, "retry", retry)?;
        write_text(into, "detail", settlement.detail.as_deref().unwrap_or(row.title))?;
    }
    write_particulars(settlement, into)?;
    for (name, is_so) in [("replayed", settlement.replayed), ("last", last)] {
        if is_so {
            write_name(into, name)?;
            into.write_all(b"true")?;
        }
    }
    into.write_all(b"}")
}

/// The id and the attempts, where there is something to say of them.
fn write_particulars(settlement: &Settlement, into: &mut impl Write) -> io::Result<()> {
    if let Some(id) = settlement.message_id.as_ref().map(ShortText::as_str) {
        write_text(into, "message_id", id)?;
    }
    if !is_ordinary(settlement.attempts) {
        write_name(into, "attempts")?;
        write_json(into, &settlement.attempts)?;
    }
    Ok(())
}

fn write_success(settlement: &Settlement, into: &mut impl Write) -> io::Result<()> {
    let row = settlement.outcome.row();
    into.write_all(b"{\"outcome\":\"")?;
    into.write_all(row.class.as_str().as_bytes())?;
    into.write_all(b"\"")?;
    write_word(into, "code", row.code)?;
    write_particulars(settlement, into)?;
    into.write_all(b"}")
}

/// RFC 9457, with the contract's members.
fn write_problem(settlement: &Settlement, into: &mut impl Write) -> io::Result<()> {
    let row = settlement.outcome.row();
    into.write_all(b"{\"type\":\"")?;
    into.write_all(PROBLEM_TYPE_BASE.as_bytes())?;
    into.write_all(row.code.as_bytes())?;
    into.write_all(b"\"")?;
    write_word(into, "title", row.title)?;
    write_name(into, "status")?;
    write_json(into, &row.status)?;
    write_text(into, "detail", settlement.detail.as_deref().unwrap_or(row.title))?;
    write_word(into, "outcome", row.class.as_str())?;
    write_word(into, "code", row.code)?;
    if let Some(retry) = row.retry.as_str() {
        write_word(into, "retry", retry)?;
    }
    write_particulars(settlement, into)?;
    into.write_all(b"}")
}

fn is_success(settlement: &Settlement) -> bool {
    settlement.outcome.row().retry == Retry::None
}

fn write_body(settlement: &Settlement, into: &mut impl Write) -> io::Result<()> {
    if is_success(settlement) { write_success(settlement, into) } else { write_problem(settlement, into) }
}

/// In one block of its own size: nearly every answer is written on the stack first.
fn body(settlement: &Settlement) -> Bytes {
    let mut text = [0; 512];
    let mut rest = &mut text[..];
    if write_body(settlement, &mut rest).is_ok() {
        let length = 512 - rest.len();
        return Bytes::copy_from_slice(&text[..length]);
    }
    let mut text = Vec::new();
    write_body(settlement, &mut text).expect("it grows");
    Bytes::from(text)
}

/// The head of a response with many answers, which are its body.
pub(super) fn many(media_type: &'static str, answers: Body) -> Response {
    let mut response = Response::new(answers);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

// Answers are written member by member: a serializer looks at each byte of the names and words, which are ours, for
// something to escape.

/// The name of one more member of an object that has some.
fn write_name(into: &mut impl Write, name: &str) -> io::Result<()> {
    into.write_all(b",\"")?;
    into.write_all(name.as_bytes())?;
    into.write_all(b"\":")
}

/// One more member whose value has nothing to escape, as the words and sentences that are ours.
fn write_word(into: &mut impl Write, name: &str, word: &str) -> io::Result<()> {
    write_name(into, name)?;
    into.write_all(b"\"")?;
    into.write_all(word.as_bytes())?;
    into.write_all(b"\"")
}

/// One more member whose value is anybody's text.
fn write_text(into: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    // Each byte, without a way out: that is done for many of them at once.
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    if text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
        write_name(into, name)?;
        return write_json(into, text);
    }
    write_word(into, name, text)
}

fn write_json<T: Serialize + ?Sized>(into: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(into, value).map_err(io::Error::from)
}

#[cfg(test)]
#[path = "respond_tests.rs"]
mod tests;
