//! The JSON of the control socket and of the commands' `--json`: names are part of the interface.

use crate::message::{DEFAULT_EXCHANGE, ShortText, exchange_on_the_wire};
use crate::spool::store::{Address, Filter, Found, Holding, LostTail, RecordEntry, RecordState, Seq};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a spool holds, and how the sidecar that has it is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Whether a process has it.
    pub sidecar: Sidecar,
    /// What only the process that has it open knows; absent when none does, or it does not answer.
    pub live: Option<Live>,
    /// Messages to be delivered.
    pub ready: u64,
    /// Messages kept for an operator.
    pub parked: u64,
    /// When the oldest one to be delivered was stored.
    pub oldest_unix_ms: Option<i64>,
    /// Bytes of the database in use.
    pub bytes: u64,
    /// Destinations that have messages.
    pub destinations: u64,
    /// The largest of them.
    pub largest: Vec<HoldingView>,
}

/// Whether a process has the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Sidecar {
    /// None has it.
    None,
    /// One has it and does not answer: it hangs, is stopped, or makes a change for another command.
    Silent {
        /// Its number, when it left one.
        pid: Option<u32>,
        /// What became of the question.
        why: String,
    },
    /// One has it, and `live` is what it says.
    Answers,
}

/// What only the process knows that has the spool open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// `working`, `failed` or `closed`.
    pub health: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Bytes of the database, at most.
    pub max_bytes: u64,
    /// Whether it refuses messages until there is room again.
    pub full: bool,
    /// Messages stored since it was opened.
    pub appended: u64,
    /// Commits since it was opened, each with one sync of the disk.
    pub commits: u64,
    /// Messages stored a second, over the last ten.
    pub appends_per_second: f64,
    /// Messages a second that the broker confirmed, over the last ten.
    pub deliveries_per_second: f64,
    /// What was missing when it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostView>,
}

/// The end of the spool was lost: messages with the numbers between these two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LostView {
    /// The last number that the database knows.
    pub known: i64,
    /// The last number that was answered for.
    pub committed: i64,
}

/// What is held for one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldingView {
    /// The exchange, as a request names it.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Messages to be delivered.
    pub ready: u64,
    /// Messages kept for an operator.
    pub parked: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Which messages are meant. Absent members mean any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// The exchange; `amq.default` is the default exchange.
    pub exchange: Option<String>,
    /// The routing key.
    pub routing_key: Option<String>,
    /// `ready` or `parked`.
    pub state: Option<String>,
    /// Why they are parked.
    pub reason: Option<String>,
    /// Only those after this number.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// One message of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its number: the order of arrival.
    pub seq: i64,
    /// `ready` or `parked`.
    pub state: String,
    /// Why it is parked.
    pub reason: Option<String>,
    /// The exchange, as a request names it.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Its message id; absent when its properties cannot be read.
    pub message_id: Option<String>,
    /// When it was stored.
    pub created_unix_ms: i64,
    /// When it is parked instead of delivered.
    pub expires_unix_ms: i64,
    /// Deliveries whose outcome nobody knows: where there are any, the broker may have it.
    pub attempts: u32,
    /// Bytes of its content.
    pub payload_bytes: u64,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinesPage {
    /// The messages.
    pub messages: Vec<Line>,
    /// Where the next page begins; absent when there is none.
    pub next: Option<i64>,
}

/// One message, whole.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// What a list says of it.
    #[serde(flatten)]
    pub line: Line,
    /// Whether its bytes are not those that were stored; then there is no envelope.
    pub damaged: bool,
    /// The message as `POST /v1/messages` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Box<RawValue>>,
}

/// What can be done to messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Parked ones are to be delivered again.
    Redrive,
    /// Ready ones are kept for an operator.
    Park,
    /// They are removed, for ever.
    Drop,
}

