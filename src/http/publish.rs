//! The publishing endpoints: request → message → its mode → answer.

use super::clock::RequestStart;
use super::control::Control;
use super::envelope::Envelope;
use super::raw::{self, Destination, Head};
use super::rejection::Rejection;
use super::respond::Answer;
use super::{Door, body, envelope};
use crate::admission::Permit;
use crate::config::Mode;
use crate::deadline::Deadline;
use crate::link::Settlement;
use crate::message::{Message, Properties, ShortText};
use crate::modes::{ClientKey, Order, Settled};
use crate::outcome::Outcome;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use std::sync::Arc;

type Request = hyper::Request<Body>;

/// `POST /v1/exchanges/{exchange}/messages`.
pub(super) async fn to_exchange(State(door): State<Arc<Door>>, request: Request) -> Response {
    let destination = raw::exchange_destination(request.uri().path(), request.uri().query());
    raw(&door, destination, request).await
}

/// `POST /v1/queues/{queue}/messages`.
pub(super) async fn to_queue(State(door): State<Arc<Door>>, request: Request) -> Response {
    let destination = raw::queue_destination(request.uri().path(), request.uri().query());
    raw(&door, destination, request).await
}

/// `POST /v1/messages`.
pub(super) async fn from_envelope(State(door): State<Arc<Door>>, request: Request) -> Response {
    let start = RequestStart::of(&request);
    let (head, body) = request.into_parts();
    let outcome = publish_envelope(&door, start, &head, body).await;
    door.answer(start, outcome)
}

async fn raw(door: &Door, destination: Result<Destination, Rejection>, request: Request) -> Response {
    let start = RequestStart::of(&request);
    let (head, body) = request.into_parts();
    let outcome = publish_raw(door, start, destination, &head, body).await;
    door.answer(start, outcome)
}

/// What became of a request, with the id of its message once there is one.
pub(super) struct Finished {
    pub(super) result: Result<Settled, Rejection>,
    pub(super) message_id: Option<String>,
}

impl From<Rejection> for Finished {
    fn from(rejection: Rejection) -> Self {
        Self { result: Err(rejection), message_id: None }
    }
}

impl From<Settled> for Finished {
    fn from(settled: Settled) -> Self {
        let message_id = Some(settled.message_id.as_str().to_owned());
        Self { result: Ok(settled), message_id }
    }
}

/// Everything that the head of a raw request says.
struct RawHead {
    destination: Destination,
    properties: Properties,
    control: Control,
    deadline: Deadline,
    mode: Mode,
    key: Option<ClientKey>,
}

async fn publish_raw(
    door: &Door,
    start: RequestStart,
    destination: Result<Destination, Rejection>,
    head: &Parts,
    body: Body,
) -> Finished {
    let checked = destination.and_then(|destination| door.raw_head(start, destination, head));
    let RawHead { destination, properties, control, deadline, mode, key } = match checked {
        Ok(checked) => checked,
        Err(rejection) => {
            body::discard(body, &head.headers, door.default_deadline(start)).await;
            return rejection.into();
        }
    };
    let message_id = properties.message_id.as_str().to_owned();
    let refusal = door.modes.refusal(Some(mode), key.is_some());
    let (payload, permit) = match door.take_in(head, body, deadline, refusal).await {
        Ok(taken) => taken,
        Err(rejection) => return Finished { result: Err(rejection), message_id: Some(message_id) },
    };
    let message = Message {
        exchange: destination.exchange,
        routing_key: destination.routing_key,
        mandatory: control.mandatory.unwrap_or(true),
        properties,
        payload,
    };
    let retry = control.retry.unwrap_or_default();
    let id_is_assigned = raw::id_is_assigned(&head.headers);
    door.modes.publish(Order { message, permit, deadline, retry, mode, key, id_is_assigned }).await.into()
}

