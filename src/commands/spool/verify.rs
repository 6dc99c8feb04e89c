//! `verify`: checks the spool for damage.

use super::place::{PlaceArguments, SpoolPlace};
use super::progress::ProgressLine;
use super::{Ended, table};
use crate::commands::exit::EXIT_FAILED;
use crate::control::{self, Report};
use crate::spool::store::VerifyProgress;
use clap::Args;
use std::io::Write;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 if there is a fault.
pub(super) async fn run(arguments: VerifyArguments) -> Ended {
    let reader = SpoolPlace::of(arguments.place)?.reader()?;
    let progress = ProgressLine::new();
    let report = control::report(&reader, |step| match step {
        VerifyProgress::Structure => progress.show("looking at the database", 0, 0),
        VerifyProgress::Records(done, total) => progress.show("messages", done, total),
        VerifyProgress::Counters => progress.show("counting", 0, 0),
    });
    let report = report.await?;
    drop(progress);
    let text = if arguments.json {
        serde_json::to_string(&report).expect("texts and numbers always serialise") + "\n"
    } else {
        people(&report)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if report.sound { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

pub(super) fn people(Report { sound, found }: &Report) -> String {
    let mut text = String::new();
    let mut say = |line: String| text.push_str(&(line + "\n"));
    for line in &found.structure {
        say(format!("database: {}", table::plain(line)));
    }
    for seq in &found.damaged {
        say(format!("message {seq} is not what was stored"));
    }
    let unnamed = found.damaged_count - found.damaged.len() as u64;
    if unnamed > 0 {
        say(format!("and {unnamed} more messages are not"));
    }
    for wrong in &found.counters {
        let of = wrong.destination.as_ref().map_or("an unknown destination".to_owned(), |of| {
            format!("{} / {}", table::exchange(of), table::plain(of.routing_key.as_str()))
        });
        say(format!("{of}: {} says {}, there are {}", wrong.counter, wrong.says, wrong.is));
    }
    if let Some(lost) = found.lost {
        say(format!("messages {} were answered for and are gone", table::lost_range(lost)));
    }
    let verdict = if *sound { "sound" } else { "NOT SOUND" };
    say(format!("{} messages looked at: {verdict}", found.records));
    text
}
