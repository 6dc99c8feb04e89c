//! Gives destinations their turns: a bounded number at once, the others in the order of their
//! arrival.

use super::SIDE_BY_SIDE;
use super::consequence::Broken;
use super::destination::{DrainTurn, EXPIRED, End, Shared, Trouble};
use super::parking::HOUR_MS;
use super::redelivery::DeliveringNote;
use super::tried::TriedTime;
use crate::labels::DeliveryResult;
use crate::locking::lock;
use crate::spool::store::{Address, Seq, StoreHealth};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// The number of destinations asked from the store at once, on top of the known ones.
const LOOK: usize = 1024;
/// The shortest pause between two looks at the store's destinations: commits follow each other
/// quickly.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// The pause after a look is at least this many times the look's duration.
const LOOK_PART: u32 = 10;
/// The interval between two rounds that park expired records.
const EXPIRY: Duration = Duration::from_secs(1);
/// The number of expired records parked at once, and the number of such batches in one round.
const EXPIRED_MAX: usize = 256;
const EXPIRED_ROUNDS: usize = 16;
/// This many destinations that wait for a repair of the same exchange are tried within four
/// seconds. One success brings the others along.
const FEW_OF_EXCHANGE: usize = 16;
/// The least number of destinations with faults of their own that are tried every other second. The
/// limit is higher if their attempts still take at most a fifth of the drain's rate.
const FEW: usize = 16;
/// How soon an operator's change takes effect on destinations that pause.
const HEEDED_WITHIN: Duration = Duration::from_secs(1);
/// A timer for the case that nothing is due.
const FAR: Duration = Duration::from_secs(60);

/// The owner's state.
#[derive(Debug)]
pub(super) struct Owner {
    shared: Arc<Shared>,
    under_way: DeliveringNote,
    /// If more destinations than this have faults of their own, each is tried less often.
    few: usize,
    turns: JoinSet<End>,
    /// Running turns: the destination, and whether it waited for a repair.
    running: HashMap<Id, (Address, bool)>,
    queue: VecDeque<(Address, Trouble)>,
    /// The destinations that run or queue.
    busy: HashSet<Address>,
    pausing: HashMap<Address, Trouble>,
    /// No turn begins before this.
    turns_at: Instant,
    /// Whether the store may have destinations that are not known here yet.
    news: bool,
    look_at: Instant,
    expire_at: Instant,
    /// `None` until the store has told what earlier runs noted.
    tried: Option<TriedTime>,
    /// Since when the link is up while records wait, without the time that is counted already.
    counted_until: Option<Instant>,
    /// The number of operators' changes that pausing destinations know of.
    changes: u64,
}

impl Owner {
    pub(super) fn new(shared: Arc<Shared>, under_way: DeliveringNote, rate: u32) -> Self {
        Self {
            shared,
            under_way,
            few: FEW.max(rate as usize * 2 / 5),
            turns: JoinSet::new(),
            running: HashMap::new(),
            queue: VecDeque::new(),
            busy: HashSet::new(),
            pausing: HashMap::new(),
            turns_at: Instant::now(),
            news: true,
            look_at: Instant::now(),
            expire_at: Instant::now(),
            tried: None,
            counted_until: None,
            changes: 0,
        }
    }

    /// Runs until the drain is stopped or the store has failed.
    pub(super) async fn run(mut self) {
        let mut stats = self.shared.store.watch();
        let mut stopping = self.shared.stopping.clone();
        let mut is_over = false;
        while !is_over {
            let is_up = self.shared.link.up_since().is_some();
            if is_up {
                self.give_turns().await;
            }
            self.count_tried(is_up).await;
            let timer = self.next_timer(is_up);
            let (link, acceptances) = (self.shared.link.clone(), self.shared.acceptances.clone());
            tokio::select! {
                // If no sender is left, the drain itself is gone.
                _ = stopping.wait_for(|stopping| *stopping) => is_over = true,
                Some(ended) = self.turns.join_next_with_id() => is_over = self.ended(ended),
                changed = stats.changed() => {
                    self.news = true;
                    self.heed_operators();
                    is_over = changed.is_err() || stats.borrow_and_update().health != StoreHealth::Working;
                }
                _ = link.wait_until_up(Instant::now() + FAR), if !is_up => {}
                () = acceptances.news() => self.hasten(),
                () = tokio::time::sleep_until(timer) => {}
            }
            let is_due = Instant::now() >= self.expire_at && self.shared.store.stats().ready > 0;
            if is_due && !is_over {
                self.tell_refusals();
                self.park_expired().await;
            }
        }
        if !*stopping.borrow() && self.shared.store.stats().health == StoreHealth::Working {
            tracing::error!("the drain has ended: messages stay in the spool until amqpost is started again");
        }
        self.wind_up().await;
    }

