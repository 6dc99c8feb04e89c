//! Natural group commit: while one transaction is synced the changes gather, and the next one takes them together.

use super::ledger::{Change, Verdict};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Rows of one transaction, at most.
const ROWS_MAX: usize = 512;
/// Bytes of one transaction, at most; a larger record goes alone, so that it holds up nobody but itself.
const BYTES_MAX: usize = 4 << 20;
/// Nobody waits for the confirms, so that they gather for an append to take them along: this long, or so many.
const LINGER: Duration = Duration::from_millis(5);
const LINGER_ROWS: usize = 256;
/// Fewer rows wait for the clients that were just answered to come back, since a sync costs the same with them: for a
/// part of the time that the last commit took, so that little is lost to those who do not come.
const FEW_ROWS: usize = 64;
const GRACE_PART: u32 = 8;
const GRACE_MAX: Duration = Duration::from_millis(5);

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
    /// How many clients the batch that was just committed had, and when it was handed over; nothing after a pause.
    last: Option<(usize, Instant)>,
    grace_max: Duration,
}

/// A batch that is being gathered.
#[derive(Default)]
struct Gathering {
    jobs: Vec<Job>,
    rows: usize,
    bytes: usize,
    /// Those who wait for an answer, to go on with the next message perhaps.
    clients: usize,
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
        self.clients += usize::from(matches!(job.change, Change::Append(_) | Change::Remember(_)));
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
        Self { letters, held: None, closed: false, last: None, grace_max: GRACE_MAX }
    }

    /// The next batch, waiting for its first job until the given moment. To be asked as soon as the last one is
    /// committed and answered.
    pub(super) fn next(&mut self, until: Instant) -> Next {
        let asked = Instant::now();
        let mut batch = Gathering::default();
        self.gather(&mut batch, |_| None);
        let (answered, took) =
            self.last.take().map_or((0, Duration::ZERO), |(clients, at)| (clients, asked - at));
        let expected = FEW_ROWS.min(batch.rows + answered);
        let grace = self.grace_max.min(took / GRACE_PART);
        if batch.jobs.is_empty() {
            match self.held.take().or_else(|| self.receive(Some(until))) {
                Some(first) => batch.add(first),
                None if self.closed => return Next::Closed,
                None => return Next::Quiet,
            }
        }
        let begun = Instant::now();
        self.gather(&mut batch, |batch| {
            if batch.may_linger() {
                Some(begun + LINGER)
            } else {
                (batch.rows < expected).then_some(begun + grace)
            }
        });
        self.last = Some((batch.clients, Instant::now()));
        Next::Commit(batch.jobs)
    }

    /// Adds what fits, as long as it comes until the moment that is said, or is there already.
    fn gather(&mut self, batch: &mut Gathering, until: impl Fn(&Gathering) -> Option<Instant>) {
        while !batch.is_whole() && self.held.as_ref().is_none_or(|held| batch.fits(held)) {
            let Some(job) = self.held.take().or_else(|| self.receive(until(batch))) else { break };
            if batch.fits(&job) {
                batch.add(job);
            } else {
                self.held = Some(job);
            }
        }
    }

    /// The next job: one that is there, or comes until the given moment.
    fn receive(&mut self, until: Option<Instant>) -> Option<Job> {
        if self.closed {
            return None;
        }
        let letter = match (self.letters.try_recv(), until) {
            (Err(TryRecvError::Empty), None) => return None,
            (Err(TryRecvError::Empty), Some(until)) => {
                self.letters.recv_timeout(until.saturating_duration_since(Instant::now()))
            }
            (there, _) => there.map_err(|_| RecvTimeoutError::Disconnected),
        };
        match letter {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::store::dedup::Idempotency;
    use std::sync::{Arc, mpsc};
    use tokio::sync::Semaphore;

    /// As long as a commit takes here, so that a machine with other things to do is no reason to be late.
    const COMMIT: Duration = Duration::from_millis(800);
    const GRACE: Duration = COMMIT.checked_div(GRACE_PART).expect("it is not zero");

    fn job() -> Letter {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one is free");
        let (code, message_id) = ("confirmed".to_owned(), "m-1".to_owned());
        let change = Change::Remember(Idempotency { key: [0; 16], request: [0; 16], code, message_id });
        Letter::Job(Job { change, reply: oneshot::channel().0, room })
    }

    /// An inbox whose last batch had so many clients, and the way to send more jobs.
    fn after_a_batch_of(clients: usize) -> (Inbox, impl Fn(usize)) {
        let (sender, letters) = mpsc::channel();
        let send = move |jobs| (0..jobs).for_each(|_| sender.send(job()).expect("it is received"));
        let mut inbox = Inbox { grace_max: COMMIT, ..Inbox::new(letters) };
        send(clients);
        assert_eq!(batch_of(&mut inbox), clients);
        std::thread::sleep(COMMIT);
        (inbox, send)
    }

    fn batch_of(inbox: &mut Inbox) -> usize {
        match inbox.next(Instant::now() + COMMIT) {
            Next::Commit(jobs) => jobs.len(),
            other @ (Next::Quiet | Next::Closed) => panic!("{other:?}"),
        }
    }

    /// The batch that comes of `waiting` jobs, when one more is sent within the grace.
    fn batch_with_one_behind(inbox: &mut Inbox, send: impl Fn(usize) + Sync, waiting: usize) -> usize {
        send(waiting);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(GRACE / 2);
                send(1);
            });
            batch_of(inbox)
        })
    }

    #[test]
    fn few_wait_for_one_that_was_just_answered() {
        let (mut inbox, send) = after_a_batch_of(2);
        assert_eq!(batch_with_one_behind(&mut inbox, send, 1), 2);
    }

    #[test]
    fn many_wait_for_nobody() {
        let (mut inbox, send) = after_a_batch_of(2);
        assert_eq!(batch_with_one_behind(&mut inbox, send, FEW_ROWS), FEW_ROWS);
    }

    #[test]
    fn after_a_pause_nobody_is_expected_back() {
        let (mut inbox, send) = after_a_batch_of(2);
        assert!(matches!(inbox.next(Instant::now()), Next::Quiet));
        assert_eq!(batch_with_one_behind(&mut inbox, send, 1), 1);
    }

    #[test]
    fn few_wait_the_grace_out_where_nobody_comes_back() {
        let (mut inbox, send) = after_a_batch_of(2);
        send(1);
        let begun = Instant::now();
        assert_eq!(batch_of(&mut inbox), 1);
        assert!(begun.elapsed() >= GRACE, "it was waited for");
    }
}
