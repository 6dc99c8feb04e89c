//! Hashes of idempotency keys and of the requests they were used for. The only place that names sha2.

use crate::config::Mode;
use crate::message::{HeaderTable, HeaderValue, Message, Properties, ShortText};
use sha2::{Digest, Sha256};

/// The first half of a SHA-256: nobody finds two alike by accident.
pub(super) type Fingerprint = [u8; 16];

/// Entries that a client's tracing library makes anew for each attempt: they do not make it another request.
const TRACE_CONTEXT: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// An idempotency key as the client gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(String);

/// What a request is, part by part, each with its length so that no two requests read alike.
struct Reading(Sha256);

impl ClientKey {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Takes the key: 1 to 255 printable ASCII characters, bare or as the draft has it, in double quotes. `None`
    /// when it is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = if text.starts_with('"') { unquoted(text)? } else { text.to_owned() };
        let printable = key.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        (printable && (1..=Self::MAX_BYTES).contains(&key.len())).then_some(Self(key))
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut reading = Reading(Sha256::new());
        reading.bytes(self.0.as_bytes());
        reading.end()
    }
}

impl std::fmt::Debug for ClientKey {
    /// Whoever knows a key can ask what became of its request: it reaches no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey")
    }
}

/// The text of a quoted string (RFC 9651 §3.3.3), nothing behind it.
fn unquoted(text: &str) -> Option<String> {
    let mut characters = text.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut key = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => key.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            '"' => return None,
            other => key.push(other),
        }
    }
    Some(key)
}

/// The hash of a request: destination, properties, payload, mandatory and mode. A message id that we assigned and
/// the trace context do not count.
pub(super) fn of_request(message: &Message, mode: Mode, id_is_assigned: bool) -> Fingerprint {
    let mut reading = Reading(Sha256::new());
    reading.bytes(message.exchange.as_str().as_bytes());
    reading.bytes(message.routing_key.as_str().as_bytes());
    reading.bytes(&[u8::from(message.mandatory), mode as u8, u8::from(id_is_assigned)]);
    if !id_is_assigned {
        reading.bytes(message.properties.message_id.as_str().as_bytes());
    }
    reading.properties(&message.properties);
    reading.bytes(&message.payload);
    reading.end()
}

impl Reading {
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn text(&mut self, text: Option<&ShortText>) {
        self.number(u64::from(text.is_some()));
        self.bytes(text.map_or("", ShortText::as_str).as_bytes());
    }

    fn properties(&mut self, properties: &Properties) {
        let Properties {
            message_id: _,
            content_type,
            content_encoding,
            delivery_mode,
            priority,
            correlation_id,
            reply_to,
            expiration_ms,
            timestamp,
            kind,
            user_id,
            app_id,
            headers,
        } = properties;
        for text in [content_type, content_encoding, correlation_id, reply_to, kind, user_id, app_id] {
            self.text(text.as_ref());
        }
        let numbers = [priority.map(u64::from), expiration_ms.map(u64::from), *timestamp];
        for number in numbers {
            self.number(u64::from(number.is_some()));
            self.number(number.unwrap_or_default());
        }
        self.number(u64::from(delivery_mode.as_u8()));
        for (name, value) in headers {
            if !TRACE_CONTEXT.contains(&name.as_str()) {
                self.bytes(name.as_str().as_bytes());
                self.value(value);
            }
        }
    }

    fn table(&mut self, table: &HeaderTable) {
        self.number(table.len() as u64);
        for (name, value) in table {
            self.bytes(name.as_str().as_bytes());
            self.value(value);
        }
    }

    fn value(&mut self, value: &HeaderValue) {
        match value {
            HeaderValue::Void => self.bytes(b"V"),
            HeaderValue::Bool(flag) => self.bytes(&[b't', u8::from(*flag)]),
            HeaderValue::Int(number) => {
                self.bytes(b"l");
                self.number(number.cast_unsigned());
            }
            HeaderValue::Double(number) => {
                self.bytes(b"d");
                self.number(number.to_bits());
            }
            HeaderValue::Text(text) => {
                self.bytes(b"S");
                self.bytes(text.as_bytes());
            }
            HeaderValue::Array(values) => {
                self.bytes(b"A");
                self.number(values.len() as u64);
                values.iter().for_each(|value| self.value(value));
            }
            HeaderValue::Table(table) => {
                self.bytes(b"F");
                self.table(table);
            }
        }
    }

    fn end(self) -> Fingerprint {
        let whole: [u8; 32] = self.0.finalize().into();
        std::array::from_fn(|position| whole[position])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn short(text: &str) -> ShortText {
        ShortText::new(text).unwrap()
    }

    fn message() -> Message {
        Message {
            exchange: short("e"),
            routing_key: short("k"),
            mandatory: true,
            properties: Properties { message_id: short("m-1"), ..Properties::default() },
            payload: Bytes::from_static(b"one"),
        }
    }

    fn with(change: impl Fn(&mut Message)) -> Fingerprint {
        let mut changed = message();
        change(&mut changed);
        of_request(&changed, Mode::Direct, false)
    }

    #[test]
    fn keys_are_taken_bare_and_quoted_alike() {
        assert!(ClientKey::parse("abc").is_some() && ClientKey::parse("abc") == ClientKey::parse("\"abc\""));
        assert_eq!(ClientKey::parse("\"a\\\"b\""), ClientKey::parse("a\"b"));
        let long = "x".repeat(256);
        for refused in ["", "\"\"", "\"a", "\"", "\"a\"b\"", "\"a\\b\"", "\"a\";p=1", "é", "a\tb", &long] {
            assert!(ClientKey::parse(refused).is_none(), "{refused}");
        }
    }

    #[test]
    fn whatever_is_published_differently_is_another_request() {
        let mut seen = vec![with(|_| ())];
        let different = [
            with(|message| message.exchange = short("ek")),
            with(|message| message.routing_key = short("")),
            with(|message| message.mandatory = false),
            with(|message| message.payload = Bytes::from_static(b"two")),
            with(|message| message.properties.message_id = short("m-2")),
            with(|message| message.properties.priority = Some(0)),
            with(|message| message.properties.kind = Some(short(""))),
            with(|message| message.properties.app_id = Some(short(""))),
            with(|message| drop(message.properties.headers.insert(short("a"), HeaderValue::Void))),
            with(|message| drop(message.properties.headers.insert(short("a"), HeaderValue::Int(0)))),
            of_request(&message(), Mode::Spool, false),
        ];
        for fingerprint in different {
            assert!(!seen.contains(&fingerprint), "number {}", seen.len());
            seen.push(fingerprint);
        }
    }

    #[test]
    fn an_assigned_id_and_a_new_trace_do_not_make_another_request() {
        let first = of_request(&message(), Mode::Direct, true);
        let mut again = message();
        again.properties.message_id = short("m-2");
        again.properties.headers.insert(short("traceparent"), HeaderValue::Text("00-1".to_owned()));
        assert_eq!(of_request(&again, Mode::Direct, true), first);
    }
}
