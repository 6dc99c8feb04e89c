//! What a publish through amqpost costs, against the least that HTTP and AMQP cost by themselves: `scripts/bench`.

#[path = "../../tests/it/harness/mod.rs"]
mod harness;

mod amqp_floor;
mod child;
mod drive;
mod http_floor;
mod process;
mod sample;
mod sink;
mod subject;
mod wire;

use child::{Part, Role};
use drive::Pace;
use sample::Spread;
use std::path::Path;
use std::time::Duration;
use subject::{AmqpFloor, Load, Reading, Server, Span, Version};
use wire::{Address, Post};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.first().and_then(|name| Role::named(name)) {
        Some(role) => play(role, &words[1..]),
        None => first_look(&words),
    }
}

fn play(role: Role, arguments: &[&str]) {
    // As amqpost makes its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match (role, arguments) {
        (Role::Sink, []) => {
            child::end_with_input();
            let sink = sink::Sink::listen().expect("a free port");
            println!("{}", sink.address().expect("it is bound"));
            sink.serve().expect("it accepts");
        }
        (Role::HttpFloor, [socket]) => {
            child::end_with_input();
            runtime.block_on(http_floor::run(Path::new(socket)));
        }
        (Role::AmqpFloor, [uri, queue]) => runtime.block_on(amqp_floor::run(uri, queue)),
        (role, arguments) => panic!("{role:?} with {arguments:?}"),
    }
}

fn first_look(_words: &[&str]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let mut sink = Part::start(Role::Sink, &[]);
    let uri = format!("amqp://guest:guest@{}/%2f", sink.line());
    let socket = directory.path().join("floor");
    let mut http = Part::start(Role::HttpFloor, &[socket.to_str().expect("UTF-8")]);
    let http = Server { address: Address::Tcp(http.line().parse().expect("an address")), pid: http.pid() };
    let mut amqp = AmqpFloor::start(&uri, "bench");
    let sidecar = runtime.block_on(harness::Sidecar::up(&uri));
    let address = Address::Tcp(sidecar.http().parse().expect("an address"));
    let amqpost = Server { address, pid: sidecar.pid() };
    let post = Post {
        path: "/v1/queues/bench/messages".to_owned(),
        headers: String::new(),
        body: vec![b'x'; 1024].into(),
        status: 200,
    };
    let span = Span { warm: Duration::from_millis(300), measured: Duration::from_millis(1500) };
    for concurrency in [1, 16, 64, 256] {
        let load = Load { concurrency, post: post.clone(), version: Version::One, pace: Pace::Closed };
        let mut readings: [Vec<Reading>; 3] = Default::default();
        for _ in 0..5 {
            readings[0].push(http.measure(&load, span));
            readings[1].push(amqp.measure(concurrency, 1024, Pace::Closed, span));
            readings[2].push(amqpost.measure(&load, span));
        }
        let names = ["http floor", "amqp floor", "amqpost"];
        for (name, readings) in names.iter().zip(&readings) {
            let of = |figure: &dyn Fn(&Reading) -> f64| Spread::of(readings.iter().map(figure));
            let (cpu, rate) = (of(&|r| r.cpu()), of(&|r| r.rate()));
            let (p50, p99) = (of(&|r| r.latencies.exchanges.p50), of(&|r| r.latencies.exchanges.p99));
            let switches = of(&|r| r.switches());
            println!(
                "{concurrency:>5} {name:<11} {:>8.0}/s cpu {:>6.2} ({:.2}-{:.2}) us, p50 {:.0} p99 {:.0} us, switches {:.2}",
                rate.median, cpu.median, cpu.least, cpu.most, p50.median, p99.median, switches.median
            );
        }
        let ratios = (0..5).map(|n| readings[2][n].cpu() / (readings[0][n].cpu() + readings[1][n].cpu()));
        println!("{concurrency:>5} ratio {:?}", Spread::of(ratios));
    }
}
