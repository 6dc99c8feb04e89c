//! `amqpost serve`: the sidecar itself.

use crate::app::App;
use crate::config::{Config, Live, Undeliverable};
use crate::telemetry::Log;
use crate::{open_files, shutdown, telemetry};
use std::process::ExitCode;
use tokio::runtime::Builder;

/// Runs until a signal asks it to stop.
pub(super) fn run(config: Config) -> ExitCode {
    let log = match telemetry::install(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("the log cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    let open_files = open_files::raise_limit();
    if !open_files::suffices_for(open_files, config.http.max_connections) {
        let max_connections = config.http.max_connections;
        tracing::warn!(open_files, max_connections, "the limit on open files is below http.max_connections");
    }
    if let Some(undeliverable) = config.spool.undeliverable {
        let park_after = if undeliverable == Undeliverable::Wait { "never" } else { "1h" };
        tracing::warn!(
            park_after,
            "spool.undeliverable is deprecated and goes away: set spool.park_after instead"
        );
    }
    let runtime = match builder(config.runtime.worker_threads).enable_all().thread_name("amqpost").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(until_stopped(Live::new(config), &log));
    // Tasks that still run have exceeded every budget.
    runtime.shutdown_background();
    exit
}

/// A runtime of one thread needs no waking of other threads and shares nothing with them
/// (ADR-0006).
fn builder(threads: usize) -> Builder {
    match threads {
        0 => Builder::new_multi_thread(),
        1 => Builder::new_current_thread(),
        _ => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    }
}

async fn until_stopped(live: Live, log: &Log) -> ExitCode {
    let stop = match shutdown::requested() {
        Ok(stop) => stop,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            return ExitCode::FAILURE;
        }
    };
    let app = match App::start(live.clone()).await {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let signal = tokio::select! {
        signal = stop => signal,
        never = log.follow(&live) => match never {},
    };
    tracing::info!(signal, "asked to stop");
    shutdown::run(app).await;
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Changes, Sources};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// A configuration without a broker, with a spool in `directory` and this much of a file.
    fn config(directory: &tempfile::TempDir, toml: &str) -> Config {
        let file = directory.path().join("amqpost.toml");
        std::fs::write(&file, toml).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let flags = vec![
            pair("broker.endpoints", "amqp://127.0.0.1:1"),
            pair("http.listen", "127.0.0.1:0"),
            pair("admin.listen", "127.0.0.1:0"),
            pair("shutdown.broker_budget", "100ms"),
            pair("spool.path", directory.path().join("spool").to_str().unwrap()),
        ];
        Config::load(&Sources { file: Some(file), flags, ..Sources::default() }).unwrap()
    }

    /// The status of a publish to `exchange` that asks for this deadline.
    async fn publish(app: &App, exchange: &str, timeout: &str) -> u16 {
        let mut socket = TcpStream::connect(&app.addresses()[0]).await.unwrap();
        let head = format!(
            "POST /v1/exchanges/{exchange}/messages?routing_key=k HTTP/1.1\r\nhost: a\r\n\
             connection: close\r\namqpost-timeout: {timeout}\r\ncontent-length: 2\r\n\r\nhi"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_running_service_takes_over_routes_and_deadlines() {
        let directory = tempfile::tempdir().unwrap();
        let live = Live::new(config(&directory, "[publish]\nmax_timeout = '5s'"));
        let app = App::start(live.clone()).await.unwrap();
        assert_eq!(publish(&app, "orders", "5s").await, 503);
        assert_eq!(publish(&app, "orders", "6s").await, 400);

        let new =
            "[publish]\nmax_timeout = '6s'\nmax_attempts = 1\n[[route]]\nexchange = 'orders'\nmode = 'spool'";
        let Changes { reloadable, needs_restart } = live.apply(&config(&directory, new));
        assert_eq!(reloadable, ["publish.max_timeout", "route"]);
        assert_eq!(needs_restart, ["publish.max_attempts"]);
        assert_eq!(live.now().publish.max_attempts, 3);
        assert_eq!(publish(&app, "orders", "6s").await, 202);
        assert_eq!(publish(&app, "other", "6s").await, 503);

        live.apply(&config(&directory, ""));
        assert_eq!(publish(&app, "orders", "6s").await, 503);
        shutdown::run(app).await;
    }
}
