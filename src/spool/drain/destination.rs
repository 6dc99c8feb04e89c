//! One destination's turn: its records one after another, each settled before the next one leaves.

use super::confirmed::{Confirmed, Over};
use super::consequence::{Broken, Consequence, Copies, consequence};
use super::gate::PermitRequest;
use super::parking::{Next, Noted, Parking, ParkingRules, Refused};
use super::redelivery::Suspects;
use crate::admission::Permit;
use crate::config::Live;
use crate::labels::DeliveryResult;
use crate::link::{Backoff, LinkHandle};
use crate::locking::lock;
use crate::message::{Deadline, RetryPolicy, Settlement};
use crate::metrics::Metrics;
use crate::outcome::{Class, Outcome};
use crate::spool::store::{Address, Batch, ReadError, RefusalNote, Seq, StoreHandle, Stored};
use crate::spool::{Acceptances, Backlog, Flow, marked};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

/// The largest numbers of records and bytes read at once.
const BATCH_ROWS: usize = 64;
const BATCH_BYTES: usize = 512 << 10;
/// The largest result of one read, in KiB: the largest message, or a batch.
const READ_KIB: u32 = 17 << 10;
/// The largest size of the records in memory, in KiB, over all destinations.
pub(super) const MEMORY_KIB: u32 = 64 << 10;
/// A turn ends after this time, so that another destination gets one.
const TURN: Duration = Duration::from_secs(1);
/// The first and the longest pause of a destination. A repaired destination must work within five
/// seconds.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// The longest pause when more destinations wait for a repair than can be tried within
/// [`PAUSE_MAX`].
const PAUSE_MANY: Duration = Duration::from_secs(30);
/// The pause after a refusal by the link, which is not the destination's fault and passes quickly.
const LINK_PAUSE: Duration = Duration::from_millis(50);

/// The shortest pause when requests to the destination are accepted all the time.
const HASTE_PAUSE: Duration = Duration::from_secs(1);
/// The pause after the broker has refused a message itself.
const MESSAGE_PAUSE: Duration = Duration::from_secs(4);
/// The number of refused records parked at once.
const PARKED_MAX: usize = 256;

/// The reason for parking a record that was not delivered in time.
pub(super) const EXPIRED: &str = "expired";
/// The reason for parking a record whose refusal was seen only by an earlier version.
const REFUSED: &str = "refused";
/// The reason for parking a record whose bytes are not those that were appended.
pub(super) const DAMAGED: &str = "damaged";

/// What all turns share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: StoreHandle,
    pub(super) link: LinkHandle,
    pub(super) gate: mpsc::Sender<PermitRequest>,
    pub(super) confirmed: Confirmed,
    pub(super) metrics: Metrics,
    pub(super) backlog: Backlog,
    pub(super) flow: Flow,
    pub(super) acceptances: Acceptances,
    pub(super) rules: ParkingRules,
    pub(super) live: Live,
    pub(super) suspects: Mutex<Suspects>,
    pub(super) memory: Arc<Semaphore>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Why a destination pauses, kept until its first record is settled.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    seq: Option<Seq>,
    /// An earlier delivery was handed over.
    handed_over: bool,
    parking: Parking,
    backoff: Backoff,
    /// What must be repaired, if anything.
    pub(super) broken: Option<Broken>,
    /// When the last turn ended.
    pub(super) paused_at: Instant,
    /// When the next turn begins.
    pub(super) until: Instant,
}

/// How a turn ended.
#[derive(Debug)]
pub(super) enum End {
    /// No record is left to deliver.
    Emptied,
    /// Records are left for the next turn.
    More,
    /// The destination pauses.
    Paused(Trouble),
    /// Nothing is delivered any more.
    Stopped,
}

/// One destination's turn.
#[derive(Debug)]
pub(super) struct DrainTurn {
    pub(super) of: Address,
    pub(super) shared: Arc<Shared>,
    pub(super) trouble: Trouble,
    /// The number of changes by operators before the last read.
    changes: u64,
}

impl Trouble {
    pub(super) fn none() -> Self {
        let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let (parking, now) = (Parking::default(), Instant::now());
        Self { seq: None, handed_over: false, parking, backoff, broken: None, paused_at: now, until: now }
    }

