//! The command line: `serve`, `check`, `health`, `publish`, `spool`.

mod client;
mod health;
mod lines;
mod publish;
mod serve;
mod spool;

use crate::config::{Config, Sources};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// The configuration is wrong (EX_USAGE, as the contract fixes it).
const EXIT_CONFIG: u8 = 64;

/// Publishes to RabbitMQ for applications that speak HTTP, and tells the truth about each message.
#[derive(Parser)]
#[command(name = "amqpost", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the sidecar until SIGTERM or SIGINT.
    Serve(ConfigArguments),
    /// Check the configuration, print it with secrets redacted, and exit.
    Check(ConfigArguments),
    /// Ask a running sidecar whether it is alive; for container health checks.
    Health(health::HealthArguments),
    /// Publish a message, or a file of them, through a running sidecar.
    Publish(publish::PublishArguments),
    /// Look into the spool, and change what is in it.
    Spool(spool::SpoolArguments),
}

/// Where the configuration comes from. Defaults < file < environment < flags.
///
/// Deliberately without `Debug`: a value may be a password.
#[derive(Args)]
struct ConfigArguments {
    /// A TOML file.
    #[arg(long, env = "AMQPOST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, such as broker.connections=4; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl ConfigArguments {
    /// The valid configuration, or the exit code after every problem was printed.
    fn load(self) -> Result<Config, ExitCode> {
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        let sources = Sources { file: self.config, environment, flags: self.set };
        Config::load(&sources).map_err(|problems| {
            eprintln!("the configuration is not valid:\n{problems}");
            ExitCode::from(EXIT_CONFIG)
        })
    }
}

/// Prints what a command is asked for. Whoever closes the pipe has read enough, and is no reason for a panic.
fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Runs the process's command line; the exit code.
#[must_use]
pub fn run() -> ExitCode {
    match CommandLine::parse().command {
        Command::Serve(arguments) => match arguments.load() {
            Ok(config) => serve::run(config),
            Err(exit) => exit,
        },
        Command::Check(arguments) => match arguments.load() {
            Ok(config) => match print(format_args!("{}\n", config.effective())) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => health::failed(&error),
            },
            Err(exit) => exit,
        },
        Command::Health(arguments) => health::run(&arguments),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Spool(arguments) => spool::run(arguments),
    }
}
