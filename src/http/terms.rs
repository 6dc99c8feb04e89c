//! The terms of publishing: the values that the configuration and the head of a request set for
//! messages without values of their own.

use super::dialect::Head;
use super::headers;
use super::rejection::Rejection;
use crate::config::Live;
use crate::envelope::{Envelope, PublishOptions};
use crate::message::{Client, ClientKey, Deadline, HeaderTable, Order};
use crate::publishing::PublishService;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The terms of the configuration.
#[derive(Debug)]
pub(super) struct Terms {
    /// Knows the mode of each exchange.
    service: PublishService,
    /// The deadlines and routes in force.
    live: Live,
    /// The JSON text of a headers table may have this many bytes.
    pub(super) headers_text_max: usize,
}

/// The values that the head of a request sets for the messages in its body. The members of each
/// message override them.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    pub(super) client: Client,
    pub(super) options: PublishOptions,
    pub(super) key: Option<ClientKey>,
    /// The trace context, for messages that carry none of their own.
    trace: HeaderTable,
}

impl Terms {
    pub(super) fn new(live: &Live, service: PublishService) -> Self {
        // The longest way to write a byte in JSON is `\u0000`.
        const JSON_BYTES_PER_BYTE_MAX: usize = 6;
        Self {
            service,
            live: live.clone(),
            headers_text_max: live.now().broker.frame_max.saturating_mul(JSON_BYTES_PER_BYTE_MAX),
        }
    }

    /// The deadline of a request whose own is not known.
    pub(super) fn default_deadline(&self, start: Instant) -> Deadline {
        Deadline::after(start, self.live.now().publish.timeout)
    }

    /// The time from the start of a request with these options to its deadline. `field` is the
    /// client's name for the timeout.
    pub(super) fn timeout(&self, field: &str, options: PublishOptions) -> Result<Duration, Rejection> {
        let publish = &self.live.now().publish;
        Ok(options.timeout_within(field, publish.timeout, publish.max_timeout)?)
    }

    /// The order to publish a message, with a deadline that counts from `start`. The fields are the
    /// client's names for the timeout and the mode.
    pub(super) fn order(
        &self,
        client: &Client,
        envelope: Envelope,
        start: Instant,
        [timeout, mode_field]: [&str; 2],
    ) -> Result<Order, Rejection> {
        let Envelope { mut message, options, key, id_is_assigned } = envelope;
        let config = self.live.now();
        let timeout = options.timeout_within(timeout, config.publish.timeout, config.publish.max_timeout)?;
        let mode = self.service.mode(&config.route, &message.exchange, options.mode);
        drop(config);
        let mode = mode.map_err(|refused| Rejection::invalid(mode_field, refused))?;
        message.mandatory = options.mandatory.unwrap_or(true);
        let retry = options.retry.unwrap_or_default();
        let (client, message) = (client.clone(), Arc::new(message));
        let deadline = Deadline::after(start, timeout);
        Ok(Order { client, message, deadline, retry, mode, key, id_is_assigned })
    }
}

impl Defaults {
    pub(super) fn of(head: &Head) -> Result<Self, Rejection> {
        let headers = &head.parts.headers;
        let mut trace = HeaderTable::new();
        headers::add_trace_context(&mut trace, headers);
        let options = headers::options(headers)?;
        let (client, key) = (head.client.clone(), headers::idempotency_key(headers)?);
        Ok(Self { client, options, key, trace })
    }

    /// The same for a request with many messages, each of which has its own key or none.
    pub(super) fn for_many(self) -> Result<Self, Rejection> {
        let problem = "is of one message: here each envelope has its own, as the member idempotency_key";
        match self.key {
            None => Ok(self),
            Some(_) => Err(Rejection::invalid("idempotency-key", problem)),
        }
    }

    /// Adds the values that the message does not have itself.
    pub(super) fn complete(&self, envelope: &mut Envelope) {
        let headers = &mut envelope.message.properties.headers;
        for (name, value) in &self.trace {
            headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
        envelope.options = envelope.options.or(self.options);
        if envelope.key.is_none() {
            envelope.key.clone_from(&self.key);
        }
    }
}
