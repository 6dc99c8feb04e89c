//! Reads an envelope.

use super::fields::{self, Invalid};
use super::{PublishOptions, json_text};
use crate::message::{
    ClientKey, DeliveryMode, HeaderTable, HeaderValue, MAX_HEADER_DEPTH, Message, Properties, ShortText,
    exchange_on_the_wire, new_message_id,
};
use base64::Engine;
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The document as it is written; texts are checked when it becomes a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow)]
    exchange: Cow<'a, str>,
    #[serde(default, borrow)]
    routing_key: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(default)]
    payload_encoding: PayloadEncoding,
    #[serde(default, borrow)]
    properties: Object<DocumentProperties<'a>>,
    timeout: Option<String>,
    mandatory: Option<bool>,
    mode: Option<String>,
    retry: Option<String>,
    idempotency_key: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum PayloadEncoding {
    /// The payload is a JSON string; its text is the content.
    #[default]
    String,
    /// The payload is a JSON string holding base64 (RFC 4648 §4, padded).
    Base64,
    /// The payload is any JSON value; its text, as written, is the content.
    Json,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DocumentProperties<'a> {
    message_id: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    delivery_mode: Option<u64>,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration: Option<Expiration>,
    timestamp: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
}

/// Milliseconds as a number, or as the text that AMQP itself uses.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected milliseconds from 0 to 4294967295")]
enum Expiration {
    Number(u32),
    Text(String),
}

/// A `T` written as a JSON object. By itself serde would also take an array, with the fields by
/// position.
#[derive(Default)]
struct Object<T>(T);

/// A message and how to publish it.
#[derive(Debug, PartialEq)]
pub struct Envelope {
    /// The message. The options say whether it is mandatory.
    pub message: Message,
    /// How it is published.
    pub options: PublishOptions,
    /// Its own idempotency key.
    pub key: Option<ClientKey>,
    /// The envelope has no message id of its own.
    pub id_is_assigned: bool,
}

/// Reads one envelope. The detail of a rejection names the field by its path, such as
/// `properties.priority`.
///
/// `headers_text_max` bounds the JSON text of the headers table, in bytes: building a table that no
/// frame can carry would only keep a thread busy.
///
/// # Errors
/// A text that is not an envelope.
pub fn decode(text: &[u8], headers_text_max: usize) -> Result<Envelope, Invalid> {
    match serde_json::from_slice::<Object<Document<'_>>>(text) {
        Ok(document) => document.0.into_envelope(headers_text_max),
        Err(error) => Err(named(text, &error)),
    }
}

/// Finds the fault of a text that is not an envelope. For this the text is read again, because
/// keeping track of the path doubles the time of reading.
fn named(text: &[u8], error: &serde_json::Error) -> Invalid {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read: Result<Object<Document<'_>>, _> = serde_path_to_error::deserialize(&mut deserializer);
    match read {
        Err(error) => {
            let path = error.path().to_string();
            // The fault is in the envelope itself, or the text ends before a field's name.
            let field = if path == "." || path == "?" { "envelope" } else { path.as_str() };
            Invalid::new(field, without_text(error.inner()))
        }
        // Something follows the envelope.
        Ok(_) => Invalid::new("envelope", error),
    }
}

/// The fault and the expected form, without the client's text: nobody else may read that text.
fn without_text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find('"'), text.rfind(", expected")) {
        (Some(quoted), Some(expected)) if quoted < expected => {
            format!("{}{}", text[..quoted].trim_end(), &text[expected..])
        }
        (None | Some(_), None | Some(_)) => text,
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

impl Document<'_> {
    fn into_envelope(self, headers_text_max: usize) -> Result<Envelope, Invalid> {
        let options = PublishOptions {
            timeout: self.timeout.as_deref().map(|text| fields::timeout("timeout", text)).transpose()?,
            mandatory: self.mandatory,
            mode: self.mode.as_deref().map(|text| fields::mode("mode", text)).transpose()?,
            retry: self.retry.as_deref().map(|text| fields::retry("retry", text)).transpose()?,
        };
        let key = self
            .idempotency_key
            .as_deref()
            .map(|text| fields::client_key("idempotency_key", text))
            .transpose()?;
        let id_is_assigned = self.properties.0.message_id.is_none();
        let mut properties = self.properties.0.into_properties(headers_text_max)?;
        if self.payload_encoding == PayloadEncoding::Json && properties.content_type.is_none() {
            properties.content_type = Some(fields::short("content_type", "application/json")?);
        }
        let message = Message {
            exchange: exchange_on_the_wire(fields::short("exchange", &self.exchange)?),
            routing_key: fields::short("routing_key", &self.routing_key)?,
            mandatory: true,
            properties,
            payload: payload(self.payload, self.payload_encoding)?,
        };
        Ok(Envelope { message, options, key, id_is_assigned })
    }
}

fn payload(value: &RawValue, encoding: PayloadEncoding) -> Result<Bytes, Invalid> {
    let text = || match json_text::text_of(value) {
        Some(text) => Ok(text),
        None => serde_json::from_str(value.get()).map(|text: String| Cow::Owned(text.into_bytes())).map_err(
            |error| {
                if value.get().starts_with('"') {
                    Invalid::new("payload", error)
                } else {
                    Invalid::new("payload", "expected a string with this payload_encoding")
                }
            },
        ),
    };
    match encoding {
        PayloadEncoding::Json => Ok(Bytes::copy_from_slice(value.get().as_bytes())),
        PayloadEncoding::String => match text()? {
            Cow::Borrowed(text) => Ok(Bytes::copy_from_slice(text)),
            Cow::Owned(text) => Ok(Bytes::from(text)),
        },
        PayloadEncoding::Base64 => base64::engine::general_purpose::STANDARD
            .decode(text()?)
            .map(Bytes::from)
            .map_err(|error| Invalid::new("payload", format_args!("is not base64: {error}"))),
    }
}

