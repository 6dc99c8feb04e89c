//! Exit codes, and what a command prints when it ends with one.

use bytes::Bytes;
use hyper::Response;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// The message is not published, and that is certain.
pub(super) const EXIT_NOT_PUBLISHED: u8 = 1;
/// The command failed, or did only a part, or found a fault in the spool.
pub(super) const EXIT_FAILED: u8 = 1;
/// The command line is wrong. clap exits with the same code.
pub(super) const EXIT_USAGE: u8 = 2;
/// The result is unknown: it may be published, or changed.
pub(super) const EXIT_UNKNOWN: u8 = 3;
/// The configuration is wrong (`EX_USAGE` of sysexits.h).
pub(super) const EXIT_CONFIG: u8 = 64;

/// Prints an error and ends with this code.
pub(super) fn failed(error: &dyn Display, exit: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(exit)
}

/// Prints the sidecar's answer to a publish, and ends with the exit code of its outcome.
pub(super) fn report(response: &Response<Bytes>) -> ExitCode {
    // The exit code tells the outcome, even if the answer cannot be printed.
    if let Err(error) = print(format_args!("{}\n", String::from_utf8_lossy(response.body()))) {
        eprintln!("{error}");
    }
    let outcome = response.headers().get("amqpost-outcome").and_then(|outcome| outcome.to_str().ok());
    ExitCode::from(exit_of(outcome.unwrap_or_default()))
}

/// The exit code for an outcome in the sidecar's words.
pub(super) fn exit_of(outcome: &str) -> u8 {
    match outcome {
        "confirmed" | "spooled" => 0,
        "not_published" => EXIT_NOT_PUBLISHED,
        _ => EXIT_UNKNOWN,
    }
}

/// Prints the result of a command. A reader that closes the pipe has read enough; that is not an
/// error.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
