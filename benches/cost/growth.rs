//! Costs that must not grow: with open connections, with destinations, with the size of bodies.

use crate::drive::{Gauge, Pace, drive};
use crate::process::Memory;
use crate::sample::Spread;
use crate::section::{Section, number, shown};
use crate::stage::{Amqpost, Stage};
use crate::subject::Load;
use crate::wire::{Address, Stream, connect};
use std::time::Duration;

const KIB: usize = 1024;
const CONCURRENCY: usize = 64;
/// Bodies of every size are sent at this concurrency: the number of the largest bodies that amqpost
/// takes at a time.
const FEW: usize = 4;

/// Every table of this kind in one.
pub(crate) fn growth(stage: &Stage) -> Section {
    let header = ["what grows", "how many", "requests/s", "CPU µs/request", "RSS MiB"];
    let mut section = Section::begin("growth", "Cost that does not grow", &header);
    section.say(
        "Before a broker that only acks; 1 KiB and 64 at a time unless a row says otherwise.".to_owned(),
    );
    connections(stage, &mut section);
    destinations(stage, &mut section);
    bodies(stage, &mut section);
    section
}

/// One row: rounds of a load, and the memory after them.
fn row(stage: &Stage, section: &mut Section, amqpost: &Amqpost, load: &Load, what: &str, many: &str) {
    let [readings] = stage.interleave([&mut |span| amqpost.tcp.measure(load, span)]);
    let failed: u64 = readings.iter().map(|reading| reading.latencies.failed).sum();
    if failed > 0 {
        section.say(format!("{what}, {many}: {failed} requests failed."));
    }
    section.row(vec![
        what.to_owned(),
        many.to_owned(),
        number(Spread::of(readings.iter().map(|reading| reading.rate())).median),
        shown(Spread::of(readings.iter().map(|reading| reading.cpu()))),
        number(Memory::of(amqpost.pid()).resident as f64 / 1024.0),
    ]);
}

/// Open, idle connections.
fn connections(stage: &Stage, section: &mut Section) {
    let target = stage.sink();
    let settings = [("http.max_connections", "20000"), ("http.idle_timeout", "\"10m\"")];
    let amqpost = stage.amqpost(&target.uri, &settings, true);
    let mut open: Vec<Box<dyn Stream>> = Vec::new();
    for many in [1, 100, 1000, 10_000] {
        let address = amqpost.tcp.address.clone();
        let more = stage.runtime.block_on(open_more(&address, many - open.len()));
        open.extend(more);
        let load = Load::of(CONCURRENCY, KIB);
        row(stage, section, &amqpost, &load, "open HTTP connections", &many.to_string());
    }
}

/// Each connection has had one answer, because amqpost closes connections without a first request.
async fn open_more(address: &Address, many: usize) -> Vec<Box<dyn Stream>> {
    let mut open = Vec::new();
    for _ in 0..many {
        let stream = connect(address).await.expect("there is room");
        open.push(greeted(stream).await);
    }
    open
}

async fn greeted(mut stream: Box<dyn Stream>) -> Box<dyn Stream> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET / HTTP/1.1\r\nhost: sidecar\r\n\r\n").await.expect("it is open");
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).await.expect("it is answered");
    assert!(read > 0, "it is answered");
    stream
}

/// Exchanges and routing keys, which are used in turn.
fn destinations(stage: &Stage, section: &mut Section) {
    let target = stage.sink();
    for (what, path) in [("routing keys", key_path as fn(usize) -> String), ("exchanges", exchange_path)] {
        for many in [1, 100, 10_000] {
            let amqpost = stage.amqpost(&target.uri, &[], true);
            let load = Load::of(CONCURRENCY, KIB).to((0..many).map(path).collect());
            prove_all(stage, &amqpost, &load);
            row(stage, section, &amqpost, &load, what, &many.to_string());
        }
    }
}

fn key_path(number: usize) -> String {
    format!("/v1/exchanges/orders/messages?routing_key=key-{number}")
}

fn exchange_path(number: usize) -> String {
    format!("/v1/exchanges/orders-{number}/messages?routing_key=created")
}

/// Publishes to every destination on both connections a few times, so that all are known before
/// they are measured.
fn prove_all(stage: &Stage, amqpost: &Amqpost, load: &Load) {
    let wanted = load.post.paths.len() as u64 * 4;
    let gauge = Gauge::new(Pace::Closed);
    let (address, post) = (amqpost.tcp.address.clone(), load.post.clone());
    stage.runtime.block_on(async {
        let clients = crate::wire::Http1::connect(&address, &post, CONCURRENCY).await.expect("it accepts");
        let driving = tokio::spawn(drive(clients, std::sync::Arc::clone(&gauge)));
        while gauge.done() < wanted && gauge.failure().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        gauge.stop();
        driving.await.expect("the client does not panic");
    });
}

fn bodies(stage: &Stage, section: &mut Section) {
    let target = stage.sink();
    let sizes = [
        ("10 B", 10),
        ("1 KiB", KIB),
        ("64 KiB", 64 * KIB),
        ("1 MiB", KIB * KIB),
        ("16 MiB", 16 * KIB * KIB),
    ];
    for (name, bytes) in sizes {
        let amqpost = stage.amqpost(&target.uri, &[], true);
        let load = Load::of(FEW, bytes);
        row(stage, section, &amqpost, &load, "bytes of a body, 4 at a time", name);
    }
}