async fn publish_envelope(door: &Door, start: RequestStart, head: &Parts, body: Body) -> Finished {
    let checked = is_json(head).and_then(|()| raw::envelope_control(&head.headers)).and_then(|control| {
        let timeout = control.timeout_within("amqpost-timeout", door.timeout, door.max_timeout)?;
        Ok((control, Deadline::after(start.instant(), timeout), raw::idempotency_key(&head.headers)?))
    });
    let (head_control, arrival_deadline, key) = match checked {
        Ok(checked) => checked,
        Err(rejection) => {
            body::discard(body, &head.headers, door.default_deadline(start)).await;
            return rejection.into();
        }
    };
    // The exchange is in the body, and with it perhaps the mode.
    let refusal = door.modes.refusal(None, key.is_some());
    let (document, permit) = match door.take_in(head, body, arrival_deadline, refusal).await {
        Ok(taken) => taken,
        Err(rejection) => return rejection.into(),
    };
    let decoded = envelope::decode(&document, door.headers_text_max).and_then(|mut envelope| {
        raw::add_trace_context(&mut envelope.message.properties.headers, &head.headers)?;
        let control = envelope.control.or(head_control);
        let timeout = control.timeout_within("timeout", door.timeout, door.max_timeout)?;
        let mode = door.mode("mode", &envelope.message.exchange, control)?;
        Ok((envelope, control, Deadline::after(start.instant(), timeout), mode))
    });
    drop(document);
    match decoded {
        Err(rejection) => rejection.into(),
        Ok((Envelope { mut message, id_is_assigned, .. }, control, deadline, mode)) => {
            message.mandatory = control.mandatory.unwrap_or(true);
            let retry = control.retry.unwrap_or_default();
            door.modes
                .publish(Order { message, permit, deadline, retry, mode, key, id_is_assigned })
                .await
                .into()
        }
    }
}

fn is_json(head: &Parts) -> Result<(), Rejection> {
    let given = head.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = given.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Rejection::new(Outcome::UnsupportedMediaType, "content-type: expected application/json"))
}

impl Door {
    fn raw_head(
        &self,
        start: RequestStart,
        destination: Destination,
        head: &Parts,
    ) -> Result<RawHead, Rejection> {
        let Head { properties, control } = raw::head(&head.headers)?;
        let timeout = control.timeout_within("amqpost-timeout", self.timeout, self.max_timeout)?;
        let mode = self.mode("amqpost-mode", &destination.exchange, control)?;
        let key = raw::idempotency_key(&head.headers)?;
        let deadline = Deadline::after(start.instant(), timeout);
        Ok(RawHead { destination, properties, control, deadline, mode, key })
    }

    fn mode(&self, field: &str, exchange: &ShortText, control: Control) -> Result<Mode, Rejection> {
        self.modes.of(exchange, control.mode).map_err(|refused| Rejection::invalid(field, refused))
    }

    /// The deadline of a request whose own is not known.
    fn default_deadline(&self, start: RequestStart) -> Deadline {
        Deadline::after(start.instant(), self.timeout)
    }

    /// A permit and the whole body, or the refusal. What a refused client still sends is taken in and dropped.
    async fn take_in(
        &self,
        head: &Parts,
        mut body: Body,
        deadline: Deadline,
        refusal: Option<Outcome>,
    ) -> Result<(Bytes, Permit), Rejection> {
        let taken = self.admit_and_read(&mut body, deadline, refusal).await;
        if taken.is_err() {
            body::discard(body, &head.headers, deadline).await;
        }
        taken
    }

    async fn admit_and_read(
        &self,
        body: &mut Body,
        deadline: Deadline,
        refusal: Option<Outcome>,
    ) -> Result<(Bytes, Permit), Rejection> {
        let refused = |outcome: Outcome| Rejection::new(outcome, outcome.row().title);
        if let Some(outcome) = refusal {
            return Err(refused(outcome));
        }
        let mut permit = self.admission.admit().map_err(|_| refused(Outcome::Overloaded))?;
        let payload = tokio::select! {
            payload = body::read(body, &mut permit, self.max_body, deadline) => payload?,
            // Past its budget a shutdown waits for no body.
            () = self.modes.draining() => return Err(refused(Outcome::Draining)),
        };
        Ok((payload, permit))
    }

    /// Counts what became of a message, and answers.
    fn answer(&self, start: RequestStart, finished: Finished) -> Response {
        let (Settlement { outcome, detail, attempts }, replayed) = match finished.result {
            Ok(settled) => (settled.settlement, settled.replayed),
            Err(Rejection { outcome, detail }) => {
                (Settlement { outcome, detail: Some(detail), attempts: 0 }, false)
            }
        };
        let elapsed = start.instant().elapsed();
        if replayed {
            // Its message was counted the first time.
            self.metrics.replayed();
        } else {
            self.metrics.publish_answered(outcome, elapsed);
        }
        tracing::debug!(code = outcome.code(), message_id = finished.message_id, ?elapsed, "answered");
        let message_id = finished.message_id.as_deref();
        Answer { outcome, detail: detail.as_deref(), message_id, attempts, replayed }.into_response()
    }
}
