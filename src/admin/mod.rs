//! The operators' listener: liveness, readiness, link, metrics, configuration. It changes nothing.
//!
//! It runs on a thread and a runtime of its own, so that it answers when the data plane is starved.

mod snapshot;
mod views;

use crate::admission::Admission;
use crate::config::{ListenAddress, Live};
use crate::link::LinkHandle;
use crate::listener::{BindError, Listeners, Settings, routed};
use crate::metrics::Metrics;
use crate::spool::SpoolHandle;
use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The largest number of connections: a scraper, a kubelet, a few people.
const CONNECTIONS_MAX: usize = 256;

/// The largest head of a request, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Whether the sidecar accepts requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Serving,
    /// It is shutting down.
    Draining,
}

/// The state that the endpoints show.
#[derive(Debug)]
pub struct Shown {
    /// The link, for its state.
    pub link: LinkHandle,
    /// The spool, if there is one.
    pub spool: Option<SpoolHandle>,
    /// The in-flight counts.
    pub admission: Admission,
    /// The metrics.
    pub metrics: Metrics,
    /// The configuration in force; it serialises without secrets.
    pub config: Live,
    /// Whether requests are accepted.
    pub readiness: watch::Receiver<Readiness>,
}

/// The running listener. Stop it last: it shows the progress of the shutdown.
#[derive(Debug)]
pub struct Admin {
    address: String,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// The admin listener could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Its address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its thread or runtime could not be started.
    #[error("the admin listener could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Its thread ended before it was listening.
    #[error("the admin listener ended before it was listening")]
    Ended,
}

impl Admin {
    /// Binds and serves on a new thread.
    ///
    /// # Errors
    /// When the address cannot be bound or the thread cannot be started.
    pub async fn start(listen: SocketAddr, shown: Shown) -> Result<Self, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let address = ListenAddress::Tcp(listen);
        let settings = Settings::for_operators(address, CONNECTIONS_MAX, HEADER_BYTES_MAX);
        let (stop, stopped) = watch::channel(false);
        let (bound, is_bound) = oneshot::channel();
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let listeners = match Listeners::bind(settings).await {
                    Ok(listeners) => listeners,
                    Err(error) => return drop(bound.send(Err(error))),
                };
                let address = listeners.addresses().swap_remove(0);
                if bound.send(Ok(address)).is_ok() {
                    listeners.serve(routed(router(shown)), stopped).await;
                }
            });
        })?;
        let address = is_bound.await.map_err(|_| AdminError::Ended)??;
        Ok(Self { address, stop, thread })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops serving and waits for the thread, for at most `budget`.
    pub async fn stop(self, budget: Duration) {
        self.stop.send_replace(true);
        let ended = tokio::task::spawn_blocking(move || self.thread.join());
        match tokio::time::timeout(budget, ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(_)) | Err(_)) => tracing::error!("the admin thread panicked"),
            Err(_) => tracing::warn!("the admin listener did not end in time"),
        }
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/livez", get(views::livez))
        .route("/readyz", get(views::readyz))
        .route("/link", get(views::link))
        .route("/metrics", get(views::metrics))
        .route("/config", get(views::config))
        .with_state(Arc::new(shown))
}
