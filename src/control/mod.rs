//! The operator's access to the spool: a Unix socket in its directory, for questions and changes.
//!
//! `wire` is the JSON, `looking` answers questions, `desk` makes changes, `routes` is the router.
//! The commands use `looking` directly, and `desk` when no sidecar runs, so that the answers are
//! the same.
//!
//! The admin listener changes nothing and may be open to a network. Here everybody who can enter
//! the directory (mode 0700) can do everything.

mod desk;
mod looking;
mod routes;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

pub use desk::{Desk, DeskError};
pub use looking::{Export, Exported, lines, report, shown, status};
pub use socket::SocketPath;
pub use wire::{
    ChangeRequest, Done, ErrorBody, MessagesPage, Operation, Query, Report, ShownMessage, Sidecar, Status,
};

use crate::config::ListenAddress;
use crate::listener::{BindError, Listeners, Settings, routed};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The largest number of connections: a few people and a script.
const CONNECTIONS_MAX: usize = 16;

/// The largest head of a request, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// The running control socket.
#[derive(Debug)]
pub struct ControlSocket {
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// The control socket could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Its path could not be bound.
    #[error("the control socket {0}: {1}")]
    Bind(PathBuf, BindError),
    /// It could not be made private.
    #[error("the control socket {0} cannot be made private: {1}")]
    Private(PathBuf, std::io::Error),
}

impl ControlSocket {
    /// Creates the socket in the spool's directory and serves it. Replaces the socket of a dead
    /// process.
    ///
    /// # Errors
    /// When another process listens there, or the path cannot be bound.
    pub async fn start(directory: &Path, desk: Desk) -> Result<Self, ControlError> {
        let socket = SocketPath::of(directory);
        let path = || socket.path.clone();
        let address = ListenAddress::Unix(socket.way.clone());
        let settings = Settings::for_operators(address, CONNECTIONS_MAX, HEADER_BYTES_MAX);
        let bound = Listeners::bind(settings).await;
        let listeners = bound.map_err(|error| ControlError::Bind(path(), error))?;
        // The directory is private already, unless somebody opened it.
        std::fs::set_permissions(&socket.path, Permissions::from_mode(0o600))
            .map_err(|error| ControlError::Private(path(), error))?;
        let (stop, stopped) = watch::channel(false);
        let serving = listeners.serve(routed(routes::router(desk, directory)), stopped);
        let serving = tokio::spawn(async move {
            serving.await;
            // Kept until the socket was removed, because its path may lead through it.
            drop(socket);
        });
        Ok(Self { stop, serving })
    }

    /// Stops serving, for at most `budget`.
    pub async fn stop(mut self, budget: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(budget, &mut self.serving).await.is_err() {
            tracing::warn!("the control socket did not end in time");
            self.serving.abort();
        }
    }
}
