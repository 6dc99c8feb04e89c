//! The table of keys: the one place that says what can be configured, how, and with which default.
//!
//! The parser, the errors, `config/amqpost.toml` and `docs/configuration.md` all follow from it.

use std::time::Duration;

use super::kind::Kind;
use super::spool::Undeliverable;
use super::{LogFormat, LogLevel};

/// What every environment variable of ours begins with.
pub(super) const ENVIRONMENT_PREFIX: &str = "AMQPOST__";

/// One key: `section.name`.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    /// As it would be written in the environment; `None` for a key that may stay unset.
    pub(super) default: Option<&'static str>,
    pub(super) kind: Kind,
    /// One line on what it means, in Markdown.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the documents, which a test writes"))]
    pub(super) doc: &'static str,
}

/// A section, with one line on what it is about.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the documents, which a test writes"))]
    pub(super) doc: &'static str,
}

pub(super) const SECTIONS: &[Section] = &[
    Section { name: "http", doc: "The listener that takes requests." },
    Section { name: "admin", doc: "The listener for operators: health, metrics, this configuration." },
    Section { name: "broker", doc: "The broker's endpoints and the connections to them." },
    Section { name: "publish", doc: "Deadlines and limits of publishes." },
    Section { name: "breaker", doc: "The circuit breaker that each failing destination gets." },
    Section {
        name: "spool",
        doc: "The messages that are kept on disk until the broker has them. Without a `path` there is no spool.",
    },
    Section { name: "idempotency", doc: "What `Idempotency-Key` remembers." },
    Section { name: "shutdown", doc: "The time each step of a shutdown may take." },
    Section { name: "log", doc: "What is logged, and how." },
    Section { name: "runtime", doc: "Threads." },
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Sorted by section, in the order of `SECTIONS`.
pub(super) const KEYS: &[Key] = &[
    key(
        "http.listen",
        "127.0.0.1:8672",
        Kind::Listen,
        "Where requests are taken: `host:port`, the host an IP address (IPv6 in brackets) or `localhost`, or `unix:` and the absolute path of a socket.",
    ),
    key("http.max_connections", "10000", count(1, 1_000_000), "Connections open at a time."),
    key(
        "http.header_timeout",
        "10s",
        duration(ms(100), minutes(5)),
        "The head of a request must arrive within it.",
    ),
    key(
        "http.idle_timeout",
        "75s",
        duration(seconds(1), minutes(60)),
        "A keep-alive connection without a request is closed after it.",
    ),
    key("http.max_header_bytes", "64KiB", size(8 * KIB, MIB), "The head of a request may be so large."),
    key(
        "admin.listen",
        "0.0.0.0:9672",
        Kind::Address,
        "Where `/livez`, `/readyz`, `/link`, `/metrics` and `/config` are served.",
    ),
    key(
        "admin.ready_requires_link",
        "false",
        Kind::Flag,
        "Whether a link that is down turns `/readyz` to 503. With `true`, an outage of the broker takes every pod out of service.",
    ),
    key(
        "broker.endpoints",
        "amqp://guest:guest@127.0.0.1:5672/%2f",
        Kind::Endpoints,
        "The broker's nodes. Connections are spread over all of them.",
    ),
    optional(
        "broker.endpoints_file",
        Kind::Path,
        "A file with one URI a line, instead of `broker.endpoints`. Empty lines and lines that begin with `#` are skipped.",
    ),
    optional("broker.user", Kind::Credential, "The user to log in as, instead of the one in each URI."),
    optional("broker.user_file", Kind::Path, "A file that holds `broker.user`."),
    optional("broker.password", Kind::Credential, "The password, instead of the one in each URI."),
    optional("broker.password_file", Kind::Path, "A file that holds `broker.password`."),
    optional(
        "broker.ca_file",
        Kind::Path,
        "Certificate authorities to trust for `amqps` endpoints instead of the system's, as PEM.",
    ),
    key("broker.connections", "2", count(1, 16), "Connections to keep open."),
    key(
        "broker.heartbeat",
        "5s",
        Kind::WholeSeconds { min: seconds(1), max: seconds(60) },
        "The AMQP heartbeat asked of the broker.",
    ),
    key(
        "broker.stall_timeout",
        "1s",
        duration(ms(100), seconds(60)),
        "A connection on which the broker owes an answer and stays silent for so long is stalled.",
    ),
    key(
        "broker.connect_timeout",
        "3s",
        duration(ms(100), seconds(60)),
        "Name look-up, TCP, TLS and AMQP handshake of one attempt, together.",
    ),
    key(
        "broker.reconnect_min",
        "50ms",
        duration(ms(1), seconds(10)),
        "The pause before connecting again starts here and doubles, with full jitter.",
    ),
    key(
        "broker.reconnect_max",
        "1s",
        duration(ms(10), seconds(60)),
        "The pause before connecting again grows up to here.",
    ),
    key("broker.frame_max", "32KiB", size(8 * KIB, MIB), "The largest AMQP frame asked of the broker."),
    key(
        "broker.write_window",
        "4MiB",
        size(64 * KIB, 64 * MIB),
        "Bytes per connection that may wait inside the AMQP library.",
    ),
    key(
        "broker.connection_name",
        "amqpost",
        Kind::Text { max_characters: 128 },
        "The name of our connections in the RabbitMQ management UI.",
    ),
    key("publish.timeout", "5s", duration(ms(1), minutes(10)), "The deadline of a request that names none."),
    key(
        "publish.max_timeout",
        "60s",
        duration(ms(1), minutes(60)),
        "The longest deadline a request may ask for.",
    ),
    key(
        "publish.max_in_flight",
        "1024",
        count(1, 65_536),
        "Publishes under way at a time; more are answered `overloaded`.",
    ),
    key(
        "publish.max_in_flight_bytes",
        "64MiB",
        size(64 * KIB, 4 * GIB),
        "Bytes of payload under way at a time; more are answered `overloaded`. Plan for about three times as much memory: HTTP, the AMQP library and its buffers each hold a copy for a while.",
    ),
    key(
        "publish.max_body",
        "16MiB",
        size(KIB, 128 * MIB),
        "The payload of one message may be so large; a larger one is answered 413.",
    ),
    key(
        "publish.stream_in_flight",
        "256",
        count(1, 4096),
        "Lines of one stream under way at a time. All streams together have half of `publish.max_in_flight` and of `publish.max_in_flight_bytes`; beyond it they wait.",
    ),
    key(
        "publish.max_attempts",
        "3",
        count(1, 10),
        "Attempts at one publish inside its deadline, the first included.",
    ),
    key(
        "publish.retry_percent",
        "20",
        count(0, 100),
        "Repeats of what the broker had been given, per hundred publishes, at most, so that they never multiply its load; 0: none.",
    ),
    key(
        "breaker.failures",
        "20",
        count(1, 10_000),
        "A destination that nacked or did not confirm so many publishes within `breaker.window` is left alone.",
    ),
    key(
        "breaker.percent",
        "50",
        count(1, 100),
        "Provided that they are so many of a hundred verdicts on that destination.",
    ),
    key(
        "breaker.window",
        "10s",
        duration(seconds(1), minutes(10)),
        "Verdicts are counted for so long, then anew.",
    ),
    key(
        "breaker.open_for",
        "1s",
        duration(ms(100), minutes(5)),
        "After that one publish at a time tries whether the destination takes messages again.",
    ),
    optional(
        "spool.path",
        Kind::Directory,
        "The directory of the spool, made when it is missing; on a local disk. Unset: no spool.",
    ),
    key(
        "spool.max_bytes",
        "1GiB",
        size(MIB, 1024 * GIB),
        "The database may be so large; its log takes up to 16 MiB more, or one large message.",
    ),
    key(
        "spool.max_age",
        "24h",
        duration(seconds(1), minutes(365 * 24 * 60)),
        "A message that is older is parked.",
    ),
    key("spool.drain_rate", "500", count(1, 100_000), "Messages a second that leave the spool, at most."),
    key(
        "spool.destination_percent",
        "50",
        count(1, 100),
        "What one destination may take of `spool.max_bytes`.",
    ),
    key("spool.disk_reserve", "64MiB", size(0, 1024 * GIB), "Free bytes that the spool leaves on its disk."),
    key("spool.nacks_max", "10", count(0, 10_000), "A message that was nacked more often is undeliverable."),
    key(
        "spool.undeliverable",
        "park",
        Kind::Choice(Undeliverable::WORDS),
        "What the broker will never take: `park` sets it aside and goes on, `wait` tries it again and lets those behind it wait.",
    ),
    key(
        "idempotency.window",
        "10m",
        duration(seconds(1), minutes(7 * 24 * 60)),
        "A key is remembered for so long.",
    ),
    key(
        "idempotency.max_keys",
        "100000",
        count(1, 10_000_000),
        "Keys in memory at a time, about 200 bytes each; beyond it the ones that were finished first are forgotten early.",
    ),
    key(
        "shutdown.lame_duck",
        "0s",
        duration(ms(0), seconds(60)),
        "The time between readiness going off and the end of accepting, for load balancers to notice.",
    ),
    key(
        "shutdown.request_budget",
        "20s",
        duration(ms(0), minutes(10)),
        "The time that requests under way are given to finish.",
    ),
    key(
        "shutdown.broker_budget",
        "3s",
        duration(ms(100), minutes(1)),
        "The time that the connections to the broker are given to close.",
    ),
    key("log.level", "info", Kind::Choice(LogLevel::WORDS), "The least severe level that is logged."),
    key("log.format", "text", Kind::Choice(LogFormat::WORDS), "The form of a log line."),
    key(
        "runtime.worker_threads",
        "1",
        count(0, 64),
        "Threads that serve requests, beside one for each connection to the broker; 0: as many as there are CPUs available.",
    ),
];

const fn key(path: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { path, default: Some(default), kind, doc }
}

const fn optional(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { path, default: None, kind, doc }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn duration(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

// === impl Key ===

impl Key {
    /// Its section, such as `broker`.
    pub(super) fn section(&self) -> &'static str {
        self.split().0
    }

    /// Its name inside the section, such as `connections`.
    pub(super) fn name(&self) -> &'static str {
        self.split().1
    }

    /// Its environment variable, such as `AMQPOST__BROKER__CONNECTIONS`.
    pub(super) fn environment_name(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    fn split(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').expect("every path in the table is section.name, a test says so")
    }
}

/// The key called `name` in `section`.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section() == section && key.name() == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_is_a_known_section_and_a_name_and_stands_once() {
        let mut seen = BTreeSet::new();
        for key in KEYS {
            let (section, name) = key.path.split_once('.').expect("a dot");
            assert!(SECTIONS.iter().any(|known| known.name == section), "{}", key.path);
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", key.path);
            assert!(seen.insert(key.path), "{} stands twice", key.path);
        }
    }

    #[test]
    fn keys_stand_in_the_order_of_their_sections() {
        let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        assert_eq!(sections, SECTIONS.iter().map(|section| section.name).collect::<Vec<_>>());
    }
}
