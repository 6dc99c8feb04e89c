//! `POST /v1/messages`: envelopes, one in a document, many in an array or a line each.

use super::{Decoding, Dialect, Entries, Expected, Head, Orders, answer};
use crate::envelope;
use crate::http::rejection::Rejection;
use crate::http::terms::{Defaults, Terms};
use crate::message::Order;
use crate::outcome::Outcome;
use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::time::Instant;

/// The media type of a stream of lines, both ways.
const LINES: &str = "application/x-ndjson";

const DOCUMENT: &str = "application/json";

/// White space of JSON.
const BLANK: [u8; 4] = [b' ', b'\t', b'\r', b'\n'];

pub(in crate::http) const ENVELOPE: Dialect = Dialect { decode, encode: answer::encode };

fn decode(_: &Terms, head: &Head) -> Result<Decoding, Rejection> {
    let codings = head.parts.headers.get_all(CONTENT_ENCODING);
    if codings.iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let problem = "content-encoding: an envelope is not decompressed here; send it as it is";
        return Err(Rejection::new(Outcome::UnsupportedMediaType, problem));
    }
    let given = head.parts.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = given.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(DOCUMENT) {
        Ok(Decoding::Document(document))
    } else if essence.eq_ignore_ascii_case(LINES) {
        Ok(Decoding::Lines(entries(LINES)))
    } else {
        let problem = "content-type: expected application/json or application/x-ndjson";
        Err(Rejection::new(Outcome::UnsupportedMediaType, problem))
    }
}

pub(in crate::http) const fn entries(media_type: &'static str) -> Entries {
    Entries { decode: one, encode: answer::write_line, media_type }
}

fn document(terms: &Terms, expected: &Expected, document: &Bytes) -> Result<Orders, Rejection> {
    if is_array(document) {
        return Ok(Orders::Elements(entries(DOCUMENT)));
    }
    one(terms, &expected.defaults, document, expected.head.start).map(Orders::One)
}

fn is_array(document: &[u8]) -> bool {
    document.iter().find(|byte| !BLANK.contains(byte)) == Some(&b'[')
}

fn one(terms: &Terms, defaults: &Defaults, text: &[u8], start: Instant) -> Result<Order, Rejection> {
    let mut envelope = envelope::decode(text, terms.headers_text_max)?;
    defaults.complete(&mut envelope);
    terms.order(&defaults.client, envelope, start, ["timeout", "mode"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_begins_with_a_bracket() {
        for (document, expected) in
            [("[", true), (" \r\n\t[]", true), ("{}", false), ("", false), ("x[", false)]
        {
            assert_eq!(is_array(document.as_bytes()), expected, "{document}");
        }
    }
}
