//! Compares a stream with single requests and with the library itself, in time and CPU, and
//! measures the memory of a million lines.

use crate::harness::*;
use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const IN_FLIGHT: usize = 256;
const LINES_IN_A_CHUNK: usize = 200;
const PAYLOAD: &str =
    "a message of a hundred bytes, as long as many are that say what happened to an order, and to which";

/// A queue that keeps the newest thousand, and a sidecar for it with its link up.
async fn scene(vhost: &str) -> (AmqpClient, Sidecar) {
    let vhost = shared().await.vhost(vhost).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([("x-max-length", 1_000.into())])).await;
    (client, Sidecar::up(&vhost.uri()).await)
}

fn rate(count: usize, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Sends `count` lines as fast as possible and counts the confirmed ones; returns lines a second.
async fn streamed(sidecar: &Sidecar, count: usize) -> f64 {
    let socket = TcpStream::connect(sidecar.http()).await.expect("the sidecar listens");
    let (mut from, mut to) = socket.into_split();
    let line = format!(r#"{{"exchange":"amq.default","routing_key":"orders","payload":"{PAYLOAD}"}}"#) + "\n";
    let lines = line.repeat(LINES_IN_A_CHUNK);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
        transfer-encoding: chunked\r\n\r\n";
        to.write_all(head.as_bytes()).await.expect("taken");
        for _ in 0..count / LINES_IN_A_CHUNK {
            to.write_all(chunk.as_bytes()).await.expect("taken");
        }
        to.write_all(b"0\r\n\r\n").await.expect("taken");
        to
    });
    let (mut confirmed, mut read, mut kept) = (0, vec![0; 256 * 1024], 0);
    let marker = b"\"code\":\"confirmed\"";
    while confirmed < count {
        let more = from.read(&mut read[kept..]).await.expect("the answer goes on");
        assert!(more > 0, "it ends after {confirmed}");
        let filled = kept + more;
        let found: Vec<_> = memchr::memmem::find_iter(&read[..filled], marker).collect();
        confirmed += found.len();
        // The end may be the beginning of a marker.
        let begin =
            found.last().map_or(0, |last| last + marker.len()).max(filled.saturating_sub(marker.len() - 1));
        read.copy_within(begin..filled, 0);
        kept = filled - begin;
    }
    drop(sending.await.expect("no panic"));
    rate(count, begun)
}

/// The same with a request for each, over one connection.
async fn requested(sidecar: &Sidecar, count: usize) -> f64 {
    let socket = TokioIo::new(TcpStream::connect(sidecar.http()).await.expect("the sidecar listens"));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket);
    let (sender, connection) = handshake.await.expect("a connection");
    let driver = tokio::spawn(connection);
    let begun = Instant::now();
    let answers = stream::iter(0..count).map(|_| {
        let mut sender = sender.clone();
        async move {
            let request = Request::post("http://sidecar/v1/queues/orders/messages");
            let request = request.body(Full::new(bytes::Bytes::from_static(PAYLOAD.as_bytes())));
            let response = sender.send_request(request.expect("valid")).await.expect("answered");
            assert_eq!(response.status().as_u16(), 200);
            response.into_body().collect().await.expect("whole");
        }
    });
    answers.buffer_unordered(IN_FLIGHT).for_each(|()| async {}).await;
    driver.abort();
    rate(count, begun)
}

/// The same with the library itself, over one channel.
async fn published(client: &AmqpClient, count: usize) -> f64 {
    let channel = client.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let begun = Instant::now();
    let mut confirms = FuturesUnordered::new();
    for _ in 0..count {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = channel.basic_publish("".into(), "orders".into(), options, PAYLOAD.as_bytes(), properties);
        confirms.push(sent.await.expect("sent"));
        while confirms.len() >= IN_FLIGHT {
            confirms.next().await.expect("one is under way").expect("confirmed");
        }
        while let Some(Some(confirm)) = confirms.next().now_or_never() {
            confirm.expect("confirmed");
        }
    }
    while let Some(confirm) = confirms.next().await {
        confirm.expect("confirmed");
    }
    rate(count, begun)
}

/// Resident memory in KiB, as Linux reports it.
fn resident(sidecar: &Sidecar, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux tells");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// CPU time that the sidecar has used, in seconds.
fn cpu(sidecar: &Sidecar) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sidecar.pid())).expect("it runs");
    let behind_name = stat.rsplit(") ").next().expect("a name in brackets");
    let ticks = behind_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// The rate of `load`, and the sidecar's CPU time for one of its messages, in microseconds.
async fn with_cost(sidecar: &Sidecar, count: usize, load: impl Future<Output = f64>) -> (f64, f64) {
    let before = cpu(sidecar);
    let rate = load.await;
    (rate, (cpu(sidecar) - before) * 1e6 / count as f64)
}

/// The median of five.
fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure for a quiet machine and a release build; prints it"]
async fn a_stream_keeps_up_with_the_library_and_costs_less_than_requests() {
    let (client, sidecar) = scene("stream_rates").await;
    let (mut rates, mut costs, mut by_library) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..5 {
        let (requests, request_cost) = with_cost(&sidecar, 20_000, requested(&sidecar, 20_000)).await;
        let (lines, line_cost) = with_cost(&sidecar, 60_000, streamed(&sidecar, 60_000)).await;
        let library = published(&client, 60_000).await;
        println!(
            "round {round}: requests {requests:.0}/s at {request_cost:.1} us of CPU, lines {lines:.0}/s \
            at {line_cost:.1} us, library {library:.0}/s"
        );
        rates.push(lines / requests);
        costs.push(request_cost / line_cost);
        by_library.push(lines / library);
    }
    let (rate, cost, by_library) = (median(rates), median(costs), median(by_library));
    println!("medians: lines to requests {rate:.2}, in CPU 1 to {cost:.2}; lines to library {by_library:.2}");
    assert!(by_library >= 0.9 && cost >= 1.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure for a quiet machine and a release build; prints it"]
async fn a_million_lines_take_no_more_memory_than_a_few() {
    let (_client, sidecar) = scene("stream_million").await;
    streamed(&sidecar, 10_000).await;
    let before = resident(&sidecar, "VmRSS");
    let rate = streamed(&sidecar, 1_000_000).await;
    let growth = resident(&sidecar, "VmHWM").saturating_sub(before);
    println!("1000000 lines at {rate:.0}/s; resident {before} KiB before, at most {growth} KiB more");
    assert!(growth <= 32 * 1024, "{growth} KiB");
}
