//! The thread with the read-only connection. It answers one question at a time and never waits for
//! the writer.

use crate::spool::store::disk::directory::HeldFiles;
use crate::spool::store::errors::ReadError;
use rusqlite::Connection;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The largest number of waiting questions. Further callers wait before they ask.
const QUESTIONS_MAX: usize = 64;

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// A handle to the reading thread. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// `None` ends the thread.
    questions: mpsc::Sender<Option<(Question, OwnedSemaphorePermit)>>,
    room: Arc<Semaphore>,
}

/// Starts the thread. It ends at [`Asking::close`], or when the last [`Asking`] is dropped.
pub(crate) fn start(
    connection: Connection,
    kept: Option<HeldFiles>,
) -> std::io::Result<(Asking, JoinHandle<()>)> {
    let (questions, inbox) = mpsc::channel::<Option<(Question, OwnedSemaphorePermit)>>();
    let run = move || {
        while let Ok(Some((question, room))) = inbox.recv() {
            question(&connection);
            drop(room);
        }
        drop(connection);
        drop(kept);
    };
    let thread = thread::Builder::new().name("spool-reader".to_owned()).spawn(run)?;
    Ok((Asking { questions, room: Arc::new(Semaphore::new(QUESTIONS_MAX)) }, thread))
}

impl Asking {
    /// Asks, and waits for the answer. If the caller is gone, the answer is dropped.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |connection| drop(reply.send(question(connection))));
        self.questions.send(Some((question, room))).map_err(|_| ReadError::Closed)?;
        answer.await.map_err(|_| ReadError::Closed)?
    }

    /// Ends the thread after it has answered the questions asked before.
    pub(crate) fn close(&self) {
        self.room.close();
        // The thread may have ended by a panic in a question.
        drop(self.questions.send(None));
    }
}
