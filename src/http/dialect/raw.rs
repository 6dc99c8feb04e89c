//! The raw dialect: the body is the payload, and path, query and headers are the rest of the
//! message.

use super::{Decoding, Dialect, Head, answer};
use crate::envelope::{Envelope, PublishOptions, client_key, message_id, short, timestamp};
use crate::http::headers::{CONTROL_PREFIX, PROPERTY_PREFIX, add_trace_context, control_value, single};
use crate::http::rejection::Rejection;
use crate::http::terms::Terms;
use crate::message::{
    ClientKey, DeliveryMode, Destination, HeaderValue, Message, Properties, ShortText, TRACE_CONTEXT,
    exchange_on_the_wire, new_message_id,
};
use crate::text::percent;
use bytes::Bytes;
use hyper::header::HeaderMap;

/// Prefix of headers that become entries of the headers table.
const TABLE_PREFIX: &str = "amqp-header-";
/// What the headers of a request say.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::http) struct Said {
    properties: Properties,
    options: PublishOptions,
    key: Option<ClientKey>,
    /// Whether the request has no message id, so that one is assigned.
    id_is_assigned: bool,
}

/// `POST /v1/exchanges/{exchange}/messages?routing_key={key}`.
pub(in crate::http) const TO_EXCHANGE: Dialect = Dialect { decode: to_exchange, encode: answer::encode };

/// `POST /v1/queues/{queue}/messages`.
pub(in crate::http) const TO_QUEUE: Dialect = Dialect { decode: to_queue, encode: answer::encode };

fn to_exchange(terms: &Terms, head: &Head) -> Result<Decoding, Rejection> {
    message(terms, head, exchange_destination(head.name(), head.parts.uri.query())?)
}

fn to_queue(terms: &Terms, head: &Head) -> Result<Decoding, Rejection> {
    message(terms, head, queue_destination(head.name(), head.parts.uri.query())?)
}

fn message(terms: &Terms, head: &Head, destination: Destination) -> Result<Decoding, Rejection> {
    let Said { properties, options, key, id_is_assigned } = said(&head.parts.headers)?;
    let Destination { exchange, routing_key } = destination;
    let message = Message { exchange, routing_key, mandatory: true, properties, payload: Bytes::new() };
    let envelope = Envelope { message, options, key, id_is_assigned };
    let fields = ["amqpost-timeout", "amqpost-mode"];
    terms.order(&head.client, envelope, head.start, fields).map(Decoding::Payload)
}

/// `/v1/exchanges/{exchange}/messages?routing_key={key}`, where `exchange` is not decoded yet.
pub(in crate::http) fn exchange_destination(
    exchange: &str,
    query: Option<&str>,
) -> Result<Destination, Rejection> {
    let exchange = name("exchange", exchange)?;
    let routing_key = routing_key_in_query(query)?;
    Ok(Destination { exchange: exchange_on_the_wire(exchange), routing_key })
}

/// `/v1/queues/{queue}/messages`, where `queue` is not decoded yet.
fn queue_destination(queue: &str, query: Option<&str>) -> Result<Destination, Rejection> {
    if let Some(parameter) = query.unwrap_or_default().split('&').find(|pair| !pair.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        return Err(Rejection::invalid(name, "a queue takes no query parameters"));
    }
    Ok(Destination { exchange: ShortText::default(), routing_key: name("queue", queue)? })
}

fn name(field: &str, segment: &str) -> Result<ShortText, Rejection> {
    let name = percent::decode(segment).map_err(|broken| Rejection::invalid(field, broken))?;
    // The route accepts an empty name, which would mean the default exchange.
    if name.is_empty() {
        return Err(Rejection::invalid(field, "the name is missing"));
    }
    ShortText::new(name).map_err(|too_long| Rejection::invalid(field, too_long))
}

