//! `export`: messages as envelopes, one a line, so that they can be published again elsewhere.

use super::place::{Place, PlaceArguments};
use super::progress::Progress;
use super::{EXIT_FAILED, Ended, Failure, StateName, Which};
use crate::control::{Export, Exported};
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
    /// These messages; all that the options mean when absent.
    seqs: Vec<i64>,
}

/// Writes to standard output. Exit code 1 when a message is damaged; the others are written all the same.
pub(super) async fn run(arguments: ExportArguments) -> Ended {
    let ExportArguments { place, which, state, seqs } = arguments;
    let reader = Place::of(place)?.reader()?;
    let mut export = match (seqs.is_empty(), which.is_any() && state.is_none()) {
        (true, _) => Export::begin(&reader, &which.query(state)).await.map_err(Failure::Usage)?,
        (false, true) => Export::of(seqs),
        (false, false) => {
            return Err(Failure::Usage(
                "expected either numbers of messages or options that choose".to_owned(),
            ));
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let progress = Progress::new();
    let (mut written, mut damaged) = (0, Vec::new());
    while let Some(exported) = export.next(&reader).await? {
        match exported {
            Exported::Envelope(line) => {
                writeln!(out, "{line}")?;
                written += 1;
                progress.show("messages", written, 0);
            }
            Exported::Damaged(seq) => damaged.push(seq),
        }
    }
    out.flush()?;
    drop(progress);
    for seq in &damaged {
        eprintln!("message {seq} is damaged and not written");
    }
    Ok(if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}
