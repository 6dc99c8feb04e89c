//! `status`, `ls` and `show`.

use super::place::{PlaceArguments, SpoolPlace};
use super::{Ended, Failure, StateName, Which, table};
use crate::control::{self, Query, ShownMessage, Status};
use crate::spool::store::{Seq, now_ms};
use base64::Engine;
use clap::Args;
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// The number of destinations to show, the largest first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    destinations: usize,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    which: Which,
    /// Only messages in this state.
    #[arg(long)]
    state: Option<StateName>,
    /// Only messages after this number.
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// The largest number of messages to list; 0 means all. If there may be more, standard error
    /// says how to continue.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
    /// One JSON document per line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// The message's number.
    seq: i64,
    /// Write only the payload, byte for byte.
    #[arg(long, conflicts_with = "json")]
    payload: bool,
    /// One JSON document with the whole message.
    #[arg(long)]
    json: bool,
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers always serialise")
}

pub(super) async fn status(arguments: StatusArguments) -> Ended {
    let place = SpoolPlace::of(arguments.place)?;
    let held = control::status(&place.reader()?, arguments.destinations).await?;
    let (sidecar, live) = place.sidecar().await?;
    let status = Status { sidecar, live, ..held };
    let text = if arguments.json { json(&status) + "\n" } else { table::status(&status, now_ms()) };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(arguments: ListArguments) -> Ended {
    let ListArguments { place, which, state, after, limit, json: as_json } = arguments;
    let reader = SpoolPlace::of(place)?.reader()?;
    let mut query = Query { after, ..which.query(state) };
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut out = std::io::stdout().lock();
    while left > 0 {
        query.limit = Some(usize::try_from(left.min(1000)).unwrap_or(1000));
        let page = control::lines(&reader, &query).await.map_err(Failure::Failed)?;
        left -= page.messages.len() as u64;
        if as_json {
            for line in &page.messages {
                writeln!(out, "{}", json(line))?;
            }
        } else if !page.messages.is_empty() {
            out.write_all(table::lines(&page.messages, now_ms()).as_bytes())?;
        }
        query.after = page.next.map(Seq::number);
        if page.next.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if let (false, Some(after)) = (as_json, query.after) {
        eprintln!("there may be more: --after {after}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(arguments: ShowArguments) -> Ended {
    let reader = SpoolPlace::of(arguments.place)?.reader()?;
    let Some(shown) = control::shown(&reader, arguments.seq).await? else {
        return Err(Failure::Failed(format!("there is no message {}", arguments.seq)));
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", json(&shown))?;
    } else if arguments.payload {
        out.write_all(&payload(&shown)?)?;
    } else {
        out.write_all(people(&shown)?.as_bytes())?;
    }
    if shown.damaged {
        return Err(Failure::Failed(format!("message {} is damaged", arguments.seq)));
    }
    Ok(ExitCode::SUCCESS)
}

fn envelope(shown: &ShownMessage) -> Result<Value, Failure> {
    let Some(envelope) = &shown.envelope else { return Ok(Value::Null) };
    serde_json::from_str(envelope.get()).map_err(|error| Failure::Failed(error.to_string()))
}

fn payload(shown: &ShownMessage) -> Result<Vec<u8>, Failure> {
    let envelope = envelope(shown)?;
    let text = envelope["payload"].as_str().unwrap_or_default();
    if envelope["payload_encoding"] == "base64" {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        return bytes.map_err(|error| Failure::Failed(error.to_string()));
    }
    Ok(text.as_bytes().to_vec())
}

/// The line of the list, then the parts of the message, one a line.
fn people(shown: &ShownMessage) -> Result<String, Failure> {
    let mut text = table::lines(std::slice::from_ref(&shown.entry), now_ms());
    if shown.damaged {
        return Ok(text);
    }
    let envelope = envelope(shown)?;
    let members = ["mandatory"].into_iter().map(|name| (name, &envelope[name]));
    let properties = envelope["properties"].as_object().into_iter().flatten();
    for (name, value) in members.chain(properties.map(|(name, value)| (name.as_str(), value))) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("{name:<18}{}\n", table::plain(&value)));
    }
    text.push_str(&format!(
        "payload           {}; --payload writes it\n",
        table::size(shown.entry.payload_bytes)
    ));
    Ok(text)
}

impl Which {
    /// The same as a query.
    pub(super) fn query(self, state: Option<StateName>) -> Query {
        Query {
            exchange: self.exchange,
            routing_key: self.routing_key,
            reason: self.reason,
            state: state.map(|state| state.as_str().to_owned()),
            ..Query::default()
        }
    }

    /// Whether it selects every message.
    pub(super) fn is_any(&self) -> bool {
        let Self { exchange, routing_key, reason } = self;
        exchange.is_none() && routing_key.is_none() && reason.is_none()
    }
}
