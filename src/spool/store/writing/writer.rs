//! The one thread that writes: it gathers changes, commits them, answers, and maintains the store
//! once a second.

use super::change::Effect;
use super::inbox::{Inbox, Next, QueuedChange};
use super::ledger::{Fault, Ledger, RolledBack};
use super::replies::Replies;
use crate::spool::store::disk::checkpoints::{Checkpoints, log_pages};
use crate::spool::store::disk::high_water::HighWater;
use crate::spool::store::entry::Appended;
use crate::spool::store::reading::queries;
use crate::spool::store::stats::{LostTail, Stats, StoreHealth};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The interval of maintenance: the high-water mark, the oldest record, the generations of keys.
const TICK: Duration = Duration::from_secs(1);
/// After this long without a change the writer is idle.
const IDLE: Duration = Duration::from_millis(200);

/// The writer's state.
#[derive(Debug)]
pub(crate) struct Writer {
    ledger: Ledger,
    high_water: HighWater,
    checkpoints: Checkpoints,
    inbox: Inbox,
    answers: Replies,
    stats: watch::Sender<Stats>,
    health: StoreHealth,
    lost: Option<LostTail>,
    oldest_ms: Option<i64>,
    commits: u64,
    appended: u64,
    noted: String,
}

impl Writer {
    pub(crate) fn new(
        ledger: Ledger,
        high_water: HighWater,
        checkpoints: Checkpoints,
        inbox: Inbox,
        answers: Replies,
        lost: Option<LostTail>,
    ) -> (Self, watch::Receiver<Stats>) {
        let (stats, receiver) = watch::channel(Stats::default());
        let writer = Self {
            ledger,
            high_water,
            checkpoints,
            inbox,
            answers,
            stats,
            health: StoreHealth::Working,
            lost,
            oldest_ms: None,
            commits: 0,
            appended: 0,
            noted: String::new(),
        };
        (writer, receiver)
    }

    /// Makes the first snapshot, before the store has users.
    pub(crate) fn look(&mut self) -> rusqlite::Result<()> {
        self.ledger.look_for_notes()?;
        let live = self.ledger.live_bytes()?;
        let free = self.ledger.directory.free_bytes().unwrap_or(u64::MAX);
        self.ledger.bounds.measured(live, free);
        self.oldest_ms = queries::oldest_ms(&self.ledger.connection)?;
        self.publish();
        Ok(())
    }

    /// Runs until the store is closed.
    pub(crate) fn run(mut self) {
        let mut tick = Instant::now() + TICK;
        let mut wait = IDLE;
        loop {
            match self.inbox.next(tick.min(Instant::now() + wait)) {
                Next::Commit(jobs) => {
                    self.commit(jobs);
                    wait = IDLE;
                }
                Next::Quiet if self.is_working() => {
                    wait = if self.reclaim() { Duration::ZERO } else { IDLE };
                }
                Next::Quiet => {}
                Next::Closed => break,
            }
            self.see_to_log();
            if Instant::now() >= tick {
                self.tick();
                tick = Instant::now() + TICK;
            }
        }
        self.close();
    }

    fn is_working(&self) -> bool {
        self.health == StoreHealth::Working
    }

    fn commit(&mut self, jobs: Vec<QueuedChange>) {
        if !self.is_working() {
            return self.answer_all(jobs, &Effect::Failed);
        }
        match self.ledger.run(jobs.iter().map(|job| &job.change)) {
            Ok(verdicts) => {
                self.committed(&verdicts);
                self.answers.give(jobs, verdicts);
            }
            // One of the changes found no space, and all were rolled back.
            Err(RolledBack { fault: Fault::Full, .. }) if jobs.len() > 1 => {
                for job in jobs {
                    self.commit(vec![job]);
                }
            }
            Err(RolledBack { fault: Fault::Full, .. }) => {
                self.answer_all(jobs, &Effect::Full(self.ledger.bounds.met()));
            }
            Err(RolledBack { fault: Fault::Busy, .. }) => self.answer_all(jobs, &Effect::Failed),
            // A failed write must not be tried again: the system may treat lost pages as written.
            // Only a new start reads the real content of the disk.
            Err(RolledBack { fault: Fault::Broken, at_commit, text }) => {
                self.fail(&text);
                self.answer_all(jobs, if at_commit { &Effect::Unsure } else { &Effect::Failed });
            }
        }
    }

