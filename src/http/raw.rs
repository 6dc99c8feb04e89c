//! The raw form: path, query and headers in, everything but the payload of a message out.

use super::percent;
use super::rejection::Rejection;
use crate::envelope::{self, PublishOptions, client_key, message_id, short};
use crate::message::{
    ClientKey, DeliveryMode, Destination, HeaderTable, HeaderValue, Properties, ShortText, TRACE_CONTEXT,
    exchange_on_the_wire, new_message_id,
};
use hyper::header::{HeaderMap, HeaderName};
use std::collections::btree_map::Entry;

/// Prefix of headers that become entries of the headers table.
const TABLE_PREFIX: &str = "amqp-header-";
/// Prefix of headers that become properties.
const PROPERTY_PREFIX: &str = "amqp-";
/// Prefix of headers that say how to publish.
const CONTROL_PREFIX: &str = "amqpost-";

/// What the headers of a request say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) properties: Properties,
    pub(super) options: PublishOptions,
    pub(super) key: Option<ClientKey>,
    /// Whether the request brings no message id, and one is assigned.
    pub(super) id_is_assigned: bool,
}

/// `/v1/exchanges/{exchange}/messages?routing_key={key}`, where `exchange` is not decoded yet.
pub(super) fn exchange_destination(exchange: &str, query: Option<&str>) -> Result<Destination, Rejection> {
    let exchange = name("exchange", exchange)?;
    let routing_key = routing_key_in_query(query)?;
    Ok(Destination { exchange: exchange_on_the_wire(exchange), routing_key })
}

/// `/v1/queues/{queue}/messages`, where `queue` is not decoded yet.
pub(super) fn queue_destination(queue: &str, query: Option<&str>) -> Result<Destination, Rejection> {
    if let Some(parameter) = query.unwrap_or_default().split('&').find(|pair| !pair.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        return Err(Rejection::invalid(name, "a queue takes no query parameters"));
    }
    Ok(Destination { exchange: ShortText::default(), routing_key: name("queue", queue)? })
}

fn name(field: &str, segment: &str) -> Result<ShortText, Rejection> {
    let name = percent::decode(segment).map_err(|broken| Rejection::invalid(field, broken))?;
    // The route lets it through; it would be a message to the default exchange that nobody asked for.
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

/// Properties, control values and idempotency key of a raw request. The message id is assigned here when there is none.
pub(super) fn head(headers: &HeaderMap) -> Result<Head, Rejection> {
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
        add_trace_context(&mut properties.headers, headers)?;
    }
    let id_is_assigned = properties.message_id.is_empty();
    if id_is_assigned {
        properties.message_id = new_message_id();
    }
    Ok(Head { properties, options, key, id_is_assigned })
}

/// Control values of a request whose message comes in an envelope: `Amqp-` headers would be ignored silently.
pub(super) fn envelope_options(headers: &HeaderMap) -> Result<PublishOptions, Rejection> {
    let mut options = PublishOptions::default();
    for name in headers.keys() {
        let text = name.as_str();
        if let Some(control_name) = text.strip_prefix(CONTROL_PREFIX) {
            control_value(&mut options, control_name, text, single(headers, name)?)?;
        } else if text.starts_with(PROPERTY_PREFIX) {
            return Err(Rejection::invalid(text, "an envelope carries its properties itself"));
        }
    }
    Ok(options)
}

/// The trace context of a request, where the message does not carry one of its own.
pub(super) fn add_trace_context(table: &mut HeaderTable, headers: &HeaderMap) -> Result<(), Rejection> {
    for name in TRACE_CONTEXT.into_iter().map(HeaderName::from_static) {
        if headers.contains_key(&name) {
            let entry = ShortText::new(name.as_str()).expect("the names are short");
            if let Entry::Vacant(vacant) = table.entry(entry) {
                vacant.insert(HeaderValue::Text(joined(headers, &name)?));
            }
        }
    }
    Ok(())
}

/// The request's idempotency key, if it has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<ClientKey>, Rejection> {
    let name = HeaderName::from_static("idempotency-key");
    if !headers.contains_key(&name) {
        return Ok(None);
    }
    Ok(Some(client_key(name.as_str(), single(headers, &name)?)?))
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
        "timestamp" => properties.timestamp = Some(number(field, text, "Unix seconds")?),
        "delivery-mode" => {
            let mode = number(field, text, "1 or 2").ok().and_then(DeliveryMode::from_u64);
            properties.delivery_mode = mode.ok_or_else(|| Rejection::invalid(field, "expected 1 or 2"))?;
        }
        _ => return Err(Rejection::invalid(field, "unknown property")),
    }
    Ok(())
}

fn control_value(options: &mut PublishOptions, name: &str, field: &str, text: &str) -> Result<(), Rejection> {
    match name {
        "timeout" => options.timeout = Some(envelope::timeout(field, text)?),
        "mandatory" => options.mandatory = Some(envelope::mandatory(field, text)?),
        "mode" => options.mode = Some(envelope::mode(field, text)?),
        "retry" => options.retry = Some(envelope::retry(field, text)?),
        _ => return Err(Rejection::invalid(field, "unknown control header")),
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

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Rejection> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(hyper::header::HeaderValue::as_bytes).unwrap_or_default();
    if values.next().is_some() {
        return Err(Rejection::invalid(name.as_str(), "given twice"));
    }
    std::str::from_utf8(value).map_err(|_| Rejection::invalid(name.as_str(), "is not UTF-8"))
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Result<String, Rejection> {
    let values: Result<Vec<_>, _> =
        headers.get_all(name).iter().map(|value| std::str::from_utf8(value.as_bytes())).collect();
    Ok(values.map_err(|_| Rejection::invalid(name.as_str(), "is not UTF-8"))?.join(","))
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
