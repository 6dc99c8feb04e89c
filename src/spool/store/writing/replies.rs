//! Replies: a task hands those of a commit out, so that the writer wakes one task and not every client.
//!
//! To wake a task from another thread is a lock and mostly a system call; from within the runtime it is neither. With 200
//! clients that was a tenth of the writer's time (`scripts/bench-spool --only many`).

use super::change::Effect;
use super::inbox::QueuedChange;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A change with what became of it.
type Answer = (QueuedChange, Effect);

/// The way to the task, which ends when this is dropped. What waits there is bounded by the queue's room: each job keeps
/// its part until it is answered.
#[derive(Debug)]
pub(crate) struct Replies {
    together: UnboundedSender<Vec<Answer>>,
}

impl Replies {
    /// Starts the task on the runtime that this is called in.
    pub(crate) fn start() -> Self {
        let (together, commits) = unbounded_channel();
        tokio::spawn(hand_out(commits));
        Self { together }
    }

    /// Replies all of a commit.
    pub(crate) fn give(&self, jobs: Vec<QueuedChange>, verdicts: Vec<Effect>) {
        let answers: Vec<Answer> = jobs.into_iter().zip(verdicts).collect();
        if answers.len() == 1 {
            answers.into_iter().for_each(answer);
        } else {
            // Without a runtime nobody waits for an answer.
            drop(self.together.send(answers));
        }
    }
}

async fn hand_out(mut commits: UnboundedReceiver<Vec<Answer>>) {
    while let Some(answers) = commits.recv().await {
        answers.into_iter().for_each(answer);
    }
}

/// A request that gave up does not wait for its answer: what was done stays done.
fn answer((job, verdict): Answer) {
    let QueuedChange { change: _, reply, room } = job;
    drop(room);
    drop(reply.send(verdict));
}