impl DocumentProperties<'_> {
    fn into_properties(self, headers_text_max: usize) -> Result<Properties, Invalid> {
        let text = |name: &str, text: Option<String>| -> Result<Option<ShortText>, Invalid> {
            let named = |too_long| Invalid::new(&format!("properties.{name}"), too_long);
            text.map(|text| ShortText::new(text).map_err(named)).transpose()
        };
        let delivery_mode = match self.delivery_mode {
            None => DeliveryMode::default(),
            Some(number) => DeliveryMode::from_u64(number)
                .ok_or_else(|| Invalid::new("properties.delivery_mode", "expected 1 or 2"))?,
        };
        let message_id = match &self.message_id {
            Some(id) => fields::message_id("properties.message_id", id)?,
            None => new_message_id(),
        };
        Ok(Properties {
            message_id,
            content_type: text("content_type", self.content_type)?,
            content_encoding: text("content_encoding", self.content_encoding)?,
            delivery_mode,
            priority: self.priority,
            correlation_id: text("correlation_id", self.correlation_id)?,
            reply_to: text("reply_to", self.reply_to)?,
            expiration_ms: self.expiration.map(Expiration::milliseconds).transpose()?,
            timestamp: self
                .timestamp
                .map(|seconds| fields::timestamp("properties.timestamp", Some(seconds)))
                .transpose()?,
            kind: text("type", self.kind)?,
            user_id: text("user_id", self.user_id)?,
            app_id: text("app_id", self.app_id)?,
            headers: self
                .headers
                .map(|text| headers(text, headers_text_max))
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

impl Expiration {
    fn milliseconds(self) -> Result<u32, Invalid> {
        let number = match self {
            Expiration::Number(number) => Some(number),
            Expiration::Text(text) => {
                text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
            }
        };
        let problem = "expected milliseconds from 0 to 4294967295";
        number.ok_or_else(|| Invalid::new("properties.expiration", problem))
    }
}

/// The place of a value in the headers table. Its path is written only if something is wrong there.
#[derive(Clone, Copy)]
enum Place<'a> {
    Headers,
    Member(&'a Place<'a>, &'a str),
    Element(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn invalid(&self, problem: impl fmt::Display) -> Invalid {
        Invalid::new(&self.to_string(), problem)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Headers => f.write_str("properties.headers"),
            Place::Member(table, name) => write!(f, "{table}.{name}"),
            Place::Element(array, index) => write!(f, "{array}[{index}]"),
        }
    }
}

fn headers(text: &RawValue, text_max: usize) -> Result<HeaderTable, Invalid> {
    if text.get().len() > text_max {
        let problem = format_args!("has more than {text_max} bytes of JSON");
        return Err(Place::Headers.invalid(problem));
    }
    table(&Place::Headers, text, 1)
}

/// The members of a JSON object, as they are written. A name that occurs twice is refused, because
/// nobody knows which of the two the client means.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<Name<'de>, &RawValue>()? {
                    members.push((member.0.0, member.1));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads one JSON value. Its errors give no position, which would count from this value and not
/// from the document.
fn value_of<'a, T: Deserialize<'a>>(place: &Place<'_>, text: &'a RawValue) -> Result<T, Invalid> {
    serde_json::from_str(text.get()).map_err(|error| {
        let problem = without_text(&error);
        place.invalid(problem.split(" at line ").next().unwrap_or_default())
    })
}

fn table(place: &Place<'_>, text: &RawValue, depth: usize) -> Result<HeaderTable, Invalid> {
    let mut table = HeaderTable::new();
    for (name, value) in value_of::<Members<'_>>(place, text)?.0 {
        let place = Place::Member(place, &name);
        let short = ShortText::new(&*name).map_err(|too_long| place.invalid(too_long))?;
        if table.insert(short, header_value(&place, value, depth)?).is_some() {
            return Err(place.invalid("given twice"));
        }
    }
    Ok(table)
}

fn header_value(place: &Place<'_>, value: &RawValue, depth: usize) -> Result<HeaderValue, Invalid> {
    if depth > MAX_HEADER_DEPTH {
        return Err(place.invalid(format_args!("nested deeper than {MAX_HEADER_DEPTH}")));
    }
    Ok(match value.get().as_bytes().first() {
        Some(b'n') => HeaderValue::Void,
        Some(b't') => HeaderValue::Bool(true),
        Some(b'f') => HeaderValue::Bool(false),
        Some(b'"') => HeaderValue::Text(value_of(place, value)?),
        Some(b'[') => HeaderValue::Array(
            value_of::<Vec<&RawValue>>(place, value)?
                .into_iter()
                .enumerate()
                .map(|(index, value)| header_value(&Place::Element(place, index), value, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Some(b'{') => HeaderValue::Table(table(place, value, depth + 1)?),
        Some(_) | None => number(place, value)?,
    })
}

/// An integer of more than 64 bits is refused: as a double it would be another number.
fn number(place: &Place<'_>, value: &RawValue) -> Result<HeaderValue, Invalid> {
    let text = value.get();
    if text.contains(['.', 'e', 'E']) {
        return value_of(place, value).map(HeaderValue::Double);
    }
    // JSON has a negative zero, which is a double in serde_json as well.
    if text == "-0" {
        return Ok(HeaderValue::Double(-0.0));
    }
    text.parse().map(HeaderValue::Int).map_err(|_| {
        let bound =
            if text.starts_with('-') { "below -9223372036854775808" } else { "above 9223372036854775807" };
        place.invalid(format_args!("is {bound}"))
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
