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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    made: Receiver<rusqlite::Result<LogPages>>,
    is_under_way: bool,
    /// The log after the last one that was waited for, until it begins anew.
    stuck: LogPages,
}

/// What is to be done about a log that did not begin anew after the checkpoint that was waited for, since somebody reads in
/// it: only what comes on top of what it was then is worth another one.
fn step(pages: LogPages, stuck: LogPages) -> Step {
    let (grown, left) = (pages.all.saturating_sub(stuck.all), pages.all.saturating_sub(pages.moved));
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
        Ok(Self { running: Some((ask, thread)), made, is_under_way: false, stuck: LogPages::default() })
    }

    /// Sees to the log after a commit.
    ///
    /// # Errors
    /// Of a checkpoint that was made. The log is as it was, and the next one tries again.
    pub(super) fn after_commit(&mut self, pages: LogPages) -> rusqlite::Result<()> {
        if pages.all < self.stuck.all || pages.moved < self.stuck.moved {
            self.stuck = LogPages::default();
        }
        if self.is_under_way && pages.all - self.stuck.all < MAX {
            match self.made.try_recv() {
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => self.is_under_way = false,
                Ok(made) => {
                    self.is_under_way = false;
                    made?;
                }
            }
        }
        self.wait()?;
        match step(pages, self.stuck) {
            Step::Nothing => {}
            Step::Begin => self.begin(),
            Step::Finish => {
                // Where it fails, the next one is worth trying after as much again.
                self.stuck = LogPages { moved: 0, ..pages };
                self.begin();
                self.stuck = self.wait()?.unwrap_or(self.stuck);
            }
        }
        Ok(())
    }

    /// Waits for the one that is under way, if there is one; what was in the log then.
    ///
    /// # Errors
    /// Its errors.
    pub(super) fn wait(&mut self) -> rusqlite::Result<Option<LogPages>> {
        if !std::mem::take(&mut self.is_under_way) {
            return Ok(None);
        }
        // A thread that has panicked makes no more of them; the log grows, and what it says is on disk.
        self.made.recv().ok().transpose()
    }

    /// Ends the thread, and returns when its files are closed.
    pub(super) fn end(&mut self) -> rusqlite::Result<()> {
        let last = self.wait().map(|_| ());
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
fn checkpoint(connection: &Connection) -> rusqlite::Result<LogPages> {
    asked(connection, "PRAGMA wal_checkpoint(PASSIVE)")
}

/// How much is in the log.
pub(super) fn log_pages(connection: &Connection) -> rusqlite::Result<LogPages> {
    asked(connection, "PRAGMA wal_checkpoint(NOOP)")
}

/// Both answer with whether they were kept from it, and with the log.
fn asked(connection: &Connection, pragma: &str) -> rusqlite::Result<LogPages> {
    let mut statement = connection.prepare_cached(pragma)?;
    // Where somebody else was at it the log may be told as -1.
    let pages = |number: i64| u32::try_from(number).unwrap_or(0);
    statement.query_row([], |row| Ok(LogPages { all: pages(row.get(1)?), moved: pages(row.get(2)?) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(all: u32, moved: u32) -> LogPages {
        LogPages { all, moved }
    }

    const NOT_STUCK: LogPages = LogPages { all: 0, moved: 0 };

    #[test]
    fn a_short_log_is_left_alone() {
        assert_eq!(step(log(WORTH - 1, 0), NOT_STUCK), Step::Nothing);
    }

    #[test]
    fn a_long_one_is_moved_beside_the_commits_until_little_is_left_and_then_it_is_waited_for() {
        assert_eq!(step(log(WORTH, 0), NOT_STUCK), Step::Begin);
        assert_eq!(step(log(WORTH + FEW + 1, WORTH), NOT_STUCK), Step::Begin);
        assert_eq!(step(log(WORTH + FEW, WORTH), NOT_STUCK), Step::Finish);
    }

    #[test]
    fn at_its_cap_the_log_is_waited_for_whatever_is_left() {
        assert_eq!(step(log(MAX, 0), NOT_STUCK), Step::Finish);
    }

    #[test]
    fn a_log_that_a_reader_keeps_from_beginning_anew_is_not_waited_for_with_every_commit() {
        let stuck = log(MAX, MAX);
        assert_eq!(step(log(MAX + 1, MAX), stuck), Step::Nothing);
        assert_eq!(step(log(MAX + WORTH, MAX), stuck), Step::Begin);
    }
}
