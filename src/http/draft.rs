//! A request or an envelope read for publishing: everything of an order but its permit.

use super::clock::RequestStart;
use super::control::Control;
use super::envelope::{self, Envelope};
use super::raw::{Destination, Head};
use super::rejection::Rejection;
use super::{Door, raw};
use crate::admission::Permit;
use crate::config::Mode;
use crate::deadline::Deadline;
use crate::link::RetryPolicy;
use crate::message::{HeaderTable, Message, ShortText};
use crate::publishing::{ClientKey, Order};
use bytes::Bytes;
use hyper::header::HeaderMap;
use std::sync::Arc;
use tokio::time::Instant;

/// What a request says of its envelopes; the members of each win.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) control: Control,
    pub(super) key: Option<ClientKey>,
    /// The trace context, for messages that carry none of their own.
    trace: HeaderTable,
}

/// A message and everything that was said about publishing it.
///
/// The message is behind a pointer before there is a future: each future in the next one would have a place for all of it.
#[derive(Debug)]
pub(super) struct Draft {
    message: Arc<Message>,
    pub(super) deadline: Deadline,
    retry: RetryPolicy,
    pub(super) mode: Mode,
    pub(super) key: Option<ClientKey>,
    id_is_assigned: bool,
}

impl Defaults {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut trace = HeaderTable::new();
        raw::add_trace_context(&mut trace, headers)?;
        Ok(Self { control: raw::envelope_control(headers)?, key: raw::idempotency_key(headers)?, trace })
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

impl Draft {
    pub(super) fn message_id(&self) -> &ShortText {
        &self.message.properties.message_id
    }

    /// What came after the head of a raw request.
    pub(super) fn set_payload(&mut self, payload: Bytes) {
        Arc::make_mut(&mut self.message).payload = payload;
    }

    pub(super) fn into_order(self, permit: Permit) -> Order {
        let Self { message, deadline, retry, mode, key, id_is_assigned } = self;
        Order { message, permit, deadline, retry, mode, key, id_is_assigned }
    }
}

impl Door {
    /// Reads an envelope whose deadline counts from `start`.
    pub(super) fn draft(&self, text: &[u8], defaults: &Defaults, start: Instant) -> Result<Draft, Rejection> {
        let mut envelope = envelope::decode(text, self.headers_text_max)?;
        let headers = &mut envelope.message.properties.headers;
        for (name, value) in &defaults.trace {
            headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
        envelope.control = envelope.control.or(defaults.control);
        envelope.key = envelope.key.or_else(|| defaults.key.clone());
        self.drafted(envelope, start, ["timeout", "mode"])
    }

    /// Reads the head of a raw request; its payload is still to come.
    pub(super) fn raw_draft(
        &self,
        start: RequestStart,
        destination: Destination,
        headers: &HeaderMap,
    ) -> Result<Draft, Rejection> {
        let Head { properties, control, key, id_is_assigned } = raw::head(headers)?;
        let Destination { exchange, routing_key } = destination;
        let message = Message { exchange, routing_key, mandatory: true, properties, payload: Bytes::new() };
        let envelope = Envelope { message, control, key, id_is_assigned };
        self.drafted(envelope, start.instant(), ["amqpost-timeout", "amqpost-mode"])
    }

    /// What is the same in both forms, but for the names that they have for the timeout and the mode.
    fn drafted(
        &self,
        envelope: Envelope,
        start: Instant,
        [timeout, mode]: [&str; 2],
    ) -> Result<Draft, Rejection> {
        let Envelope { mut message, control, key, id_is_assigned } = envelope;
        let timeout = control.timeout_within(timeout, self.timeout, self.max_timeout)?;
        let mode = self.mode(mode, &message.exchange, control)?;
        message.mandatory = control.mandatory.unwrap_or(true);
        let retry = control.retry.unwrap_or_default();
        let (message, deadline) = (Arc::new(message), Deadline::after(start, timeout));
        Ok(Draft { message, deadline, retry, mode, key, id_is_assigned })
    }
}
