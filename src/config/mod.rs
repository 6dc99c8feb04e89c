//! The configuration: text from files, environment and flags in, valid typed values out.
//!
//! Defaults give way to the file, the file to the environment, the environment to flags. All of it is
//! checked once, here, and every problem is reported together; nothing later reads the environment or
//! checks a number again. The keys are declared in one table, `keys.rs`.

mod endpoint;
mod files;
mod keys;
mod kind;
mod layers;
mod listen;
mod log;
mod problems;
mod raw;
#[cfg(test)]
mod reference;
mod routes;
mod rules;
mod secret;
mod settings;
mod spool;
mod suggest;
#[cfg(test)]
mod tests;
mod toml_file;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use files::BrokerFiles;
use layers::Layers;
use problems::Problems;
use settings::Settings;

use crate::text::quantities;

pub use endpoint::Endpoint;
pub use listen::{ListenAddress, SOCKET_PATH_BYTES_MAX};
pub use log::{LogFormat, LogLevel};
pub use problems::{ConfigError, Origin, Problem};
pub use secret::Secret;
pub use spool::{IdempotencyConfig, RouteConfig, SpoolConfig, Undeliverable};

/// Everything amqpost can be told, valid by construction of [`Config::load`].
///
/// It serialises with secrets redacted, durations and sizes in the textual form of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The listener that takes requests.
    pub http: HttpConfig,
    /// The listener for operators.
    pub admin: AdminConfig,
    /// The broker's endpoints and the connections to them.
    pub broker: BrokerConfig,
    /// Deadlines and limits of publishes.
    pub publish: PublishConfig,
    /// When a failing destination is left alone.
    pub breaker: BreakerConfig,
    /// The messages that are kept on disk.
    pub spool: SpoolConfig,
    /// What `Idempotency-Key` remembers.
    pub idempotency: IdempotencyConfig,
    /// The time budgets of a shutdown.
    pub shutdown: ShutdownConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The threads.
    pub runtime: RuntimeConfig,
    /// The modes of exchanges, in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<RouteConfig>,
}

/// Section `http`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpConfig {
    /// Where to listen: at least one address, no two alike.
    pub listen: Vec<ListenAddress>,
    /// Open connections at a time, 1 to 1000000.
    pub max_connections: usize,
    /// The head of a request must arrive within it; 100 ms to 5 min.
    #[serde(serialize_with = "quantities::duration_text")]
    pub header_timeout: Duration,
    /// A keep-alive connection without a request is closed after it; 1 s to 1 h.
    #[serde(serialize_with = "quantities::duration_text")]
    pub idle_timeout: Duration,
    /// Bytes of a request's head, 8 KiB to 1 MiB.
    #[serde(serialize_with = "quantities::size_text")]
    pub max_header_bytes: usize,
}

/// Section `admin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdminConfig {
    /// Where the admin listener listens.
    pub listen: SocketAddr,
    /// Whether `/readyz` answers 503 while the link is down.
    pub ready_requires_link: bool,
}

/// Section `broker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerConfig {
    /// The broker's nodes, at least one; `broker.user`, `broker.password` and their files already applied.
    pub endpoints: Vec<Endpoint>,
    /// The file the endpoints were read from, if any.
    pub endpoints_file: Option<PathBuf>,
    /// The file the user was read from, if any.
    pub user_file: Option<PathBuf>,
    /// The file the password was read from, if any.
    pub password_file: Option<PathBuf>,
    /// The certificate authorities to trust instead of the system's, if any were given.
    pub ca_file: Option<CaFile>,
    /// Connections to keep, spread over the endpoints; 1 to 16.
    pub connections: usize,
    /// The AMQP heartbeat, whole seconds, 1 s to 60 s.
    #[serde(serialize_with = "quantities::duration_text")]
    pub heartbeat: Duration,
    /// A broker silent for so long while it owes an answer is stalled; 100 ms to 60 s.
    #[serde(serialize_with = "quantities::duration_text")]
    pub stall_timeout: Duration,
    /// Name look-up, TCP, TLS and AMQP handshake of one attempt together; 100 ms to 60 s.
    #[serde(serialize_with = "quantities::duration_text")]
    pub connect_timeout: Duration,
    /// The first pause between attempts to connect; 1 ms to 10 s, at most `reconnect_max`.
    #[serde(serialize_with = "quantities::duration_text")]
    pub reconnect_min: Duration,
    /// The longest pause between attempts to connect; 10 ms to 60 s.
    #[serde(serialize_with = "quantities::duration_text")]
    pub reconnect_max: Duration,
    /// The largest AMQP frame to negotiate, in bytes; 8 KiB (lapin takes no smaller one) to 1 MiB.
    #[serde(serialize_with = "quantities::size_text")]
    pub frame_max: usize,
    /// Bytes per connection that may wait inside the AMQP library; 64 KiB to 64 MiB, at least `frame_max`.
    #[serde(serialize_with = "quantities::size_text")]
    pub write_window: usize,
    /// The name shown in the RabbitMQ management UI, 1 to 128 characters.
    pub connection_name: String,
}

