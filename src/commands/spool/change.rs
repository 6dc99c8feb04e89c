//! `redrive`, `park` and `drop`.

use super::place::{Hands, PlaceArguments, SpoolPlace};
use super::progress::ProgressLine;
use super::{Ended, Failure, StateName, Which, distinct, missing};
use crate::control::{self, ChangeRequest, Done, Operation, Query};
use crate::spool::store::{Seq, StoreReader};
use clap::Args;
use std::io::Write;
use std::process::ExitCode;

/// The number of messages in one request.
const PART: usize = 1000;

/// The messages to change.
#[derive(Args)]
struct Chosen {
    /// The numbers of the messages. Give either numbers, or --exchange, --routing-key or --reason,
    /// or --all.
    seqs: Vec<i64>,
    #[command(flatten)]
    which: Which,
    /// All messages.
    #[arg(long)]
    all: bool,
    /// One JSON document: {"matched":…,"changed":…}.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct RedriveArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Args)]
pub(super) struct ParkArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    chosen: Chosen,
    /// The reason for parking. `ls` shows it, and --reason of the other commands selects messages
    /// by it.
    #[arg(long = "because", value_name = "REASON", default_value = "operator")]
    because: String,
}

#[derive(Args)]
pub(super) struct DropArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    chosen: Chosen,
    /// Only messages in this state.
    #[arg(long)]
    state: Option<StateName>,
    /// Confirm the removal of more than one message.
    #[arg(long)]
    yes: bool,
}

/// A change to all selected messages, which is made in parts.
struct Wanted {
    change: Operation,
    seqs: Option<Vec<i64>>,
    query: Query,
    reason: Option<String>,
    json: bool,
}

impl Wanted {
    fn new(change: Operation, chosen: Chosen, state: Option<StateName>) -> Result<Self, Failure> {
        let Chosen { seqs, which, all, json } = chosen;
        let choices = [!seqs.is_empty(), !which.is_any(), all].into_iter().filter(|given| *given).count();
        // A state alone is not a choice: "all parked messages" takes --all.
        if choices != 1 {
            return Err(unclear());
        }
        let seqs = Some(distinct(seqs)).filter(|seqs| !seqs.is_empty());
        Ok(Self { change, seqs, query: which.query(state), reason: None, json })
    }
}

fn unclear() -> Failure {
    Failure::Usage(
        "expected either numbers of messages, or --exchange, --routing-key or --reason, or --all".to_owned(),
    )
}

pub(super) async fn redrive(arguments: RedriveArguments) -> Ended {
    let wanted = Wanted::new(Operation::Redrive, arguments.chosen, Some(StateName::Parked))?;
    run(arguments.place, wanted, true).await
}

pub(super) async fn park(arguments: ParkArguments) -> Ended {
    if arguments.chosen.which.reason.is_some() {
        return Err(Failure::Usage(
            "--reason selects messages that are already parked; --because gives the reason for parking"
                .to_owned(),
        ));
    }
    let wanted = Wanted::new(Operation::Park, arguments.chosen, Some(StateName::Ready))?;
    run(arguments.place, Wanted { reason: Some(arguments.because), ..wanted }, true).await
}

pub(super) async fn drop_messages(arguments: DropArguments) -> Ended {
    // With numbers the state would be ignored, and messages in other states removed.
    if arguments.state.is_some() && !arguments.chosen.seqs.is_empty() {
        return Err(unclear());
    }
    let wanted = Wanted::new(Operation::Drop, arguments.chosen, arguments.state)?;
    run(arguments.place, wanted, arguments.yes).await
}

async fn run(place: PlaceArguments, wanted: Wanted, sure: bool) -> Ended {
    let place = SpoolPlace::of(place)?;
    let reader = place.reader()?;
    let progress = ProgressLine::new();
    let (total, until) = match &wanted.seqs {
        Some(seqs) => (seqs.len() as u64, None),
        None => (count(&reader, &wanted.query, &progress).await?, Some(reader.newest().await?.number())),
    };
    drop(reader);
    if total > 1 && !sure {
        return Err(Failure::Usage(format!("this removes {total} messages for ever; confirm it with --yes")));
    }
    progress.show("asking the process that has the spool", 0, 0);
    let hands = place.hands().await?;
    let mut sum = Done::default();
    let ended =
        all_parts(&hands, &wanted, until, &mut sum, |done| progress.show("messages", done.matched, total))
            .await;
    drop(progress);
    hands.done();
    // If the change ended early, the selected messages include those that it did not reach.
    let meant = if ended.is_ok() { sum.matched } else { total };
    let reported = report(&wanted, sum, meant);
    ended?;
    reported?;
    Ok(wanted.seqs.map_or(ExitCode::SUCCESS, |seqs| missing(seqs.len(), sum.matched)))
}

/// Makes the change in parts. `sum` is how much was done, even if it ended early.
async fn all_parts(
    hands: &Hands,
    wanted: &Wanted,
    until: Option<i64>,
    sum: &mut Done,
    progress: impl Fn(&Done),
) -> Result<(), Failure> {
    let order = ChangeRequest { until, reason: wanted.reason.clone(), ..ChangeRequest::default() };
    let mut add = |done: Done| {
        sum.matched += done.matched;
        sum.changed += done.changed;
        progress(sum);
    };
    if let Some(seqs) = &wanted.seqs {
        for part in seqs.chunks(PART) {
            let order = ChangeRequest { seqs: Some(part.to_vec()), ..order.clone() };
            add(hands.change(wanted.change, order).await?);
        }
        return Ok(());
    }
    let mut query = Query { limit: Some(PART), ..wanted.query.clone() };
    loop {
        let order = ChangeRequest { filter: Some(query.clone()), ..order.clone() };
        let done = hands.change(wanted.change, order).await?;
        add(done);
        if done.next.is_none() {
            return Ok(());
        }
        query.after = done.next;
    }
}

async fn count(reader: &StoreReader, query: &Query, progress: &ProgressLine) -> Result<u64, Failure> {
    let mut query = Query { limit: Some(PART), ..query.clone() };
    let mut count = 0;
    loop {
        let page = control::lines(reader, &query).await.map_err(Failure::Usage)?;
        count += page.messages.len() as u64;
        progress.show("counting messages", count, 0);
        if page.next.is_none() {
            return Ok(count);
        }
        query.after = page.next.map(Seq::number);
    }
}

fn report(wanted: &Wanted, sum: Done, meant: u64) -> std::io::Result<()> {
    let Done { matched, changed, next: _ } = sum;
    let mut out = std::io::stdout().lock();
    if wanted.json {
        return writeln!(out, "{{\"matched\":{matched},\"changed\":{changed}}}");
    }
    let what = match wanted.change {
        Operation::Redrive => "to be delivered again",
        Operation::Park => "parked",
        Operation::Drop => "removed",
    };
    writeln!(out, "{changed} of {meant} messages {what}")
}
