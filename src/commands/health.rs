//! `amqpost health`: asks a sidecar whether it is alive, for container health checks in an image
//! without curl.

use super::client::{self, Target};
use super::exit::{failed, print};
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::Request;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// The admin listener of the sidecar.
    #[arg(long, env = "AMQPOST__ADMIN__LISTEN", default_value = "127.0.0.1:9672", value_name = "HOST:PORT")]
    admin: Target,
    /// Ask for readiness instead of liveness.
    #[arg(long)]
    ready: bool,
}

/// Prints the answer. Exit code 0: the answer is 200; 1: anything else.
pub(super) fn run(arguments: &HealthArguments) -> ExitCode {
    let path = if arguments.ready { "/readyz" } else { "/livez" };
    let request = Request::get(path)
        .header("host", "amqpost")
        .body(Full::new(Bytes::new()))
        .expect("the path and the header are valid");
    match client::block_on(client::send(&arguments.admin, request, Duration::from_secs(3))) {
        Ok(Ok(response)) => {
            // The exit code tells the answer, even if it cannot be printed.
            if let Err(error) = print(String::from_utf8_lossy(response.body())) {
                eprintln!("{error}");
            }
            if response.status().is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(Err(error)) => failed(&error, 1),
        Err(error) => failed(&error, 1),
    }
}
