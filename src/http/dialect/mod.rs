//! A dialect: the form of a request's messages and of its answer. Each dialect is a pair of
//! functions in a file of its own.
//!
//! The pipeline does everything else, for every dialect alike: it admits a request, reads its body,
//! publishes its orders, counts, logs, and puts the `Amqpost-` headers on the answer. A line in the
//! table of `routes` makes a dialect a door.

pub(super) mod answer;
pub(super) mod envelope;
pub(super) mod raw;
#[cfg(test)]
#[path = "telegram_tests.rs"]
mod telegram;

pub use answer::PROBLEM_TYPE_BASE;

use super::rejection::Rejection;
use super::terms::{Defaults, Terms};
use crate::message::{Client, Order, Settlement};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use hyper::http::request::Parts;
use std::ops::Range;
use tokio::time::Instant;

/// A pair of functions.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    /// Reads the head of a request: how its messages are decoded.
    pub(super) decode: fn(&Terms, &Head) -> Result<Decoding, Rejection>,
    /// Writes the answer about one message, or about a request without one.
    pub(super) encode: fn(&Settlement) -> Response,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: Parts,
    /// Where the name stands in the path.
    pub(super) name: Range<usize>,
    pub(super) client: Client,
    /// The first byte of the request: its deadline counts from there.
    pub(super) start: Instant,
}

impl Head {
    /// The part of the path in place of the template's `{name}`, not decoded. For several names it
    /// is all of them, with the `/` between them.
    pub(super) fn name(&self) -> &str {
        &self.parts.uri.path()[self.name.clone()]
    }
}

/// How the messages of a request are decoded.
pub(super) enum Decoding {
    /// The head describes one message, and the body is its payload.
    Payload(Order),
    /// The body is a document, which is read whole.
    Document(DecodeDocument),
    /// Each line of the body is a message, published as it comes.
    Lines(Entries),
}

/// Reads a document.
pub(super) type DecodeDocument = fn(&Terms, &Expected, &Bytes) -> Result<Orders, Rejection>;

/// The values that the head of a request sets for the messages in its body.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) head: Head,
    pub(super) defaults: Defaults,
}

/// What a document holds.
pub(super) enum Orders {
    /// One message.
    One(Order),
    /// A JSON array: each element is a message, decoded when there is room for it.
    Elements(Entries),
    /// Several messages, every one of them valid. They are published side by side and answered
    /// together.
    #[cfg_attr(not(test), expect(dead_code, reason = "no dialect in the table has batches"))]
    All(Vec<Order>, fn(&[Settlement]) -> Response),
}

/// How each of many messages in a request is read, and how it is answered: a pair of functions,
/// like a dialect.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    /// Reads a message. Its deadline counts from the given moment.
    pub(super) decode: fn(&Terms, &Defaults, &[u8], Instant) -> Result<Order, Rejection>,
    /// Writes the answer to the message with this index; `true`: the answer also stands for all
    /// messages behind it.
    pub(super) encode: fn(&Settlement, u64, bool, &mut BytesMut),
    /// That of all the answers together.
    pub(super) media_type: &'static str,
}
