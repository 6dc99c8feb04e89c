//! The JSON of the control socket and of the commands' `--json`: names are part of the interface.

use crate::labels::Label;
use crate::message::{ShortText, exchange_on_the_wire};
use crate::spool::SpoolSnapshot;
use crate::spool::store::{Filter, Found, RecordEntry, RecordState, Seq, Summary};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A spool's contents, and the state of the sidecar that has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Whether a process has it.
    pub sidecar: Sidecar,
    /// The state that only the spool's process knows; absent if there is none or it does not
    /// answer.
    pub live: Option<SpoolSnapshot>,
    /// The contents, read from the disk.
    #[serde(flatten)]
    pub held: Summary,
}

/// Whether a process has the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Sidecar {
    /// No process has it.
    None,
    /// A process has it and does not answer: it hangs, is stopped, or makes a change for another
    /// command.
    Silent {
        /// Its process id, if it wrote one.
        pid: Option<u32>,
        /// Why there is no answer.
        why: String,
    },
    /// A process has it; `live` is its answer.
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

/// One whole message.
#[derive(Debug, Serialize)]
pub struct ShownMessage {
    /// Its line in a list.
    #[serde(flatten)]
    pub entry: RecordEntry,
    /// Whether its bytes differ from those that were stored; then there is no envelope.
    pub damaged: bool,
    /// The message as `POST /v1/messages` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Box<RawValue>>,
}

/// The changes that can be made to messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Parked messages become ready again.
    Redrive,
    /// Ready messages are parked for an operator.
    Park,
    /// Messages are removed, for ever.
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
    /// No message above this number: leaves out those that arrive in the meantime.
    pub until: Option<i64>,
    /// The reason for parking; `operator` when absent.
    pub reason: Option<String>,
}

/// The result of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Messages that were selected.
    pub matched: u64,
    /// Messages that were changed, without those that had the state already or were delivered in
    /// the meantime.
    pub changed: u64,
    /// Where the rest begins; absent when there is none.
    pub next: Option<i64>,
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether no fault was found.
    pub sound: bool,
    /// The checked parts and their faults.
    #[serde(flatten)]
    pub found: Found,
}

impl From<Found> for Report {
    fn from(found: Found) -> Self {
        Self { sound: found.is_sound(), found }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// In words.
    pub error: String,
}

impl Query {
    /// The query as the store's filter, without the page.
    pub(super) fn filter(&self) -> Result<Filter, String> {
        let text = |name: &str, text: &Option<String>| {
            let text = text.clone().map(ShortText::new).transpose();
            text.map_err(|error| format!("{name}: {error}"))
        };
        let state = self
            .state
            .as_deref()
            .map(|state| RecordState::from_word(state).ok_or("state: expected ready or parked"))
            .transpose()?;
        Ok(Filter {
            exchange: text("exchange", &self.exchange)?.map(exchange_on_the_wire),
            routing_key: text("routing_key", &self.routing_key)?,
            state,
            reason: self.reason.clone(),
        })
    }
}
