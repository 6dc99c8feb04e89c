//! Reading a store without changing it, even one that another process has open.

use super::queries;
use super::reader::{self, Asking};
use super::verify::{self, Found, VerifyProgress};
use crate::spool::store::disk::connections;
use crate::spool::store::entry::{Filter, Page, RecordEntry, Seq, Summary, Whole};
use crate::spool::store::errors::{OpenError, ReadError, files};
use crate::spool::store::index::numbers;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// A read-only connection on a thread of its own. Questions wait only for each other.
///
/// Each question sees the store at its moment; between two questions it may change.
/// A question fails if the store cannot be read.
#[derive(Debug)]
pub struct StoreReader {
    directory: PathBuf,
    asking: Asking,
    thread: Option<JoinHandle<()>>,
}

impl StoreReader {
    /// Opens the store in a directory; blocks for milliseconds. Creates and changes nothing.
    ///
    /// # Errors
    /// When there is no store, it cannot be read, or it has another version.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let connection = connections::existing(&directory.join("spool.db"))?;
        let (asking, thread) =
            reader::start(connection, None).map_err(files("starting the threads of", directory))?;
        Ok(Self { directory: directory.to_owned(), asking, thread: Some(thread) })
    }

    /// A page of the list of records, without contents.
    pub async fn list(&self, filter: Filter, page: Page) -> Result<Vec<RecordEntry>, ReadError> {
        self.asking.ask(move |db| queries::list(db, &filter, page)).await
    }

    /// One record with its message.
    pub async fn get(&self, seq: Seq) -> Result<Option<Whole>, ReadError> {
        self.asking.ask(move |db| queries::whole(db, seq)).await
    }

    /// The highest number ever given to a record.
    pub async fn newest(&self) -> Result<Seq, ReadError> {
        self.asking.ask(|db| Ok(numbers::known(db)?)).await
    }

    /// The store's contents, with at most `largest` destinations.
    pub async fn summary(&self, largest: usize) -> Result<Summary, ReadError> {
        self.asking.ask(move |db| queries::summary(db, largest)).await
    }

    /// Checks every page and every record, and reports to `progress`.
    ///
    /// # Errors
    /// When the store cannot be read. Faults of the store are not errors; they are in [`Found`].
    pub async fn verify(&self, progress: impl Fn(VerifyProgress) + Send) -> Result<Found, ReadError> {
        verify::all(&self.asking, &self.directory, progress).await
    }
}

impl Drop for StoreReader {
    fn drop(&mut self) {
        self.asking.close();
        // The thread only finishes its current question, and nobody waits for the answer.
        drop(self.thread.take());
    }
}
