//! The declaration of every key: the one place that says what can be configured, how, and with
//! which default.
//!
//! The structs of [`Config`], the parser, the errors, `config/amqpost.toml` and
//! `docs/configuration.md` follow from it.

use super::declare::{EACH_FIELD, EACH_KEY, configuration};
use super::endpoint::Endpoint;
use super::files::{Certificates, FromFile};
use super::given::Layers;
use super::kind::{Kind, count, duration, duration_or_never, minutes, ms, seconds, size, whole_seconds};
use super::listen::ListenAddress;
use super::park_after::ParkAfter;
use super::problems::Problems;
use super::reader::{Declared, Found, Reader, Shown};
use super::schema::{Key, Section};
use super::secret::Secret;
use super::words::{LogFormat, LogLevel, Overtaking, Returns, Undeliverable};
use crate::message::Mode;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

configuration! {
    sections {
        /// The listener that takes requests.
        http: HttpConfig {
            /// The addresses that take requests: `host:port`, the host an IP address (IPv6 in
            /// brackets) or `localhost`; or `unix:` and the absolute path of a socket.
            listen: Vec<ListenAddress> = "127.0.0.1:8672", Kind::Listen;
            /// The largest number of open connections.
            max_connections: usize = "10000", count(1, 1_000_000);
            /// The time within which the head of a request must arrive.
            header_timeout: Duration = "10s", duration(ms(100), minutes(5));
            /// The time after which a keep-alive connection without a request is closed.
            idle_timeout: Duration = "75s", duration(seconds(1), minutes(60));
            /// The largest request head accepted; a larger one is answered 431.
            max_header_bytes: usize = "64KiB", size(8 * KIB, MIB);
        }

        /// The listener for operators: health, metrics and this configuration.
        admin: AdminConfig {
            /// The address that serves `/livez`, `/readyz`, `/link`, `/metrics` and `/config`.
            listen: SocketAddr = "0.0.0.0:9672", Kind::Address;
            /// Whether `/readyz` answers 503 while the link is down. With `true`, an outage of the
            /// broker takes every pod out of service.
            ready_requires_link: bool = "false", Kind::Flag, reloadable;
        }

        /// The broker's endpoints and the connections to them.
        broker: BrokerConfig {
            /// The nodes of the broker. Connections are spread over all of them.
            endpoints: Vec<Endpoint> = "amqp://guest:guest@127.0.0.1:5672/%2f", Kind::Endpoints;
            /// A file with one URI a line, instead of `broker.endpoints`. Empty lines and lines
            /// that begin with `#` are skipped.
            endpoints_file: Option<FromFile<Vec<Endpoint>>>, Kind::Path;
            /// The user to log in as, instead of the one in each URI.
            user: Option<Secret>, Kind::Credential;
            /// A file that holds `broker.user`.
            user_file: Option<FromFile<Secret>>, Kind::Path;
            /// The password, instead of the one in each URI.
            password: Option<Secret>, Kind::Credential;
            /// A file that holds `broker.password`.
            password_file: Option<FromFile<Secret>>, Kind::Path;
            /// A PEM file of certificate authorities to trust for `amqps` endpoints, instead of the
            /// system's.
            ca_file: Option<FromFile<Certificates>>, Kind::Path;
            /// The number of connections to keep open.
            connections: usize = "2", count(1, 16);
            /// The AMQP heartbeat requested from the broker.
            heartbeat: Duration = "5s", whole_seconds(1, 60);
            /// How long the broker may owe an answer without sending anything before the connection
            /// counts as stalled.
            stall_timeout: Duration = "1s", duration(ms(100), seconds(60));
            /// The longest time for which the bytes before a probe may delay its answer, while the
            /// broker's system acknowledges more of them from moment to moment.
            transfer_max: Duration = "60s", duration(seconds(1), minutes(60));
            /// The time limit of one attempt to connect: name look-up, TCP, TLS and AMQP handshake
            /// together.
            connect_timeout: Duration = "3s", duration(ms(100), seconds(60));
            /// The first pause before connecting again. Each further pause is twice as long, with
            /// full jitter.
            reconnect_min: Duration = "50ms", duration(ms(1), seconds(10));
            /// The longest pause before connecting again.
            reconnect_max: Duration = "1s", duration(ms(10), seconds(60));
            /// How long connections may be spread unevenly over the endpoints before they move, one
            /// after the other. A connection moves without losing a publish.
            rebalance_after: Duration = "30s", duration(seconds(1), minutes(60));
            /// The largest AMQP frame requested from the broker.
            frame_max: usize = "32KiB", size(8 * KIB, MIB);
            /// The bytes per connection that may wait inside the AMQP library.
            write_window: usize = "4MiB", size(64 * KIB, 64 * MIB);
            /// The name of the connections in the RabbitMQ management UI.
            connection_name: String = "amqpost", Kind::Text { max_characters: 128 };
        }

        /// Deadlines and limits of publishes.
        publish: PublishConfig {
            /// The deadline of a request that names none.
            timeout: Duration = "5s", duration(ms(1), minutes(10)), reloadable;
            /// The longest deadline that a request may ask for.
            max_timeout: Duration = "60s", duration(ms(1), minutes(60)), reloadable;
            /// The largest number of publishes in flight; further ones are answered `overloaded`.
            max_in_flight: usize = "1024", count(1, 65_536);
            /// The largest number of payload bytes in flight; a publish beyond it is answered
            /// `overloaded`. Plan for about three times as much memory: HTTP, the AMQP library and
            /// its buffers each hold a copy for a while.
            max_in_flight_bytes: usize = "64MiB", size(64 * KIB, 4 * GIB);
            /// The largest payload accepted; a larger one is answered 413.
            max_body: usize = "16MiB", size(KIB, 128 * MIB);
            /// The largest number of lines of one stream in flight. All streams together may use
            /// half of `publish.max_in_flight` and of `publish.max_in_flight_bytes`; further lines
            /// wait.
            stream_in_flight: usize = "256", count(1, 4096);
            /// How long the refusals of a destination that took messages before are answered
            /// `destination_unavailable`. It counts from the first refusal after the last confirm.
            proven_for: Duration = "10m", duration(ms(0), minutes(7 * 24 * 60)), reloadable;
            /// The largest number of attempts at one publish before its deadline, the first
            /// included.
            max_attempts: u32 = "3", count(1, 10);
            /// The largest number of retries per hundred publishes, so that retries never multiply
            /// the broker's load. Retries of attempts that were not handed over to a connection do
            /// not count. 0: none.
            retry_percent: u32 = "20", count(0, 100);
        }

        /// The circuit breaker of each failing destination.
        breaker: BreakerConfig {
            /// Failures (nacks and missing confirms) of one destination within `breaker.window`
            /// that open its breaker.
            failures: u32 = "20", count(1, 10_000), reloadable;
            /// The breaker opens only if failures are at least this percentage of the destination's
            /// verdicts, or if its last `breaker.failures` verdicts are all failures.
            percent: u32 = "50", count(1, 100), reloadable;
            /// The length of the window in which verdicts are counted.
            window: Duration = "10s", duration(seconds(1), minutes(10)), reloadable;
            /// How long an open breaker rejects publishes before it lets one through as a probe.
            open_for: Duration = "1s", duration(ms(100), minutes(5)), reloadable;
        }

        /// The messages that are kept on disk until the broker has them. Without `spool.path` there
        /// is no spool.
        spool: SpoolConfig {
            /// The directory of the spool, on a local disk. It is created if it is missing. Unset:
            /// no spool.
            path: Option<PathBuf>, Kind::Directory;
            /// The largest size of the database file. Its log takes up to 16 MiB more, or the size
            /// of one large message.
            max_bytes: u64 = "1GiB", size(MIB, 1024 * GIB);
            /// The age after which a message is parked.
            max_age: Duration = "24h", duration(seconds(1), minutes(365 * 24 * 60));
            /// The largest number of messages per second that leave the spool.
            drain_rate: u32 = "500", count(1, 100_000);
            /// The largest share of `spool.max_bytes` that one destination may use, in percent.
            destination_percent: u32 = "50", count(1, 100);
            /// The free bytes that the spool leaves on its disk.
            disk_reserve: u64 = "64MiB", size(0, 1024 * GIB);
            /// How long the broker may refuse a destination before the messages that were kept for
            /// it until the first refusal are parked; the next refusal starts the time anew.
            /// `never`: they are tried until they are delivered.
            park_after: ParkAfter = "1h", duration_or_never(seconds(1), minutes(365 * 24 * 60));
            /// The largest number of deliveries of one message that were refused and may have left
            /// a copy in some queue. After these it is tried no more, and parked
            /// `spool.park_after` after the first of them.
            nacks_max: u32 = "10", count(0, 10_000);
            /// Deprecated, and gone after this release: `wait` means `park_after = "never"`, `park`
            /// the default of `spool.park_after`.
            undeliverable: Option<Undeliverable>, Kind::Choice(Undeliverable::WORDS);
        }

        /// What `Idempotency-Key` remembers.
        idempotency: IdempotencyConfig {
            /// How long a key is remembered.
            window: Duration = "10m", duration(seconds(1), minutes(7 * 24 * 60));
            /// The largest number of keys in memory, about 200 bytes each. Beyond it the keys that
            /// finished first are forgotten early.
            max_keys: usize = "100000", count(1, 10_000_000);
        }

        /// The time each step of a shutdown may take.
        shutdown: ShutdownConfig {
            /// The time between turning readiness off and closing the listeners, for load balancers
            /// to notice.
            lame_duck: Duration = "0s", duration(ms(0), seconds(60));
            /// The time that requests in progress have to finish.
            request_budget: Duration = "20s", duration(ms(0), minutes(10));
            /// The time that the connections to the broker have to close.
            broker_budget: Duration = "3s", duration(ms(100), minutes(1));
        }

        /// What is logged, and how.
        log: LogConfig {
            /// The least severe level that is logged.
            level: LogLevel = "info", Kind::Choice(LogLevel::WORDS), reloadable;
            /// The format of a log line.
            format: LogFormat = "text", Kind::Choice(LogFormat::WORDS);
        }

        /// Threads.
        runtime: RuntimeConfig {
            /// The number of threads that serve requests, in addition to one per connection to the
            /// broker. 0: one per available CPU.
            worker_threads: usize = "1", count(0, 64);
        }
    }

    tables {
        /// How messages are published, by exchange: the mode of requests that name none, and what
        /// is known of the exchange. The first table whose pattern matches applies.
        route: RouteConfig, reloadable {
            /// The exchanges: a name in which each `*` stands for any characters, also for dots or
            /// none. The default exchange is `amq.default`.
            exchange: String, Kind::Text { max_characters: 255 };
            /// The mode of requests that name none.
            mode: Mode = "direct", Kind::Choice(Mode::WORDS);
            /// Whether a request may name another mode. If not, a request that does is answered
            /// 400.
            r#override as "override": bool = "true", Kind::Flag;
            /// Whether the broker is known to take messages for these exchanges, also before the
            /// first confirm since the start. If so, a refusal by the broker (403, 404 or a return)
            /// is answered `destination_unavailable` for `publish.proven_for`.
            known: bool = "false", Kind::Flag;
            /// The order of messages in mode `fallback` while others wait in the spool for their
            /// destination: `relaxed`, new messages go to the broker as soon as it takes the
            /// destination, beside what still waits; `strict`, they go to the spool behind it, and
            /// leave at the drain's pace.
            order: Overtaking = "relaxed", Kind::Choice(Overtaking::WORDS);
            /// What it means when the broker returns a mandatory message: `moment` (also if unset),
            /// that a destination which took messages before does not take them now; `verdict`,
            /// that no queue takes this message, for headers exchanges; `nothing`, for exchanges
            /// that return messages and keep them (`x-recent-history`, `x-delayed-message`,
            /// `x-message-deduplication`): their messages are published without mandatory.
            returns: Option<Returns>, Kind::Choice(Returns::WORDS);
        }
    }
}

/// The keys of all sections, in the order of the documents.
pub(super) fn all_keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_a_name_old_ones_included() {
        let names = all_keys().flat_map(|key| key.old.iter().chain([&key.path]));
        let mut names: Vec<_> = names.collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
