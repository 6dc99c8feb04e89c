//! Group commit: changes gather during the sync of one transaction, and the next one takes all of
//! them.

use super::change::{Change, Effect, SET_MAX};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The largest number of rows in one transaction.
const ROWS_MAX: usize = 512;
/// The largest size of one transaction, in bytes. A larger record goes alone and delays only
/// itself.
const BYTES_MAX: usize = 4 << 20;
/// Nobody waits for confirms, so they gather until the next append: at most this long and this many
/// rows.
const LINGER: Duration = Duration::from_millis(5);
const LINGER_ROWS: usize = 256;
/// A batch waits for active clients, because a sync costs the same with them: about as long as the
/// last commit took, and at most this long.
const GRACE_MAX: Duration = Duration::from_millis(5);
/// For up to this many clients, the batch waits for all of them, no longer than the last commit
/// took, and only while the next one arrives within this part of that time. So little time is lost
/// to clients that do not return.
const FEW: usize = 32;
const GAP_PART: u32 = 4;
/// From this many clients on, the batch waits until this part of them has arrived, or enough for
/// one sync. The writer polls at fractions of the last commit's time instead of being woken by each
/// client, and for at most this many times that commit's time. (When it polled at eighths, it
/// waited a third of the time.) With a number of clients in between, enough return without a wait.
const MANY: usize = 48;
const MANY_PART: (usize, usize) = (5, 8);
const ENOUGH: usize = 112;
const LOOK_PART: u32 = 64;
const LOOKING_TIMES: u32 = 8;
/// Each batch forgets only this part of the active clients: those whose answers are on their way
/// are not visible.
const FORGOTTEN_PART: usize = 32;

/// A change in the queue, with the channel for its effect and its share of the queue.
#[derive(Debug)]
pub(crate) struct QueuedChange {
    pub(crate) change: Change,
    pub(crate) reply: oneshot::Sender<Effect>,
    pub(crate) room: OwnedSemaphorePermit,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Commit these.
    Commit(Vec<QueuedChange>),
    /// Nothing arrived until the given moment.
    Quiet,
    /// Nothing more will arrive.
    Closed,
}

/// The receiving end of the queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// `None` closes it.
    changes: Receiver<Option<QueuedChange>>,
    /// Received, but too large for its batch.
    held: Option<QueuedChange>,
    closed: bool,
    /// The clients of the last batch, and when it was handed over; `None` after a pause.
    last: Option<(usize, Instant)>,
    /// The estimated number of active clients. It grows at once and shrinks gradually.
    about: usize,
    grace_max: Duration,
}

/// A batch that still grows.
#[derive(Default)]
struct Gathering {
    jobs: Vec<QueuedChange>,
    rows: usize,
    bytes: usize,
    /// Clients that wait for an answer and may then send their next message.
    clients: usize,
    urgent: bool,
}

