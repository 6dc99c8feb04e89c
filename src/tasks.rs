//! The owner of tasks that must finish even if their client has left.

use crate::locking::lock;
use std::sync::Mutex;
use tokio::task::JoinSet;

/// Owns tasks and aborts them when dropped. The rooms that start them bound their number, by
/// permits or connections.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.0);
        // A panic was reported when it happened.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