    /// When the next task is due without an event.
    fn next_timer(&self, is_up: bool) -> Instant {
        let far = Instant::now() + FAR;
        let mut next = if self.shared.store.stats().ready > 0 { self.expire_at } else { far };
        if is_up {
            if !self.queue.is_empty() && self.turns_at > Instant::now() {
                next = next.min(self.turns_at);
            }
            next = self.pausing.values().map(|trouble| trouble.until).fold(next, Instant::min);
            if self.wants_to_look() {
                next = next.min(self.look_at);
            }
        }
        next
    }

    fn wants_to_look(&self) -> bool {
        self.news && self.queue.len() < SIDE_BY_SIDE
    }

    async fn give_turns(&mut self) {
        let now = Instant::now();
        let rested: Vec<_> = self.pausing.extract_if(|_, trouble| trouble.until <= now).collect();
        for (of, trouble) in rested {
            self.enqueue(of, trouble);
        }
        if self.wants_to_look() && now >= self.look_at {
            self.look().await;
        }
        if self.turns.len() < SIDE_BY_SIDE && !self.queue.is_empty() && now >= self.turns_at {
            // Without the note, messages that arrive twice after a crash would have no mark.
            if let Err(error) = self.under_way.begin().await {
                tracing::error!(%error, "nothing is delivered: the spool's delivery note was not written");
                self.turns_at = Instant::now() + EXPIRY;
                return;
            }
            while self.turns.len() < SIDE_BY_SIDE
                && let Some((of, trouble)) = self.queue.pop_front()
            {
                let was_broken = trouble.broken.is_some();
                let turn = DrainTurn::new(of.clone(), Arc::clone(&self.shared), trouble);
                let task = self.turns.spawn(turn.run());
                self.running.insert(task.id(), (of, was_broken));
            }
        }
    }

    fn enqueue(&mut self, of: Address, trouble: Trouble) {
        self.busy.insert(of.clone());
        self.queue.push_back((of, trouble));
    }

