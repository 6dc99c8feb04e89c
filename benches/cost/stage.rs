//! The stage of a measurement: a broker, both floors and amqpost, each a process.

use crate::child::{Part, Role};
use crate::harness::{AmqpClient, Broker, Sidecar, arguments, text};
use crate::sample::Spread;
use crate::subject::{AmqpFloor, Load, QUEUE, Reading, Server, Span};
use crate::wire::Address;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Messages that the queue keeps: enough to never be empty, few enough to never fill the machine.
const KEPT: i32 = 10_000;

/// The length of the measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) span: Span,
    /// How long the section `hour` loads amqpost.
    pub(crate) minutes: u64,
}

impl Plan {
    pub(crate) fn of(short: bool, minutes: u64) -> Self {
        let ms = Duration::from_millis;
        let (rounds, measured) = if short { (3, ms(400)) } else { (5, ms(1000)) };
        Self { rounds, span: Span { warm: ms(250), measured }, minutes }
    }

    /// A span for rare events.
    pub(crate) fn long(self) -> Span {
        Span { measured: self.span.measured * 3, ..self.span }
    }
}

/// The directory and the runtime that all sections share.
pub(crate) struct Stage {
    pub(crate) plan: Plan,
    pub(crate) runtime: Runtime,
    directory: TempDir,
}

/// A broker and how it is reached.
pub(crate) struct Target {
    pub(crate) uri: String,
    /// None for the broker that only acks.
    pub(crate) broker: Option<Broker>,
    sink: Option<Part>,
}

/// amqpost, and where it listens.
pub(crate) struct Amqpost {
    pub(crate) tcp: Server,
    pub(crate) unix: Server,
    sidecar: Sidecar,
}

/// The least that HTTP costs, and where it listens.
pub(crate) struct HttpFloor {
    pub(crate) tcp: Server,
    pub(crate) unix: Server,
    _part: Part,
}

/// The two floors and amqpost before one broker.
pub(crate) struct Trio {
    pub(crate) http: HttpFloor,
    pub(crate) amqp: AmqpFloor,
    pub(crate) amqpost: Amqpost,
}

/// Readings of the three, by rounds.
pub(crate) struct Three {
    pub(crate) http: Vec<Reading>,
    pub(crate) amqp: Vec<Reading>,
    pub(crate) amqpost: Vec<Reading>,
}

