//! Checkpoints: a thread of its own moves the log into the database, so that appends do not wait
//! for it.
//!
//! SQLite restarts the log only when the whole log is in the database while nobody writes. So the
//! writer waits for the last of several checkpoints, which has little left to do. SQLite syncs the
//! database only after a checkpoint that no commit overtakes; this thread syncs after the others,
//! so that the last one has little to sync. If a sync fails, pages that any checkpoint wrote may be
//! lost, and only the log has them. Then no further checkpoint may run before a restart, which
//! begins with the whole log.

use super::directory::HeldFiles;
use rusqlite::Connection;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

/// The length of the log that makes a checkpoint worthwhile, in pages.
const WORTH: u32 = 500;
/// The writer waits for the last checkpoint when at most this many pages are not in the database
/// yet.
const FEW: u32 = 64;
/// With this many pages in the log the writer always waits, so that the log has at most 8 MiB and
/// one batch.
const MAX: u32 = 1000;

/// Pages of the log, and how many of them the database has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogPages {
    pub(crate) all: u32,
    pub(crate) moved: u32,
}

/// Who syncs the database after a checkpoint. SQLite does if no commit has overtaken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    ByUs,
    BySqlite,
}

/// The next step for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogStep {
    Nothing,
    /// A checkpoint that runs beside the next commits.
    Begin,
    /// A checkpoint that the next commit waits for.
    Finish,
}

/// The thread that makes checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// `None` once the thread has ended.
    running: Option<(SyncSender<Sync>, JoinHandle<()>)>,
    made: Receiver<rusqlite::Result<LogPages>>,
    is_under_way: bool,
    seen: LogSeen,
}

/// The log at earlier checkpoints, until it restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LogSeen {
    /// At the last one that the writer waited for. If the log did not restart then, a reader uses
    /// it, and only pages added since are worth another checkpoint.
    finished: LogPages,
    /// Pages at the last checkpoint.
    begun: u32,
}

impl LogSeen {
    /// Forgets everything if the log has restarted since.
    fn with(self, pages: LogPages) -> Self {
        let Self { finished, begun } = self;
        let begun_anew = pages.all < finished.all || pages.all < begun || pages.moved < finished.moved;
        if begun_anew { Self::default() } else { self }
    }

    /// The next step for a log of these pages.
    fn step(self, pages: LogPages) -> LogStep {
        let since = |then: u32| pages.all.saturating_sub(then);
        if since(self.finished.all) < WORTH {
            LogStep::Nothing
        } else if since(pages.moved) <= FEW || since(self.finished.all) >= MAX {
            LogStep::Finish
        } else if since(self.begun) <= FEW {
            LogStep::Nothing
        } else {
            LogStep::Begin
        }
    }
}

impl Checkpoints {
    /// Starts the thread with a connection of its own, which has the same `synchronous` setting as
    /// the writer's connection.
    pub(crate) fn start(connection: Connection, kept: HeldFiles) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let (done, made) = sync_channel(1);
        let run = move || {
            while let Ok(sync) = asked.recv() {
                if done.send(checkpoint(&connection, &kept, sync)).is_err() {
                    break;
                }
            }
            drop(connection);
            drop(kept);
        };
        let thread = thread::Builder::new().name("spool-log".to_owned()).spawn(run)?;
        Ok(Self { running: Some((ask, thread)), made, is_under_way: false, seen: LogSeen::default() })
    }

    /// Begins or finishes a checkpoint after a commit, if one is due.
    pub(crate) fn after_commit(&mut self, pages: LogPages) -> rusqlite::Result<()> {
        self.seen = self.seen.with(pages);
        if self.is_under_way && pages.all - self.seen.finished.all < MAX {
            match self.made.try_recv() {
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(ended()),
                Ok(made) => {
                    self.is_under_way = false;
                    made?;
                }
            }
        }
        self.wait()?;
        match self.seen.step(pages) {
            LogStep::Nothing => {}
            LogStep::Begin => self.begin(pages, Sync::ByUs)?,
            LogStep::Finish => {
                self.begin(pages, Sync::BySqlite)?;
                self.seen.finished = self.wait()?.unwrap_or(pages);
            }
        }
        Ok(())
    }

    /// Waits for the checkpoint under way, if there is one, and returns the log's state after it.
    pub(crate) fn wait(&mut self) -> rusqlite::Result<Option<LogPages>> {
        if !std::mem::take(&mut self.is_under_way) {
            return Ok(None);
        }
        self.made.recv().map_err(|_| ended())?.map(Some)
    }

    /// Ends the thread and waits until its files are closed.
    pub(crate) fn end(&mut self) -> rusqlite::Result<()> {
        let last = self.wait().map(|_| ());
        if let Some((ask, thread)) = self.running.take() {
            drop(ask);
            // Its panic was reported when it happened.
            drop(thread.join());
        }
        last
    }

    fn begin(&mut self, pages: LogPages, sync: Sync) -> rusqlite::Result<()> {
        let (ask, _) = self.running.as_ref().ok_or_else(ended)?;
        ask.send(sync).map_err(|_| ended())?;
        (self.is_under_way, self.seen.begun) = (true, pages.all);
        Ok(())
    }
}

