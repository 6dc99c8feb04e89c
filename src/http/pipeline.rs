//! The way of every request, whatever its dialect: client, head, early refusal, admission, body,
//! decode, publish, count and log, encode.

use super::dialect::{DecodeDocument, Decoding, Dialect, Entries, Expected, Head, Orders};
use super::door::Door;
use super::places::{Room, no_room};
use super::rejection::Rejection;
use super::terms::Defaults;
use super::upload::Upload;
use super::{respond, stream};
use crate::admission::Permit;
use crate::listener::{Arrived, ConnectionClock};
use crate::message::{Client, Deadline, Mode, Order, Settlement};
use crate::outcome::Outcome;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a document that is decoded on the thread that serves requests: a millisecond's work at
/// most.
const DECODED_AT_ONCE_MAX: usize = 256 * 1024;

/// A request whose head has been read.
enum AfterHead {
    /// One message, whose payload is the body.
    Message(Order),
    /// A document that holds the messages.
    Document(Box<Undecoded<DecodeDocument>>),
    /// Lines that hold the messages.
    Lines(Box<Undecoded<Entries>>),
}

/// Messages in a body, and how they are decoded.
struct Undecoded<D> {
    expected: Expected,
    decode: D,
    timeout: Duration,
    clock: ConnectionClock,
}

/// Answers a request that is for this dialect. `name` is where the name of its route stands in the
/// path.
///
/// The head is read before the future exists; otherwise the future would have space for the head as
/// long as it lives. Only a message whose payload is the body is published in this future.
/// Everything else is in boxes, because hyper keeps space for this future with each connection
/// (ADR-0006).
pub(super) fn answer(
    door: Arc<Door>,
    dialect: Dialect,
    name: Range<usize>,
    arrived: Arrived,
) -> impl Future<Output = Response> + Send + use<> {
    let Arrived { request, arrival } = arrived;
    let (parts, body) = request.into_parts();
    let mut upload = Upload::new(body, &parts.headers);
    let start = arrival.start;
    // Requests carry no credentials. A check of them belongs here; its refusal is answered like one
    // of the head.
    let client = Client::default();
    let opened = door.open(dialect, Head { parts, name, client, start }, arrival.clock);
    async move {
        let settlement = match opened {
            Ok(AfterHead::Message(order)) => door.publish_with_payload(order, &mut upload).await,
            Ok(AfterHead::Document(undecoded)) => {
                match Box::pin(door.publish_document(*undecoded, &mut upload)).await {
                    Ok(begun) => return begun,
                    Err(settlement) => settlement,
                }
            }
            Ok(AfterHead::Lines(undecoded)) => return Box::pin(door.publish_lines(*undecoded, upload)).await,
            Err(rejection) => Box::pin(door.turned_away(start, &mut upload, rejection)).await.into(),
        };
        door.told(start, &settlement);
        respond::response(dialect, &settlement)
    }
}

impl Door {
    fn open(&self, dialect: Dialect, head: Head, clock: ConnectionClock) -> Result<AfterHead, Rejection> {
        match (dialect.decode)(&self.terms, &head)? {
            Decoding::Payload(order) => Ok(AfterHead::Message(order)),
            Decoding::Document(decode) => {
                let defaults = Defaults::of(&head)?;
                Ok(AfterHead::Document(self.undecoded(head, defaults, decode, clock)?))
            }
            Decoding::Lines(entries) => {
                let defaults = Defaults::of(&head)?.for_many()?;
                Ok(AfterHead::Lines(self.undecoded(head, defaults, entries, clock)?))
            }
        }
    }

    fn undecoded<D>(
        &self,
        head: Head,
        defaults: Defaults,
        decode: D,
        clock: ConnectionClock,
    ) -> Result<Box<Undecoded<D>>, Rejection> {
        let timeout = self.terms.timeout("amqpost-timeout", defaults.options)?;
        Ok(Box::new(Undecoded { expected: Expected { head, defaults }, decode, timeout, clock }))
    }

    async fn publish_with_payload(&self, mut order: Order, upload: &mut Upload) -> Settlement {
        let taken = self.take_in(upload, order.deadline, Some(order.mode), order.key.is_some()).await;
        let (payload, permit) = match taken {
            Ok(taken) => taken,
            Err(rejection) => return Settlement::from(rejection).about(order.message_id().clone()),
        };
        order.set_payload(payload);
        // In a box of its own: a refused request does not pay for the state of a publish
        // (ADR-0006).
        Box::pin(self.service.publish(order, permit)).await
    }