impl Stage {
    pub(crate) fn set(plan: Plan) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let directory = tempfile::Builder::new().prefix("amqpost-bench-").tempdir().expect("a directory");
        Self { plan, runtime: runtime.expect("a runtime"), directory }
    }

    /// A path for a file of its own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A broker that only acks.
    pub(crate) fn sink(&self) -> Target {
        let mut sink = Part::start(Role::Sink, &[]);
        let uri = format!("amqp://guest:guest@{}/%2f", sink.line());
        Target { uri, broker: None, sink: Some(sink) }
    }

    /// A private RabbitMQ with a durable queue that keeps the last messages.
    pub(crate) fn rabbitmq(&self, plugins: &[&str], lines: &[String]) -> Target {
        self.runtime.block_on(async {
            let builder = lines.iter().fold(Broker::builder(), |builder, line| builder.config_line(line));
            let broker = builder.schedulers(2).plugins(plugins).start().await;
            let vhost = broker.vhost("bench").await;
            let client = AmqpClient::connect(&vhost.uri()).await;
            let last = arguments([("x-max-length", KEPT.into()), ("x-overflow", text("drop-head"))]);
            client.declare_queue(QUEUE, true, last).await;
            Target { uri: vhost.uri(), broker: Some(broker), sink: None }
        })
    }

    /// amqpost with its defaults and these settings. Its link is up unless there is no broker.
    pub(crate) fn amqpost(&self, uri: &str, settings: &[(&str, &str)], is_up: bool) -> Amqpost {
        let socket = self.path("sidecar");
        let listen = format!("[\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
        let builder = Sidecar::builder(uri).set_instead("http.listen", &listen);
        let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let sidecar = self.runtime.block_on(async {
            let sidecar = builder.start().await;
            if is_up { sidecar.with_link_up().await } else { sidecar }
        });
        let address = sidecar.http().split(',').next().and_then(|address| address.parse().ok());
        let server = |address| Server { address, pid: sidecar.pid(), broker: None };
        let tcp = server(Address::Tcp(address.expect("an address")));
        Amqpost { tcp, unix: server(Address::Unix(socket)), sidecar }
    }

    pub(crate) fn http_floor(&self) -> HttpFloor {
        let socket = self.path("floor");
        drop(std::fs::remove_file(&socket));
        let mut part = Part::start(Role::HttpFloor, &[utf8(&socket)]);
        let address = Address::Tcp(part.line().parse().expect("an address"));
        let server = |address| Server { address, pid: part.pid(), broker: None };
        HttpFloor { tcp: server(address), unix: server(Address::Unix(socket)), _part: part }
    }

    pub(crate) fn trio(&self, target: &Target) -> Trio {
        let mut amqpost = self.amqpost(&target.uri, &[], true);
        amqpost.tcp.broker = target.pid();
        Trio { http: self.http_floor(), amqp: AmqpFloor::start(&target.uri, target.pid()), amqpost }
    }

    /// Makes each of several measurements once per round, so that other work of the machine affects
    /// all of them.
    pub(crate) fn interleave<const N: usize>(
        &self,
        measures: [&mut dyn FnMut(Span) -> Reading; N],
    ) -> [Vec<Reading>; N] {
        self.interleave_for(self.plan.span, measures)
    }

    /// The same for another span.
    pub(crate) fn interleave_for<const N: usize>(
        &self,
        span: Span,
        mut measures: [&mut dyn FnMut(Span) -> Reading; N],
    ) -> [Vec<Reading>; N] {
        let mut readings = std::array::from_fn(|_| Vec::new());
        for _ in 0..self.plan.rounds {
            for (measure, readings) in measures.iter_mut().zip(&mut readings) {
                readings.push(measure(span));
            }
        }
        readings
    }
}

impl Target {
    /// The broker's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.sink.as_ref().map(Part::pid).or_else(|| self.broker.as_ref()?.pid())
    }
}

impl Amqpost {
    pub(crate) fn pid(&self) -> u32 {
        self.sidecar.pid()
    }
}

impl Trio {
    /// All three under the same load.
    pub(crate) fn measure(&mut self, stage: &Stage, load: &Load) -> Three {
        let Self { http, amqp, amqpost } = self;
        let measures: [&mut dyn FnMut(Span) -> Reading; 3] =
            [&mut |span| http.tcp.measure(load, span), &mut |span| amqp.measure(load, span), &mut |span| {
                amqpost.tcp.measure(load, span)
            }];
        let [http, amqp, amqpost] = stage.interleave(measures);
        Three { http, amqp, amqpost }
    }
}

impl Three {
    /// The ratio of amqpost to both floors together, round by round.
    pub(crate) fn to_both(&self, figure: impl Fn(&Reading) -> f64) -> Spread {
        let floors = self.http.iter().zip(&self.amqp);
        Spread::of(
            self.amqpost
                .iter()
                .zip(floors)
                .map(|(one, (http, amqp))| figure(one) / (figure(http) + figure(amqp))),
        )
    }

    /// The same with the names that tables show.
    pub(crate) fn named(&self) -> [(&'static str, &Vec<Reading>); 3] {
        [("HTTP floor", &self.http), ("AMQP floor", &self.amqp), ("amqpost", &self.amqpost)]
    }
}

/// The ratio of amqpost to another subject, round by round.
pub(crate) fn against(ones: &[Reading], others: &[Reading], figure: impl Fn(&Reading) -> f64) -> Spread {
    Spread::of(ones.iter().zip(others).map(|(one, other)| figure(one) / figure(other)))
}

/// A path as text; all paths here are UTF-8.
pub(crate) fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
