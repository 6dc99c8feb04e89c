//! An outcome as an HTTP response: the only place where responses are made.

use crate::outcome::{Outcome, Retry};
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use serde::{Serialize, Serializer};

/// What every problem type starts with. An identifier, not an address; docs/problems.md lists them.
pub const PROBLEM_TYPE_BASE: &str = "https://amqpost.invalid/problems/";

const OUTCOME: HeaderName = HeaderName::from_static("amqpost-outcome");
const CODE: HeaderName = HeaderName::from_static("amqpost-code");
const ATTEMPTS: HeaderName = HeaderName::from_static("amqpost-attempts");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MESSAGE_ID: HeaderName = HeaderName::from_static("amqpost-message-id");

/// Everything a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) outcome: Outcome,
    /// More than the outcome's title: which field, which limit. No host names, no credentials.
    pub(super) detail: Option<&'a str>,
    /// The id of the message, once there is one.
    pub(super) message_id: Option<&'a str>,
    /// Attempts made at publishing it.
    pub(super) attempts: u32,
    /// The outcome is that of an earlier request with the same idempotency key.
    pub(super) replayed: bool,
}

#[derive(Serialize)]
struct Success<'a> {
    outcome: &'static str,
    code: &'static str,
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "is_ordinary")]
    attempts: u32,
}

/// One attempt, or none, is what everybody expects; more are worth a word.
fn is_ordinary(attempts: &u32) -> bool {
    *attempts <= 1
}

/// The identifier of a problem with this code.
struct ProblemType(&'static str);

impl Serialize for ProblemType {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{PROBLEM_TYPE_BASE}{}", self.0))
    }
}

/// RFC 9457, with the contract's members.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: ProblemType,
    title: &'static str,
    status: u16,
    detail: &'a str,
    outcome: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "is_ordinary")]
    attempts: u32,
}

impl Answer<'_> {
    /// The response for this answer.
    pub(super) fn into_response(self) -> Response {
        let row = self.outcome.row();
        let (media_type, body) = self.body();
        let mut response = Response::new(Body::from(body));
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
        if let Some(id) = self.message_id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()) {
            headers.insert(MESSAGE_ID, id);
        }
        if !is_ordinary(&self.attempts) {
            headers.insert(ATTEMPTS, HeaderValue::from(self.attempts));
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if self.outcome == Outcome::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }

    /// The answer as one line of many, without the line break: what is said in heads otherwise is in it. `last`: it stands for all the
    /// lines behind it as well.
    ///
    /// Written member by member: a serializer looks at each byte of the names and words, which are ours, for something to escape.
    pub(super) fn write_line(&self, index: u64, last: bool, into: &mut BytesMut) {
        let row = self.outcome.row();
        let retry = row.retry.as_str();
        into.extend_from_slice(b"{\"index\":");
        append_json(into, &index);
        for (name, word) in
            [("outcome", Some(row.class.as_str())), ("code", Some(row.code)), ("retry", retry)]
        {
            if let Some(word) = word {
                append_member(into, name);
                into.extend_from_slice(b"\"");
                into.extend_from_slice(word.as_bytes());
                into.extend_from_slice(b"\"");
            }
        }
        let detail = retry.map(|_| self.detail.unwrap_or(row.title));
        for (name, text) in [("detail", detail), ("message_id", self.message_id)] {
            if let Some(text) = text {
                append_member(into, name);
                append_json(into, text);
            }
        }
        if !is_ordinary(&self.attempts) {
            append_member(into, "attempts");
            append_json(into, &self.attempts);
        }
        for (name, is_so) in [("replayed", self.replayed), ("last", last)] {
            if is_so {
                append_member(into, name);
                into.extend_from_slice(b"true");
            }
        }
        into.extend_from_slice(b"}");
    }

    fn body(&self) -> (&'static str, Bytes) {
        let row = self.outcome.row();
        let (outcome, code) = (row.class.as_str(), row.code);
        let (message_id, attempts) = (self.message_id, self.attempts);
        if row.retry == Retry::None {
            return ("application/json", json(&Success { outcome, code, message_id, attempts }));
        }
        let problem = Problem {
            r#type: ProblemType(code),
            title: row.title,
            status: row.status,
            detail: self.detail.unwrap_or(row.title),
            outcome,
            code,
            retry: row.retry.as_str(),
            message_id,
            attempts,
        };
        ("application/problem+json", json(&problem))
    }
}

/// The head of a response with many answers, which are its body.
pub(super) fn many(media_type: &'static str, answers: Body) -> Response {
    let mut response = Response::new(answers);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The name of one more member of an object that has some; it is one of ours, with nothing to escape.
fn append_member(into: &mut BytesMut, name: &str) {
    into.extend_from_slice(b",\"");
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b"\":");
}

fn append_json<T: Serialize + ?Sized>(into: &mut BytesMut, value: &T) {
    serde_json::to_writer(into.writer(), value).expect("texts and numbers always serialise");
}

/// In one block of its own size: nearly every answer is written on the stack first.
fn json(value: &impl Serialize) -> Bytes {
    let mut text = [0; 512];
    let mut rest = &mut text[..];
    if serde_json::to_writer(&mut rest, value).is_ok() {
        let length = 512 - rest.len();
        return Bytes::copy_from_slice(&text[..length]);
    }
    Bytes::from(serde_json::to_vec(value).expect("plain structs of texts and numbers always serialise"))
}

#[cfg(test)]
#[path = "respond_tests.rs"]
mod tests;