impl QueuedChange {
    fn rows(&self) -> usize {
        match &self.change {
            Change::Append(_)
            | Change::Remember(_)
            | Change::Refused(_)
            | Change::Accepted(_)
            | Change::Tried { .. } => 1,
            Change::Confirm(seqs)
            | Change::Attempted(seqs)
            | Change::Park(seqs, _)
            | Change::Redrive(seqs)
            | Change::Discard(seqs) => seqs.len(),
            Change::ParkExpired { limit, .. } | Change::ParkKept { limit, .. } => (*limit).min(SET_MAX),
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
    fn fits(&self, job: &QueuedChange) -> bool {
        self.jobs.is_empty() || self.rows + job.rows() <= ROWS_MAX && self.bytes + job.bytes() <= BYTES_MAX
    }

    fn add(&mut self, job: QueuedChange) {
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
    pub(crate) fn new(changes: Receiver<Option<QueuedChange>>) -> Self {
        Self { changes, held: None, closed: false, last: None, about: 0, grace_max: GRACE_MAX }
    }

    /// The next batch; waits for its first change until the given moment. Call it as soon as the
    /// last batch is committed and answered.
    pub(crate) fn next(&mut self, until: Instant) -> Next {
        let asked = Instant::now();
        let mut batch = Gathering::default();
        self.gather(&mut batch, |_| None);
        let (answered, took) =
            self.last.take().map_or((0, Duration::ZERO), |(clients, at)| (clients, asked - at));
        self.about = (batch.clients + answered).max(self.about - self.about.div_ceil(FORGOTTEN_PART));
        if batch.jobs.is_empty() {
            match self.held.take().or_else(|| self.receive(Some(until))) {
                Some(first) => batch.add(first),
                None if self.closed => return Next::Closed,
                None => {
                    self.about = 0;
                    return Next::Quiet;
                }
            }
        }
        self.wait_for_company(&mut batch, took);
        self.last = Some((batch.clients, Instant::now()));
        Next::Commit(batch.jobs)
    }

    /// Confirms wait for an append, and appends wait for active clients.
    fn wait_for_company(&mut self, batch: &mut Gathering, took: Duration) {
        let (begun, about, grace_max) = (Instant::now(), self.about, self.grace_max);
        self.gather(batch, |batch| {
            if batch.may_linger() {
                return Some(begun + LINGER);
            }
            let gap_end = || Instant::now() + took / GAP_PART;
            (about <= FEW && batch.clients < about).then(|| gap_end().min(begun + grace_max.min(took)))
        });
        if about < MANY {
            return;
        }
        let (part, whole) = MANY_PART;
        let expected = ENOUGH.min(about * part / whole);
        let end = begun + grace_max.min(took * LOOKING_TIMES);
        while batch.clients < expected && Instant::now() < end && self.takes_more(batch) {
            thread::sleep(grace_max.min(took / LOOK_PART));
            self.gather(batch, |_| None);
        }
    }

    /// Adds the changes that fit and arrive before the given moment.
    fn gather(&mut self, batch: &mut Gathering, until: impl Fn(&Gathering) -> Option<Instant>) {
        while self.takes_more(batch) {
            let Some(job) = self.held.take().or_else(|| self.receive(until(batch))) else { break };
            if batch.fits(&job) {
                batch.add(job);
            } else {
                self.held = Some(job);
            }
        }
    }

    fn takes_more(&self, batch: &Gathering) -> bool {
        !batch.is_whole() && self.held.as_ref().is_none_or(|held| batch.fits(held))
    }

    /// The next change that arrives before the given moment, if any.
    fn receive(&mut self, until: Option<Instant>) -> Option<QueuedChange> {
        if self.closed {
            return None;
        }
        let received = match (self.changes.try_recv(), until) {
            (Err(TryRecvError::Empty), None) => return None,
            (Err(TryRecvError::Empty), Some(until)) => {
                self.changes.recv_timeout(until.saturating_duration_since(Instant::now()))
            }
            (there, _) => there.map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(Some(job)) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                self.closed = true;
                None
            }
        }
    }

    /// Changes that arrived after the end.
    pub(crate) fn rest(&self) -> impl Iterator<Item = QueuedChange> {
        self.changes.try_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::store::entry::{FinalOutcome, Idempotency};
    use std::sync::{Arc, mpsc};
    use tokio::sync::Semaphore;

    /// The length of a commit in these tests, long enough for a busy machine.
    const COMMIT: Duration = Duration::from_millis(800);
    const GAP: Duration = COMMIT.checked_div(GAP_PART).expect("it is not zero");

    fn job() -> Option<QueuedChange> {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one is free");
        let (outcome, message_id) = (FinalOutcome::Confirmed, "m-1".to_owned());
        let change = Change::Remember(Idempotency { key: [0; 16], request: [0; 16], outcome, message_id });
        Some(QueuedChange { change, reply: oneshot::channel().0, room })
    }

    /// An inbox whose last batch had this many clients, and a function that sends changes.
    fn after_a_batch_of(clients: usize) -> (Inbox, impl Fn(usize)) {
        let (sender, changes) = mpsc::channel();
        let send = move |jobs| (0..jobs).for_each(|_| sender.send(job()).expect("it is received"));
        let mut inbox = Inbox { grace_max: COMMIT, ..Inbox::new(changes) };
        send(clients);
        assert_eq!(batch_of(&mut inbox), clients);
        thread::sleep(COMMIT);
        (inbox, send)
    }

    fn batch_of(inbox: &mut Inbox) -> usize {
        match inbox.next(Instant::now() + COMMIT) {
            Next::Commit(jobs) => jobs.len(),
            other @ (Next::Quiet | Next::Closed) => panic!("{other:?}"),
        }
    }

    /// The size of a batch. It begins with `waiting` changes, and more follow: each pair is a
    /// number of changes and the pause before them.
    fn batch_with_behind<const N: usize>(
        (mut inbox, send): (Inbox, impl Fn(usize) + Sync),
        waiting: usize,
        behind: [(Duration, usize); N],
    ) -> usize {
        send(waiting);
        thread::scope(|scope| {
            scope.spawn(|| {
                for (after, jobs) in behind {
                    thread::sleep(after);
                    send(jobs);
                }
            });
            batch_of(&mut inbox)
        })
    }

    #[test]
    fn few_wait_for_one_that_was_just_answered() {
        assert_eq!(batch_with_behind(after_a_batch_of(2), 1, [(GAP / 2, 1)]), 2);
    }

    #[test]
    fn each_of_a_few_that_comes_gives_the_next_one_time() {
        let apart = GAP * 3 / 5;
        assert_eq!(batch_with_behind(after_a_batch_of(4), 1, [(apart, 1), (apart, 1)]), 3);
    }

    #[test]
    fn many_wait_until_a_good_part_of_them_is_there() {
        assert_eq!(batch_with_behind(after_a_batch_of(100), 1, [(GAP, 40), (GAP, 30)]), 71);
    }

    #[test]
    fn a_good_part_of_many_waits_for_nobody() {
        assert_eq!(batch_with_behind(after_a_batch_of(30), 60, [(GAP / 2, 1)]), 60);
    }

    #[test]
    fn enough_for_one_sync_wait_for_nobody() {
        assert_eq!(batch_with_behind(after_a_batch_of(300), ENOUGH, [(GAP / 2, 1)]), ENOUGH);
    }

    #[test]
    fn those_between_few_and_many_wait_for_nobody() {
        assert_eq!(batch_with_behind(after_a_batch_of(40), 1, [(GAP / 2, 1)]), 1);
    }

    #[test]
    fn after_a_pause_nobody_is_expected_back() {
        let (mut inbox, send) = after_a_batch_of(100);
        assert!(matches!(inbox.next(Instant::now()), Next::Quiet));
        assert_eq!(batch_with_behind((inbox, send), 1, [(GAP / 2, 1)]), 1);
    }

    #[test]
    fn few_wait_the_grace_out_where_nobody_comes_back() {
        let (mut inbox, send) = after_a_batch_of(2);
        send(1);
        let begun = Instant::now();
        assert_eq!(batch_of(&mut inbox), 1);
        assert!(begun.elapsed() >= GAP, "it was waited for");
    }

    #[test]
    fn those_that_stay_away_are_forgotten_by_and_by() {
        let (mut inbox, send) = after_a_batch_of(40);
        for _ in 0..60 {
            send(1);
            assert_eq!(batch_of(&mut inbox), 1);
        }
        assert_eq!(inbox.about, 2, "the one that is there, and the one before it");
    }
}
