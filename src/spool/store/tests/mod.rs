//! The store's promises and errors, on a real disk.

mod commits;
mod damage;
mod disk;
mod keys;
mod opening;
mod order;
mod reading;
mod records;
mod refusals;
mod size;
mod stretches;
mod verified;

use super::*;
use crate::message::testing::{message_to, short};
use crate::message::{Message, new_message_id};
use bytes::Bytes;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A store in a directory of its own.
struct Bench {
    directory: TempDir,
    store: Option<Store>,
    handle: StoreHandle,
    settings: StoreSettings,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut StoreSettings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = StoreSettings::new(directory.path().join("spool"));
        settings.destination_percent = 100;
        settings.disk_reserve = 0;
        change(&mut settings);
        let (store, handle) = Store::open(settings.clone()).unwrap();
        Self { directory, store: Some(store), handle, settings }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.settings.directory.join(name)
    }

    fn close(&mut self) {
        self.store.take().expect("it is open").close();
    }

    /// Opens it again, after [`Bench::close`].
    fn open(&mut self) {
        let (store, handle) = Store::open(self.settings.clone()).unwrap();
        (self.store, self.handle) = (Some(store), handle);
    }

    fn reopen(&mut self) {
        self.close();
        self.open();
    }

    /// A copy of the files as they are, as if this machine were switched off and another one
    /// started.
    fn abandoned(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = StoreSettings { directory: directory.path().join("spool"), ..self.settings.clone() };
        std::fs::create_dir(&settings.directory).unwrap();
        for name in ["spool.db", "spool.db-wal", "hwm"] {
            // Not all of them always exist.
            drop(std::fs::copy(self.file(name), settings.directory.join(name)));
        }
        let (store, handle) = Store::open(settings.clone()).unwrap();
        Self { directory, store: Some(store), handle, settings }
    }

    async fn append(&self, key: &str, body: impl Into<Bytes>) -> Seq {
        stored(self.handle.append(record(key, body)).await)
    }

    /// All ready records of a destination.
    async fn ready(&self, key: &str) -> Vec<Stored> {
        let batch = self.handle.next_batch(&destination(key), None, usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(batch.damaged, []);
        batch.records
    }

    async fn seqs(&self, key: &str) -> Vec<Seq> {
        self.ready(key).await.into_iter().map(|stored| stored.seq).collect()
    }

    async fn until(&self, what: impl FnMut(&Stats) -> bool) -> Stats {
        let mut stats = self.handle.watch();
        let found = tokio::time::timeout(Duration::from_secs(20), stats.wait_for(what)).await;
        found.expect("in time").expect("the store is open").clone()
    }
}

/// Every record has been tried for long enough.
const ALL: Seq = Seq::new(i64::MAX);

fn destination(key: &str) -> Address {
    Address { exchange: short("orders"), routing_key: short(key) }
}

fn record(key: &str, body: impl Into<Bytes>) -> NewRecord {
    let mut message = message_to("orders", key);
    message.properties.message_id = new_message_id();
    message.payload = body.into();
    NewRecord { message, idempotency: None }
}

#[track_caller]
fn stored(appended: Result<Appended, AppendError>) -> Seq {
    match appended {
        Ok(Appended::Stored(seq)) => seq,
        other => panic!("{other:?}"),
    }
}

fn body(length: usize) -> Bytes {
    std::iter::repeat_with(|| fastrand::u8(..)).take(length).collect()
}
