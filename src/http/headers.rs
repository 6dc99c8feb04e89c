//! Reads the headers that are the same in every dialect: options of publishing, the idempotency
//! key, the trace context.

use super::rejection::Rejection;
use crate::envelope::{self, PublishOptions, client_key};
use crate::message::{ClientKey, HeaderTable, HeaderValue, ShortText, TRACE_CONTEXT};
use hyper::header::{HeaderMap, HeaderName};
use std::collections::btree_map::Entry;

/// Prefix of headers that become properties.
pub(super) const PROPERTY_PREFIX: &str = "amqp-";
/// Prefix of headers that say how to publish.
pub(super) const CONTROL_PREFIX: &str = "amqpost-";

/// How the messages in the body of a request are published. An `Amqp-` header is refused, because
/// it would have no effect.
pub(super) fn options(headers: &HeaderMap) -> Result<PublishOptions, Rejection> {
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

/// The trace context of a request, where the message does not carry one of its own. It never fails
/// a publish: a value that no headers table can carry well is left out.
pub(super) fn add_trace_context(table: &mut HeaderTable, headers: &HeaderMap) {
    for name in TRACE_CONTEXT.into_iter().map(HeaderName::from_static) {
        if headers.contains_key(&name) {
            let entry = ShortText::new(name.as_str()).expect("the names are short");
            if let Entry::Vacant(vacant) = table.entry(entry) {
                match joined(headers, &name) {
                    Some(value) => drop(vacant.insert(HeaderValue::Text(value))),
                    None => tracing::debug!(%name, "left out: not UTF-8, or too long"),
                }
            }
        }
    }
}

/// The request's idempotency key, if it has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<ClientKey>, Rejection> {
    let name = HeaderName::from_static("idempotency-key");
    if !headers.contains_key(&name) {
        return Ok(None);
    }
    Ok(Some(client_key(name.as_str(), single(headers, &name)?)?))
}

/// Reads one control header; `name` is the part of its name behind the prefix.
pub(super) fn control_value(
    options: &mut PublishOptions,
    name: &str,
    field: &str,
    text: &str,
) -> Result<(), Rejection> {
    match name {
        "timeout" => options.timeout = Some(envelope::timeout(field, text)?),
        "mandatory" => options.mandatory = Some(envelope::mandatory(field, text)?),
        "mode" => options.mode = Some(envelope::mode(field, text)?),
        "retry" => options.retry = Some(envelope::retry(field, text)?),
        _ => return Err(Rejection::invalid(field, "unknown control header")),
    }
    Ok(())
}

/// The value of a header that may be given once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Rejection> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(hyper::header::HeaderValue::as_bytes).unwrap_or_default();
    if values.next().is_some() {
        return Err(Rejection::invalid(name.as_str(), "given twice"));
    }
    std::str::from_utf8(value).map_err(|_| Rejection::invalid(name.as_str(), "is not UTF-8"))
}

/// The values of a header as one text; `None` if they are not UTF-8, or longer than 8 KiB. This is
/// the size of `baggage` that everybody must carry (W3C Baggage, 3.3.2).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    const BYTES_MAX: usize = 8192;
    let values = headers.get_all(name).iter().map(|value| std::str::from_utf8(value.as_bytes()).ok());
    let value = values.collect::<Option<Vec<_>>>()?.join(",");
    (value.len() <= BYTES_MAX).then_some(value)
}
