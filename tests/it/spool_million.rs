//! A flood of messages through HTTP and the drain: all arrive in order, in bounded memory, and the
//! disk is free again.

use crate::harness::*;
use futures::future::join_all;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;

/// Requests that a client writes before it reads their answers.
const PIPELINED: usize = 8;

/// The largest permitted resident memory of the process.
const MEMORY_KIB: u64 = 128 << 10;

/// The largest permitted size on disk at the end: SQLite's log, and the files of an empty store.
const LEFT_BYTES: u64 = 20 << 20;

/// The number of arrivals, and their faults.
#[derive(Debug, Default)]
struct Tally {
    /// The next number for each key.
    next: HashMap<String, usize>,
    distinct: usize,
    repeated: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, id: &str, marked: bool) {
        let (key, number) = id.rsplit_once('-').expect("ids end in their number");
        let number: usize = number.parse().expect("ids end in their number");
        if !self.next.contains_key(key) {
            self.next.insert(key.to_owned(), 0);
        }
        let next = self.next.get_mut(key).expect("it was just put there");
        if number == *next {
            *next += 1;
            self.distinct += 1;
        } else if number < *next {
            self.repeated += 1;
            if !marked {
                self.wrong.push(format!("{id} arrived again without a mark"));
            }
        } else {
            self.wrong.push(format!("{id} arrived when {next} was next"));
        }
    }

    /// Consumes a queue, until the end of the test.
    async fn of(client: &AmqpClient, queue: &str) -> Arc<Mutex<Self>> {
        let channel = client.channel().await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consuming = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let mut consumer = consuming.await.expect("the queue can be consumed");
        let tally = Arc::new(Mutex::new(Self::default()));
        let noting = Arc::clone(&tally);
        tokio::spawn(async move {
            let _channel = channel;
            while let Some(Ok(delivery)) = consumer.next().await {
                let headers = delivery.properties.headers().as_ref();
                let marked = headers.is_some_and(|all| all.inner().contains_key("x-amqpost-redelivered"));
                let id = delivery.properties.message_id().as_ref().expect("every message has an id").as_str();
                noting.lock().expect("no panic").note(id, marked);
            }
        });
        tally
    }
}

/// Publishes `count` messages of a key over one connection, each after the answer to the previous
/// one, while the answer is 202.
async fn publish(address: &str, key: &str, count: usize, accepted: &AtomicUsize) {
    let mut socket = TcpStream::connect(address).await.expect("the sidecar listens");
    let mut answers = Vec::new();
    for begin in (0..count).step_by(PIPELINED) {
        let numbers = begin..(begin + PIPELINED).min(count);
        let mut requests = String::new();
        for number in numbers.clone() {
            let id = format!("{key}-{number}");
            write!(
                requests,
                "POST /v1/exchanges/flood/messages?routing_key={key} HTTP/1.1\r\nhost: {address}\r\n\
                 amqp-message-id: {id}\r\namqpost-mode: spool\r\ncontent-length: {}\r\n\r\n{id}",
                id.len()
            )
            .expect("a string grows");
        }
        socket.write_all(requests.as_bytes()).await.expect("the sidecar reads");
        for _ in numbers {
            let answer = answer(&mut socket, &mut answers).await;
            assert!(answer.starts_with("HTTP/1.1 202 "), "{key}: {answer}");
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The next answer; bytes beyond it stay in `read`.
async fn answer(socket: &mut TcpStream, read: &mut Vec<u8>) -> String {
    loop {
        if let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&read[..head]).into_owned();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let body: usize = length.and_then(|length| length.parse().ok()).expect("answers have a length");
            if read.len() >= head + 4 + body {
                let answer = String::from_utf8_lossy(&read[..head + 4 + body]).into_owned();
                read.drain(..head + 4 + body);
                return answer;
            }
        }
        let some = socket.read_buf(read).await.expect("the sidecar answers");
        assert!(some > 0, "the sidecar closed a connection");
    }
}

/// `each` messages for each of `keys` keys, while the broker is away for two fifths of them.
async fn flood(name: &str, keys: usize, each: usize, patience: Duration) {
    let vhost = shared().await.vhost(name).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_exchange("flood", lapin::ExchangeKind::Topic).await;
    client.declare_queue("all", true, arguments([])).await;
    client.bind("all", "flood", "#").await;
    let tally = Tally::of(&client, "all").await;
    let distinct = || tally.lock().expect("no panic").distinct;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let spool = SpoolDir::new();
    let sidecar = Sidecar::builder(&vhost.uri_via(proxy.port()))
        .set("spool.path", &spool.setting())
        .set("spool.drain_rate", "100000")
        .set("spool.max_bytes", "\"4GiB\"")
        .set("spool.destination_percent", "100")
        .set("publish.timeout", "\"60s\"");
    let sidecar = sidecar.start().await.with_link_up().await;
    let all = keys * each;
    let (begun, accepted) = (Instant::now(), AtomicUsize::new(0));
    let names: Vec<String> = (0..keys).map(|key| format!("k{key}")).collect();
    let publishing = join_all(names.iter().map(|key| publish(sidecar.http(), key, each, &accepted)));
    let outage = async {
        let reach = async |part: usize| {
            eventually("this many are answered", patience, async || {
                let seen = accepted.load(Ordering::Relaxed);
                if seen >= part { Ok(()) } else { Err(seen) }
            })
            .await;
        };
        reach(all / 5).await;
        proxy.refuse();
        proxy.reset_all();
        reach(all * 3 / 5).await;
        let waiting = sidecar.metric("amqpost_spool_messages").await;
        println!("{waiting} wait when the broker is back, {} MiB on disk", spool.bytes() >> 20);
        proxy.pass();
    };
    tokio::join!(publishing, outage);
    let took = begun.elapsed();
    println!("{all} answered 202 in {took:?}, {} of them had arrived by then", distinct());

    eventually("all arrive", patience, async || {
        let seen = distinct();
        if seen == all { Ok(()) } else { Err(seen) }
    })
    .await;
    println!("all of them have arrived after {:?}", begun.elapsed());
    let largest = spool.bytes();
    eventually("the spool is empty and the disk is free again", Duration::from_secs(120), async || {
        let left = (sidecar.metric("amqpost_spool_messages").await, spool.bytes());
        if left.0 == 0.0 && left.1 <= LEFT_BYTES { Ok(()) } else { Err(left) }
    })
    .await;
    let (now, peak) = (sidecar.memory_kib("VmRSS:"), sidecar.memory_kib("VmHWM:"));
    println!(
        "on disk {} MiB at the last arrival and {} KiB afterwards; resident {} MiB, never more than {} MiB",
        largest >> 20,
        spool.bytes() >> 10,
        now >> 10,
        peak >> 10
    );
    let tally = tally.lock().expect("no panic");
    println!("{} arrived again", tally.repeated);
    assert!(tally.wrong.is_empty(), "{} wrong: {:?}", tally.wrong.len(), tally.wrong.first());
    assert!(peak <= MEMORY_KIB, "{peak} KiB were resident");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_of_forty_keys_arrive_in_order_though_the_broker_is_away_for_a_part_of_them() {
    flood("flood_small", 40, 250, Duration::from_secs(120)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes three minutes with --release"]
async fn a_million_of_250_keys_arrive_in_order_though_the_broker_is_away_for_a_part_of_them() {
    flood("flood_million", 250, 4_000, Duration::from_secs(1200)).await;
}
