//! `amqpost serve`: the sidecar itself.

use crate::app::App;
use crate::config::{Config, Live};
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

/// A runtime of one thread needs no waking of other threads and shares nothing with them (ADR-0006).
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
