//! The store: records on disk in SQLite, written by one thread, read by another.
//!
//! * `open` takes the directory and checks everything; `holder` tells who has it; `schema` has the tables;
//! * `handle` sends changes through `inbox`, where they gather, to the `writer`; `ledger` commits them
//!   together, `changes` is each of them as statements, and `replies` says what became of them; `bounds`,
//!   `destinations`, `stretches`, `dedup` with its `runs`, and `expiry` are what it consults;
//! * `reader` answers `queries` on a connection of its own, and so does `reading` for another process; `verify`
//!   looks at everything;
//! * `checkpoints` brings the log into the database beside the commits;
//! * `ready` says in memory what waits where; `record` is the bytes of a message; `high_water` notices a lost tail; `reclaim` gives space back.
//!
//! The only room that names rusqlite. An append is answered after the commit that synced it, never before.

mod appends;
mod bounds;
mod changes;
mod checkpoints;
mod dedup;
mod destinations;
mod directory;
mod entry;
mod errors;
mod expiry;
mod handle;
mod high_water;
mod holder;
mod inbox;
mod ledger;
mod open;
mod queries;
mod reader;
mod reading;
mod ready;
mod reclaim;
mod record;
mod replies;
mod runs;
mod schema;
mod settings;
mod stats;
mod stretches;
#[cfg(test)]
mod tests;
mod verify;
mod wire;
mod writer;

pub use entry::{
    Address, Appended, Batch, Filter, FinalOutcome, FirstUse, Holding, Idempotency, NewRecord, Page,
    ReadyAddress, RecordEntry, RecordState, Seq, Stored, Summary, Whole,
};
pub use errors::{AppendError, ChangeError, FullReason, OpenError, ReadError};
pub use handle::StoreHandle;
pub use holder::{Holder, holder};
pub use ledger::now_ms;
pub use reading::StoreReader;
pub use settings::StoreSettings;
pub use stats::{LostTail, Stats, StoreHealth};
pub use verify::{Found, VerifyProgress, WrongCounter};

use checkpoints::Checkpoints;
use inbox::Inbox;
use open::Opened;
use replies::Replies;
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::Semaphore;
use writer::Writer;

/// A file in the store's directory that is there from a run's first delivery until that run has ended well.
pub const DELIVERING: &str = "delivering";

/// An open store: its threads. Dropped, it ends by itself; [`Store::close`] waits for that.
#[derive(Debug)]
pub struct Store {
    handle: StoreHandle,
    threads: Vec<JoinHandle<()>>,
}

impl Store {
    /// Opens the store, which takes milliseconds, after a crash until what is in the log is moved, and blocks for that.
    ///
    /// # Errors
    /// When it is in use, not on a local disk, damaged, or of another version.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, in which its answers are handed out.
    pub fn open(settings: StoreSettings) -> Result<(Store, StoreHandle), OpenError> {
        let directory = settings.directory.clone();
        let dedup_window = settings.dedup_window;
        // The first to be bound is the last to be dropped.
        let Opened { kept, ledger, high_water, lost, suspected, reader, checkpoints } = open::open(settings)?;
        if let Some(LostTail { known, committed }) = lost {
            tracing::error!(%known, %committed, "the spool has lost records that were answered for");
        }
        let ready = ledger.destinations.ready();
        let dedup_runs = ledger.generations.runs();
        let (changes, inbox) = mpsc::channel();
        let threads = |source| threads_failed(&directory, source);
        let checkpoints = Checkpoints::start(checkpoints, kept.clone()).map_err(threads)?;
        let (inbox, answers) = (Inbox::new(inbox), Replies::start());
        let (mut writer, stats) = Writer::new(ledger, high_water, checkpoints, inbox, answers, lost);
        writer.look()?;
        let (asking, reading) = reader::start(reader, Some(kept.clone())).map_err(threads)?;
        let writing = thread::Builder::new().name("spool-writer".to_owned());
        let writing = writing
            .spawn(move || {
                writer.run();
                drop(kept);
            })
            .map_err(threads)?;
        let room = Arc::new(Semaphore::new(handle::QUEUE_KIB as usize));
        let handle = StoreHandle { changes, room, asking, stats, ready, suspected, dedup_window, dedup_runs };
        // The writer is the last that is waited for: its connection takes the log along.
        Ok((Store { handle: handle.clone(), threads: vec![reading, writing] }, handle))
    }

    /// Commits what was handed over, refuses the rest, and returns when the files are closed. Blocks for that.
    pub fn close(mut self) {
        let threads = std::mem::take(&mut self.threads);
        drop(self);
        for thread in threads {
            // Its panic was reported when it happened.
            drop(thread.join());
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.handle.asking.close();
        self.handle.room.close();
        // A thread that has panicked is not there to be told.
        drop(self.handle.changes.send(None));
    }
}

fn threads_failed(directory: &Path, source: io::Error) -> OpenError {
    OpenError::Files { doing: "starting the threads of", path: directory.to_owned(), source }
}