    fn answer_all(&self, jobs: Vec<QueuedChange>, verdict: &Effect) {
        let verdicts = vec![verdict.clone(); jobs.len()];
        self.answers.give(jobs, verdicts);
    }

    fn committed(&mut self, verdicts: &[Effect]) {
        let stored =
            verdicts.iter().filter(|verdict| matches!(verdict, Effect::Appended(Appended::Stored(_))));
        self.appended += stored.count() as u64;
        self.commits += 1;
        self.publish();
    }

    fn fail(&mut self, text: &str) {
        self.health = StoreHealth::Failed(text.into());
        self.publish();
    }

    fn publish(&mut self) {
        let (total, bounds) = (self.ledger.destinations.total(), &self.ledger.bounds);
        self.oldest_ms = match (total.ready, self.oldest_ms) {
            (0, _) => None,
            (_, None) => Some(self.ledger.clock.now_ms()),
            (_, known) => known,
        };
        self.stats.send_replace(Stats {
            health: self.health.clone(),
            ready: total.ready,
            parked: total.parked,
            oldest_ms: self.oldest_ms,
            live_bytes: bounds.live,
            max_bytes: bounds.max_bytes,
            full: bounds.full,
            commits: self.commits,
            appended: self.appended,
            last: self.ledger.committed,
            lost: self.lost,
        });
    }

    fn reclaim(&mut self) -> bool {
        self.ledger.reclaim(&mut self.checkpoints).unwrap_or_else(|error| {
            self.log_trouble(&error);
            false
        })
    }

    /// Runs after the replies, which must not wait for it.
    fn see_to_log(&mut self) {
        if !self.is_working() {
            return;
        }
        let seen = log_pages(&self.ledger.connection).and_then(|pages| self.checkpoints.after_commit(pages));
        if let Err(error) = seen {
            self.log_trouble(&error);
        }
    }

    /// Without space or a lock the next attempt may succeed. After any other error the log must not
    /// be moved: lost pages may count as written, and a new start finds them in the log.
    fn log_trouble(&mut self, error: &rusqlite::Error) {
        match Fault::of(error) {
            Fault::Broken => self.fail(&error.to_string()),
            Fault::Full | Fault::Busy => self.note(&error.to_string()),
        }
    }

    fn tick(&mut self) {
        if !self.is_working() {
            return;
        }
        if let Err(error) = self.high_water.write(self.ledger.committed) {
            self.note(&error.to_string());
        }
        match self.ledger.turn_generations() {
            Err(RolledBack { fault: Fault::Broken, text, .. }) => return self.fail(&text),
            Err(trouble) => self.note(&trouble.text),
            Ok(()) => {}
        }
        if let Err(error) = self.look() {
            self.note(&error.to_string());
        }
    }

    /// Logs a failed maintenance task once, not every second. No record depends on it.
    fn note(&mut self, text: &str) {
        if self.noted != text {
            text.clone_into(&mut self.noted);
            tracing::warn!(error = text, "maintenance of the spool failed; it is tried again");
        }
    }

    fn close(mut self) {
        let rest = self.inbox.rest().collect();
        self.answer_all(rest, &Effect::Failed);
        let moved = self.checkpoints.end();
        if self.is_working() {
            if let Err(error) = moved.and_then(|()| self.ledger.end_log()) {
                self.log_trouble(&error);
            }
            if let Err(error) = self.high_water.write(self.ledger.committed) {
                self.note(&error.to_string());
            }
        }
        if self.is_working() {
            self.health = StoreHealth::Closed;
        }
        self.publish();
    }
}

impl Drop for Writer {
    /// After a panic the store must not seem to work.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.stats.send_modify(|stats| stats.health = StoreHealth::Failed("the writer panicked".into()));
        }
    }
}
