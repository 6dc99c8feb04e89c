//! `amqpost spool …`: the commands with which an operator inspects and changes the spool.
//!
//! Commands that only look use a read-only connection, even while a sidecar runs. Changes go
//! through the control socket of the sidecar that has the spool. If no process has it, the command
//! itself opens it for a moment.

mod change;
mod export;
mod look;
mod place;
mod progress;
mod table;
mod verify;

use super::exit::{EXIT_FAILED, EXIT_UNKNOWN, EXIT_USAGE};
use crate::spool::store::{OpenError, ReadError};
use clap::{Args, Subcommand};
use std::collections::HashSet;
use std::io;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct SpoolArguments {
    #[command(subcommand)]
    command: SpoolCommand,
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// Show how much is in the spool, for which destinations, and the state of its sidecar.
    Status(look::StatusArguments),
    /// List messages, without their contents.
    Ls(look::ListArguments),
    /// Show one message, or write its payload.
    Show(look::ShowArguments),
    /// Deliver parked messages again.
    Redrive(change::RedriveArguments),
    /// Park messages: keep them and stop delivering them.
    Park(change::ParkArguments),
    /// Remove messages for ever.
    Drop(change::DropArguments),
    /// Write messages as envelopes for POST /v1/messages, one JSON document per line.
    Export(export::ExportArguments),
    /// Check every page, message and counter of the spool.
    Verify(verify::VerifyArguments),
}

/// The options that select messages.
#[derive(Debug, Clone, Default, Args)]
struct Which {
    /// Only messages to this exchange; amq.default is the default exchange.
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// Only messages with this routing key.
    #[arg(long, value_name = "KEY")]
    routing_key: Option<String>,
    /// Only messages parked for this reason, such as unroutable or expired.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum StateName {
    /// To be delivered.
    Ready,
    /// Kept for an operator.
    Parked,
}

impl StateName {
    fn as_str(self) -> &'static str {
        match self {
            StateName::Ready => "ready",
            StateName::Parked => "parked",
        }
    }
}

/// The given numbers, each once: a number given twice must not count as a missing message.
fn distinct(mut seqs: Vec<i64>) -> Vec<i64> {
    let mut seen = HashSet::new();
    seqs.retain(|seq| seen.insert(*seq));
    seqs
}

/// Reports how many of the given numbers are not in the spool.
fn missing(named: usize, found: u64) -> ExitCode {
    match (named as u64).saturating_sub(found) {
        0 => ExitCode::SUCCESS,
        missing => {
            let are = if missing == 1 { "is" } else { "are" };
            eprintln!("{missing} of them {are} not in the spool");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// How a command failed.
#[derive(Debug)]
enum Failure {
    /// The configuration is not valid; its problems were printed.
    Config(ExitCode),
    Usage(String),
    Failed(String),
    /// A change was sent and not answered.
    Unknown(String),
    /// The reader of the output has closed the pipe, as in `… | head`.
    NobodyReads,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure::Failed(error.to_string())
    }
}

type Ended = Result<ExitCode, Failure>;

/// Runs the command; returns the exit code.
pub(super) fn run(arguments: SpoolArguments) -> ExitCode {
    let ended = super::client::block_on(async {
        match arguments.command {
            SpoolCommand::Status(arguments) => look::status(arguments).await,
            SpoolCommand::Ls(arguments) => look::list(arguments).await,
            SpoolCommand::Show(arguments) => look::show(arguments).await,
            SpoolCommand::Redrive(arguments) => change::redrive(arguments).await,
            SpoolCommand::Park(arguments) => change::park(arguments).await,
            SpoolCommand::Drop(arguments) => change::drop_messages(arguments).await,
            SpoolCommand::Export(arguments) => export::run(arguments).await,
            SpoolCommand::Verify(arguments) => verify::run(arguments).await,
        }
    });
    let (said, exit) = match ended.map_err(Failure::from).and_then(|ended| ended) {
        Ok(exit) | Err(Failure::Config(exit)) => return exit,
        Err(Failure::NobodyReads) => return ExitCode::SUCCESS,
        Err(Failure::Usage(said)) => (said, EXIT_USAGE),
        Err(Failure::Failed(said)) => (said, EXIT_FAILED),
        Err(Failure::Unknown(said)) => (said, EXIT_UNKNOWN),
    };
    eprintln!("{said}");
    ExitCode::from(exit)
}