/// A change to one part of the messages that are meant; whoever wants the rest asks again with `next`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeRequest {
    /// These numbers; or else
    pub seqs: Option<Vec<i64>>,
    /// all that the filter means, from `after` on and at most `limit`.
    pub filter: Option<Query>,
    /// None above this number: what arrives meanwhile is not meant.
    pub until: Option<i64>,
    /// Why, when they are parked; `operator` when absent.
    pub reason: Option<String>,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Messages that were meant.
    pub matched: u64,
    /// Messages that were changed: not those that were as wanted already, or were delivered meanwhile.
    pub changed: u64,
    /// Where the rest begins; absent when there is none.
    pub next: Option<i64>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// Messages looked at.
    pub messages: u64,
    /// What is wrong with the database.
    pub structure: Vec<String>,
    /// How many messages are damaged.
    pub damaged_count: u64,
    /// Their numbers, the first thousand.
    pub damaged: Vec<i64>,
    /// Counters that are not what there is.
    pub counters: Vec<Counter>,
    /// What is missing at the end.
    pub lost: Option<LostView>,
}

/// A counter that is not what there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    /// The exchange; absent when it cannot be read.
    pub exchange: Option<String>,
    /// The routing key.
    pub routing_key: Option<String>,
    /// What is counted.
    pub counter: String,
    /// What it says.
    pub says: u64,
    /// What there is.
    pub is: u64,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// In words.
    pub error: String,
}

fn named(exchange: &ShortText) -> String {
    if exchange.is_empty() { DEFAULT_EXCHANGE.to_owned() } else { exchange.as_str().to_owned() }
}

pub(super) fn state_name(state: RecordState) -> &'static str {
    match state {
        RecordState::Ready => "ready",
        RecordState::Parked => "parked",
    }
}

impl Query {
    /// The store's form of it, without the page.
    pub(super) fn filter(&self) -> Result<Filter, String> {
        let text = |name: &str, text: &Option<String>| {
            let text = text.clone().map(ShortText::new).transpose();
            text.map_err(|error| format!("{name}: {error}"))
        };
        let state = match self.state.as_deref() {
            None => None,
            Some("ready") => Some(RecordState::Ready),
            Some("parked") => Some(RecordState::Parked),
            Some(_) => return Err("state: expected ready or parked".to_owned()),
        };
        Ok(Filter {
            exchange: text("exchange", &self.exchange)?.map(exchange_on_the_wire),
            routing_key: text("routing_key", &self.routing_key)?,
            state,
            reason: self.reason.clone(),
        })
    }
}

impl From<RecordEntry> for Line {
    fn from(entry: RecordEntry) -> Self {
        let Address { exchange, routing_key } = entry.destination;
        Self {
            seq: entry.seq.number(),
            state: state_name(entry.state).to_owned(),
            reason: entry.reason,
            exchange: named(&exchange),
            routing_key: routing_key.as_str().to_owned(),
            message_id: entry.message_id.map(|id| id.as_str().to_owned()),
            created_unix_ms: entry.created_ms,
            expires_unix_ms: entry.expires_ms,
            attempts: entry.attempts,
            payload_bytes: entry.payload_bytes,
        }
    }
}

impl From<Holding> for HoldingView {
    fn from(holding: Holding) -> Self {
        let Holding { destination: Address { exchange, routing_key }, ready, parked, bytes } = holding;
        Self {
            exchange: named(&exchange),
            routing_key: routing_key.as_str().to_owned(),
            ready,
            parked,
            bytes,
        }
    }
}

impl From<LostTail> for LostView {
    fn from(lost: LostTail) -> Self {
        Self { known: lost.known.number(), committed: lost.committed.number() }
    }
}

impl From<Found> for Report {
    fn from(found: Found) -> Self {
        let counter = |wrong: crate::spool::store::WrongCounter| Counter {
            exchange: wrong.destination.as_ref().map(|of| named(&of.exchange)),
            routing_key: wrong.destination.map(|of| of.routing_key.as_str().to_owned()),
            counter: wrong.counter.to_owned(),
            says: wrong.says,
            is: wrong.is,
        };
        Self {
            sound: found.is_sound(),
            messages: found.records,
            structure: found.structure,
            damaged_count: found.damaged_count,
            damaged: found.damaged.into_iter().map(Seq::number).collect(),
            counters: found.counters.into_iter().map(counter).collect(),
            lost: found.lost.map(LostView::from),
        }
    }
}
