//! The command line: `serve`, `check`, `health`, `publish`, `spool`.

mod client;
mod exit;
mod health;
mod lines;
mod publish;
mod serve;
mod spool;

use crate::config::{Config, Sources};
use clap::{Args, Parser, Subcommand};
use exit::{EXIT_CONFIG, failed, print};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Ask a running sidecar whether it is alive, for container health checks.
    Health(health::HealthArguments),
    /// Publish a message, or a file of messages, through a running sidecar.
    Publish(publish::PublishArguments),
    /// Inspect the spool and change its messages.
    Spool(spool::SpoolArguments),
}

/// The sources of the configuration. The file overrides the defaults, the environment the file, and
/// flags the environment.
///
/// Deliberately without `Debug`: a value may be a password.
#[derive(Args)]
struct ConfigArguments {
    /// The TOML file.
    #[arg(long, env = "AMQPOST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, such as broker.connections=4. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl ConfigArguments {
    /// The valid configuration, or the exit code after printing every problem.
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

/// Runs the command line of the process and returns its exit code.
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
                Err(error) => failed(&error, 1),
            },
            Err(exit) => exit,
        },
        Command::Health(arguments) => health::run(&arguments),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Spool(arguments) => spool::run(arguments),
    }
}