    /// The next pause, longer than the last one.
    pub(super) fn longer(mut self) -> Self {
        self.until = Instant::now() + self.backoff.next_delay();
        self
    }

    /// The pause, longer if more than `few` `others` wait for a repair. A few repaired destinations
    /// work within five seconds, and thousands that nobody repairs cost no more attempts than a
    /// few.
    pub(super) fn among(mut self, others: usize, few: usize) -> Self {
        let now = Instant::now();
        let pause = self.until.saturating_duration_since(now).as_secs_f64();
        let stretch = (others as f64 / few.max(1) as f64).max(1.0);
        self.until = now + Duration::from_secs_f64(pause * stretch).min(PAUSE_MANY);
        self
    }

    /// Since when the broker refuses the destination, in Unix milliseconds.
    pub(super) fn refused_since_ms(&self) -> Option<i64> {
        self.parking.refused_since_ms()
    }

    /// The first record is this one.
    fn first_is(&mut self, stored: &Stored) {
        if self.seq != Some(stored.seq) {
            let parking = std::mem::take(&mut self.parking);
            *self = Self { seq: Some(stored.seq), parking, ..Self::none() };
        }
        self.parking.first_is(stored);
        self.handed_over |= stored.handed_over;
        self.broken = None;
    }

    /// The destination has accepted a message meanwhile, so its first record is tried now, but not
    /// in a tight loop.
    pub(super) fn hastened(mut self) -> Self {
        self.until = self.until.min(Instant::now().max(self.paused_at + HASTE_PAUSE));
        self
    }

    /// A pause of this length.
    fn rests(mut self, pause: Duration) -> Self {
        self.until = Instant::now() + pause;
        self
    }
}

impl DrainTurn {
    pub(super) fn new(of: Address, shared: Arc<Shared>, trouble: Trouble) -> Self {
        Self { of, shared, trouble, changes: 0 }
    }

    /// Runs until the destination is empty or pauses, or others have waited long enough. At its end
    /// all delivered records are removed, so that the next turn begins with the first record.
    pub(super) async fn run(mut self) -> End {
        let end = match self.deliver_some().await {
            Ok(()) => End::More,
            Err(end) => end,
        };
        if self.shared.confirmed.flush().await == Err(Over) {
            return End::Stopped;
        }
        end
    }

    async fn deliver_some(&mut self) -> Result<(), End> {
        let begun = Instant::now();
        let mut after = None;
        loop {
            let (batch, _memory) = self.read(after).await?;
            self.trouble.parking.clock_is(batch.clock);
            if batch.clock.is_some() {
                self.shared.acceptances.watch(&self.of);
            }
            if batch.last == after {
                return Err(End::Emptied);
            }
            if !batch.damaged.is_empty() {
                self.park(batch.damaged, DAMAGED).await?;
            }
            for stored in batch.records {
                self.deliver(stored).await?;
                if begun.elapsed() > TURN {
                    return Ok(());
                }
            }
            after = batch.last;
        }
    }

    /// The next records, and their share of the memory.
    async fn read(&mut self, after: Option<Seq>) -> Result<(Batch, Option<OwnedSemaphorePermit>), End> {
        let memory = Arc::clone(&self.shared.memory).acquire_many_owned(READ_KIB).await;
        let Ok(mut memory) = memory else { return Err(End::Stopped) };
        self.changes = self.shared.backlog.changes();
        match self.shared.store.next_batch(&self.of, after, BATCH_ROWS, BATCH_BYTES).await {
            Ok(batch) => {
                let bytes: usize = batch.records.iter().map(|stored| stored.message.weight()).sum();
                Ok((batch, memory.split((bytes / 1024).min(READ_KIB as usize))))
            }
            Err(ReadError::Closed) => Err(End::Stopped),
            Err(error @ (ReadError::Database(_) | ReadError::Outcome)) => {
                tracing::error!(%error, "records of the spool could not be read");
                Err(self.paused())
            }
        }
    }

