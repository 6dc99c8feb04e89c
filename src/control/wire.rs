//! The JSON of the control socket and of the commands' `--json`: names are part of the interface.

use crate::message::{ShortText, exchange_on_the_wire};
use crate::spool::SpoolSnapshot;
use crate::spool::store::{Filter, Found, RecordEntry, RecordState, Seq, Summary};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a spool holds, and how the sidecar that has it is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Whether a process has it.
    pub sidecar: Sidecar,
    /// What only the process that has it open knows; absent when none does, or it does not answer.
    pub live: Option<SpoolSnapshot>,
    /// What it holds, read from the disk.
    #[serde(flatten)]
    pub held: Summary,
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

/// Which messages are selected. An absent member selects any.
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
    /// The largest number of messages.
    pub limit: Option<usize>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MessagesPage {
    /// The messages.
    pub messages: Vec<RecordEntry>,
    /// Where the next page begins; absent when there is none.
    pub next: Option<Seq>,
}

/// One message, whole.
#[derive(Debug, Serialize)]
pub struct ShownMessage {
    /// What a list says of it.
    #[serde(flatten)]
    pub entry: RecordEntry,
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

/// A change to one part of the selected messages. For the rest, ask again with `next`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeRequest {
    /// These numbers; or else
    pub seqs: Option<Vec<i64>>,
    /// all that the filter selects, from `after` on and at most `limit`.
    pub filter: Option<Query>,
    /// None above this number, so that messages that arrive in the meantime are left out.
    pub until: Option<i64>,
    /// Why, when they are parked; `operator` when absent.
    pub reason: Option<String>,
}

/// The result of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Messages that were selected.
    pub matched: u64,
    /// Messages that were changed. Messages that were already in the wanted state, or were delivered in the meantime, do
    /// not count.
    pub changed: u64,
    /// Where the rest begins; absent when there is none.
    pub next: Option<i64>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// What was looked at, and what is wrong with it.
    #[serde(flatten)]
    pub found: Found,
}

impl From<Found> for Report {
    fn from(found: Found) -> Self {
        Self { sound: found.is_sound(), found }
    }
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// In words.
    pub error: String,
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
