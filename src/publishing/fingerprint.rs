//! Hashes of idempotency keys and of the requests they were used for. The only place that names
//! sha2.

use crate::message::{
    Client, ClientKey, HeaderTable, HeaderValue, Message, Mode, Properties, ShortText, TRACE_CONTEXT,
};
use sha2::{Digest, Sha256};

/// The first half of a SHA-256: no two are equal by accident.
pub(super) type Fingerprint = [u8; 16];

/// Hashes a request part by part, each with its length, so that no two requests give the same
/// bytes.
struct RequestHasher(Sha256);

/// The hash of an idempotency key of this client.
pub(super) fn of_key(client: &Client, key: &ClientKey) -> Fingerprint {
    let mut hasher = RequestHasher(Sha256::new());
    hasher.bytes(key.as_str().as_bytes());
    // A client without a name adds nothing: spools hold hashes that were made before clients had
    // names.
    if let Some(name) = &client.name {
        hasher.bytes(name.as_str().as_bytes());
    }
    hasher.end()
}

/// The hash of a request: destination, properties, payload, mandatory and mode. An assigned message
/// id and the trace context do not count.
pub(super) fn of_request(message: &Message, mode: Mode, id_is_assigned: bool) -> Fingerprint {
    let mut hasher = RequestHasher(Sha256::new());
    hasher.bytes(message.exchange.as_str().as_bytes());
    hasher.bytes(message.routing_key.as_str().as_bytes());
    hasher.bytes(&[u8::from(message.mandatory), mode as u8, u8::from(id_is_assigned)]);
    if !id_is_assigned {
        hasher.bytes(message.properties.message_id.as_str().as_bytes());
    }
    hasher.properties(&message.properties);
    hasher.bytes(&message.payload);
    hasher.end()
}

impl RequestHasher {
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
            // A client's tracing library makes these anew for each attempt.
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
    use crate::message::testing::{message_to, short};
    use bytes::Bytes;

    fn message() -> Message {
        let mut message = message_to("e", "k");
        message.properties.message_id = short("m-1");
        message.payload = Bytes::from_static(b"one");
        message
    }

    fn with(change: impl Fn(&mut Message)) -> Fingerprint {
        let mut changed = message();
        change(&mut changed);
        of_request(&changed, Mode::Direct, false)
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
    fn the_same_key_of_two_clients_is_two_keys() {
        let key = ClientKey::parse("k").unwrap();
        let [first, second] = ["a", "b"].map(|name| Client { name: Some(short(name)) });
        let hashes = [Client::default(), first, second].map(|client| of_key(&client, &key));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[2] != hashes[0]);
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
