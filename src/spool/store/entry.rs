//! The values at the store's border: records, their numbers, states and destinations.

use crate::labels::labels;
use crate::message::{Message, ShortText, exchange_over_http};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The number of a record, never used twice. For each destination numbers ascend in the order of
/// arrival. The records of one transaction are numbered destination by destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(i64);

impl Seq {
    /// The record with this number.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The destination of a message. Each destination is a queue: first in, first out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Address {
    /// The exchange; empty for the broker's default exchange, which JSON names as requests do.
    #[serde(serialize_with = "as_requests_name_it")]
    pub exchange: ShortText,
    /// The routing key.
    pub routing_key: ShortText,
}

impl Address {
    /// The destination of a message.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        Self { exchange: message.exchange.clone(), routing_key: message.routing_key.clone() }
    }
}

fn as_requests_name_it<S: Serializer>(exchange: &ShortText, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(exchange_over_http(exchange))
}

labels! {
    /// Whether a record is to be delivered.
    RecordState {
        /// It waits for delivery.
        Ready = "ready",
        /// The record is kept for an operator and is not delivered.
        Parked = "parked",
    }

    /// The outcomes that are remembered with a key. Any other is not final: the request may be
    /// tried again.
    FinalOutcome {
        /// The broker confirmed the message.
        Confirmed = "confirmed",
        /// The message was stored.
        Spooled = "spooled",
    }
}

impl RecordState {
    pub(super) const fn as_number(self) -> i64 {
        match self {
            RecordState::Ready => 0,
            RecordState::Parked => 1,
        }
    }

    pub(super) const fn from_number(number: i64) -> Self {
        if number == 0 { RecordState::Ready } else { RecordState::Parked }
    }
}

/// A message to keep.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// The message.
    pub message: Message,
    /// The client's idempotency key, if it gave one.
    pub idempotency: Option<Idempotency>,
}

/// A client's key, the request it was used for, and the outcome to remember. The caller chooses the
/// hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// A hash of the key.
    pub key: [u8; 16],
    /// A hash of the request.
    pub request: [u8; 16],
    /// The outcome, repeated to a repeated request.
    pub outcome: FinalOutcome,
    /// The message id of the first request.
    pub message_id: String,
}

/// The earlier use of a key, inside the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstUse {
    /// Whether the request was the same one.
    pub same_request: bool,
    /// The record that was stored for it, if there was one. It may have been delivered and removed
    /// since.
    pub seq: Option<Seq>,
    /// The outcome of the first request.
    pub outcome: FinalOutcome,
    /// The message id of the first request.
    pub message_id: String,
}

/// The result of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk.
    Stored(Seq),
    /// Nothing was stored: the idempotency key was used before, inside the window.
    Seen(FirstUse),
}

/// A record that is ready, with its message.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its number.
    pub seq: Seq,
    /// The message as it was appended.
    pub message: Message,
    /// When it was appended, in Unix milliseconds.
    pub created_ms: i64,
    /// When it is parked instead of delivered, in Unix milliseconds.
    pub expires_ms: i64,
    /// Deliveries with an unknown outcome.
    pub attempts: u32,
    /// Whether it was ever handed over to the link.
    pub handed_over: bool,
    /// The deliveries of the record that the broker refused and that may have left a copy.
    pub tries: Option<Tries>,
}

/// Deliveries of one record that the broker refused and that may have left a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How many; at least one.
    pub count: u32,
    /// When the first of them was refused, in Unix milliseconds.
    pub first_ms: i64,
    /// When the last of them was refused, in Unix milliseconds.
    pub last_ms: i64,
    /// The code of the last refusal.
    pub word: String,
}

/// The clock of a destination that the broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedSince {
    /// When it started, in Unix milliseconds.
    pub since_ms: i64,
    /// The last record that was kept before the clock started.
    pub last: Seq,
}

