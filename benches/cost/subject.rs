//! What is measured: the floors and amqpost, each a process, and one reading of each under a load.

use crate::child::{Part, Role};
use crate::drive::{Gauge, Latencies, Pace, drive};
use crate::process::Cost;
use crate::wire::{Address, Http1, Http2, Post, request_bytes};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The version of HTTP that a load speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// A load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Requests under way at a time, each on a connection of its own with HTTP/1.1.
    pub(crate) concurrency: usize,
    pub(crate) post: Post,
    pub(crate) version: Version,
    pub(crate) pace: Pace,
}

/// How long a load runs before it is measured, and while it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) warm: Duration,
    pub(crate) measured: Duration,
}

/// One measurement of a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) cost: Cost,
    pub(crate) latencies: Latencies,
}

impl Reading {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// µs of CPU a request.
    pub(crate) fn cpu(&self) -> f64 {
        self.cost.cpu as f64 / 1e3 / self.requests as f64
    }

    /// Context switches a request.
    pub(crate) fn switches(&self) -> f64 {
        self.cost.switches as f64 / self.requests as f64
    }
}

/// A server that is loaded over HTTP, by its address and process.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) pid: u32,
}

impl Server {
    /// Loads it and measures its process.
    pub(crate) fn measure(&self, load: &Load, span: Span) -> Reading {
        let gauge = Gauge::new(load.pace);
        let client = thread::spawn({
            let (gauge, load, address) = (Arc::clone(&gauge), load.clone(), self.address.clone());
            move || send(&load, &address, gauge)
        });
        let marked = || gauge.mark();
        let (requests, seconds, cost) = window(self.pid, span, marked, || gauge.done());
        gauge.stop();
        let latencies = client.join().expect("the client does not panic");
        if let Some(failure) = gauge.failure() {
            eprintln!("{} requests failed, the first: {failure}", latencies.failed);
        }
        Reading { requests, seconds, cost, latencies }
    }
}

/// The client's side, on a thread and runtime of its own.
fn send(load: &Load, address: &Address, gauge: Arc<Gauge>) -> Latencies {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match load.version {
            Version::One => {
                let request = request_bytes(&load.post);
                let mut clients = Vec::new();
                for _ in 0..load.concurrency {
                    let client = Http1::connect(address, Arc::clone(&request), load.post.status).await;
                    clients.push(client.expect("it accepts"));
                }
                drive(clients, gauge).await
            }
            Version::Two => {
                let clients = Http2::connect(address, &load.post, load.concurrency).await;
                drive(clients.expect("it accepts"), gauge).await
            }
        }
    })
}

/// Exchanges, seconds and cost between two looks.
fn window(pid: u32, span: Span, mark: impl FnOnce() -> u64, count: impl FnOnce() -> u64) -> (u64, f64, Cost) {
    thread::sleep(span.warm);
    let (cost, first, begun) = (Cost::of(pid), mark(), Instant::now());
    thread::sleep(span.measured);
    let (spent, last) = (Cost::of(pid).since(cost), count());
    (last - first, begun.elapsed().as_secs_f64(), spent)
}

/// lapin without HTTP.
pub(crate) struct AmqpFloor(Part);

impl AmqpFloor {
    /// Connects to a broker.
    pub(crate) fn start(uri: &str, queue: &str) -> Self {
        let mut part = Part::start(Role::AmqpFloor, &[uri, queue]);
        part.line();
        Self(part)
    }

    /// Has it publish, and measures its process.
    pub(crate) fn measure(&mut self, concurrency: usize, bytes: usize, pace: Pace, span: Span) -> Reading {
        let rate = match pace {
            Pace::Closed => 0.0,
            Pace::Open(rate) => rate,
        };
        let (pid, part) = (self.0.pid(), std::cell::RefCell::new(&mut self.0));
        let ask = |order: &str| part.borrow_mut().ask_number(order);
        part.borrow_mut().ask(format_args!("start {concurrency} {bytes} {rate}"));
        let (requests, seconds, cost) = window(pid, span, || ask("mark"), || ask("count"));
        let latencies = part.borrow_mut().ask_latencies();
        Reading { requests, seconds, cost, latencies }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }
}