/// Without its thread the log would grow until the disk is full.
fn ended() -> rusqlite::Error {
    failure(rusqlite::ffi::SQLITE_INTERNAL, "the thread that makes checkpoints has ended".to_owned())
}

fn failure(code: i32, text: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(text))
}

/// Moves the pages that no reader needs in the log. A checkpoint of another process is enough.
fn checkpoint(connection: &Connection, kept: &HeldFiles, sync: Sync) -> rusqlite::Result<LogPages> {
    let pages = asked(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
    if sync == Sync::ByUs {
        kept.sync().map_err(|error| failure(rusqlite::ffi::SQLITE_IOERR_FSYNC, error.to_string()))?;
    }
    Ok(pages)
}

/// The pages of the log.
pub(crate) fn log_pages(connection: &Connection) -> rusqlite::Result<LogPages> {
    asked(connection, "PRAGMA wal_checkpoint(NOOP)")
}

/// Runs a checkpoint pragma, which answers with whether it was blocked and with the log.
fn asked(connection: &Connection, pragma: &str) -> rusqlite::Result<LogPages> {
    let mut statement = connection.prepare_cached(pragma)?;
    // If another process makes a checkpoint, the log may be reported as -1.
    let pages = |number: i64| u32::try_from(number).unwrap_or(0);
    statement.query_row([], |row| Ok(LogPages { all: pages(row.get(1)?), moved: pages(row.get(2)?) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(all: u32, moved: u32) -> LogPages {
        LogPages { all, moved }
    }

    fn seen(finished: LogPages, begun: u32) -> LogSeen {
        LogSeen { finished, begun }
    }

    #[test]
    fn a_log_that_has_begun_anew_is_seen_for_the_first_time() {
        let finished = seen(log(MAX, MAX), MAX);
        for pages in [log(10, 0), log(MAX, 0), log(2 * MAX, 0)] {
            assert_eq!(finished.with(pages), LogSeen::default());
        }
        // Nobody waited for a checkpoint, because no commit overtook the last one.
        assert_eq!(seen(LogPages::default(), WORTH).with(log(10, 0)), LogSeen::default());
        assert_eq!(finished.with(log(MAX + 1, MAX)), finished);
    }

    #[test]
    fn a_short_log_is_left_alone() {
        assert_eq!(LogSeen::default().step(log(WORTH - 1, 0)), LogStep::Nothing);
    }

    #[test]
    fn a_long_one_is_moved_beside_the_commits_until_little_is_left_and_then_it_is_waited_for() {
        assert_eq!(LogSeen::default().step(log(WORTH, 0)), LogStep::Begin);
        let begun = seen(LogPages::default(), WORTH);
        assert_eq!(begun.step(log(WORTH + FEW + 1, WORTH)), LogStep::Begin);
        assert_eq!(begun.step(log(WORTH + FEW, WORTH)), LogStep::Finish);
    }

    #[test]
    fn at_its_cap_the_log_is_waited_for_whatever_is_left() {
        assert_eq!(seen(LogPages::default(), MAX - 1).step(log(MAX, 0)), LogStep::Finish);
    }

    #[test]
    fn a_log_that_a_reader_keeps_from_beginning_anew_is_not_seen_to_with_every_commit() {
        let finished = log(MAX, 10);
        assert_eq!(seen(finished, MAX).step(log(MAX + WORTH - 1, 10)), LogStep::Nothing);
        assert_eq!(seen(finished, MAX).step(log(MAX + WORTH, 10)), LogStep::Begin);
        assert_eq!(seen(finished, MAX + WORTH).step(log(MAX + WORTH + FEW, 10)), LogStep::Nothing);
        assert_eq!(seen(finished, MAX + WORTH).step(log(MAX + MAX, 10)), LogStep::Finish);
    }
}
