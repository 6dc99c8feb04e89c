//! The publishing endpoints: request → message → link → answer.

use super::clock::RequestStart;
use super::raw::{self, Destination, Head};
use super::rejection::Rejection;
use super::respond::Answer;
use super::{Door, body, envelope};
use crate::admission::Permit;
use crate::deadline::Deadline;
use crate::link::{RetryPolicy, Settlement};
use crate::message::Message;
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
    pub(super) result: Result<Settlement, Rejection>,
    pub(super) message_id: Option<String>,
}

impl From<Rejection> for Finished {
    fn from(rejection: Rejection) -> Self {
        Self { result: Err(rejection), message_id: None }
    }
}

async fn publish_raw(
    door: &Door,
    start: RequestStart,
    destination: Result<Destination, Rejection>,
    head: &Parts,
    body: Body,
) -> Finished {
    let checked = destination.and_then(|destination| Ok((destination, raw::head(&head.headers)?)));
    let checked = checked.and_then(|(destination, head)| {
        let timeout = head.control.timeout_within("amqpost-timeout", door.timeout, door.max_timeout)?;
        Ok((destination, head, Deadline::after(start.instant(), timeout)))
    });
    let (destination, Head { properties, control }, deadline) = match checked {
        Ok(checked) => checked,
        Err(rejection) => {
            body::discard(body, &head.headers, door.default_deadline(start)).await;
            return rejection.into();
        }
    };
    let message_id = properties.message_id.as_str().to_owned();
    let result = match door.take_in(head, body, deadline).await {
        Err(rejection) => Err(rejection),
        Ok((payload, permit)) => {
            let message = Message {
                exchange: destination.exchange,
                routing_key: destination.routing_key,
                mandatory: control.mandatory.unwrap_or(true),
                properties,
                payload,
            };
            Ok(door.link.publish(message, permit, deadline, control.retry.unwrap_or_default()).await)
        }
    };
    Finished { result, message_id: Some(message_id) }
}

async fn publish_envelope(door: &Door, start: RequestStart, head: &Parts, body: Body) -> Finished {
    let checked = is_json(head).and_then(|()| raw::envelope_control(&head.headers)).and_then(|control| {
        let timeout = control.timeout_within("amqpost-timeout", door.timeout, door.max_timeout)?;
        Ok((control, Deadline::after(start.instant(), timeout)))
    });
    let (head_control, arrival_deadline) = match checked {
        Ok(checked) => checked,
        Err(rejection) => {
            body::discard(body, &head.headers, door.default_deadline(start)).await;
            return rejection.into();
        }
    };
    let (document, permit) = match door.take_in(head, body, arrival_deadline).await {
        Ok(taken) => taken,
        Err(rejection) => return rejection.into(),
    };
    let decoded = envelope::decode(&document, door.headers_text_max).and_then(|mut envelope| {
        raw::add_trace_context(&mut envelope.message.properties.headers, &head.headers)?;
        let control = envelope.control.or(head_control);
        let timeout = control.timeout_within("timeout", door.timeout, door.max_timeout)?;
        Ok((envelope.message, control, Deadline::after(start.instant(), timeout)))
    });
    drop(document);
    match decoded {
        Err(rejection) => rejection.into(),
        Ok((mut message, control, deadline)) => {
            message.mandatory = control.mandatory.unwrap_or(true);
            let message_id = Some(message.properties.message_id.as_str().to_owned());
            let policy = control.retry.unwrap_or(RetryPolicy::Safe);
            Finished { result: Ok(door.link.publish(message, permit, deadline, policy).await), message_id }
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
    ) -> Result<(Bytes, Permit), Rejection> {
        let taken = self.admit_and_read(&mut body, deadline).await;
        if taken.is_err() {
            body::discard(body, &head.headers, deadline).await;
        }
        taken
    }

    async fn admit_and_read(
        &self,
        body: &mut Body,
        deadline: Deadline,
    ) -> Result<(Bytes, Permit), Rejection> {
        let refused = |outcome: Outcome| Rejection::new(outcome, outcome.row().title);
        if let Some(outcome) = self.link.refusal() {
            return Err(refused(outcome));
        }
        let mut permit = self.admission.admit().map_err(|_| refused(Outcome::Overloaded))?;
        let mut link = self.link.clone();
        let payload = tokio::select! {
            payload = body::read(body, &mut permit, self.max_body, deadline) => payload?,
            // Past its budget a shutdown waits for no body.
            () = link.draining() => return Err(refused(Outcome::Draining)),
        };
        Ok((payload, permit))
    }

    /// Counts what became of a message, and answers.
    fn answer(&self, start: RequestStart, finished: Finished) -> Response {
        let (outcome, detail, attempts) = match finished.result {
            Ok(settlement) => (settlement.outcome, settlement.detail, settlement.attempts),
            Err(rejection) => (rejection.outcome, Some(rejection.detail), 0),
        };
        let elapsed = start.instant().elapsed();
        self.metrics.publish_answered(outcome, elapsed);
        tracing::debug!(code = outcome.code(), message_id = finished.message_id, ?elapsed, "answered");
        let message_id = finished.message_id.as_deref();
        Answer { outcome, detail: detail.as_deref(), message_id, attempts }.into_response()
    }
}
