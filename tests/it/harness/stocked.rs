//! A spool with messages in it, and `amqpost spool` for it.

use super::command::amqpost;
use super::sidecar::Sidecar;
use amqpost::message::{Message, Properties, ShortText};
use amqpost::spool::store::{Appended, NewRecord, Seq, Store, StoreHandle, StoreSettings};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;
use tempfile::TempDir;

/// Nobody listens there, so nothing is delivered.
const NO_BROKER: &str = "amqp://127.0.0.1:1";

/// A spool with nine messages, three each for `a`, `b` and `c`; those for `a` and the first for `b`
/// are parked.
pub struct Stocked {
    directory: TempDir,
}

pub fn short(text: &str) -> ShortText {
    ShortText::new(text).expect("short")
}

pub fn message(key: &str, id: &str, payload: &'static [u8]) -> Message {
    let properties = Properties { message_id: short(id), ..Properties::default() };
    let (exchange, routing_key) = (short("amq.topic"), short(key));
    Message { exchange, routing_key, mandatory: true, properties, payload: payload.into() }
}

pub async fn append(handle: &StoreHandle, message: Message) -> Seq {
    match handle.append(NewRecord { message, idempotency: None }).await {
        Ok(Appended::Stored(seq)) => seq,
        other => panic!("{other:?}"),
    }
}

impl Stocked {
    /// Without a spool yet.
    pub fn empty() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub async fn new() -> Self {
        let stocked = Self::empty();
        stocked
            .filled(async |handle| {
                let mut seqs = Vec::new();
                for (number, key) in ["a", "b", "c"].into_iter().cycle().take(9).enumerate() {
                    seqs.push(append(handle, message(key, &format!("id-{}", number + 1), b"content")).await);
                }
                handle.park(vec![seqs[0], seqs[3], seqs[6]], "unroutable").await.expect("the disk works");
                handle.park(vec![seqs[1]], "expired").await.expect("the disk works");
            })
            .await;
        stocked
    }

    pub async fn filled(&self, fill: impl AsyncFnOnce(&StoreHandle)) {
        let (store, handle) = Store::open(StoreSettings::new(self.path())).expect("nobody has it");
        fill(&handle).await;
        store.close();
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    /// A sidecar that has the spool and cannot deliver.
    pub async fn sidecar(&self) -> Sidecar {
        let path = format!("{:?}", self.path().display().to_string());
        Sidecar::builder(NO_BROKER).set("spool.path", &path).start().await
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        let path = self.path();
        amqpost(&[&["spool"], arguments, &["--path", path.to_str().expect("text")]].concat()).await
    }

    /// Its output when it succeeds.
    pub async fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.said(&["status", "--json"]).await).expect("JSON")
    }

    /// Its exit code and its reason.
    pub async fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments).await;
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    }

    /// The numbers of the messages that a list shows.
    pub async fn listed(&self, arguments: &[&str]) -> Vec<i64> {
        let said = self.said(&[&["ls", "--json"], arguments].concat()).await;
        documents(&said).iter().map(|line| line["seq"].as_i64().expect("a number")).collect()
    }
}

pub fn documents(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
