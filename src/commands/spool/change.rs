//! `redrive`, `park` and `drop`.

use super::place::{Hands, Place, PlaceArguments};
use super::progress::Progress;
use super::{EXIT_FAILED, Ended, Failure, StateName, Which};
use crate::control::{self, Change, Done, Order, Query};
use clap::Args;
use std::process::ExitCode;

/// Messages changed with one request.
const PART: usize = 1000;

/// Which messages a change is about.
#[derive(Args)]
struct Chosen {
    /// The messages' numbers; either these, or options that choose, or --all.
    seqs: Vec<i64>,
    #[command(flatten)]
    which: Which,
    /// All of them.
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
    /// What a list is to say of why.
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
    /// Needed to remove more than one.
    #[arg(long)]
    yes: bool,
}

/// What is asked for, over all parts.
struct Wanted {
    change: Change,
    seqs: Option<Vec<i64>>,
    query: Query,
    reason: Option<String>,
    json: bool,
}

impl Wanted {
    fn new(change: Change, chosen: Chosen, state: Option<StateName>) -> Result<Self, Failure> {
        let Chosen { seqs, which, all, json } = chosen;
        let choices = [!seqs.is_empty(), !which.is_any(), all].into_iter().filter(|given| *given).count();
        // A state alone is no choice: "all that are parked" is what --all says as well.
        if choices != 1 {
            return Err(Failure::Usage(
                "expected either numbers of messages, or --exchange, --routing-key or --reason, or --all"
                    .to_owned(),
            ));
        }
        let seqs = Some(seqs).filter(|seqs| !seqs.is_empty());
        Ok(Self { change, seqs, query: which.query(state), reason: None, json })
    }
}

pub(super) async fn redrive(arguments: RedriveArguments) -> Ended {
    let wanted = Wanted::new(Change::Redrive, arguments.chosen, Some(StateName::Parked))?;
    run(arguments.place, wanted, true).await
}

pub(super) async fn park(arguments: ParkArguments) -> Ended {
    let wanted = Wanted::new(Change::Park, arguments.chosen, Some(StateName::Ready))?;
    run(arguments.place, Wanted { reason: Some(arguments.because), ..wanted }, true).await
}

pub(super) async fn drop_messages(arguments: DropArguments) -> Ended {
    let wanted = Wanted::new(Change::Drop, arguments.chosen, arguments.state)?;
    run(arguments.place, wanted, arguments.yes).await
}

async fn run(place: PlaceArguments, wanted: Wanted, sure: bool) -> Ended {
    let place = Place::of(place)?;
    let reader = place.reader()?;
    let (total, until) = match &wanted.seqs {
        Some(seqs) => (seqs.len() as u64, None),
        None => (count(&reader, &wanted.query).await?, Some(reader.newest().await?.number())),
    };
    drop(reader);
    if total > 1 && !sure {
        return Err(Failure::Usage(format!(
            "this means {total} messages; say --yes to remove them for ever"
        )));
    }
    let hands = place.hands().await?;
    let progress = Progress::new();
    let ended = all_parts(&hands, &wanted, until, |done| {
        progress.show("messages", done.matched, total);
    });
    let (sum, ended) = ended.await;
    drop(progress);
    hands.done();
    report(&wanted, sum);
    ended?;
    // Numbers were given, and some of them are not there: said, and not passed over.
    let missing = wanted.seqs.is_some() && sum.matched < total;
    if missing {
        eprintln!("{} of them are not in the spool", total - sum.matched);
    }
    Ok(if missing { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

/// Changes part by part; how much was done, also when it ended early.
async fn all_parts(
    hands: &Hands,
    wanted: &Wanted,
    until: Option<i64>,
    progress: impl Fn(Done),
) -> (Done, Result<(), Failure>) {
    let mut sum = Done::default();
    let order = Order { until, reason: wanted.reason.clone(), ..Order::default() };
    let mut add = |done: Done| {
        sum.matched += done.matched;
        sum.changed += done.changed;
        progress(sum);
    };
    if let Some(seqs) = &wanted.seqs {
        for part in seqs.chunks(PART) {
            match hands.change(wanted.change, Order { seqs: Some(part.to_vec()), ..order.clone() }).await {
                Ok(done) => add(done),
                Err(failure) => return (sum, Err(failure)),
            }
        }
        return (sum, Ok(()));
    }
    let mut query = Query { limit: Some(PART), ..wanted.query.clone() };
    loop {
        match hands.change(wanted.change, Order { filter: Some(query.clone()), ..order.clone() }).await {
            Ok(done) => {
                add(done);
                if done.next.is_none() {
                    return (sum, Ok(()));
                }
                query.after = done.next;
            }
            Err(failure) => return (sum, Err(failure)),
        }
    }
}

async fn count(reader: &crate::spool::store::StoreReader, query: &Query) -> Result<u64, Failure> {
    let mut query = Query { limit: Some(PART), ..query.clone() };
    let mut count = 0;
    loop {
        let page = control::lines(reader, &query).await.map_err(Failure::Usage)?;
        count += page.messages.len() as u64;
        if page.next.is_none() {
            return Ok(count);
        }
        query.after = page.next;
    }
}

fn report(wanted: &Wanted, sum: Done) {
    let Done { matched, changed, next: _ } = sum;
    if wanted.json {
        println!("{{\"matched\":{matched},\"changed\":{changed}}}");
        return;
    }
    let what = match wanted.change {
        Change::Redrive => "to be delivered again",
        Change::Park => "parked",
        Change::Drop => "removed",
    };
    println!("{changed} of {matched} messages {what}");
}
