//! The store: records on disk in SQLite; one thread writes, another reads. The only room that names
//! rusqlite.
//!
//! # Constraints
//!
//! * An append is answered after the commit that synced it, never before.
//! * The records of an address (exchange and routing key) come out in the order of their arrival.
//! * A record, once answered, survives a kill of the process and a power cut. Damage is detected:
//!   each record has a checksum, and a file beside the database has the highest committed number.
//! * After a disk error at a commit the store accepts nothing until it is opened again: the system
//!   may treat lost pages as written.
//! * Each queue, table and transaction has a bound, on disk as in memory.
//!
//! # On disk
//!
//! One directory, private, on a local disk:
//!
//! ```text
//! spool.db, -wal, -shm   SQLite in WAL mode, synchronous=FULL, pages of 8 KiB
//!   dest                 an address: its counters and its highest number
//!   msg                  a record: number, address, ready or parked, time of expiry, checksum,
//!                        message
//!   stretch              up to 256 consecutive numbers of one address; leads deliveries to ready
//!                        records
//!   note                 for some records: attempts, why and when it was parked
//!   dedup_a, dedup_b     idempotency keys, this generation's and the last one's, in runs of 1,024
//!   dedup_run            the filter of each full run
//!   fact                 single numbers
//! hwm                    the highest committed number, with its checksum
//! lock                   held by the process that has the store, with its id
//! delivering             exists from a run's first delivery until it has ended normally
//! control.sock           the operators' socket, which is not the store's
//! ```
//!
//! # Invariants
//!
//! * A number is never given out twice, even if its record was lost (`resume` in `open`).
//! * Memory and tables agree after each transaction, committed or rolled back (`ledger`).
//! * Stretches are disjoint; each ready record is in a stretch of its address, without records of
//!   other addresses.
//! * A key that the runs exclude is not in the tables (`dedup`).
//! * The snapshot and the counts of ready records are updated before a commit's changes are
//!   answered.
//! * Without other readers the log never exceeds 8 MiB and one batch (`checkpoints`).
//! * No file of the database is closed while one of the threads has a connection (`HeldFiles`).
//!
//! # Rooms
//!
//! Each room names only those before it: `format` has the bytes of a record; `index` knows which
//! records exist, `keys` which idempotency keys; `disk` is the directory and its files; `reading`
//! and `writing` are the two threads. `open` builds all of it, and `handle` is the interface.
//!
//! # The way of a change
//!
//! `handle` encodes a record and queues the change; `inbox` gathers the changes that arrived during
//! the last sync; `writer` lets the ledger commit them; `ledger` runs one transaction, with the
//! statements of `changes` and `appends`; it uses `bounds`, `destinations`, `stretches`, `dedup`
//! with its `runs`, and `expiry`; `replies` answers each change. Meanwhile `checkpoints` moves the
//! log into the database, and `reclaim` gives space back.
//!
//! # The way of a question
//!
//! `reader` is the thread that runs `queries` on a connection of its own; `store_reader` does so
//! for another process; `verify` checks everything. `ready` answers from memory.
//!
//! `open` locks the directory, checks everything and moves the log; `connections` sets SQLite up;
//! `schema` has the tables and their versions; `holder` tells which process has the store; `record`
//! and `wire` are the bytes of a message; `high_water` is the file with the highest committed
//! number.
//!
//! The reasons and the measurements are in ADR-0005.

mod clock;
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
    ReadyAddress, RecordEntry, RecordState, RefusalNote, RefusedSince, Seq, Stored, Summary, TriedUntil,
    Tries, Whole, now_ms,
};
pub use errors::{AppendError, ChangeError, FullReason, OpenError, ReadError};
pub use handle::StoreHandle;
pub use reading::store_reader::StoreReader;
pub use reading::verify::{Found, VerifyProgress, WrongCounter};
pub use settings::StoreSettings;
pub use stats::{LostTail, Stats, StoreHealth};

use disk::checkpoints::Checkpoints;
use errors::files;
use open::Opened;
use reading::reader;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::Semaphore;
use writing::inbox::Inbox;
use writing::replies::Replies;
use writing::writer::Writer;

/// An open store: its threads. They end when it is dropped; [`Store::close`] waits for that.
#[derive(Debug)]
pub struct Store {
    handle: StoreHandle,
    threads: Vec<JoinHandle<()>>,
}

impl Store {
    /// Opens the store. Blocks for milliseconds; after a crash, until the log is in the database.
    ///
    /// # Errors
    /// When it is in use, not on a local disk, damaged, or of another version.
    ///
    /// # Panics
    /// Outside a Tokio runtime, on which changes are answered.
    pub fn open(settings: StoreSettings) -> Result<(Store, StoreHandle), OpenError> {
        let directory = settings.directory.clone();
        let dedup_window = settings.dedup_window;
        // Bound first, so that `kept` is dropped last.
        let Opened { kept, ledger, high_water, lost, suspected, reader, checkpoints } = open::open(settings)?;
        if let Some(LostTail { known, committed }) = lost {
            tracing::error!(%known, %committed, "the spool has lost records that were answered for");
        }
        let ready = ledger.destinations.ready();
        let dedup_runs = ledger.generations.runs();
        let clock = ledger.clock;
        let (changes, inbox) = mpsc::channel();
        let threads = files("starting the threads of", &directory);
        let checkpoints = Checkpoints::start(checkpoints, kept.clone()).map_err(&threads)?;
        let (inbox, answers) = (Inbox::new(inbox), Replies::start());
        let (mut writer, stats) = Writer::new(ledger, high_water, checkpoints, inbox, answers, lost);
        writer.look()?;
        let (asking, reading) = reader::start(reader, Some(kept.clone())).map_err(&threads)?;
        let writing = thread::Builder::new().name("spool-writer".to_owned());
        let writing = writing
            .spawn(move || {
                writer.run();
                drop(kept);
            })
            .map_err(&threads)?;
        let room = Arc::new(Semaphore::new(handle::QUEUE_KIB as usize));
        let handle =
            StoreHandle { changes, room, asking, stats, ready, suspected, clock, dedup_window, dedup_runs };
        // The writer is joined last: its connection removes the log.
        Ok((Store { handle: handle.clone(), threads: vec![reading, writing] }, handle))
    }

    /// Commits the changes that were handed over, refuses the rest, and blocks until the files are
    /// closed.
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
        // A thread that panicked no longer receives.
        drop(self.handle.changes.send(None));
    }
}
