//! Tasks that come to their end without their clients, and their owner.

use std::sync::{Mutex, PoisonError};
use tokio::task::JoinSet;

/// Owns the tasks; gone with it. What bounds them, permits or connections, is their starter's.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic was reported when it happened.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
