//! The counted subjects: the floors and amqpost, each a process, and the load on it.

use crate::child::Part;
use crate::drive::Worker;
use crate::sites::Sites;
use crate::wire::{Address, Http1, Post};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The queue for all publishes, and the size of their payload.
pub(crate) const QUEUE: &str = "bench";
pub(crate) const BYTES: usize = 1024;

/// Publishes before the counting starts, so that one-time allocations and growing buffers are not
/// counted.
const WARM_UP: u32 = 200;

/// A subject that accepts no publish within this time never will.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// A process that is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    HttpFloor,
    AmqpFloor,
    Amqpost,
}

impl Subject {
    pub(crate) const ALL: [Self; 3] = [Self::HttpFloor, Self::AmqpFloor, Self::Amqpost];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HttpFloor => "HTTP floor",
            Self::AmqpFloor => "AMQP floor",
            Self::Amqpost => "amqpost",
        }
    }
}

/// The allocations of a process.
pub(crate) struct Count {
    pub(crate) sites: Sites,
    pub(crate) bytes: u64,
}

impl Count {
    /// Blocks, independent of other work of the machine.
    pub(crate) fn blocks(&self) -> u64 {
        self.sites.all() - self.sites.asleep()
    }
}

/// The errors of all processes, printed at the end, without dhat's own messages.
struct Complaints(PathBuf);

impl Drop for Complaints {
    fn drop(&mut self) {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with("dhat: ")).for_each(|line| eprintln!("{line}"));
    }
}

/// All subjects, and the broker that only acks.
pub(crate) struct Subjects {
    runtime: Runtime,
    http_floor: Part,
    amqp_floor: Part,
    amqpost: Part,
    to_http_floor: Http1,
    to_amqpost: Http1,
    _sink: Part,
    _complaints: Complaints,
}

impl Subjects {
    pub(crate) fn start(directory: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let complaints = Complaints(directory.join("complaints"));
        let file = File::create(&complaints.0).expect("a fresh path");
        let part = |arguments: &[&str]| {
            let program = std::env::current_exe().expect("this one");
            let complaints = file.try_clone().expect("it is open");
            Part::start_program(Command::new(program).args(arguments).stderr(complaints))
        };
        let mut sink = part(&["sink"]);
        let uri = format!("amqp://guest:guest@{}/%2f", sink.line());
        let socket = |name: &str| directory.join(name).to_str().expect("UTF-8").to_owned();
        let [of_floor, of_amqpost] = [socket("http-floor"), socket("amqpost")];
        let mut http_floor = part(&["http-floor", &of_floor]);
        http_floor.line();
        let mut amqp_floor = part(&["amqp-floor", &uri]);
        amqp_floor.line();
        let settings = [
            format!("broker.endpoints={uri}"),
            format!("http.listen=unix:{of_amqpost}"),
            "admin.listen=127.0.0.1:0".to_owned(),
            "log.level=error".to_owned(),
        ];
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let amqpost = part(&["serve"].into_iter().chain(settings).collect::<Vec<_>>());
        let [to_http_floor, to_amqpost] =
            [of_floor, of_amqpost].map(|socket| runtime.block_on(connected(&Address::Unix(socket.into()))));
        let (_sink, _complaints) = (sink, complaints);
        Self { runtime, http_floor, amqp_floor, amqpost, to_http_floor, to_amqpost, _sink, _complaints }
    }

    /// Counts this many publishes, by means of a file.
    pub(crate) fn count(&mut self, subject: Subject, publishes: u32, profile: &Path) -> Count {
        self.publish(subject, WARM_UP);
        self.part(subject).ask(format_args!("count {}", profile.display()));
        self.publish(subject, publishes);
        let bytes = self.part(subject).ask_number("end");
        Count { sites: Sites::read(profile), bytes }
    }

    fn part(&mut self, subject: Subject) -> &mut Part {
        match subject {
            Subject::HttpFloor => &mut self.http_floor,
            Subject::AmqpFloor => &mut self.amqp_floor,
            Subject::Amqpost => &mut self.amqpost,
        }
    }

    fn publish(&mut self, subject: Subject, publishes: u32) {
        let client = match subject {
            Subject::HttpFloor => &mut self.to_http_floor,
            Subject::Amqpost => &mut self.to_amqpost,
            Subject::AmqpFloor => {
                self.amqp_floor.ask(format_args!("publish {publishes}"));
                return;
            }
        };
        self.runtime.block_on(async {
            for _ in 0..publishes {
                client.exchange().await.expect("it is confirmed");
            }
        });
    }
}

/// A connection on which publishes are answered with 200 by now.
async fn connected(address: &Address) -> Http1 {
    let post = Post {
        paths: vec![format!("/v1/queues/{QUEUE}/messages")],
        headers: String::new(),
        body: vec![b'x'; BYTES].into(),
        status: 200,
        reconnects: false,
    };
    let end = Instant::now() + BEGIN_MAX;
    loop {
        let failure = match Http1::connect(address, &post, 1).await.map(|mut clients| clients.remove(0)) {
            Ok(mut client) => match client.exchange().await {
                Ok(()) => return client,
                Err(failure) => failure,
            },
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < end, "not one publish was confirmed: {failure}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
