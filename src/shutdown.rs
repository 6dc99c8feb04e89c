//! Shutdown, in order and each step with a budget: readiness off, listeners closed, requests,
//! confirms, broker, spool, admin.

use crate::admin::Readiness;
use crate::app::App;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// The time to write the last answers, once the link is closed and every request gets its outcome.
const ANSWER_BUDGET: Duration = Duration::from_millis(500);

/// The time for the commit in progress and for writing the log back.
const SPOOL_BUDGET: Duration = Duration::from_secs(5);

/// The time for one page of a change that an operator makes; the command asks for each page by
/// itself.
const CONTROL_BUDGET: Duration = Duration::from_secs(1);

/// The time for the admin listener to finish a scrape.
const ADMIN_BUDGET: Duration = Duration::from_secs(1);

/// Listens to SIGTERM and SIGINT from now on. The future ends with the name of the first signal.
/// Signals that end other programs by default, and ask some of them to reload, are logged and
/// ignored.
///
/// # Errors
/// When the process cannot receive signals.
pub fn requested() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut first_user = signal(SignalKind::user_defined1())?;
    let mut second_user = signal(SignalKind::user_defined2())?;
    Ok(async move {
        loop {
            let ignored = tokio::select! {
                _ = terminate.recv() => return "SIGTERM",
                _ = interrupt.recv() => return "SIGINT",
                _ = hang_up.recv() => "SIGHUP",
                _ = first_user.recv() => "SIGUSR1",
                _ = second_user.recv() => "SIGUSR2",
            };
            tracing::info!(signal = ignored, "this signal means nothing here and is ignored");
        }
    })
}

/// Takes the sidecar down in the order that docs/operating.md describes. Every step ends by its
/// budget.
pub async fn run(mut app: App) {
    let budgets = app.live.now().shutdown.clone();
    app.readiness.send_replace(Readiness::Draining);
    tracing::info!(lame_duck = ?budgets.lame_duck, "readiness is off");
    tokio::time::sleep(budgets.lame_duck).await;

    app.stop_accepting.send_replace(true);
    let in_flight = app.admission.in_flight();
    tracing::info!(in_flight, budget = ?budgets.request_budget, "no more requests are accepted");
    let answered = tokio::time::timeout(budgets.request_budget, &mut app.serving).await.is_ok();
    if !answered {
        tracing::warn!(in_flight = app.admission.in_flight(), "requests exceed their budget");
    }

    // The drain delivers nothing more and waits for the verdicts on its deliveries. Requests have
    // the rest of the budget.
    let closed_by = Instant::now() + budgets.broker_budget;
    if let Some(drain) = app.drain {
        drain.stop(budgets.broker_budget / 2).await;
    }

    // A publish still in flight ends with its connection, and its request is answered.
    let in_flight = app.admission.in_flight();
    tracing::info!(in_flight, budget = ?budgets.broker_budget, "closing the broker connections");
    app.link.drain(closed_by.saturating_duration_since(Instant::now())).await;
    if !answered && tokio::time::timeout(ANSWER_BUDGET, &mut app.serving).await.is_err() {
        tracing::warn!("disconnecting clients that do not read their answer");
        app.serving.abort();
    }

    if let Some(control) = app.control {
        control.stop(CONTROL_BUDGET).await;
    }
    // By now the spool has committed every message handed over and removed every confirmed one.
    if let Some(spool) = app.spool {
        spool.close(SPOOL_BUDGET).await;
    }

    app.admin.stop(ADMIN_BUDGET).await;
    tracing::info!("stopped");
}
