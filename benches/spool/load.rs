//! Producers and drainers on a store, and their measurements.

use crate::process;
use amqpost::message::{Message, Properties, ShortText, new_message_id};
use amqpost::spool::store::{
    Address, Appended, FinalOutcome, Idempotency, NewRecord, Seq, Store, StoreHandle, StoreSettings,
};
use bytes::Bytes;
use futures::future::join_all;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a content.
const BODY: usize = 1024;
/// Records that are read and removed together, as in the sidecar's drain.
const BATCH: usize = 256;
const READ: usize = 64;

/// Whether messages have idempotency keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    With,
    Without,
}

/// Producers that each append one message at a time and wait for its answer.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    producers: usize,
    keys: Keys,
    /// Destinations that the messages go to, by turns.
    destinations: usize,
}

/// The results of a load.
pub(crate) struct Measured {
    elapsed: Duration,
    commits: u64,
    written: u64,
    writer_seconds: f64,
    /// Seconds of each append, sorted.
    appends: Vec<f64>,
}

impl Measured {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.appends.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn bytes_rate(&self) -> f64 {
        self.rate() * BODY as f64
    }

    pub(crate) fn per_commit(&self) -> f64 {
        self.appends.len() as f64 / self.commits as f64
    }

    pub(crate) fn amplification(&self) -> f64 {
        self.written as f64 / (self.appends.len() * BODY) as f64
    }

    pub(crate) fn writer_micros(&self) -> f64 {
        self.writer_seconds * 1e6 / self.appends.len() as f64
    }

    /// The 99th percentile of an append, in seconds.
    pub(crate) fn p99(&self) -> f64 {
        self.appends[self.appends.len() * 99 / 100]
    }
}

pub(crate) fn open(directory: &Path, max_bytes: u64) -> (Store, StoreHandle) {
    let settings = StoreSettings {
        max_bytes,
        destination_percent: 100,
        disk_reserve: 0,
        ..StoreSettings::new(directory)
    };
    Store::open(settings).expect("a fresh store")
}

fn short(text: &str) -> ShortText {
    ShortText::new(text).expect("short")
}

fn destination(number: usize) -> Address {
    Address { exchange: short("orders"), routing_key: short(&format!("key-{number}")) }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| fastrand::u8(..))
}

impl Load {
    pub(crate) fn new(producers: usize, keys: Keys) -> Self {
        Self { producers, keys, destinations: 1 }
    }

    /// The same to several destinations.
    pub(crate) fn to(self, destinations: usize) -> Self {
        Self { destinations, ..self }
    }

    fn record(self, number: usize, body: &Bytes) -> NewRecord {
        let Address { exchange, routing_key } = destination(number % self.destinations);
        let properties = Properties { message_id: new_message_id(), ..Properties::default() };
        let idempotency = (self.keys == Keys::With).then(|| Idempotency {
            key: random_bytes(),
            request: random_bytes(),
            outcome: FinalOutcome::Spooled,
            message_id: properties.message_id.as_str().to_owned(),
        });
        let message = Message { exchange, routing_key, mandatory: true, properties, payload: body.clone() };
        NewRecord { message, idempotency }
    }

    pub(crate) async fn on_a_fresh_store(self, place: &Path, span: Duration) -> Measured {
        let directory = crate::fresh(place);
        let (store, handle) = open(directory.path(), 8 << 30);
        // The first second makes files and grows the log to the size that it keeps.
        self.run(&handle, span / 4).await;
        let measured = self.run(&handle, span).await;
        drop(handle);
        store.close();
        measured
    }

