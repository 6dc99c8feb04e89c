//! `Live`: the configuration in force, shared by the rooms that follow its changes.

use super::changes::{Changes, reload};
use super::keys::Config;
use std::sync::Arc;
use tokio::sync::watch;

/// The configuration in force. Cloning shares it.
///
/// Rooms read reloadable keys here, at each use. A value that they copy at the start does not
/// change.
#[derive(Clone, Debug)]
pub struct Live(Arc<watch::Sender<Config>>);

impl Live {
    /// Puts a configuration in force.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(Arc::new(watch::Sender::new(config)))
    }

    /// The configuration as it is now. Drop the guard soon: while it lives, [`Live::apply`] waits,
    /// and a second guard on the same thread would wait behind `apply` for ever.
    #[must_use]
    pub fn now(&self) -> watch::Ref<'_, Config> {
        self.0.borrow()
    }

    /// Takes over the reloadable part of a valid configuration. That part is in force when this
    /// returns.
    pub fn apply(&self, new: &Config) -> Changes {
        let mut changes = Changes::default();
        self.0.send_modify(|config| {
            let (in_force, found) = reload(config, new);
            (*config, changes) = (in_force, found);
        });
        changes
    }

    /// A receiver that is told of each change.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Config> {
        self.0.subscribe()
    }
}
