//! Logging: what is written, where and how.

use crate::config::{LogConfig, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// Lines that wait for whoever reads the log. Beyond that they are dropped: a full pipe must hold up no request.
const LINES_MAX: usize = 8192;

/// Writes what is left of the log when dropped.
#[derive(Debug)]
#[must_use = "without it the last lines are lost"]
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Installs the logger of the process; log lines go to standard error, by way of a thread of their own.
///
/// # Errors
/// When a logger is installed already.
pub fn install(log: &LogConfig) -> Result<LogGuard, TryInitError> {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
    let (writer, worker) = builder.thread_name("log").finish(std::io::stderr());
    let layer = fmt::layer().with_writer(writer);
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(log.level))).try_init()?;
    Ok(LogGuard { _worker: worker })
}

/// Our own lines at the configured level, those of libraries from warnings up, those of the AMQP library never:
/// it logs returned messages with their payload, and at its finer levels credentials (ADR-0001). What it has to
/// say reaches the log through the link, in the link's words.
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
}