    pub(crate) async fn run(self, handle: &StoreHandle, span: Duration) -> Measured {
        let (commits, written, cpu) =
            (handle.stats().commits, process::written_bytes(), process::writer_seconds());
        let begun = Instant::now();
        let producers = (0..self.producers).map(|producer| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let body: Bytes = std::iter::repeat_with(|| fastrand::u8(..)).take(BODY).collect();
                let mut appends = Vec::new();
                while begun.elapsed() < span {
                    let record = self.record(producer + appends.len(), &body);
                    let start = Instant::now();
                    let appended = handle.append(record).await.expect("the disk works");
                    assert!(matches!(appended, Appended::Stored(_)));
                    appends.push(start.elapsed().as_secs_f64());
                }
                appends
            })
        });
        let appends = join_all(producers).await;
        let elapsed = begun.elapsed();
        let mut appends: Vec<f64> = appends.into_iter().flat_map(|each| each.expect("no panic")).collect();
        appends.sort_by(f64::total_cmp);
        Measured {
            elapsed,
            commits: handle.stats().commits - commits,
            written: process::written_bytes() - written,
            writer_seconds: process::writer_seconds() - cpu,
            appends,
        }
    }

    /// Appends this many messages as fast as possible.
    pub(crate) async fn fill(self, handle: &StoreHandle, messages: usize) {
        let producers = (0..self.producers).map(|producer| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let body = Bytes::from(vec![0x2a; BODY]);
                for number in (producer..messages).step_by(self.producers) {
                    handle.append(self.record(number, &body)).await.expect("the disk works");
                }
            })
        });
        for producer in join_all(producers).await {
            producer.expect("no panic");
        }
    }

    /// Appends until the store is full; returns the number of stored messages.
    pub(crate) async fn until_full(self, handle: &StoreHandle) -> usize {
        let producers = (0..self.producers).map(|producer| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let body = Bytes::from(vec![0x2a; BODY]);
                let mut stored = 0;
                while handle.append(self.record(producer, &body)).await.is_ok() {
                    stored += 1;
                }
                stored
            })
        });
        join_all(producers).await.into_iter().map(|stored| stored.expect("no panic")).sum()
    }

    /// Takes out batches as the sidecar does, until nothing is left or for a span; returns messages
    /// a second. The destinations take turns record by record, and delivered records are removed in
    /// batches over all of them.
    pub(crate) async fn drain(self, handle: &StoreHandle, span: Option<Duration>) -> f64 {
        let begun = Instant::now();
        let mut turns: Vec<Turn> = (0..self.destinations).map(Turn::of).collect();
        let (mut drained, mut delivered) = (0, Vec::new());
        loop {
            let (removed, next) = tokio::join!(handle.confirm(delivered), next_of_each(handle, &mut turns));
            drained += removed.expect("the disk works");
            delivered = next;
            if delivered.is_empty() || span.is_some_and(|span| begun.elapsed() >= span) {
                return drained as f64 / begun.elapsed().as_secs_f64();
            }
        }
    }
}

/// One destination while it is drained.
struct Turn {
    of: Address,
    read: VecDeque<Seq>,
    last: Option<Seq>,
    is_over: bool,
}

impl Turn {
    fn of(number: usize) -> Self {
        Self { of: destination(number), read: VecDeque::new(), last: None, is_over: false }
    }

    async fn next(&mut self, handle: &StoreHandle) -> Option<Seq> {
        if self.read.is_empty() && !self.is_over {
            let batch = handle.next_batch(&self.of, self.last, READ, 512 << 10).await.expect("readable");
            self.last = batch.last.or(self.last);
            self.is_over = batch.records.is_empty();
            self.read = batch.records.iter().map(|record| record.seq).collect();
        }
        self.read.pop_front()
    }
}

/// A batch over all destinations, one record of each by turns.
async fn next_of_each(handle: &StoreHandle, turns: &mut [Turn]) -> Vec<Seq> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let before = batch.len();
        for turn in &mut *turns {
            match turn.next(handle).await {
                Some(seq) if batch.len() < BATCH => batch.push(seq),
                Some(seq) => turn.read.push_front(seq),
                None => {}
            }
        }
        if batch.len() == before {
            return batch;
        }
    }
}

/// Bytes on disk after the store has given back its free space.
pub(crate) async fn settled(directory: &Path) -> u64 {
    let mut size = process::bytes_in(directory);
    let mut unchanged = 0;
    while unchanged < 10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = process::bytes_in(directory);
        unchanged = if now == size { unchanged + 1 } else { 0 };
        size = now;
    }
    size
}
