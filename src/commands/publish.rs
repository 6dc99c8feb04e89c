//! `amqpost publish`: publishes a message through a running sidecar, for shell scripts and first
//! steps.

use super::client::{self, Target};
use super::exit::{EXIT_NOT_PUBLISHED, EXIT_UNKNOWN, failed, report};
use super::lines;
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::Request;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct PublishArguments {
    /// The sidecar's listener.
    #[arg(long, default_value = "127.0.0.1:8672", value_name = "HOST:PORT|unix:PATH")]
    to: Target,
    /// The exchange to publish to. One of --exchange, --queue and --lines is required.
    #[arg(long, conflicts_with = "queue", required_unless_present_any = ["queue", "lines"])]
    exchange: Option<String>,
    /// The routing key.
    #[arg(long, conflicts_with = "queue", default_value = "")]
    routing_key: String,
    /// The queue to publish to, through the default exchange.
    #[arg(long)]
    queue: Option<String>,
    /// An HTTP header, such as "Amqp-Type: order". May be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Read the payload from this file instead of standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    file: Option<PathBuf>,
    /// Publish the envelopes in this file, one per line, and print each answer as it arrives. "-"
    /// is standard input.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["exchange", "routing_key", "queue", "file", "payload"]
    )]
    lines: Option<String>,
    /// The payload. Without it and without --file, standard input is the payload.
    payload: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Prints the answer. Exit code 0: the message is safe; 1: it is not published; 3: its outcome is
/// unknown.
pub(super) fn run(arguments: PublishArguments) -> ExitCode {
    if let Some(file) = &arguments.lines {
        return lines::run(&arguments.to, &arguments.headers, file);
    }
    let request = match request(&arguments) {
        Ok(request) => request,
        Err(error) => return failed(&error, EXIT_NOT_PUBLISHED),
    };
    match client::block_on(client::send(&arguments.to, request, client::ANSWER_WITHIN)) {
        Ok(Ok(response)) => report(&response),
        Ok(Err(error @ client::ClientError::Connect(..))) => failed(&error, EXIT_NOT_PUBLISHED),
        Ok(Err(error @ (client::ClientError::Http(_) | client::ClientError::Timeout(_)))) => {
            failed(&error, EXIT_UNKNOWN)
        }
        Err(error) => failed(&error, EXIT_NOT_PUBLISHED),
    }
}

fn request(arguments: &PublishArguments) -> Result<Request<Full<Bytes>>, String> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let path = match (&arguments.queue, &arguments.exchange) {
        (Some(queue), _) => format!("/v1/queues/{}/messages", encode(queue)),
        (None, exchange) => format!(
            "/v1/exchanges/{}/messages?routing_key={}",
            encode(exchange.as_deref().unwrap_or_default()),
            encode(&arguments.routing_key)
        ),
    };
    let mut request = Request::post(path).header("host", "amqpost");
    for (name, value) in &arguments.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(payload(arguments)?)).map_err(|error| error.to_string())
}

fn payload(arguments: &PublishArguments) -> Result<Bytes, String> {
    match (&arguments.payload, &arguments.file) {
        (Some(payload), _) => Ok(Bytes::from(payload.clone())),
        (None, Some(file)) => {
            std::fs::read(file).map(Bytes::from).map_err(|error| format!("{}: {error}", file.display()))
        }
        (None, None) => {
            let mut payload = Vec::new();
            std::io::stdin().lock().read_to_end(&mut payload).map_err(|error| error.to_string())?;
            Ok(Bytes::from(payload))
        }
    }
}
