//! The answers of amqpost's own dialects: JSON for a success, a problem document for everything
//! else, a line for each of many messages.

use crate::http::respond::{self, is_ordinary};
use crate::message::{Settlement, ShortText};
use crate::outcome::Retry;
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use std::io::{self, Write};

/// The prefix of every problem type. A type is an identifier, not an address; docs/problems.md
/// lists the types.
pub const PROBLEM_TYPE_BASE: &str = "https://amqpost.invalid/problems/";

/// The answer about one message, or about a request without one.
pub(super) fn encode(settlement: &Settlement) -> Response {
    let media_type = if is_success(settlement) { "application/json" } else { "application/problem+json" };
    let mut response = Response::new(Body::from(body(settlement)));
    *response.status_mut() = respond::status(settlement.outcome);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The answer as one line of many, without the line break. It has the values that a single answer
/// has in its headers. `last`: the answer also stands for all lines behind this one.
pub(in crate::http) fn write_line(settlement: &Settlement, index: u64, last: bool, into: &mut BytesMut) {
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

/// The id and the attempts, if there is something to say about them.
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

/// A problem document (RFC 9457) with amqpost's members, as docs/problems.md has them.
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

/// The body in one block of its size: nearly every answer is written on the stack first.
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

// Answers are written member by member: a serializer would search each byte of our own names and
// words for something to escape.

/// The name of a further member of an object.
fn write_name(into: &mut impl Write, name: &str) -> io::Result<()> {
    into.write_all(b",\"")?;
    into.write_all(name.as_bytes())?;
    into.write_all(b"\":")
}

/// A further member whose value needs no escapes, such as our own words and sentences.
fn write_word(into: &mut impl Write, name: &str, word: &str) -> io::Result<()> {
    write_name(into, name)?;
    into.write_all(b"\"")?;
    into.write_all(word.as_bytes())?;
    into.write_all(b"\"")
}

/// A further member whose value is a text from outside, which may need escapes.
fn write_text(into: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    // A loop over each byte without an early end is compiled to compare many bytes at once.
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
#[path = "answer_tests.rs"]
mod tests;
