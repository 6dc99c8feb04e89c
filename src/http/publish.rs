//! The publishing endpoints: request → message → its mode → answer.

use super::draft::Defaults;
use super::rejection::Rejection;
use super::upload::Upload;
use super::{Door, respond, stream};
use crate::admission::Permit;
use crate::envelope::PublishOptions;
use crate::listener::{Arrival, Arrived, RequestStart};
use crate::message::{Deadline, Destination, Mode, Order, Settlement, ShortText};
use crate::outcome::Outcome;
use axum::response::Response;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of an envelope that is decoded where the requests are served: a millisecond's work at most.
const DECODED_AT_ONCE_MAX: usize = 256 * 1024;

/// `POST /v1/exchanges/{exchange}/messages` and `POST /v1/queues/{queue}/messages`.
///
/// The head is read before there is a future, which would have a place for all of it for as long as it lives.
pub(super) fn from_raw(
    door: Arc<Door>,
    destination: Result<Destination, Rejection>,
    arrived: Arrived,
) -> impl Future<Output = Response> + Send + use<> {
    let Arrived { request, arrival: Arrival { start, .. } } = arrived;
    let (head, body) = request.into_parts();
    let draft = destination.and_then(|destination| door.raw_draft(start, destination, &head.headers));
    let mut upload = Upload::new(body, &head.headers);
    async move {
        let settlement = match draft {
            Ok(draft) => publish_raw(&door, draft, &mut upload).await,
            Err(rejection) => Box::pin(door.turned_away(start, &mut upload, rejection)).await.into(),
        };
        door.told(start.instant(), &settlement);
        respond::response(&settlement)
    }
}

/// `POST /v1/messages`: one message, or many.
pub(super) async fn from_envelope(door: Arc<Door>, arrived: Arrived) -> Response {
    let Arrived { request, arrival } = arrived;
    let start = arrival.start;
    let (head, body) = request.into_parts();
    let mut upload = Upload::new(body, &head.headers);
    let published = match door.envelope_head(&head) {
        Ok(EnvelopeHead { form: Form::Lines, defaults, timeout }) => {
            Ok(stream::of_lines(&door, arrival, upload, defaults, timeout).await)
        }
        Ok(EnvelopeHead { form: Form::Document, defaults, timeout }) => {
            publish_document(&door, arrival, &mut upload, defaults, timeout).await
        }
        Err(rejection) => Err(door.turned_away(start, &mut upload, rejection).await.into()),
    };
    published.unwrap_or_else(|settlement| {
        door.told(start.instant(), &settlement);
        respond::response(&settlement)
    })
}

/// What the head of a request says of the envelopes in its body.
struct EnvelopeHead {
    form: Form,
    defaults: Defaults,
    timeout: Duration,
}

async fn publish_raw(door: &Door, mut draft: Order, upload: &mut Upload) -> Settlement {
    let refusal = door.service.refusal(Some(draft.mode), draft.key.is_some());
    let (payload, permit) = match door.take_in(upload, draft.deadline, refusal).await {
        Ok(taken) => taken,
        Err(rejection) => return Settlement::from(rejection).about(draft.message_id().clone()),
    };
    draft.set_payload(payload);
    // Boxed, since what is refused is not to carry the room for it about.
    Box::pin(door.service.publish(draft, permit)).await
}

/// A document holds one envelope, or an array of them: then the answer has begun with the first of them.
async fn publish_document(
    door: &Arc<Door>,
    arrival: Arrival,
    upload: &mut Upload,
    defaults: Defaults,
    timeout: Duration,
) -> Result<Response, Settlement> {
    let start = arrival.start;
    let arrival_deadline = Deadline::after(start.instant(), timeout);
    // The exchange is in the body, and with it perhaps the mode.
    let refusal = door.service.refusal(None, defaults.key.is_some());
    let (document, permit) = door.take_in(upload, arrival_deadline, refusal).await?;
    if stream::is_array(&document) {
        return Ok(stream::of_array(door, arrival, document, permit, defaults).await?);
    }
    let draft = draft(door, document, defaults, start.instant()).await?;
    Err(Box::pin(door.service.publish(draft, permit)).await)
}