/// The file of `broker.ca_file`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its text: PEM with at least one `BEGIN CERTIFICATE` block.
    pub pem: String,
}

/// Section `publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishConfig {
    /// The deadline of a request that names none; 1 ms to 10 min, at most `max_timeout`.
    #[serde(serialize_with = "quantities::duration_text")]
    pub timeout: Duration,
    /// The longest deadline a request may ask for; 1 ms to 1 h.
    #[serde(serialize_with = "quantities::duration_text")]
    pub max_timeout: Duration,
    /// Publishes under way at a time, 1 to 65536.
    pub max_in_flight: usize,
    /// Bytes of message bodies under way at a time, 64 KiB to 4 GiB.
    #[serde(serialize_with = "quantities::size_text")]
    pub max_in_flight_bytes: usize,
    /// Bytes of one message body, 1 KiB to 128 MiB, at most `max_in_flight_bytes`.
    #[serde(serialize_with = "quantities::size_text")]
    pub max_body: usize,
    /// Lines of one stream under way at a time, 1 to 4096.
    pub stream_in_flight: usize,
    /// Attempts at one publish, the first included; 1 to 10.
    pub max_attempts: u32,
    /// Retries per hundred publishes, 0 to 100.
    pub retry_percent: u32,
}

/// Section `breaker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerConfig {
    /// Failures within `window` that open it, 1 to 10000.
    pub failures: u32,
    /// And so many of a hundred verdicts, 1 to 100.
    pub percent: u32,
    /// Verdicts are counted for so long; 1 s to 10 min.
    #[serde(serialize_with = "quantities::duration_text")]
    pub window: Duration,
    /// From opening to the first probe; 100 ms to 5 min.
    #[serde(serialize_with = "quantities::duration_text")]
    pub open_for: Duration,
}

/// Section `shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShutdownConfig {
    /// Between readiness going off and the end of accepting; 0 to 60 s.
    #[serde(serialize_with = "quantities::duration_text")]
    pub lame_duck: Duration,
    /// For requests under way to finish; 0 to 10 min.
    #[serde(serialize_with = "quantities::duration_text")]
    pub request_budget: Duration,
    /// For the broker connections to close; 100 ms to 1 min.
    #[serde(serialize_with = "quantities::duration_text")]
    pub broker_budget: Duration,
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// The form of a log line.
    pub format: LogFormat,
}

/// Section `runtime`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuntimeConfig {
    /// Threads that serve requests, 1 to 64; `None` where the key is 0: one per CPU available.
    #[serde(serialize_with = "zero_when_none")]
    pub worker_threads: Option<NonZeroUsize>,
}

/// Where the configuration's texts come from. Reading the process environment is the caller's part. `Debug` shows
/// names only, since the values are secrets in part.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file of `--config`, if given; it must then be readable.
    pub file: Option<PathBuf>,
    /// Environment variables, name and value; those not named `AMQPOST__…` are ignored. Where the bytes are no
    /// UTF-8, hand over `to_string_lossy`: for a key of ours its U+FFFD is then among the problems.
    pub environment: Vec<(String, String)>,
    /// Key path and text of each flag, such as `("broker.connections", "4")`; of two alike the last holds.
    pub flags: Vec<(String, String)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        formatter
            .debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &names(&self.environment))
            .field("flags", &names(&self.flags))
            .finish()
    }
}

impl Serialize for CaFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.path.display())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::load(&Sources::default()).expect("the defaults are valid, a test says so")
    }
}

// === impl Config ===

