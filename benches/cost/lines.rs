//! The client of an NDJSON stream: one connection, with a fixed number of lines whose results are
//! outstanding.

use crate::drive::{Gauge, Latencies, Pace};
use crate::subject::QUEUE;
use crate::wire::{Address, connect};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HEAD: &[u8] = b"POST /v1/messages HTTP/1.1\r\nhost: sidecar\r\ncontent-type: application/x-ndjson\r\n\
    transfer-encoding: chunked\r\n\r\n";
const BUFFER: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the stream full until the gauge says stop. Latencies are not measured: results come in any
/// order.
pub(crate) async fn drive_lines(
    address: &Address,
    in_flight: usize,
    bytes: usize,
    gauge: Arc<Gauge>,
) -> Latencies {
    let ended = stream(address, in_flight, bytes, &gauge).await;
    if let Err(error) = ended {
        gauge.fail(error.to_string());
    }
    Latencies { failed: gauge.failed(), ..Latencies::default() }
}

/// Whether the subject has a stream at all: it answers the first line before the request has ended.
pub(crate) async fn are_taken(address: &Address) -> bool {
    let gauge = Gauge::new(Pace::Closed);
    let first = stream(address, 1, 1, &gauge);
    let ended = tokio::time::timeout(PATIENCE, first).await;
    // If it has a stream, the stream goes on until the time is up.
    ended.is_err() && gauge.done() > 0
}

async fn stream(address: &Address, in_flight: usize, bytes: usize, gauge: &Gauge) -> io::Result<()> {
    let line = line_of(bytes);
    let mut stream = connect(address).await?;
    stream.write_all(HEAD).await?;
    stream.write_all(&chunk_of(&line, in_flight)).await?;
    let (mut buffer, mut last, mut is_begun) = (vec![0; BUFFER], 0, false);
    while !gauge.is_stopped() {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !is_begun && !buffer[..read].starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other(String::from_utf8_lossy(&buffer[..read]).into_owned()));
        }
        is_begun = true;
        let results = results_in(&buffer[..read], &mut last);
        if results > 0 {
            gauge.add(results);
            stream.write_all(&chunk_of(&line, results)).await?;
        }
    }
    Ok(())
}

/// Line ends that are not those of HTTP: one for each result.
fn results_in(read: &[u8], last: &mut u8) -> usize {
    let mut results = 0;
    for byte in read {
        results += usize::from(*byte == b'\n' && *last != b'\r');
        *last = *byte;
    }
    results
}

fn line_of(bytes: usize) -> Vec<u8> {
    let payload = "x".repeat(bytes);
    format!("{{\"exchange\":\"amq.default\",\"routing_key\":\"{QUEUE}\",\"payload\":\"{payload}\"}}\n")
        .into_bytes()
}

fn chunk_of(line: &[u8], lines: usize) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", line.len() * lines).into_bytes();
    chunk.extend(line.repeat(lines));
    chunk.extend(b"\r\n");
    chunk
}