/// Reads the one envelope of a document. A long one takes as long as many publishes do: other requests go on meanwhile.
async fn draft(
    door: &Arc<Door>,
    document: Bytes,
    defaults: Defaults,
    start: Instant,
) -> Result<Order, Rejection> {
    if document.len() <= DECODED_AT_ONCE_MAX {
        return door.draft(&document, &defaults, start);
    }
    let door = Arc::clone(door);
    let reading = tokio::task::spawn_blocking(move || door.draft(&document, &defaults, start));
    match reading.await {
        Ok(draft) => draft,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        // Given up by a runtime that ends, before it was begun.
        Err(_) => Err(Rejection::of(Outcome::Draining)),
    }
}

/// How the messages of a request are written.
enum Form {
    /// A JSON document.
    Document,
    /// One JSON document a line.
    Lines,
}

fn form(head: &Parts) -> Result<Form, Rejection> {
    let given = head.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = given.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(Form::Document)
    } else if essence.eq_ignore_ascii_case(stream::MEDIA_TYPE) {
        Ok(Form::Lines)
    } else {
        let problem = "content-type: expected application/json or application/x-ndjson";
        Err(Rejection::new(Outcome::UnsupportedMediaType, problem))
    }
}

impl Door {
    fn envelope_head(&self, head: &Parts) -> Result<EnvelopeHead, Rejection> {
        let form = form(head)?;
        let defaults = Defaults::of(&head.headers)?;
        let defaults = match form {
            Form::Document => defaults,
            Form::Lines => defaults.for_many()?,
        };
        let timeout = defaults.options.timeout_within("amqpost-timeout", self.timeout, self.max_timeout)?;
        Ok(EnvelopeHead { form, defaults, timeout })
    }

    pub(super) fn mode(
        &self,
        field: &str,
        exchange: &ShortText,
        options: PublishOptions,
    ) -> Result<Mode, Rejection> {
        self.service.of(exchange, options.mode).map_err(|refused| Rejection::invalid(field, refused))
    }

    /// The deadline of a request whose own is not known.
    pub(super) fn default_deadline(&self, start: RequestStart) -> Deadline {
        Deadline::after(start.instant(), self.timeout)
    }

    /// Takes in what the client of a request still sends that is refused by its head, and drops it.
    pub(super) async fn turned_away(
        &self,
        start: RequestStart,
        upload: &mut Upload,
        rejection: Rejection,
    ) -> Rejection {
        upload.discard(self.default_deadline(start)).await;
        rejection
    }

    /// A permit and the whole body, or the refusal. What a refused client still sends is taken in and dropped.
    async fn take_in(
        &self,
        upload: &mut Upload,
        deadline: Deadline,
        refusal: Option<Outcome>,
    ) -> Result<(Bytes, Permit), Rejection> {
        let taken = self.admit_and_read(upload, deadline, refusal).await;
        if taken.is_err() {
            Box::pin(upload.discard(deadline)).await;
        }
        taken
    }

    async fn admit_and_read(
        &self,
        upload: &mut Upload,
        deadline: Deadline,
        refusal: Option<Outcome>,
    ) -> Result<(Bytes, Permit), Rejection> {
        if let Some(outcome) = refusal {
            return Err(Rejection::of(outcome));
        }
        let mut permit = self.admission.admit().map_err(|_| Rejection::of(Outcome::Overloaded))?;
        let payload = tokio::select! {
            // Most bodies are there already: whether the link drains is asked, in a box, of those that are not.
            biased;
            payload = upload.read(&mut permit, self.max_body, deadline) => payload?,
            // Past its budget a shutdown waits for no body.
            () = async { Box::pin(self.service.draining()).await } => {
                return Err(Rejection::of(Outcome::Draining));
            }
        };
        Ok((payload, permit))
    }

    /// Counts what became of a message whose request, or line, began at `began`.
    pub(super) fn told(&self, began: Instant, settlement: &Settlement) {
        let elapsed = began.elapsed();
        if settlement.replayed {
            // Its message was counted the first time.
            self.metrics.replayed();
        } else {
            self.metrics.publish_answered(settlement.outcome, elapsed);
        }
        let message_id = settlement.message_id.as_ref().map(ShortText::as_str);
        tracing::debug!(code = settlement.outcome.code(), message_id, ?elapsed, "answered");
    }
}
