//! A request or an envelope read as an order.

use super::raw::Head;
use super::rejection::Rejection;
use super::{Door, raw};
use crate::envelope::{self, Envelope, PublishOptions};
use crate::listener::RequestStart;
use crate::message::{Client, ClientKey, Deadline, Destination, HeaderTable, Message, Order};
use bytes::Bytes;
use hyper::header::HeaderMap;
use std::sync::Arc;
use tokio::time::Instant;

/// What a request says of its envelopes; the members of each win.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) options: PublishOptions,
    pub(super) key: Option<ClientKey>,
    /// The trace context, for messages that carry none of their own.
    trace: HeaderTable,
}

impl Defaults {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut trace = HeaderTable::new();
        raw::add_trace_context(&mut trace, headers)?;
        Ok(Self { options: raw::envelope_options(headers)?, key: raw::idempotency_key(headers)?, trace })
    }

    /// The same, where the request has many messages, of which each has its own key or none.
    pub(super) fn for_many(self) -> Result<Self, Rejection> {
        let problem = "is of one message: here each envelope has its own, as the member idempotency_key";
        match self.key {
            None => Ok(self),
            Some(_) => Err(Rejection::invalid("idempotency-key", problem)),
        }
    }
}

impl Door {
    /// Reads an envelope whose deadline counts from `start`.
    pub(super) fn draft(&self, text: &[u8], defaults: &Defaults, start: Instant) -> Result<Order, Rejection> {
        let mut envelope = envelope::decode(text, self.headers_text_max)?;
        let headers = &mut envelope.message.properties.headers;
        for (name, value) in &defaults.trace {
            headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
        envelope.options = envelope.options.or(defaults.options);
        envelope.key = envelope.key.or_else(|| defaults.key.clone());
        self.drafted(envelope, start, ["timeout", "mode"])
    }

    /// Reads the head of a raw request; its payload is still to come.
    pub(super) fn raw_draft(
        &self,
        start: RequestStart,
        destination: Destination,
        headers: &HeaderMap,
    ) -> Result<Order, Rejection> {
        let Head { properties, options, key, id_is_assigned } = raw::head(headers)?;
        let Destination { exchange, routing_key } = destination;
        let message = Message { exchange, routing_key, mandatory: true, properties, payload: Bytes::new() };
        let envelope = Envelope { message, options, key, id_is_assigned };
        self.drafted(envelope, start.instant(), ["amqpost-timeout", "amqpost-mode"])
    }

    /// What is the same in both forms, but for the names that they have for the timeout and the mode.
    fn drafted(
        &self,
        envelope: Envelope,
        start: Instant,
        [timeout, mode]: [&str; 2],
    ) -> Result<Order, Rejection> {
        let Envelope { mut message, options, key, id_is_assigned } = envelope;
        let timeout = options.timeout_within(timeout, self.timeout, self.max_timeout)?;
        let mode = self.mode(mode, &message.exchange, options)?;
        message.mandatory = options.mandatory.unwrap_or(true);
        let retry = options.retry.unwrap_or_default();
        let (message, deadline) = (Arc::new(message), Deadline::after(start, timeout));
        let client = Client::Anonymous;
        Ok(Order { client, message, deadline, retry, mode, key, id_is_assigned })
    }
}