    /// Asks the store which destinations have something to deliver.
    async fn look(&mut self) {
        let limit = LOOK + self.busy.len() + self.pausing.len();
        let begun = Instant::now();
        let found = self.shared.store.destinations(limit).await;
        // Reading thousands of destinations takes long, and others must be able to read as well.
        self.look_at = Instant::now() + LOOK_PAUSE.max(LOOK_PART * begun.elapsed());
        match found {
            Ok(found) => {
                self.news = found.len() == limit;
                for ready in found {
                    let of = ready.destination;
                    if !self.busy.contains(&of) && !self.pausing.contains_key(&of) {
                        self.enqueue(of, Trouble::none());
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the spool's destinations could not be read");
                self.look_at = Instant::now() + EXPIRY;
            }
        }
    }

    /// Takes in a turn that ended; returns whether the drain is over.
    fn ended(&mut self, ended: Result<(Id, End), JoinError>) -> bool {
        let (id, end) = match ended {
            Ok(ended) => ended,
            // Its panic was reported when it happened.
            Err(error) => (error.id(), End::Paused(Trouble::none().longer())),
        };
        let Some((of, was_broken)) = self.running.remove(&id) else { return false };
        self.busy.remove(&of);
        if was_broken && matches!(end, End::Emptied | End::More) {
            self.mended(&of);
        }
        match end {
            // A record may have arrived since its last look.
            End::Emptied => {
                self.shared.acceptances.forget(&of);
                self.news = true;
            }
            End::More => {
                self.shared.acceptances.forget(&of);
                self.enqueue(of, Trouble::none());
            }
            End::Paused(mut trouble) => {
                trouble.paused_at = Instant::now();
                let trouble = match trouble.broken {
                    None => trouble,
                    Some(Broken::Exchange) => trouble.among(self.waiting_for(&of), FEW_OF_EXCHANGE),
                    Some(Broken::Destination) => trouble.among(self.waiting_alone(), self.few),
                };
                let hastens = self.shared.acceptances.has(&of);
                self.pausing.insert(of, if hastens { trouble.hastened() } else { trouble });
            }
            End::Stopped => return true,
        }
        false
    }

    /// Requests' messages were accepted by destinations with waiting records: those records are
    /// tried now.
    fn hasten(&mut self) {
        for of in self.shared.acceptances.take_news() {
            if let Some(trouble) = self.pausing.remove(&of) {
                self.pausing.insert(of, trouble.hastened());
            }
        }
    }

    /// An operator changed what waits: the first record of a pausing destination may be another one
    /// now, which need not wait for the pause of the one before.
    fn heed_operators(&mut self) {
        let changes = self.shared.backlog.changes();
        if std::mem::replace(&mut self.changes, changes) != changes {
            let soon = Instant::now() + HEEDED_WITHIN;
            self.pausing.values_mut().for_each(|trouble| trouble.until = trouble.until.min(soon));
        }
    }

    /// Counts the time for which the link is up while records wait.
    async fn count_tried(&mut self, is_up: bool) {
        let now = Instant::now();
        let counts = is_up && self.shared.store.stats().ready > 0;
        let since = std::mem::replace(&mut self.counted_until, counts.then_some(now));
        let Some(tried) = &mut self.tried else { return self.begin_to_count().await };
        let Some(since) = since else { return };
        let noted = tried.passed(now.saturating_duration_since(since), self.shared.store.stats().last);
        if let Some((moment, from_ms)) = noted
            && let Err(error) = self.shared.store.note_tried(moment, from_ms).await
        {
            tracing::warn!(%error, "how long records of the spool were tried could not be noted");
        }
    }

    async fn begin_to_count(&mut self) {
        let enough_ms = self.shared.rules.park_after_ms.unwrap_or(HOUR_MS);
        match self.shared.store.tried().await {
            Ok(moments) => self.tried = Some(TriedTime::new(enough_ms, moments)),
            Err(error) => tracing::warn!(%error, "how long records of the spool were tried cannot be read"),
        }
    }

    /// The fault of this destination is repaired: destinations on the same exchange are tried at
    /// once.
    fn mended(&mut self, of: &Address) {
        let soon = Instant::now() + Duration::from_secs(1);
        for (other, trouble) in &mut self.pausing {
            if trouble.broken.is_some() && other.exchange == of.exchange {
                trouble.until = trouble.until.min(soon);
            }
        }
    }

    /// The number of destinations that wait for a repair of this one's exchange.
    fn waiting_for(&self, of: &Address) -> usize {
        let same = self.pausing.iter().filter(|(other, _)| other.exchange == of.exchange);
        same.filter(|(_, trouble)| trouble.broken == Some(Broken::Exchange)).count()
    }

    /// The number of destinations that wait for a repair of their own.
    fn waiting_alone(&self) -> usize {
        self.pausing.values().filter(|trouble| trouble.broken == Some(Broken::Destination)).count()
    }

    /// Tells since when destinations refuse. One whose turn runs is left out, for a moment.
    fn tell_refusals(&self) {
        let waiting = self.pausing.values().chain(self.queue.iter().map(|(_, trouble)| trouble));
        self.shared.acceptances.are_refused_since(waiting.filter_map(Trouble::refused_since_ms).min());
    }

    async fn park_expired(&mut self) {
        self.expire_at = Instant::now() + EXPIRY;
        let enough = self.tried.as_ref().map_or(Seq::new(0), TriedTime::enough);
        for _ in 0..EXPIRED_ROUNDS {
            let now_ms = self.shared.store.now_ms();
            match self.shared.store.take_expired(now_ms, enough, EXPIRED_MAX).await {
                Ok(0) => return,
                Ok(parked) => {
                    tracing::warn!(parked, reason = EXPIRED, "records of the spool are parked");
                    self.shared.metrics.spool_delivered(DeliveryResult::Parked, parked);
                    if parked < EXPIRED_MAX as u64 {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "expired records of the spool could not be parked");
                    return;
                }
            }
        }
    }

    /// Waits for the turns under way and removes the delivered records. The caller bounds the wait.
    async fn wind_up(mut self) {
        while self.turns.join_next().await.is_some() {}
        if self.shared.confirmed.flush().await.is_err() {
            return;
        }
        let suspected = lock(&self.shared.suspects).until();
        let remaining = match suspected {
            None => false,
            Some(until) => match self.shared.store.destinations(1).await {
                Ok(found) => found.first().is_some_and(|oldest| oldest.first <= until),
                Err(_) => true,
            },
        };
        if !remaining && let Err(error) = self.under_way.end().await {
            tracing::warn!(%error, "the spool's delivery note could not be removed");
        }
    }
}