    /// Delivers one record and settles it. An error ends the turn.
    async fn deliver(&mut self, stored: Stored) -> Result<(), End> {
        let (seq, now_ms) = (stored.seq, self.shared.store.now_ms());
        if has_expired(&stored, now_ms) {
            return self.park(vec![seq], EXPIRED).await;
        }
        self.trouble.first_is(&stored);
        self.hear().await;
        match self.trouble.parking.before(now_ms, self.shared.rules) {
            Next::Try => {}
            next => {
                let word = self.trouble.parking.word().and_then(outcome_of);
                return self.follow(seq, next, word.map_or(REFUSED, Outcome::code)).await;
            }
        }
        let Ok(unit) = self.shared.confirmed.unit().await else { return Err(End::Stopped) };
        let copies = Copies::of(&stored.message);
        let settlement = self.publish(stored).await?;
        // A refusal about the moment also counts against the destination: the destination's clock
        // tells which refusals last too long.
        let outcome = settlement.word();
        let is_certain = settlement.refusal.is_some_and(|refusal| refusal.returns_are_certain);
        let consequence = consequence(outcome, copies.with(is_certain));
        if let Some(result) = consequence.result() {
            self.shared.metrics.spool_delivered(result, 1);
        }
        tracing::debug!(%seq, code = outcome.code(), ?consequence, "delivery");
        match consequence {
            Consequence::Delivered => {
                self.shared.flow.delivered();
                self.stop_clock().await;
                let told = self.shared.confirmed.delivered(seq, unit).await;
                told.map_err(|Over| End::Stopped)
            }
            Consequence::Refused(what, broken) => self.refused(seq, outcome, what, broken).await,
            Consequence::MaybeDelivered => {
                self.trouble.handed_over = true;
                self.note_attempt(seq).await;
                Err(self.paused())
            }
            Consequence::AfterPause => Err(self.paused()),
            Consequence::Again => Err(self.rests(LINK_PAUSE)),
            Consequence::Stop => Err(End::Stopped),
        }
    }

    /// The broker refused the record.
    async fn refused(
        &mut self,
        seq: Seq,
        outcome: Outcome,
        what: Refused,
        broken: Broken,
    ) -> Result<(), End> {
        self.shared.acceptances.watch(&self.of);
        self.hear().await;
        let (now_ms, kept) = (self.shared.store.now_ms(), self.shared.store.stats().last);
        let (rules, word) = (self.shared.rules, outcome.code());
        let Noted { next, clock, tries } = self.trouble.parking.refused(what, word, now_ms, kept, rules);
        let clock = clock.or(self.trouble.parking.unwritten());
        let is_first = !std::mem::replace(&mut self.trouble.handed_over, true);
        if is_first || clock.is_some() || tries.is_some() {
            let clock = clock.map(|clock| (self.of.clone(), clock));
            let is_unsure = outcome.class() == Class::Unknown;
            // Memory has the same for this run; the disk has it for another run and for a redrive.
            let noted = self.shared.store.refused(RefusalNote { seq, is_unsure, tries, clock }).await;
            self.trouble.parking.written(noted.is_ok());
            if let Err(error) = noted {
                tracing::warn!(%seq, %error, "a refusal could not be noted");
            }
        }
        // Growing pauses belong to one record. Only a record that is repeated often takes turns
        // with others.
        self.trouble.broken = (next == Next::Soon && what == Refused::Destination).then_some(broken);
        self.follow(seq, next, word).await
    }

    /// Carries out the parking's decision about the first record.
    async fn follow(&mut self, seq: Seq, next: Next, word: &'static str) -> Result<(), End> {
        match next {
            Next::Try => Ok(()),
            Next::Soon if self.trouble.broken.is_some() => Err(self.paused()),
            Next::Soon => Err(self.rests(MESSAGE_PAUSE)),
            Next::At(then_ms) => {
                self.shared.acceptances.watch(&self.of);
                let rest_ms = then_ms - self.shared.store.now_ms();
                Err(self.rests(Duration::from_millis(rest_ms.max(0).unsigned_abs())))
            }
            Next::ParkRecord => self.park(vec![seq], word).await,
            Next::ParkKept(last) => self.park_kept(last, word).await,
        }
    }

    /// Takes in whether a request's message was accepted meanwhile.
    async fn hear(&mut self) {
        if self.shared.acceptances.take(&self.of) {
            self.stop_clock().await;
        }
    }

