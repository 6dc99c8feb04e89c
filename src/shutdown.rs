//! The end, in order: readiness off, no more accepting, requests, confirms, broker, spool, admin; each with its budget.

use crate::admin::Readiness;
use crate::app::App;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// With the link gone every request is about to be answered; the answers have to be written.
const ANSWER_BUDGET: Duration = Duration::from_millis(500);

/// A commit that is under way, and the log that is written back.
const SPOOL_BUDGET: Duration = Duration::from_secs(5);

/// A change that an operator has asked for; the rest of it is asked for page by page.
const CONTROL_BUDGET: Duration = Duration::from_secs(1);

/// The admin listener only has to finish a scrape.
const ADMIN_BUDGET: Duration = Duration::from_secs(1);

/// Listens to SIGTERM and SIGINT from now on; the future ends with the name of the first one.
///
/// # Errors
/// When the process cannot listen to signals.
pub fn requested() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Takes the sidecar down in the contract's order (§4). Every stage ends by its budget.
pub async fn run(app: App) {
    let App {
        live,
        link,
        spool,
        drain,
        control,
        admission,
        admin,
        readiness,
        stop_accepting,
        mut serving,
        ..
    } = app;
    let budgets = live.now().shutdown.clone();
    readiness.send_replace(Readiness::Draining);
    tracing::info!(lame_duck = ?budgets.lame_duck, "readiness is off");
    tokio::time::sleep(budgets.lame_duck).await;

    stop_accepting.send_replace(true);
    tracing::info!(in_flight = admission.in_flight(), budget = ?budgets.request_budget, "no more requests are accepted");
    let answered = tokio::time::timeout(budgets.request_budget, &mut serving).await.is_ok();
    if !answered {
        tracing::warn!(in_flight = admission.in_flight(), "requests outlive their budget");
    }

    // The spool gives nothing more, and waits for the verdicts on what it gave; the requests have the rest of the budget.
    let closed_by = Instant::now() + budgets.broker_budget;
    if let Some(drain) = drain {
        drain.stop(budgets.broker_budget / 2).await;
    }

    // What is still in flight ends with its connection, and so does the wait of its request.
    tracing::info!(in_flight = admission.in_flight(), budget = ?budgets.broker_budget, "closing the broker connections");
    link.drain(closed_by.saturating_duration_since(Instant::now())).await;
    if !answered && tokio::time::timeout(ANSWER_BUDGET, &mut serving).await.is_err() {
        tracing::warn!("clients that do not read their answer are cut off");
        serving.abort();
    }

    if let Some(control) = control {
        control.stop(CONTROL_BUDGET).await;
    }
    // What the requests handed over is committed; what the link confirmed has been removed.
    if let Some(spool) = spool {
        spool.close(SPOOL_BUDGET).await;
    }

    admin.stop(ADMIN_BUDGET).await;
    tracing::info!("stopped");
}
