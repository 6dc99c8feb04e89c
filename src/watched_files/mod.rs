//! Files that may change while the sidecar runs: each is read on a thread of its own, once a second
//! and when somebody asks, and its last good content stays.
//!
//! A file that blocks (a FIFO, a dead mount) delays nobody but its own thread. `reading` reads a
//! file, and `Watched` gives its content to the other rooms.

mod reading;
#[cfg(test)]
mod tests;

pub use reading::{Unread, read_text_in_time, read_text_patiently};

use reading::{READ_MAX, read_text};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// The interval between two reads of a file.
const INTERVAL: Duration = Duration::from_secs(1);

/// The content of a file, as a `T`. Cloning shares the watch.
#[derive(Clone, Debug)]
pub struct Watched<T> {
    seen: watch::Receiver<Seen<T>>,
    asked: Arc<Asked>,
}

/// What was seen of a file.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// Its last good content; `None` if there was none yet.
    pub good: Option<T>,
    /// Why it cannot be read now, for people; it holds nothing of the content.
    pub problem: Option<String>,
    /// How many requests to read it anew were answered.
    answered: u64,
}

/// Requests to read a file anew.
#[derive(Debug, Default)]
struct Asked {
    count: AtomicU64,
    wake: Notify,
}

/// The task that keeps a [`Watched`] current. It ends when nobody is left who reads it.
struct Watch<T> {
    name: String,
    /// `None` for content that is read only when somebody asks.
    interval: Option<Duration>,
    seen: watch::Sender<Seen<T>>,
    asked: Arc<Asked>,
    reader: Reader<T>,
}

/// The thread that reads, the only place where a file may block.
struct Reader<T> {
    orders: mpsc::Sender<()>,
    results: mpsc::Receiver<Result<Option<T>, String>>,
    is_reading: bool,
    /// The read in progress has taken longer than [`READ_MAX`].
    is_late: bool,
}

impl<T: Clone + Send + Sync + 'static> Watched<T> {
    /// Watches the file that the key `key` of the configuration names. `parse` turns its text into
    /// the content, or returns the expected form. `first` is the content that is known already.
    ///
    /// The caller runs the returned task for as long as the file is watched.
    pub fn file<P>(
        key: &'static str,
        path: PathBuf,
        first: Option<T>,
        mut parse: P,
    ) -> (Self, impl Future<Output = ()> + Send + use<T, P>)
    where
        P: FnMut(&str) -> Result<T, String> + Send + 'static,
    {
        let mut last = None;
        let read = move || {
            let text = read_text(&path).map_err(|unread| format!("expected {unread}"))?;
            if last.as_ref() == Some(&text) {
                return Ok(None);
            }
            let content = parse(&text).map_err(|expected| format!("expected {expected}"))?;
            last = Some(text);
            Ok(Some(content))
        };
        Self::start(key.to_owned(), Some(INTERVAL), first, read)
    }

    /// Watches something else that is read from a disk, only when somebody asks.
    pub fn on_demand<R>(name: &str, mut read: R) -> (Self, impl Future<Output = ()> + Send + use<T, R>)
    where
        R: FnMut() -> Result<T, String> + Send + 'static,
    {
        Self::start(name.to_owned(), None, None, move || read().map(Some))
    }

    fn start(
        name: String,
        interval: Option<Duration>,
        first: Option<T>,
        read: impl FnMut() -> Result<Option<T>, String> + Send + 'static,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, seen) = watch::channel(Seen { good: first, problem: None, answered: 0 });
        let asked = Arc::new(Asked::default());
        let watched = Self { seen, asked: Arc::clone(&asked) };
        let watch = Watch { name, interval, seen: sender, asked, reader: Reader::start(read) };
        (watched, watch.run())
    }

    /// Reads the file anew, and returns its content; its last good content if it cannot be read.
    /// Takes a second at most, and no time while an earlier read is blocked.
    ///
    /// # Errors
    /// Why it cannot be read, if it never could.
    pub async fn fresh(&self) -> Result<T, String> {
        let mine = self.asked.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.asked.wake.notify_one();
        let mut seen = self.seen.clone();
        // Twice: a read that began earlier may have to end first. A watch that has ended answers
        // nobody, and its last content still counts.
        drop(tokio::time::timeout(READ_MAX * 2, seen.wait_for(|seen| seen.answered >= mine)).await);
        let Seen { good, problem, .. } = self.seen.borrow().clone();
        good.ok_or_else(|| problem.unwrap_or_else(|| format!("expected {}", Unread::Late)))
    }

    /// A receiver that is told of each change.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Seen<T>> {
        self.seen.clone()
    }
}