    /// The broker has accepted a message of this destination.
    async fn stop_clock(&mut self) {
        if self.trouble.parking.accepted() {
            let noted = self.shared.store.accepted(self.of.clone()).await;
            self.trouble.parking.written(noted.is_ok());
            if let Err(error) = noted {
                tracing::warn!(%error, "the end of a destination's refusals could not be noted");
            }
        }
    }

    /// Parks the records that were kept until the clock started. The turn ends, because its records
    /// are among them.
    async fn park_kept(&mut self, last: Seq, reason: &'static str) -> Result<(), End> {
        // Nothing that was delivered may be parked.
        self.shared.confirmed.flush().await.map_err(|Over| End::Stopped)?;
        let mut sum = 0;
        loop {
            match self.shared.store.park_kept(self.of.clone(), last, reason, PARKED_MAX).await {
                Ok(parked) => {
                    self.shared.metrics.spool_delivered(DeliveryResult::Parked, parked);
                    sum += parked;
                    if parked < PARKED_MAX as u64 {
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!(reason, %error, "refused records of the spool could not be parked");
                    return Err(self.paused());
                }
            }
        }
        tracing::warn!(
            parked = sum,
            reason,
            exchange = %self.of.exchange,
            routing_key = %self.of.routing_key,
            "the broker has refused a destination for too long: its records are parked"
        );
        self.stop_clock().await;
        Err(End::Paused(Trouble::none()))
    }

    /// Memory has the mark for this run's next delivery. The disk has it for another run and for a
    /// redrive.
    async fn note_attempt(&self, seq: Seq) {
        if let Err(error) = self.shared.store.attempted(vec![seq]).await {
            tracing::warn!(%seq, %error, "an attempt could not be noted");
        }
    }

    fn paused(&self) -> End {
        End::Paused(self.trouble.clone().longer())
    }

    fn rests(&self, pause: Duration) -> End {
        End::Paused(self.trouble.clone().rests(pause))
    }

    async fn publish(&self, stored: Stored) -> Result<Settlement, End> {
        let suspected = lock(&self.shared.suspects).includes(&self.of, stored.seq);
        if suspected || self.trouble.handed_over || stored.attempts > 0 {
            let settlement = self.publish_once(marked(stored.message.clone())).await?;
            // The mark may have made the properties larger than a frame; without it they fit.
            if settlement.outcome != Outcome::InvalidRequest {
                return Ok(settlement);
            }
        }
        self.publish_once(stored.message).await
    }

    async fn publish_once(&self, message: crate::message::Message) -> Result<Settlement, End> {
        let permit = self.permit(message.payload.len()).await?;
        if self.shared.backlog.changes() != self.changes {
            // It may have been parked or removed since it was read.
            return Err(self.rests(Duration::ZERO));
        }
        let deadline = Deadline::after(Instant::now(), self.shared.live.now().publish.timeout);
        Ok(self.shared.link.publish(Arc::new(message), permit, deadline, RetryPolicy::Off).await)
    }

    async fn permit(&self, bytes: usize) -> Result<Permit, End> {
        let (reply, permit) = oneshot::channel();
        let asking = PermitRequest { asked: Instant::now(), bytes, reply };
        if self.shared.gate.send(asking).await.is_err() {
            return Err(End::Stopped);
        }
        permit.await.map_err(|_| match *self.shared.stopping.borrow() {
            true => End::Stopped,
            false => self.rests(LINK_PAUSE),
        })
    }

    /// Parks records; those behind them wait for it.
    async fn park(&self, seqs: Vec<Seq>, reason: &'static str) -> Result<(), End> {
        match self.shared.confirmed.park(seqs, reason).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.paused()),
            Err(Over) => Err(End::Stopped),
        }
    }
}

fn outcome_of(code: &str) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.code() == code)
}

/// Whether the message's own expiration is over. A record that is too old is parked elsewhere.
fn has_expired(stored: &Stored, now_ms: i64) -> bool {
    let own_ms =
        stored.message.properties.expiration_ms.map(|own| stored.created_ms.saturating_add(own.into()));
    own_ms == Some(stored.expires_ms) && stored.expires_ms <= now_ms
}
