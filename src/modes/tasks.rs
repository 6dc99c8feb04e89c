//! The tasks of orders that come to their end without their clients, and their owner.

use std::sync::{Mutex, PoisonError};
use tokio::task::JoinSet;

/// Owns the tasks; gone with it. Permits bound how many there are.
#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic was reported when it happened.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
