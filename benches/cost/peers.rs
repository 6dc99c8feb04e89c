//! amqpost compared with other HTTP services that take a message, with the same RabbitMQ behind
//! them.

use crate::child::Part;
use crate::resources::{free_port, is_listening};
use crate::sample::Spread;
use crate::section::{Bound, Section, number, shown};
use crate::stage::{Stage, against};
use crate::subject::{Load, QUEUE, Reading, Server};
use crate::wire::Address;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

const CONCURRENCY: usize = 64;
const BYTES: usize = 1024;
/// The management plugin and its dependencies.
const MANAGEMENT: [&str; 6] = [
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_web_dispatch",
    "amqp_client",
    "cowboy",
    "cowlib",
];

/// The python that has FastAPI. The script sets it if FastAPI could be installed.
const PYTHON: &str = "BENCH_PYTHON";

/// The peers side by side.
pub(crate) fn peers(stage: &Stage) -> Section {
    let header = ["process", "requests/s", "CPU µs/request", "RabbitMQ's CPU µs/request", "p50 µs", "p99 µs"];
    let mut section =
        Section::begin("peers", "Peers, 64 at a time, before RabbitMQ, a durable queue", &header);
    let port = free_port();
    let lines = ["management.tcp.ip = 127.0.0.1".to_owned(), format!("management.tcp.port = {port}")];
    let target = stage.rabbitmq(&MANAGEMENT, &lines);
    let broker = target.pid().expect("it runs");
    let amqpost = stage.amqpost(&target.uri, &[], true);
    let load = Load::of(CONCURRENCY, BYTES);
    let sidecar = Server { broker: Some(broker), ..amqpost.tcp.clone() };

    is_listening(stage, port);
    let (management, through_management) = (server(port, broker, broker), management_load());
    let [ours, theirs] = stage.interleave([&mut |span| sidecar.measure(&load, span), &mut |span| {
        management.measure(&through_management, span)
    }]);
    row(&mut section, "amqpost", &ours, true);
    row(&mut section, "RabbitMQ's management API", &theirs, false);
    section.say(
        "The management API opens a connection and a channel for each message, publishes it mandatory and \
        waits for \
         its confirm. It runs inside RabbitMQ: its own CPU is the CPU that RabbitMQ takes in addition."
            .to_owned(),
    );
    let share = Spread::of(
        ours.iter().zip(&theirs).map(|(our, their)| (their.cpu() - our.cpu_of_broker()) / our.cpu()),
    );
    section.judge("management API's CPU to amqpost's, 64 at a time", Bound::AtLeast(20.0), "", share);
    let rate = against(&ours, &theirs, Reading::rate);
    section.judge("amqpost's rate to the management API's, 64 at a time", Bound::AtLeast(6.0), "", rate);

    let Some(python) = std::env::var_os(PYTHON) else {
        section.say("FastAPI and FastStream: skipped, they could not be installed.".to_owned());
        return section;
    };
    let port = free_port();
    let mut command = Command::new(python);
    command
        .args(["-m", "uvicorn", "app:app", "--no-access-log", "--log-level", "warning", "--port"])
        .arg(port.to_string())
        .args(["--app-dir", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cost/fastapi")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BENCH_BROKER", &target.uri);
    let fastapi = Part::start_program(&mut command);
    is_listening(stage, port);
    let fastapi = server(port, fastapi.pid(), broker);
    let [ours, theirs] = stage
        .interleave([&mut |span| sidecar.measure(&load, span), &mut |span| fastapi.measure(&load, span)]);
    row(&mut section, "amqpost, again", &ours, true);
    row(&mut section, "FastAPI and FastStream, one process", &theirs, true);
    let cpu = against(&theirs, &ours, Reading::cpu);
    section.judge("FastAPI's CPU to amqpost's, 64 at a time", Bound::AtLeast(20.0), "", cpu);
    let rate = against(&ours, &theirs, Reading::rate);
    section.judge("amqpost's rate to FastAPI's, 64 at a time", Bound::AtLeast(6.0), "", rate);
    section
}

fn server(port: u16, pid: u32, broker: u32) -> Server {
    let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Server { address, pid, broker: Some(broker) }
}

fn row(section: &mut Section, process: &str, readings: &[Reading], is_apart: bool) {
    let of = |figure: fn(&Reading) -> f64| Spread::of(readings.iter().map(figure));
    section.row(vec![
        process.to_owned(),
        number(of(Reading::rate).median),
        if is_apart { shown(of(Reading::cpu)) } else { "in RabbitMQ's".to_owned() },
        shown(of(Reading::cpu_of_broker)),
        number(of(|reading| reading.latencies.exchanges.p50).median),
        number(of(|reading| reading.latencies.exchanges.p99).median),
    ]);
}

/// The same message in the form of the management API.
fn management_load() -> Load {
    // guest:guest
    let headers = "authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\ncontent-type: application/json\r\n".to_owned();
    let body = serde_json::json!({
        "properties": {"delivery_mode": 2},
        "routing_key": QUEUE,
        "payload": "x".repeat(BYTES),
        "payload_encoding": "string",
    });
    let mut load =
        Load::of(CONCURRENCY, BYTES).to(vec!["/api/exchanges/bench/amq.default/publish".to_owned()]);
    load.post.headers = headers;
    load.post.body = body.to_string().into();
    load.post.reconnects = true;
    load
}