impl Config {
    /// Merges the sources, reads the files they point to, and checks everything.
    ///
    /// # Errors
    ///
    /// All the problems there are, together.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let layers = Layers::merge(sources, &mut problems);
        let mut settings = Settings::parse(&layers, &mut problems);
        let files = BrokerFiles::read(&mut settings, &layers, &mut problems);
        let config = Self::of(&settings, files, routes::read(&layers, &mut problems));
        // Of a file that could not be read, any key might resolve what looks like a contradiction.
        if layers.complete {
            rules::check(&config, &settings, &layers, &mut problems);
        }
        problems.or(config)
    }

    /// The configuration in force as TOML, without credentials. As JSON: serialise `self`.
    #[must_use]
    pub fn effective(&self) -> String {
        toml::to_string(self).expect("tables of texts, numbers and lists always serialise")
    }

    fn of(settings: &Settings, files: BrokerFiles, route: Vec<RouteConfig>) -> Self {
        Self {
            http: HttpConfig {
                listen: settings.get("http.listen"),
                max_connections: settings.get("http.max_connections"),
                header_timeout: settings.get("http.header_timeout"),
                idle_timeout: settings.get("http.idle_timeout"),
                max_header_bytes: settings.get("http.max_header_bytes"),
            },
            admin: AdminConfig {
                listen: settings.get("admin.listen"),
                ready_requires_link: settings.get("admin.ready_requires_link"),
            },
            broker: BrokerConfig::of(settings, files),
            publish: PublishConfig {
                timeout: settings.get("publish.timeout"),
                max_timeout: settings.get("publish.max_timeout"),
                max_in_flight: settings.get("publish.max_in_flight"),
                max_in_flight_bytes: settings.get("publish.max_in_flight_bytes"),
                max_body: settings.get("publish.max_body"),
                stream_in_flight: settings.get("publish.stream_in_flight"),
                max_attempts: settings.get("publish.max_attempts"),
                retry_percent: settings.get("publish.retry_percent"),
            },
            breaker: BreakerConfig {
                failures: settings.get("breaker.failures"),
                percent: settings.get("breaker.percent"),
                window: settings.get("breaker.window"),
                open_for: settings.get("breaker.open_for"),
            },
            spool: SpoolConfig::of(settings),
            idempotency: IdempotencyConfig::of(settings),
            shutdown: ShutdownConfig {
                lame_duck: settings.get("shutdown.lame_duck"),
                request_budget: settings.get("shutdown.request_budget"),
                broker_budget: settings.get("shutdown.broker_budget"),
            },
            log: LogConfig { level: settings.get("log.level"), format: settings.get("log.format") },
            runtime: RuntimeConfig { worker_threads: settings.get("runtime.worker_threads") },
            route,
        }
    }
}

// === impl BrokerConfig ===

impl BrokerConfig {
    fn of(settings: &Settings, files: BrokerFiles) -> Self {
        let mut endpoints: Vec<Endpoint> =
            files.endpoints.unwrap_or_else(|| settings.get("broker.endpoints"));
        let user: Option<Secret> = files.user.or_else(|| settings.find("broker.user"));
        let password: Option<Secret> = files.password.or_else(|| settings.find("broker.password"));
        for endpoint in &mut endpoints {
            if let Some(user) = &user {
                user.expose().clone_into(&mut endpoint.user);
            }
            if let Some(password) = &password {
                endpoint.password.clone_from(password);
            }
        }
        Self {
            endpoints,
            endpoints_file: settings.find("broker.endpoints_file"),
            user_file: settings.find("broker.user_file"),
            password_file: settings.find("broker.password_file"),
            ca_file: files.ca_file,
            connections: settings.get("broker.connections"),
            heartbeat: settings.get("broker.heartbeat"),
            stall_timeout: settings.get("broker.stall_timeout"),
            connect_timeout: settings.get("broker.connect_timeout"),
            reconnect_min: settings.get("broker.reconnect_min"),
            reconnect_max: settings.get("broker.reconnect_max"),
            frame_max: settings.get("broker.frame_max"),
            write_window: settings.get("broker.write_window"),
            connection_name: settings.get("broker.connection_name"),
        }
    }
}

/// A count for which 0 means that the machine decides.
fn zero_when_none<S: Serializer>(count: &Option<NonZeroUsize>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(count.map_or(0, NonZeroUsize::get) as u64)
}
