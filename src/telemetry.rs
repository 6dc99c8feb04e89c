//! Logging: what is written, where and how.

use crate::config::{Live, LogConfig, LogFormat, LogLevel};
use std::convert::Infallible;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Log lines that may wait to be written. Further ones are dropped: a full pipe must not delay a
/// request.
const LINES_MAX: usize = 8192;

/// The logger of the process. When it is dropped, it writes the remaining lines.
#[derive(Debug)]
#[must_use = "without it the last lines are lost"]
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    _worker: WorkerGuard,
}

/// Installs the logger of the process. A thread of its own writes the log lines to standard error.
///
/// # Errors
/// When a logger is already installed.
pub fn install(log: &LogConfig) -> Result<Log, TryInitError> {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
    let (writer, worker) = builder.thread_name("log").finish(std::io::stderr());
    let layer = fmt::layer().with_writer(writer);
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(log.level));
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    Ok(Log { filter: handle, _worker: worker })
}

impl Log {
    /// Follows `log.level`, for as long as the future is polled.
    pub async fn follow(&self, live: &Live) -> Infallible {
        let mut changes = live.follow();
        loop {
            let level = changes.borrow_and_update().log.level;
            // It fails only when there is no logger left.
            self.filter.reload(filter(level)).ok();
            if changes.changed().await.is_err() {
                // Nobody can change it any more.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Logs the lines of amqpost at the configured level and those of libraries from warnings up. It
/// never logs those of the AMQP library, which contain the payload of returned messages and, at
/// finer levels, credentials (ADR-0001). The link logs what happens there in its own words.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let silent = ["lapin", "amq_protocol", "amq_protocol_tcp", "async_rs", "tcp_stream"];
    let silent = silent.map(|target| (target, LevelFilter::OFF));
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("amqpost", level)
        .with_targets(silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use tracing::Level;

    #[test]
    fn the_amqp_library_is_silent_at_every_level() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            for target in ["lapin", "lapin::returned_messages", "lapin::io_loop", "amq_protocol::frame"] {
                assert!(!filter(level).would_enable(target, &Level::ERROR), "{target}");
            }
        }
        assert!(filter(LogLevel::Info).would_enable("amqpost::link", &Level::INFO));
        assert!(!filter(LogLevel::Trace).would_enable("hyper", &Level::INFO));
    }

    #[tokio::test]
    async fn the_level_follows_the_configuration_in_force() {
        let (_layer, handle) = reload::Layer::new(filter(LogLevel::Info));
        let (_, worker) = tracing_appender::non_blocking(std::io::sink());
        let log = Log { filter: handle, _worker: worker };
        let live = Live::new(Config::default());
        let logs_debug =
            || log.filter.with_current(|now| now.would_enable("amqpost", &Level::DEBUG)).unwrap();
        let flags = vec![("log.level".to_owned(), "debug".to_owned())];
        let debugging = async {
            assert!(!logs_debug());
            live.apply(&Config::load(&Sources { flags, ..Sources::default() }).unwrap());
            while !logs_debug() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            never = log.follow(&live) => match never {},
            () = debugging => {}
        }
    }
}