fn routing_key_in_query(query: Option<&str>) -> Result<ShortText, Rejection> {
    let mut routing_key = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent::decode_query(name).map_err(|broken| Rejection::invalid("query", broken))?;
        if name != "routing_key" {
            return Err(Rejection::invalid(&name, "unknown query parameter, expected routing_key"));
        }
        let value =
            percent::decode_query(value).map_err(|broken| Rejection::invalid("routing_key", broken))?;
        let value = ShortText::new(value).map_err(|too_long| Rejection::invalid("routing_key", too_long))?;
        if routing_key.replace(value).is_some() {
            return Err(Rejection::invalid("routing_key", "given twice"));
        }
    }
    Ok(routing_key.unwrap_or_default())
}

/// Properties, options and idempotency key of a raw request. A missing message id is assigned here.
pub(in crate::http) fn said(headers: &HeaderMap) -> Result<Said, Rejection> {
    let mut properties = Properties::default();
    let mut options = PublishOptions::default();
    let (mut key, mut is_traced) = (None, false);
    for name in headers.keys() {
        let text = name.as_str();
        if let Some(entry) = text.strip_prefix(TABLE_PREFIX) {
            let value = HeaderValue::Text(single(headers, name)?.to_owned());
            properties.headers.insert(table_name(text, entry)?, value);
        } else if let Some(control_name) = text.strip_prefix(CONTROL_PREFIX) {
            control_value(&mut options, control_name, text, single(headers, name)?)?;
        } else if let Some(property) = text.strip_prefix(PROPERTY_PREFIX) {
            property_value(&mut properties, property, text, single(headers, name)?)?;
        } else {
            match text {
                "content-type" => properties.content_type = Some(short(text, single(headers, name)?)?),
                "content-encoding" => {
                    properties.content_encoding = Some(short(text, single(headers, name)?)?)
                }
                "idempotency-key" => key = Some(client_key(text, single(headers, name)?)?),
                _ => is_traced |= TRACE_CONTEXT.contains(&text),
            }
        }
    }
    if is_traced {
        add_trace_context(&mut properties.headers, headers);
    }
    let id_is_assigned = properties.message_id.is_empty();
    if id_is_assigned {
        properties.message_id = new_message_id();
    }
    Ok(Said { properties, options, key, id_is_assigned })
}

fn property_value(
    properties: &mut Properties,
    property: &str,
    field: &str,
    text: &str,
) -> Result<(), Rejection> {
    match property {
        "message-id" => properties.message_id = message_id(field, text)?,
        "correlation-id" => properties.correlation_id = Some(short(field, text)?),
        "reply-to" => properties.reply_to = Some(short(field, text)?),
        "type" => properties.kind = Some(short(field, text)?),
        "app-id" => properties.app_id = Some(short(field, text)?),
        "user-id" => properties.user_id = Some(short(field, text)?),
        "expiration" => {
            properties.expiration_ms = Some(number(field, text, "milliseconds from 0 to 4294967295")?);
        }
        "priority" => properties.priority = Some(number(field, text, "a number from 0 to 255")?),
        "timestamp" => {
            properties.timestamp = Some(timestamp(field, number(field, text, "").ok())?);
        }
        "delivery-mode" => {
            let mode = number(field, text, "1 or 2").ok().and_then(DeliveryMode::from_u64);
            properties.delivery_mode = mode.ok_or_else(|| Rejection::invalid(field, "expected 1 or 2"))?;
        }
        _ => return Err(Rejection::invalid(field, "unknown property")),
    }
    Ok(())
}

fn table_name(field: &str, entry: &str) -> Result<ShortText, Rejection> {
    if entry.is_empty() {
        return Err(Rejection::invalid(field, "the name of the entry is missing"));
    }
    Ok(short(field, entry)?)
}

fn number<N: std::str::FromStr>(field: &str, text: &str, expected: &str) -> Result<N, Rejection> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = text.parse().ok().filter(|_| digits_only);
    parsed.ok_or_else(|| Rejection::invalid(field, format_args!("expected {expected}")))
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
