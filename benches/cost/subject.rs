//! The measured subjects: the floors and amqpost, each a process, and one reading of each under a
//! load.

use crate::child::{Part, Role};
use crate::drive::{Gauge, Latencies, Pace, drive};
use crate::lines::drive_lines;
use crate::process::Cost;
use crate::wire::{Address, Http1, Http2, Post};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The queue for all publishes.
pub(crate) const QUEUE: &str = "bench";

/// A load that has not begun within this time never will.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// How a load speaks HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
    /// One request that is a stream of messages.
    Lines,
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

impl Load {
    /// Requests of 1 KiB, or of a given size, to the queue that every benchmark uses. Each client
    /// sends its next request at once.
    pub(crate) fn of(concurrency: usize, bytes: usize) -> Self {
        let post = Post {
            paths: vec![format!("/v1/queues/{QUEUE}/messages")],
            headers: String::new(),
            body: vec![b'x'; bytes].into(),
            status: 200,
            reconnects: false,
        };
        Self { concurrency, post, version: Version::One, pace: Pace::Closed }
    }

    /// The same at another pace.
    pub(crate) fn at(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// The same in another version of HTTP.
    pub(crate) fn over(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// The same with other paths.
    pub(crate) fn to(mut self, paths: Vec<String>) -> Self {
        self.post.paths = paths;
        self
    }

    /// The same with another status as the right answer.
    pub(crate) fn answered(mut self, status: u16) -> Self {
        self.post.status = status;
        self
    }
}

/// How long a load runs before the measurement, and how long during it.
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
    /// The cost of the broker.
    pub(crate) broker: Cost,
    /// The cost of the load, if it is not in the measured process itself.
    pub(crate) load: Cost,
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

    /// µs of the broker's CPU a request.
    pub(crate) fn cpu_of_broker(&self) -> f64 {
        self.broker.cpu as f64 / 1e3 / self.requests as f64
    }

    /// µs of CPU a request in all processes together.
    pub(crate) fn cpu_of_all(&self) -> f64 {
        (self.cost.cpu + self.broker.cpu + self.load.cpu) as f64 / 1e3 / self.requests as f64
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
    /// The broker that works for its requests.
    pub(crate) broker: Option<u32>,
}

impl Server {
    /// Loads it and measures its process.
    pub(crate) fn measure(&self, load: &Load, span: Span) -> Reading {
        let gauge = Gauge::new(load.pace);
        let client = thread::spawn({
            let (gauge, load, address) = (Arc::clone(&gauge), load.clone(), self.address.clone());
            move || send(&load, &address, gauge)
        });
        under_way(load, || gauge.done(), || gauge.failure());
        let counted = window(
            &[Some(self.pid), self.broker, Some(std::process::id())],
            span,
            || gauge.mark(),
            || gauge.done(),
        );
        gauge.stop();
        let latencies = client.join().expect("the client does not panic");
        if let Some(failure) = gauge.failure() {
            eprintln!("{} requests failed, the first: {failure}", latencies.failed);
        }
        counted.with(latencies)
    }
}

/// The client's side, on a thread and runtime of its own.
fn send(load: &Load, address: &Address, gauge: Arc<Gauge>) -> Latencies {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match load.version {
            Version::One => {
                let clients = Http1::connect(address, &load.post, load.concurrency).await;
                drive(clients.expect("it accepts"), gauge).await
            }
            Version::Two => {
                let clients = Http2::connect(address, &load.post, load.concurrency).await;
                drive(clients.expect("it accepts"), gauge).await
            }
            Version::Lines => drive_lines(address, load.concurrency, load.post.body.len(), gauge).await,
        }
    })
}

/// Waits for about one answer per client: connecting a thousand of them takes a while.
fn under_way(load: &Load, done: impl Fn() -> u64, failure: impl Fn() -> Option<String>) {
    let end = Instant::now() + BEGIN_MAX;
    let expected = match load.pace {
        Pace::Closed => load.concurrency as u64,
        Pace::Open(_) => 1,
    };
    while done() < expected {
        assert!(Instant::now() < end, "the load did not get under way: {:?}", failure());
        thread::sleep(Duration::from_millis(5));
    }
}

/// The counts between two looks: exchanges, time, and the cost of each process.
struct Counted {
    requests: u64,
    seconds: f64,
    costs: Vec<Cost>,
}

impl Counted {
    fn with(self, latencies: Latencies) -> Reading {
        let Self { requests, seconds, costs } = self;
        Reading { requests, seconds, cost: costs[0], broker: costs[1], load: costs[2], latencies }
    }
}

fn window(
    pids: &[Option<u32>],
    span: Span,
    mark: impl FnOnce() -> u64,
    count: impl FnOnce() -> u64,
) -> Counted {
    let look = || -> Vec<Cost> { pids.iter().map(|pid| pid.map(Cost::of).unwrap_or_default()).collect() };
    thread::sleep(span.warm);
    let (before, first, begun) = (look(), mark(), Instant::now());
    thread::sleep(span.measured);
    let (after, last) = (look(), count());
    let costs = after.into_iter().zip(before).map(|(after, before)| after.since(before)).collect();
    Counted { requests: last - first, seconds: begun.elapsed().as_secs_f64(), costs }
}

/// lapin without HTTP.
pub(crate) struct AmqpFloor {
    part: Part,
    broker: Option<u32>,
}

impl AmqpFloor {
    /// Connects to a broker, whose process is known.
    pub(crate) fn start(uri: &str, broker: Option<u32>) -> Self {
        let mut part = Part::start(Role::AmqpFloor, &[uri, QUEUE]);
        part.line();
        Self { part, broker }
    }

    /// Has it publish, and measures its process.
    pub(crate) fn measure(&mut self, load: &Load, span: Span) -> Reading {
        let rate = match load.pace {
            Pace::Closed => 0.0,
            Pace::Open(rate) => rate,
        };
        let (pid, part) = (self.part.pid(), std::cell::RefCell::new(&mut self.part));
        let ask = |order: &str| part.borrow_mut().ask_number(order);
        let (concurrency, bytes) = (load.concurrency, load.post.body.len());
        part.borrow_mut().ask(format_args!("start {concurrency} {bytes} {rate}"));
        under_way(load, || ask("count"), || None);
        let counted = window(&[Some(pid), self.broker, None], span, || ask("mark"), || ask("count"));
        let latencies = part.borrow_mut().ask_latencies();
        counted.with(latencies)
    }
}
