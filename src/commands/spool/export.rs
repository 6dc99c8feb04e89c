//! `export`: writes messages as envelopes, one per line, to publish them elsewhere.

use super::place::{PlaceArguments, SpoolPlace};
use super::progress::ProgressLine;
use super::{Ended, Failure, StateName, Which, distinct, missing};
use crate::commands::exit::EXIT_FAILED;
use crate::control::{self, Export, Exported};
use crate::spool::store::StoreReader;
use clap::Args;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    which: Which,
    /// Only messages in this state.
    #[arg(long)]
    state: Option<StateName>,
    /// The numbers of the messages. Without numbers, all messages that the options select.
    seqs: Vec<i64>,
    /// Accepted as in the other commands. The output always has one JSON document per line.
    #[arg(long)]
    json: bool,
}

/// Writes to standard output. Exit code 1 if a message is damaged or missing; the others are
/// written.
pub(super) async fn run(arguments: ExportArguments) -> Ended {
    let ExportArguments { place, which, state, seqs, json: _ } = arguments;
    let seqs = distinct(seqs);
    let chooses = !which.is_any() || state.is_some();
    if chooses && !seqs.is_empty() {
        return Err(Failure::Usage("expected either numbers of messages or options that choose".to_owned()));
    }
    let reader = SpoolPlace::of(place)?.reader()?;
    let named = seqs.len();
    let (mut export, total) = match named {
        0 => {
            let total = total(&reader, &which, state).await?;
            (Export::begin(&reader, &which.query(state)).await.map_err(Failure::Usage)?, total)
        }
        named => (Export::of(seqs), named as u64),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let progress = ProgressLine::beside_lines();
    let (mut written, mut damaged) = (0, Vec::new());
    while let Some(exported) = export.next(&reader).await? {
        match exported {
            Exported::Envelope(line) => {
                writeln!(out, "{line}")?;
                written += 1;
                progress.show("messages", written, total);
            }
            Exported::Damaged(seq) => damaged.push(seq),
        }
    }
    out.flush()?;
    drop(progress);
    for seq in &damaged {
        eprintln!("message {seq} is damaged and not written");
    }
    let ended = missing(named, written + damaged.len() as u64);
    Ok(if damaged.is_empty() { ended } else { ExitCode::from(EXIT_FAILED) })
}

/// The number of messages to write, if one query tells it; otherwise 0.
async fn total(reader: &StoreReader, which: &Which, state: Option<StateName>) -> Result<u64, Failure> {
    if !which.is_any() {
        return Ok(0);
    }
    let held = control::status(reader, 0).await?.held;
    Ok(match state {
        None => held.ready + held.parked,
        Some(StateName::Ready) => held.ready,
        Some(StateName::Parked) => held.parked,
    })
}
