//! The store: records on disk in SQLite, written by one thread, read by another. The only room that names rusqlite.
//!
//! # Constraints
//!
//! * An append is answered after the commit that synced it, never before.
//! * The records of an address (exchange and routing key) come out in the order in which they went in.
//! * A record, once answered, survives a kill of the process and a power cut. Damage is noticed: each record has a
//!   checksum, and a number beside the database says how far it reached.
//! * After an error of the disk at a commit the store takes nothing until it is opened again: the system may take pages
//!   for written that it has lost.
//! * Each queue, table and transaction has a bound, on disk as in memory.
//!
//! # On disk
//!
//! One directory, private, on a local disk:
//!
//! ```text
//! spool.db, -wal, -shm   SQLite in WAL mode, synchronous=FULL, pages of 8 KiB
//!   dest                 an address: its counters and its highest number
//!   msg                  a record: its number, its address, ready or parked, when it expires, checksum, message
//!   stretch              up to 256 consecutive numbers of one address with ready records; deliveries go by these
//!   note                 of the few records that have one: attempts, why and when it was parked
//!   dedup_a, dedup_b     idempotency keys, this generation's and the last one's, in runs of 1,024
//!   dedup_run            the filter of each run that is full
//!   fact                 single numbers
//! hwm                    the highest number that was committed, with its checksum
//! lock                   held by the process that has the store, with its number in it
//! delivering             there from a run's first delivery until it has ended well
//! control.sock           the operators' socket, which is not the store's
//! ```
//!
//! # Invariants
//!
//! * A number is never given out twice, also when its record was lost (`resume` in `open`).
//! * Memory and tables are alike after each transaction, committed or rolled back (`ledger`).
//! * Stretches are disjoint, each ready record is in one of its own address, and no other address's record is in it.
//! * What the runs of keys do not name is not in the tables (`dedup`).
//! * The snapshot and the counts of ready records are told before the answers of a commit are given.
//! * The log never grows beyond 8 MiB and one batch, while nobody else reads (`checkpoints`).
//! * No file of the database is closed while one of the threads has a connection (`HeldFiles`).
//!
//! # Rooms
//!
//! Each names only those before it: `format` has the bytes of a record; `index` says which records there are, `keys` which
//! idempotency keys; `disk` is the directory and its files; `reading` and `writing` are the two threads. `open` puts them
//! together, and `handle` is the way in.
//!
//! # The way of a change
//!
//! `handle` encodes a record and queues the change; `inbox` gathers what arrived while the last transaction was synced;
//! `writer` has the ledger commit it; `ledger` runs one transaction, `changes` and `appends` are its statements;
//! `bounds`, `destinations`, `stretches`, `dedup` with its `runs`, and `expiry` are what it consults; `replies` hands out
//! what became of each change. Meanwhile `checkpoints` brings the log into the database, and `reclaim` gives space back.
//!
//! # The way of a question
//!
//! `reader` is the thread that answers `queries` on a connection of its own; `store_reader` is the same for another
//! process; `verify` looks at everything. `ready` answers from memory.
//!
//! `open` takes the directory, checks everything and moves the log; `connections` sets SQLite up; `schema` has the tables
//! and their versions; `holder` tells who has the store; `record` and `wire` are the bytes of a message; `high_water` is the number beside
//! the database.
//!
//! The reasons and the measurements are in ADR-0005.

mod disk;
mod entry;
mod errors;
mod format;
mod handle;
mod index;
mod keys;
mod open;
mod reading;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod writing;

pub use disk::directory::DELIVERING;
pub use disk::holder::{Holder, holder};
pub use entry::{
    Address, Appended, Batch, Filter, FinalOutcome, FirstUse, Holding, Idempotency, NewRecord, Page,
    ReadyAddress, RecordEntry, RecordState, Seq, Stored, Summary, Whole, now_ms,
};
pub use errors::{AppendError, ChangeError, FullReason, OpenError, ReadError};
pub use handle::StoreHandle;
pub use reading::store_reader::StoreReader;
pub use reading::verify::{Found, VerifyProgress, WrongCounter};
pub use settings::StoreSettings;
pub use stats::{LostTail, Stats, StoreHealth};

use disk::checkpoints::Checkpoints;
use errors::threads_failed;
use open::Opened;
use reading::reader;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::Semaphore;
use writing::inbox::Inbox;
use writing::replies::Replies;
use writing::writer::Writer;

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
