//! A spool's directory for a sidecar. The store itself fills and reads it while no sidecar runs.

use super::command::amqpost;
use amqpost::message::{Message, Properties, ShortText};
use amqpost::spool::store::{
    Address, Appended, Filter, NewRecord, Page, RecordEntry, Seq, Store, StoreHandle, StoreSettings,
};
use futures::future::maybe_done;
use futures::poll;
use std::collections::HashMap;
use std::path::PathBuf;
use tempfile::TempDir;

/// A spool's directory, removed when this is dropped.
pub struct SpoolDir {
    temporary: TempDir,
    path: PathBuf,
}

impl SpoolDir {
    /// An empty one.
    pub fn new() -> Self {
        Self::at("spool")
    }

    /// An empty one whose path is this many bytes longer.
    pub fn deep(bytes: usize) -> Self {
        Self::at(&format!("{}/spool", "d".repeat(bytes)))
    }

    fn at(place: &str) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        Self { path: temporary.path().join(place), temporary }
    }

    /// The path of the spool.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The size of its files in bytes.
    pub fn bytes(&self) -> u64 {
        let files = std::fs::read_dir(&self.path).expect("it is there");
        // A file may vanish in the meantime.
        files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
    }

    /// The value of `spool.path`, as TOML.
    pub fn setting(&self) -> String {
        format!("\"{}\"", self.path().display())
    }

    /// Stores messages, those of each destination in order.
    pub async fn fill(&self, messages: impl IntoIterator<Item = Message>) {
        self.with_store(async |store| {
            let mut messages = messages.into_iter().peekable();
            let mut last: HashMap<Address, Seq> = HashMap::new();
            while messages.peek().is_some() {
                let append = |message| {
                    let to = Address::of(&message);
                    (to, Box::pin(maybe_done(store.append(NewRecord { message, idempotency: None }))))
                };
                let mut appends: Vec<_> = messages.by_ref().take(256).map(append).collect();
                // The first poll of each append hands its record over, so the order stays.
                for (_, append) in &mut appends {
                    let _handed_over = poll!(append);
                }
                for (to, mut append) in appends {
                    append.as_mut().await;
                    match append.as_mut().take_output() {
                        Some(Ok(Appended::Stored(seq))) => {
                            let before = last.insert(to, seq);
                            assert!(
                                before.is_none_or(|before| before < seq),
                                "they are stored in their order"
                            );
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        })
        .await;
    }

    /// All records, while no sidecar has the spool.
    pub async fn entries(&self) -> Vec<RecordEntry> {
        self.with_store(async |store| {
            store.list(Filter::default(), Page { after: None, limit: 1000 }).await.expect("it can be read")
        })
        .await
    }

    /// The ids of the parked messages, with their reasons.
    pub async fn parked(&self) -> Vec<(String, String)> {
        let parked = self.entries().await.into_iter().filter_map(|entry| {
            let id = entry.message_id.as_ref().map_or("unreadable", ShortText::as_str).to_owned();
            Some((id, entry.reason?))
        });
        parked.collect()
    }

    /// The output of `amqpost spool` for it with these arguments.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let path = self.path();
        let output =
            amqpost(&[&["spool"], arguments, &["--path", path.to_str().expect("text")]].concat()).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "amqpost spool {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    async fn with_store<T>(&self, work: impl AsyncFnOnce(StoreHandle) -> T) -> T {
        let settings = StoreSettings { destination_percent: 100, ..StoreSettings::new(self.path()) };
        let (store, handle) = Store::open(settings).expect("it can be opened");
        let answer = work(handle).await;
        tokio::task::spawn_blocking(move || store.close()).await.expect("it closes");
        answer
    }
}

/// A message for a spool.
pub fn spooled(exchange: &str, key: &str, id: &str) -> Message {
    let short = |text: &str| ShortText::new(text).expect("a short text");
    Message {
        exchange: short(exchange),
        routing_key: short(key),
        mandatory: true,
        properties: Properties { message_id: short(id), ..Properties::default() },
        payload: id.to_owned().into(),
    }
}

/// `count` messages for each of `keys`, interleaved; ids are `{key}-{n}`.
pub fn spooled_for(exchange: &str, keys: &[&str], count: usize) -> Vec<Message> {
    let each = (0..count).flat_map(|n| keys.iter().map(move |key| (n, *key)));
    each.map(|(n, key)| spooled(exchange, key, &format!("{key}-{n}"))).collect()
}