impl<T: Clone + Send + Sync + 'static> Watch<T> {
    async fn run(mut self) {
        loop {
            let answered = self.asked.count.load(Ordering::SeqCst);
            let result = self.reader.read().await;
            self.note(result, answered);
            tokio::select! {
                () = pause(self.interval) => {}
                () = self.asked.wake.notified() => {}
                () = self.seen.closed() => return,
                result = self.reader.late_result() => self.note(result, answered),
            }
        }
    }

    /// Takes over what a read found.
    fn note(&self, result: Result<Option<T>, String>, answered: u64) {
        let name = self.name.as_str();
        self.seen.send_if_modified(|seen| {
            let problem = result.as_ref().err();
            if seen.problem.as_ref() != problem {
                let has_good = seen.good.is_some();
                match problem {
                    Some(problem) if has_good => {
                        tracing::warn!(name, problem, "cannot be read; the last good content stays in use");
                    }
                    Some(problem) => tracing::warn!(name, problem, "cannot be read"),
                    None => tracing::info!(name, "can be read again"),
                }
            }
            let is_new = seen.problem.as_ref() != problem || matches!(result, Ok(Some(_)));
            seen.problem = problem.cloned();
            if let Ok(Some(content)) = result {
                seen.good = Some(content);
            }
            let is_answer = seen.answered < answered;
            seen.answered = answered;
            is_new || is_answer
        });
    }
}

async fn pause(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}

impl<T: Send + 'static> Reader<T> {
    /// Starts the thread. If the system refuses, each read says so.
    fn start(mut read: impl FnMut() -> Result<Option<T>, String> + Send + 'static) -> Self {
        let (orders, mut ordered) = mpsc::channel(1);
        let (sender, results) = mpsc::channel(1);
        let thread = std::thread::Builder::new().name("file".to_owned());
        let started = thread.spawn(move || {
            while let Some(()) = ordered.blocking_recv() {
                if sender.blocking_send(read()).is_err() {
                    return;
                }
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "the thread that reads a file cannot be started");
        }
        Self { orders, results, is_reading: false, is_late: false }
    }

    /// Reads once, or says that the file does not answer in time. There is one read at a time.
    async fn read(&mut self) -> Result<Option<T>, String> {
        if !self.is_reading {
            // A thread that has ended gives no result either.
            self.is_reading = self.orders.try_send(()).is_ok();
        }
        let late = || Err(format!("expected {}", Unread::Late));
        if self.is_late {
            return self.results.try_recv().map_or_else(|_| late(), |result| self.ended(Some(result)));
        }
        match tokio::time::timeout(READ_MAX, self.results.recv()).await {
            Ok(result) => self.ended(result),
            Err(_) => {
                self.is_late = true;
                late()
            }
        }
    }

    /// The result of a read that had been given up; never, without one.
    async fn late_result(&mut self) -> Result<Option<T>, String> {
        if !self.is_reading {
            std::future::pending::<()>().await;
        }
        let result = self.results.recv().await;
        self.ended(result)
    }

    fn ended(&mut self, result: Option<Result<Option<T>, String>>) -> Result<Option<T>, String> {
        (self.is_reading, self.is_late) = (false, false);
        result.unwrap_or_else(|| Err("the thread that reads the file has ended".to_owned()))
    }
}
