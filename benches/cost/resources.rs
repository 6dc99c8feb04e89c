//! The costs of amqpost besides CPU: memory, threads, time to start, and the rate of refusals.

use crate::harness::eventually;
use crate::process::{Cost, Memory};
use crate::sample::Spread;
use crate::section::{Bound, COLUMNS, Section, number, shown};
use crate::stage::{Stage, Target, against};
use crate::subject::{Load, QUEUE, Reading};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const KIB: usize = 1024;
/// A start that takes longer is a failure and not a figure.
const START_MAX: Duration = Duration::from_secs(10);
/// After this time an idle sidecar has settled.
const REST: Duration = Duration::from_secs(1);

/// The rate of 503 answers without a broker.
pub(crate) fn down(stage: &Stage) -> Section {
    let mut section = Section::begin("down", "While the link is down: 503 at once", &COLUMNS);
    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}", free_port());
    let (floor, amqpost) = (stage.http_floor(), stage.amqpost(&nowhere, &[], false));
    for concurrency in [1, 64] {
        let load = Load::of(concurrency, KIB);
        let refused = load.clone().answered(503);
        let [http, amqpost] = stage.interleave([&mut |span| floor.tcp.measure(&load, span), &mut |span| {
            amqpost.tcp.measure(&refused, span)
        }]);
        let load = format!("{concurrency} at a time");
        section.readings(&load, "HTTP floor", &http);
        section.readings(&load, "amqpost", &amqpost);
        let ratio = against(&amqpost, &http, Reading::rate);
        section.judge(
            &format!("503 answers to the HTTP floor's rate, {load}"),
            Bound::AtLeast(0.9),
            "",
            ratio,
        );
    }
    section
}

/// Memory and threads, idle and under load; each with a process of its own.
pub(crate) fn memory(stage: &Stage) -> Section {
    let mut section =
        Section::begin("memory", "Memory and threads", &["state", "RSS MiB", "peak RSS MiB", "threads"]);
    let target = stage.sink();
    let loads = [(None, 12.0), (Some((256, 1)), 24.0), (Some((1024, 64)), 160.0)];
    for (load, bound) in loads {
        let (mut at_rest, mut peaks, mut threads) = (Vec::new(), Vec::new(), 0);
        for _ in 0..stage.plan.rounds.min(3) {
            let amqpost = stage.amqpost(&target.uri, &[], true);
            match load {
                None => thread::sleep(REST),
                Some((concurrency, kib)) => {
                    let reading = amqpost.tcp.measure(&Load::of(concurrency, kib * KIB), stage.plan.span);
                    assert!(reading.requests > 0, "nothing was published");
                }
            }
            let memory = Memory::of(amqpost.pid());
            at_rest.push(mib(memory.resident));
            peaks.push(mib(memory.peak));
            threads = Cost::of(amqpost.pid()).threads;
        }
        let state = match load {
            None => "idle, two connections to the broker".to_owned(),
            Some((concurrency, kib)) => format!("{concurrency} requests of {kib} KiB at a time"),
        };
        let (at_rest, peak) = (Spread::of(at_rest), Spread::of(peaks));
        section.row(vec![state.clone(), shown(at_rest), shown(peak), threads.to_string()]);
        let judged = if load.is_none() { at_rest } else { peak };
        section.judge(&format!("memory, {state}"), Bound::AtMost(bound), "MiB", judged);
    }
    section
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// From the start of the process to its first confirmed publish.
pub(crate) fn start(stage: &Stage) -> Section {
    let header = ["broker", "ms from start to listening", "ms from start to the first confirm", "attempts"];
    let mut section = Section::begin("start", "Start", &header);
    for (name, target) in [("only acks", stage.sink()), ("RabbitMQ", stage.rabbitmq(&[], &[]))] {
        let starts: Vec<Start> = (0..stage.plan.rounds * 2).map(|_| Start::measure(&target)).collect();
        let listening = Spread::of(starts.iter().map(|start| ms(start.listening)));
        let confirmed = Spread::of(starts.iter().map(|start| ms(start.confirmed)));
        let attempts = Spread::of(starts.iter().map(|start| f64::from(start.attempts)));
        section.row(vec![name.to_owned(), shown(listening), shown(confirmed), number(attempts.median)]);
        if target.broker.is_some() {
            let what = "start to first confirmed publish, RabbitMQ";
            section.judge(what, Bound::AtMost(100.0), "ms", confirmed);
        }
    }
    section
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

struct Start {
    listening: Duration,
    confirmed: Duration,
    attempts: u32,
}

impl Start {
    fn measure(target: &Target) -> Self {
        let (port, begun) = (free_port(), Instant::now());
        let _sidecar = Running(
            Command::new(env!("CARGO_BIN_EXE_amqpost"))
                .arg("serve")
                .args(["--set", &format!("broker.endpoints={}", target.uri)])
                .args(["--set", &format!("http.listen=127.0.0.1:{port}")])
                .args(["--set", "admin.listen=127.0.0.1:0"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the binary starts"),
        );
        let mut client = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(client) => break client,
                Err(_) => assert!(begun.elapsed() < START_MAX, "it does not listen"),
            }
            thread::sleep(Duration::from_micros(200));
        };
        let listening = begun.elapsed();
        client.set_nodelay(true).expect("it is open");
        let mut attempts = 1;
        while !is_confirmed(&mut client) {
            assert!(begun.elapsed() < START_MAX, "it does not confirm");
            attempts += 1;
            // Longer than any client would wait, and long enough to leave it the CPU.
            thread::sleep(Duration::from_millis(1));
        }
        Self { listening, confirmed: begun.elapsed(), attempts }
    }
}

fn is_confirmed(client: &mut TcpStream) -> bool {
    let head = format!(
        "POST /v1/queues/{QUEUE}/messages HTTP/1.1\r\nhost: sidecar\r\ncontent-length: 5\r\n\r\nhello"
    );
    client.write_all(head.as_bytes()).expect("it takes requests");
    let mut answer = [0; 4096];
    // An answer of this size comes whole.
    let length = client.read(&mut answer).expect("it answers");
    assert!(length > 0, "it answers every request");
    answer[..length].starts_with(b"HTTP/1.1 200")
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A free port. If another process takes it before it is used, the run fails.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Waits until somebody listens there.
pub(crate) fn is_listening(stage: &Stage, port: u16) {
    let looks = async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    stage.runtime.block_on(eventually("it listens", Duration::from_secs(60), looks));
}