    /// Publishes the messages of a document. The response to an array begins with the first of its
    /// elements.
    async fn publish_document(
        self: &Arc<Self>,
        undecoded: Undecoded<DecodeDocument>,
        upload: &mut Upload,
    ) -> Result<Response, Settlement> {
        let Undecoded { expected, decode, timeout, clock } = undecoded;
        let (start, has_key) = (expected.head.start, expected.defaults.key.is_some());
        let deadline = Deadline::after(start, timeout);
        // The exchange is in the body, and with it perhaps the mode.
        let (document, permit) = self.take_in(upload, deadline, None, has_key).await?;
        let (expected, orders) = self.decode(decode, expected, document.clone()).await?;
        match orders? {
            Orders::One(order) => {
                drop((document, expected));
                Err(Box::pin(self.service.publish(order, permit)).await)
            }
            Orders::Elements(entries) => {
                let defaults = expected.defaults;
                Ok(stream::of_array(self, start, clock, document, permit, entries, defaults).await?)
            }
            Orders::All(orders, encode) => {
                // The payloads stay in memory until each has a permit of its own.
                let room = self.places.clone().make_room(Room::none(), document.len(), deadline.instant());
                let _room = room.await.ok_or_else(no_room)?;
                drop((document, expected, permit));
                let settlements = self.publish_all(orders, start).await;
                Ok(respond::response_to_all(encode, &settlements))
            }
        }
    }

    /// Publishes messages side by side, each with a permit of its own.
    async fn publish_all(&self, mut orders: Vec<Order>, start: Instant) -> Vec<Settlement> {
        let mut settlements = Vec::with_capacity(orders.len());
        while !orders.is_empty() {
            let some = orders.drain(..orders.len().min(self.stream_in_flight));
            settlements.extend(join_all(some.map(|order| self.publish_one(order, start))).await);
        }
        settlements
    }

    async fn publish_one(&self, order: Order, start: Instant) -> Settlement {
        let (message_id, bytes) = (order.message_id().clone(), order.message.payload.len());
        let settlement = match self.refusal(Some(order.mode), order.key.is_some()) {
            Some(rejection) => Settlement::from(rejection).about(message_id),
            None => match self.places.clone().take_by(bytes, order.deadline.instant()).await {
                Some(permit) => self.service.publish(order, permit).await,
                None => Settlement::from(no_room()).about(message_id),
            },
        };
        self.told(start, &settlement);
        settlement
    }

    async fn publish_lines(self: &Arc<Self>, undecoded: Undecoded<Entries>, upload: Upload) -> Response {
        let Undecoded { expected, decode, timeout, clock } = undecoded;
        stream::of_lines(self, expected.head.start, clock, upload, decode, expected.defaults, timeout).await
    }

    /// Decodes a document. A long one takes as much time as many publishes, so another thread
    /// decodes it while other requests continue.
    async fn decode(
        self: &Arc<Self>,
        decode: DecodeDocument,
        expected: Expected,
        document: Bytes,
    ) -> Result<(Expected, Result<Orders, Rejection>), Rejection> {
        if document.len() <= DECODED_AT_ONCE_MAX {
            let orders = decode(&self.terms, &expected, &document);
            return Ok((expected, orders));
        }
        let door = Arc::clone(self);
        let decoding = tokio::task::spawn_blocking(move || {
            let orders = decode(&door.terms, &expected, &document);
            (expected, orders)
        });
        match decoding.await {
            Ok(decoded) => Ok(decoded),
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime ended before the task began.
            Err(_) => Err(Rejection::of(Outcome::Draining)),
        }
    }

    /// Reads and drops the rest of a request that is refused by its head.
    async fn turned_away(&self, start: Instant, upload: &mut Upload, rejection: Rejection) -> Rejection {
        upload.discard(self.terms.default_deadline(start)).await;
        rejection
    }

    /// A permit and the whole body, or the refusal. The rest of a refused request is read and
    /// dropped.
    async fn take_in(
        &self,
        upload: &mut Upload,
        deadline: Deadline,
        mode: Option<Mode>,
        has_key: bool,
    ) -> Result<(Bytes, Permit), Rejection> {
        let taken = self.admit_and_read(upload, deadline, self.refusal(mode, has_key)).await;
        if taken.is_err() {
            Box::pin(upload.discard(deadline)).await;
        }
        taken
    }

    async fn admit_and_read(
        &self,
        upload: &mut Upload,
        deadline: Deadline,
        refusal: Option<Rejection>,
    ) -> Result<(Bytes, Permit), Rejection> {
        if let Some(rejection) = refusal {
            return Err(rejection);
        }
        let mut permit = self.admission.admit().map_err(|_| Rejection::of(Outcome::Overloaded))?;
        let payload = tokio::select! {
            // Most bodies are there already. Only for the others it is asked, in a box, whether the
            // link drains.
            biased;
            payload = upload.read(&mut permit, self.max_body, deadline) => payload?,
            // Past its budget a shutdown waits for no body.
            () = async { Box::pin(self.service.draining()).await } => {
                return Err(Rejection::of(Outcome::Draining));
            }
        };
        Ok((payload, permit))
    }
}

/// Answers a request that is for no dialect.
pub(super) async fn turn_away(
    door: Arc<Door>,
    dialect: Dialect,
    arrived: Arrived,
    rejection: Rejection,
) -> Response {
    let Arrived { request, arrival } = arrived;
    let (parts, body) = request.into_parts();
    let mut upload = Upload::new(body, &parts.headers);
    let rejection = door.turned_away(arrival.start, &mut upload, rejection).await;
    respond::response(dialect, &rejection.into())
}