/// A moment: how long the link had been up while records waited, and the last record that was kept
/// by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriedUntil {
    /// The time over all runs, in milliseconds.
    pub total_ms: i64,
    /// The last record that was kept by then.
    pub last: Seq,
}

/// The result of a refused delivery, which must be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalNote {
    /// The record. From now on it counts as handed over.
    pub seq: Seq,
    /// Whether the outcome of the delivery is unknown.
    pub is_unsure: bool,
    /// The deliveries of the record that may have left a copy, if this is one of them.
    pub tries: Option<Tries>,
    /// The clock of its destination, if it started now.
    pub clock: Option<(Address, RefusedSince)>,
}

/// The next records of a destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Whole records, in order.
    pub records: Vec<Stored>,
    /// Records whose bytes are not those that were appended. They must be parked.
    pub damaged: Vec<Seq>,
    /// The last examined record: the next batch begins after it.
    pub last: Option<Seq>,
    /// The destination's clock, if the broker refuses it.
    pub clock: Option<RefusedSince>,
}

/// A destination with records that are ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyAddress {
    /// Which.
    pub destination: Address,
    /// Records that are ready.
    pub ready: u64,
    /// The oldest record that is ready.
    pub first: Seq,
}

/// Which records to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those to this exchange; empty for the broker's default exchange.
    pub exchange: Option<ShortText>,
    /// Only those with this routing key.
    pub routing_key: Option<ShortText>,
    /// Only those in one state.
    pub state: Option<RecordState>,
    /// Only those parked for this reason.
    pub reason: Option<String>,
}

impl Filter {
    /// The destination, if the filter names exactly one.
    pub(super) fn destination(&self) -> Option<Address> {
        let (exchange, routing_key) = (self.exchange.clone()?, self.routing_key.clone()?);
        Some(Address { exchange, routing_key })
    }
}

/// A part of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Begin after this record.
    pub after: Option<Seq>,
    /// The largest number of records; never more than 1000.
    pub limit: usize,
}

/// One line of a list: a record without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordEntry {
    /// Its number.
    pub seq: Seq,
    /// Whether it is ready or parked.
    pub state: RecordState,
    /// Why it is parked.
    pub reason: Option<String>,
    /// Its destination.
    #[serde(flatten)]
    pub destination: Address,
    /// Its message id; `None` when its properties cannot be read.
    pub message_id: Option<ShortText>,
    /// When it was appended, in Unix milliseconds.
    #[serde(rename = "created_unix_ms")]
    pub created_ms: i64,
    /// When it is parked instead of delivered, in Unix milliseconds.
    #[serde(rename = "expires_unix_ms")]
    pub expires_ms: i64,
    /// Deliveries with an unknown outcome: the broker may have the message from one of them.
    pub attempts: u32,
    /// Bytes of its content.
    pub payload_bytes: u64,
}

/// The contents of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Records to be delivered.
    pub ready: u64,
    /// Records kept for an operator.
    pub parked: u64,
    /// When the oldest record that is ready was appended, in Unix milliseconds.
    #[serde(rename = "oldest_unix_ms")]
    pub oldest_ms: Option<i64>,
    /// Bytes of the database in use.
    #[serde(rename = "bytes")]
    pub live_bytes: u64,
    /// Destinations that have records.
    pub destinations: u64,
    /// The largest destinations.
    pub largest: Vec<Holding>,
}

/// A store's records for one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// Which.
    #[serde(flatten)]
    pub destination: Address,
    /// Records to be delivered.
    pub ready: u64,
    /// Records kept for an operator.
    pub parked: u64,
    /// Bytes of all its records.
    pub bytes: u64,
}

/// One record, with its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Its line in a list.
    pub entry: RecordEntry,
    /// Its message; `None` if its bytes are not those that were appended.
    pub message: Option<Message>,
}

/// Now by the wall clock, in Unix milliseconds: for ages that people read. The store goes by a
/// clock of its own, [`StoreHandle::now_ms`](super::StoreHandle::now_ms).
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
