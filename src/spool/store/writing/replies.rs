//! A task that sends the replies of a commit, so that the writer wakes one task and not every
//! client.
//!
//! Waking a task from another thread takes a lock and usually a system call; within the runtime it
//! takes neither. With 200 clients this was a tenth of the writer's time
//! (`scripts/bench-spool --only many`).

use super::change::Effect;
use super::inbox::QueuedChange;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A change with its effect.
type Answer = (QueuedChange, Effect);

/// The channel to the task, which ends when this is dropped. It is bounded, because each change
/// keeps its share of the queue until it is answered.
#[derive(Debug)]
pub(crate) struct Replies {
    together: UnboundedSender<Vec<Answer>>,
}

impl Replies {
    /// Starts the task on the current runtime.
    pub(crate) fn start() -> Self {
        let (together, commits) = unbounded_channel();
        tokio::spawn(hand_out(commits));
        Self { together }
    }

    /// Answers all changes of a commit.
    pub(crate) fn give(&self, jobs: Vec<QueuedChange>, verdicts: Vec<Effect>) {
        let answers: Vec<Answer> = jobs.into_iter().zip(verdicts).collect();
        if answers.len() == 1 {
            answers.into_iter().for_each(answer);
        } else {
            // Without a runtime no task waits for an answer.
            drop(self.together.send(answers));
        }
    }
}

async fn hand_out(mut commits: UnboundedReceiver<Vec<Answer>>) {
    while let Some(answers) = commits.recv().await {
        answers.into_iter().for_each(answer);
    }
}

/// A request that gave up no longer waits for its reply. Its change stays made.
fn answer((job, verdict): Answer) {
    let QueuedChange { change: _, reply, room } = job;
    drop(room);
    drop(reply.send(verdict));
}
