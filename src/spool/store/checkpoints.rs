//! Checkpoints: what is in the log comes into the database on a thread of its own, so that appends do not wait for it.
//!
//! The log begins anew only when all of it is in the database at a moment when nobody writes. So the last of several
//! checkpoints, which has next to nothing to do, is waited for.

use rusqlite::Connection;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

/// A log of so many pages is worth a checkpoint.
const WORTH: u32 = 500;
/// So many pages that are not in the database yet are waited for.
const FEW: u32 = 64;
/// With so many pages in the log it is waited for whatever there is, so that the log stays within its cap.
const MAX: u32 = 1500;

/// Pages of the log, and how many of them the database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogPages {
    pub(super) all: u32,
    pub(super) moved: u32,
}

/// What is to be done about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// A checkpoint beside the commits that follow.
    Begin,
    /// A checkpoint before anything else is committed.
    Finish,
}

/// The thread that makes checkpoints, and what it has been asked for.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Nothing once it has ended.
    running: Option<(SyncSender<()>, JoinHandle<()>)>,
    made: Receiver<rusqlite::Result<()>>,
    is_under_way: bool,
    /// Pages that were in the log after the last one that was waited for. Where the log did not begin anew, since somebody
    /// reads in it, only what comes on top is worth another one.
    stuck: u32,
}

/// What is to be done about a log of which a checkpoint that was waited for has left so many pages.
fn step(pages: LogPages, stuck: u32) -> Step {
    let (grown, left) = (pages.all.saturating_sub(stuck), pages.all.saturating_sub(pages.moved));
    if grown < WORTH {
        Step::Nothing
    } else if left <= FEW || grown >= MAX {
        Step::Finish
    } else {
        Step::Begin
    }
}

impl Checkpoints {
    /// Starts the thread. The connection is its own, with the `synchronous` of the one that writes.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let (done, made) = sync_channel(1);
        let run = move || {
            while let Ok(()) = asked.recv() {
                if done.send(checkpoint(&connection)).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name("spool-log".to_owned()).spawn(run)?;
        Ok(Self { running: Some((ask, thread)), made, is_under_way: false, stuck: 0 })
    }

    /// Sees to the log after a commit.
    ///
    /// # Errors
    /// Of a checkpoint that was made. The log is as it was, and the next one tries again.
    pub(super) fn after_commit(&mut self, pages: LogPages) -> rusqlite::Result<()> {
        if pages.all < self.stuck {
            self.stuck = 0;
        }
        if self.is_under_way && pages.all - self.stuck < MAX {
            match self.made.try_recv() {
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => self.is_under_way = false,
                Ok(result) => {
                    self.is_under_way = false;
                    result?;
                }
            }
        }
        self.wait()?;
        match step(pages, self.stuck) {
            Step::Nothing => {}
            Step::Begin => self.begin(),
            Step::Finish => {
                self.stuck = pages.all;
                self.begin();
                self.wait()?;
            }
        }
        Ok(())
    }

    /// Waits for the one that is under way.
    ///
    /// # Errors
    /// Its errors.
    pub(super) fn wait(&mut self) -> rusqlite::Result<()> {
        if !std::mem::take(&mut self.is_under_way) {
            return Ok(());
        }
        // A thread that has panicked makes no more of them; the log grows, and what it says is on disk.
        self.made.recv().unwrap_or(Ok(()))
    }

    /// Ends the thread, and returns when its files are closed.
    pub(super) fn end(&mut self) -> rusqlite::Result<()> {
        let last = self.wait();
        if let Some((ask, thread)) = self.running.take() {
            drop(ask);
            // Its panic was reported when it happened.
            drop(thread.join());
        }
        last
    }

    fn begin(&mut self) {
        self.is_under_way = self.running.as_ref().is_some_and(|(ask, _)| ask.send(()).is_ok());
    }
}

/// Moves what no reader needs in the log. Where somebody else makes one, that one does.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// How much is in the log.
pub(super) fn log_pages(connection: &Connection) -> rusqlite::Result<LogPages> {
    let mut look = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
    look.query_row([], |row| Ok(LogPages { all: row.get(1)?, moved: row.get(2)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(all: u32, moved: u32) -> LogPages {
        LogPages { all, moved }
    }

    #[test]
    fn a_short_log_is_left_alone() {
        assert_eq!(step(log(WORTH - 1, 0), 0), Step::Nothing);
    }

    #[test]
    fn a_long_one_is_moved_beside_the_commits_until_little_is_left_and_then_it_is_waited_for() {
        assert_eq!(step(log(WORTH, 0), 0), Step::Begin);
        assert_eq!(step(log(WORTH + FEW + 1, WORTH), 0), Step::Begin);
        assert_eq!(step(log(WORTH + FEW, WORTH), 0), Step::Finish);
    }

    #[test]
    fn at_its_cap_the_log_is_waited_for_whatever_is_left() {
        assert_eq!(step(log(MAX, 0), 0), Step::Finish);
    }

    #[test]
    fn a_log_that_a_reader_keeps_from_beginning_anew_is_not_waited_for_with_every_commit() {
        assert_eq!(step(log(MAX + 1, MAX), MAX), Step::Nothing);
        assert_eq!(step(log(MAX + WORTH, MAX), MAX), Step::Begin);
    }
}
