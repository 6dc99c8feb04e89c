//! Natural group commit: while one transaction is synced the changes gather, and the next one takes them together.

use super::ledger::{Change, Verdict};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Rows of one transaction, at most.
const ROWS_MAX: usize = 512;
/// Bytes of one transaction, at most; a larger record goes alone, so that it holds up nobody but itself.
const BYTES_MAX: usize = 4 << 20;
/// Nobody waits for the confirms, so that they gather for an append to take them along: this long, or so many.
const LINGER: Duration = Duration::from_millis(5);
const LINGER_ROWS: usize = 256;

/// A change on its way to the writer, with the way back and its part of the queue's room.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<Verdict>,
    pub(super) room: OwnedSemaphorePermit,
}

/// What the writer's queue holds.
#[derive(Debug)]
pub(super) enum Letter {
    Job(Job),
    Close,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Commit these.
    Commit(Vec<Job>),
    /// Nothing came until the given moment.
    Quiet,
    /// Nothing more comes.
    Closed,
}

/// The receiving end of the queue.
#[derive(Debug)]
pub(super) struct Inbox {
    letters: Receiver<Letter>,
    /// Taken out, and too large for the batch that it would have joined.
    held: Option<Job>,
    closed: bool,
}

/// A batch that is being gathered.
#[derive(Default)]
struct Gathering {
    jobs: Vec<Job>,
    rows: usize,
    bytes: usize,
    urgent: bool,
}

impl Job {
    fn rows(&self) -> usize {
        match &self.change {
            Change::Append(_) | Change::Remember(_) => 1,
            Change::Confirm(seqs) | Change::Attempted(seqs) | Change::Park(seqs, _) => seqs.len(),
            Change::ParkExpired { .. } | Change::Redrive(_) | Change::Discard(_) => super::changes::SET_MAX,
        }
    }

    fn bytes(&self) -> usize {
        match &self.change {
            Change::Append(record) => record.meta.len() + record.body.len(),
            _ => 0,
        }
    }

    fn is_urgent(&self) -> bool {
        !matches!(self.change, Change::Confirm(_) | Change::Attempted(_))
    }
}

impl Gathering {
    fn fits(&self, job: &Job) -> bool {
        self.jobs.is_empty() || self.rows + job.rows() <= ROWS_MAX && self.bytes + job.bytes() <= BYTES_MAX
    }

    fn add(&mut self, job: Job) {
        self.rows += job.rows();
        self.bytes += job.bytes();
        self.urgent |= job.is_urgent();
        self.jobs.push(job);
    }

    fn is_whole(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    fn may_linger(&self) -> bool {
        !self.urgent && self.rows < LINGER_ROWS
    }
}

impl Inbox {
    pub(super) fn new(letters: Receiver<Letter>) -> Self {
        Self { letters, held: None, closed: false }
    }

    /// The next batch, waiting for its first job until the given moment.
    pub(super) fn next(&mut self, until: Instant) -> Next {
        let Some(first) = self.first(until) else {
            return if self.closed { Next::Closed } else { Next::Quiet };
        };
        let mut batch = Gathering::default();
        batch.add(first);
        let patience = Instant::now() + LINGER;
        while !batch.is_whole() {
            let waiting = if batch.may_linger() { patience } else { Instant::now() };
            match self.receive(waiting) {
                Some(job) if batch.fits(&job) => batch.add(job),
                Some(job) => {
                    self.held = Some(job);
                    break;
                }
                None => break,
            }
        }
        Next::Commit(batch.jobs)
    }

    fn first(&mut self, until: Instant) -> Option<Job> {
        self.held.take().or_else(|| self.receive(until))
    }

    fn receive(&mut self, until: Instant) -> Option<Job> {
        if self.closed {
            return None;
        }
        match self.letters.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Letter::Job(job)) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Letter::Close) | Err(RecvTimeoutError::Disconnected) => {
                self.closed = true;
                None
            }
        }
    }

    /// What came after the end.
    pub(super) fn rest(&self) -> impl Iterator<Item = Job> {
        self.letters.try_iter().filter_map(|letter| match letter {
            Letter::Job(job) => Some(job),
            Letter::Close => None,
        })
    }
}
