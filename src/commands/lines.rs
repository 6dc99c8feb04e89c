//! `amqpost publish --lines`: publishes a file of envelopes, one per line, and prints an answer for
//! each.

use super::client::{self, ClientError, Target};
use super::exit::{EXIT_NOT_PUBLISHED, EXIT_UNKNOWN, exit_of, failed, report};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the answers may pause: longer than the longest idle timeout that a sidecar can have.
const SILENCE_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Bytes read from the file at once.
const CHUNK: usize = 64 * 1024;

/// The part of an answer that decides the exit code.
#[derive(Deserialize)]
struct Answer<'a> {
    outcome: &'a str,
}

/// Why the answers ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answers broke off: {0}")]
    Answers(String),
    #[error("the answers cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

/// Prints the answers as they arrive. Exit code 0: all messages are safe; 1: some are not
/// published; 3: the outcome of some is unknown.
pub(super) fn run(to: &Target, headers: &[(String, String)], file: &str) -> ExitCode {
    let lines: Box<dyn Read + Send> = match file {
        "-" => Box::new(std::io::stdin()),
        path => match std::fs::File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => return failed(&format!("{path}: {error}"), EXIT_NOT_PUBLISHED),
        },
    };
    match client::block_on(publish(to, headers, lines)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(error @ Broken::Client(ClientError::Connect(..)))) => failed(&error, EXIT_NOT_PUBLISHED),
        Ok(Err(error)) => failed(&error, EXIT_UNKNOWN),
        Err(error) => failed(&error, EXIT_NOT_PUBLISHED),
    }
}

async fn publish(
    to: &Target,
    headers: &[(String, String)],
    lines: Box<dyn Read + Send>,
) -> Result<ExitCode, Broken> {
    let (sender, receiver) = mpsc::channel(1);
    // A thread, because a read from a terminal or a pipe cannot be cancelled. It ends with the
    // process.
    std::thread::spawn(move || feed(lines, &sender));
    let body = stream::unfold(receiver, async |mut receiver| {
        let chunk: Bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(chunk)), receiver))
    });
    let mut request = Request::post("/v1/messages").header("host", "amqpost");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.header(CONTENT_TYPE, "application/x-ndjson").body(StreamBody::new(Box::pin(body)));
    let request = request.map_err(|error| ClientError::Http(error.to_string()))?;
    let (response, driver) = client::begin(to, request, client::ANSWER_WITHIN).await?;
    let exit = if response.status().is_success() {
        answers(response.into_body()).await
    } else {
        Ok(report(&client::whole(response, client::ANSWER_WITHIN).await?))
    };
    driver.abort();
    exit
}

/// Sends the file chunk by chunk, as fast as the sidecar reads it. A read error is printed and ends
/// the file.
fn feed(mut lines: impl Read, sender: &mpsc::Sender<Bytes>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match lines.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                if sender.blocking_send(Bytes::copy_from_slice(&chunk[..count])).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                eprintln!("{error}");
                return;
            }
        }
    }
}

async fn answers(mut body: Incoming) -> Result<ExitCode, Broken> {
    let (mut rest, mut worst, mut output) = (BytesMut::new(), 0, std::io::stdout().lock());
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let Some(frame) = frame.map_err(|_| ClientError::Timeout(SILENCE_MAX))? else {
            return Ok(ExitCode::from(worst));
        };
        let frame = frame.map_err(|error| Broken::Answers(error.to_string()))?;
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(end + 1);
            output.write_all(&line)?;
            let answer = serde_json::from_slice(&line);
            worst = worst.max(answer.map_or(EXIT_UNKNOWN, |Answer { outcome }| exit_of(outcome)));
        }
        output.flush()?;
    }
}
