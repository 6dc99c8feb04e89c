//! The spool as a whole: opened with the sidecar, watched while it runs, closed after the link.

use super::accepted::Acceptances;
use super::backlog::Backlog;
use super::flow::Flow;
use super::store::{OpenError, Store, StoreHandle, StoreHealth, StoreSettings};
use crate::config::{Config, SpoolConfig};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The owner of an open spool.
#[derive(Debug)]
pub struct Spool {
    store: Store,
    handle: SpoolHandle,
    watching: JoinHandle<()>,
}

/// The way to an open spool. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SpoolHandle {
    /// The records.
    pub store: StoreHandle,
    /// Which destinations have waiting messages.
    pub backlog: Backlog,
    /// How fast messages enter and leave.
    pub flow: Flow,
    /// Tells the drain which of its destinations have accepted a request's message.
    pub acceptances: Acceptances,
}

impl SpoolHandle {
    /// A handle to a spool with this store. Call it once per store; all other handles are clones.
    #[must_use]
    pub fn new(store: StoreHandle) -> Self {
        Self {
            backlog: Backlog::new(store.clone()),
            flow: Flow::default(),
            acceptances: Acceptances::default(),
            store,
        }
    }
}

impl Spool {
    /// Opens the spool, if the configuration has one. Blocks for milliseconds; after a crash, until
    /// the log is in the database.
    ///
    /// # Errors
    /// When the store cannot be opened. Then the sidecar must not start: the store may have
    /// messages.
    pub fn open(config: &Config) -> Result<Option<Self>, OpenError> {
        let Some(path) = &config.spool.path else { return Ok(None) };
        let (store, handle) = Store::open(settings(&config.spool, path, config.idempotency.window))?;
        let stats = handle.stats();
        let (ready, parked) = (stats.ready, stats.parked);
        tracing::info!(path = %path.display(), ready, parked, "the spool is open");
        let watching = tokio::spawn(watch(handle.clone()));
        Ok(Some(Self { store, handle: SpoolHandle::new(handle), watching }))
    }

    /// A handle to it.
    #[must_use]
    pub fn handle(&self) -> SpoolHandle {
        self.handle.clone()
    }

    /// Commits the changes that were handed over and closes the files, within `budget`.
    pub async fn close(self, budget: Duration) {
        self.watching.abort();
        let ready = self.handle.store.stats().ready;
        let closed = tokio::task::spawn_blocking(move || self.store.close());
        match tokio::time::timeout(budget, closed).await {
            Ok(Ok(())) => tracing::info!(ready, "the spool is closed"),
            Ok(Err(_)) => tracing::error!("closing the spool panicked"),
            Err(_) => tracing::warn!("the spool did not close in time"),
        }
    }
}

/// The settings of a store in `path`.
#[must_use]
pub fn settings(config: &SpoolConfig, path: &Path, dedup_window: Duration) -> StoreSettings {
    StoreSettings {
        directory: path.to_owned(),
        max_bytes: config.max_bytes,
        destination_percent: u8::try_from(config.destination_percent).unwrap_or(100),
        disk_reserve: config.disk_reserve,
        max_age: config.max_age,
        dedup_window,
    }
}

/// Logs once that the store has failed. Metrics and `/link` show it all the time.
async fn watch(store: StoreHandle) {
    let mut stats = store.watch();
    // If no sender is left, the store is gone.
    let Ok(seen) = stats.wait_for(|stats| matches!(stats.health, StoreHealth::Failed(_))).await else {
        return;
    };
    if let StoreHealth::Failed(reason) = &seen.health {
        tracing::error!(%reason, "the spool has failed: it needs a restart of amqpost");
    }
}
