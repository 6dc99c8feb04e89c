//! The channels of one connection: a shared one, and a few that carry one publish at a time and
//! open on demand.

use super::lane::{EndedFlight, Flight, FlightEnd, Lane, LaneKind};
use super::transfer::transfer_time;
use crate::link::LinkSettings;
use crate::link::channel_limit::ChannelLimit;
use crate::link::destinations::Owed;
use crate::message::{Message, ShortText};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The most channels per connection that carry one publish at a time. lapin's cost per frame grows
/// with the number of channels and stays low up to 16 (ADR-0001).
const SOLO_LANES_MAX: usize = 8;

/// The most replaced channels that still owe verdicts. With more, the connection is worn out.
const RETIRED_MAX: usize = 4;

/// The number of hung solo channels at which the connection is worn out.
const HUNG_MAX: usize = 4;

/// The shortest pause between two replacements of the shared channel.
const REPLACE_PAUSE: Duration = Duration::from_secs(1);

/// A lane that died: its kind, the error, and the exchanges that the error names.
pub(crate) type DeadLane = (LaneKind, lapin::Error, Vec<ShortText>);

type Opening = Pin<Box<dyn Future<Output = (LaneKind, Result<Channel, lapin::Error>)> + Send>>;

/// All publishing channels of one connection.
pub(crate) struct Lanes {
    connection: Arc<Connection>,
    channel_limit: Arc<ChannelLimit>,
    open_within: Duration,
    write_window: usize,
    /// Bytes handed to lapin and not yet on the socket.
    unwritten: Arc<AtomicUsize>,
    stall_timeout: Duration,
    shared: Option<Lane>,
    /// Shared lanes that were replaced, and since when: they take nothing more.
    retired: Vec<(Instant, Lane)>,
    replaced_at: Option<Instant>,
    retired_flights_max: usize,
    /// Whether the broker allows one more channel in place of the shared one.
    replaceable: bool,
    solo: Vec<Lane>,
    opening: FuturesUnordered<Opening>,
    opening_solo: usize,
    solo_max: usize,
    closing: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Channels that the broker has closed.
    closed: Arc<AtomicUsize>,
    worn_out: bool,
}

impl Lanes {
    /// The lanes of a fresh connection whose first channel is open already.
    pub(crate) fn new(
        connection: Arc<Connection>,
        shared: Channel,
        settings: &LinkSettings,
        unwritten: Arc<AtomicUsize>,
    ) -> Self {
        let shared = Lane::new(LaneKind::Shared, Arc::clone(&connection), shared, Arc::clone(&unwritten));
        let closed = Arc::new(AtomicUsize::new(0));
        settings.inquiries.connected(&connection, &closed);
        Self {
            connection,
            channel_limit: Arc::clone(&settings.channel_limit),
            open_within: settings.broker.connect_timeout,
            write_window: settings.broker.write_window,
            stall_timeout: settings.broker.stall_timeout,
            shared: Some(shared),
            retired: Vec::new(),
            replaced_at: None,
            retired_flights_max: settings.max_in_flight.div_ceil(4),
            replaceable: true,
            solo: Vec::new(),
            opening: FuturesUnordered::new(),
            opening_solo: 0,
            solo_max: SOLO_LANES_MAX,
            closing: FuturesUnordered::new(),
            closed,
            worn_out: false,
            unwritten,
        }
    }

    /// Publishes that are with the broker.
    pub(crate) fn in_flight(&self) -> usize {
        self.all().map(Lane::in_flight).sum()
    }

    /// Whether the connection lives, as far as lapin knows.
    pub(crate) fn are_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Bytes of the publishes that are with the broker.
    pub(crate) fn owed(&self) -> usize {
        self.all().map(Lane::owed).sum()
    }

    /// Whether the broker allows this connection no solo channel at all.
    pub(crate) fn has_no_solo(&self) -> bool {
        self.solo_max == 0
    }

    /// Messages on solo lanes that the broker has processed since the last call.
    pub(crate) fn take_processed(&mut self) -> Vec<Arc<Message>> {
        self.solo.iter_mut().flat_map(Lane::take_processed).collect()
    }

    /// Whether the connection should be replaced: the broker closed `closed_max` of its channels,
    /// the closed ones have used up the channel ids, or too many channels hang.
    pub(crate) fn are_worn_out(&self, closed_max: usize) -> bool {
        self.closed() >= closed_max || self.worn_out
    }

    /// Every publish without a verdict.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = Owed> {
        self.all().flat_map(Lane::unanswered)
    }

    /// Probes the shared channel. Returns whether it should be replaced because it hangs on a
    /// healthy connection; `last_word` is the connection's last sign of life.
    pub(crate) fn check(&mut self, now: Instant, last_word: Instant) -> bool {
        if let Some(shared) = &mut self.shared {
            shared.probe(now, self.stall_timeout / 4);
        }
        // A publish behind many bytes on a slow link is still on its way.
        let patience = self.stall_timeout + transfer_time(self.owed());
        let is_hung = |lane: &Lane| {
            let hung = |since: Instant| now >= since + patience && last_word > since + patience / 2;
            lane.unmoved_since().is_some_and(hung)
        };
        let hung = self.solo.iter().filter(|lane| is_hung(lane)).count();
        let stale = |(since, _): &&(Instant, Lane)| now >= *since + patience;
        let kept: usize = self.retired.iter().filter(stale).map(|(_, lane)| lane.in_flight()).sum();
        // Their permits are released only when the connection ends: until then their messages may
        // still be published.
        self.worn_out |= hung >= HUNG_MAX || kept >= self.retired_flights_max;
        self.shared.as_ref().is_some_and(is_hung)
    }

    /// Opens another shared channel in place of this one, which keeps its publishes. At most one
    /// per second.
    pub(crate) fn replace_shared(&mut self, now: Instant) {
        let is_fresh = self.replaced_at.is_some_and(|at| now < at + REPLACE_PAUSE);
        if !self.replaceable || is_fresh || self.channel_limit.is_reached() {
            return;
        }
        let Some(lane) = self.shared.take_if(|lane| lane.died().is_none()) else { return };
        self.replaced_at = Some(now);
        tracing::info!(unanswered = lane.in_flight(), "a channel is replaced");
        self.retired.push((now, lane));
        self.worn_out |= self.retired.len() > RETIRED_MAX;
        self.open(LaneKind::Shared);
    }

    /// Closes channels that can no longer be used.
    fn close_spent(&mut self) {
        if self.channel_limit.is_reached() {
            self.solo_max = 0;
        }
        let none_allowed = self.has_no_solo();
        let is_spent = |lane: &mut Lane| {
            lane.is_spent() || (none_allowed && lane.died().is_none() && lane.in_flight() == 0)
        };
        let mut spent: Vec<Lane> = self.solo.extract_if(.., is_spent).collect();
        let done = |(_, lane): &mut (Instant, Lane)| lane.died().is_none() && lane.in_flight() == 0;
        spent.extend(self.retired.extract_if(.., done).map(|(_, lane)| lane));
        for lane in spent {
            let closing = tokio::time::timeout(self.open_within, lane.close());
            self.closing.push(Box::pin(async move { drop(closing.await) }));
        }
    }

    /// Whether the write window has room for `weight` more bytes. A message larger than the window
    /// is sent when the window is empty.
    pub(crate) fn window_takes(&self, weight: usize) -> bool {
        let unwritten = self.unwritten.load(Ordering::Relaxed);
        unwritten == 0 || unwritten + weight <= self.write_window
    }

    /// The shared lane, while it is open.
    pub(crate) fn shared(&mut self) -> Option<&mut Lane> {
        self.shared.as_mut().filter(|lane| lane.died().is_none())
    }

    /// A solo lane for one more publish: an empty one, or else one whose publishes were processed
    /// long ago and have other message ids.
    pub(crate) fn idle_solo(&mut self, message_id: &ShortText) -> Option<&mut Lane> {
        let find = |takes_it: &dyn Fn(&Lane) -> bool| {
            self.solo.iter().position(|lane| takes_it(lane) && !lane.carries(message_id))
        };
        let empty = find(&|lane| lane.is_idle() && lane.in_flight() == 0);
        let is_last_resort = self.solo.len() >= self.solo_max;
        let silent = || find(&|lane| lane.is_idle());
        let nacked = || find(&|lane| is_last_resort && lane.is_blunt());
        let lane = empty.or_else(silent).or_else(nacked)?;
        self.solo.get_mut(lane)
    }

    /// Starts to open one more solo lane, unless enough for `wanted` publishes are opening or the
    /// limit is reached.
    pub(crate) fn open_solo(&mut self, wanted: usize) -> bool {
        let one_more = self.opening_solo < wanted && self.solo.len() + self.opening_solo < self.solo_max;
        if one_more {
            self.opening_solo += 1;
            self.open(LaneKind::Solo);
        }
        one_more
    }

    /// One pass over every lane; adds the publishes that have ended.
    pub(crate) fn poll_passes(&mut self, cx: &mut Context<'_>, settled: &mut Vec<EndedFlight>) {
        let retired = self.retired.iter_mut().map(|(_, lane)| lane);
        for lane in self.shared.iter_mut().chain(retired).chain(&mut self.solo) {
            lane.poll_pass(cx, settled);
        }
    }

    /// Takes in channels that have opened. An error means that the connection is useless.
    pub(crate) fn poll_openings(&mut self, cx: &mut Context<'_>) -> Result<bool, lapin::Error> {
        let mut any = false;
        self.close_spent();
        while let Poll::Ready(Some(())) = Pin::new(&mut self.closing).poll_next(cx) {}
        while let Poll::Ready(Some((kind, channel))) = Pin::new(&mut self.opening).poll_next(cx) {
            any = true;
            self.opening_solo -= usize::from(kind == LaneKind::Solo);
            let channel = match (kind, channel) {
                (_, Ok(channel)) => channel,
                (_, Err(error)) if !self.connection.status().connected() => return Err(error),
                // The broker is blocked and answers nothing. If the channel is still needed, it is
                // requested again.
                (LaneKind::Solo, Err(error)) if is_timeout(&error) => continue,
                (LaneKind::Shared, Err(error)) if is_timeout(&error) => {
                    self.open(LaneKind::Shared);
                    continue;
                }
                // lapin never reuses the ids of closed channels: they have run out.
                (LaneKind::Solo, Err(_)) if self.closed() > 0 => {
                    self.worn_out = true;
                    continue;
                }
                // The broker allows no more channels: the open ones must do.
                (LaneKind::Solo, Err(_)) => {
                    self.solo_max = self.solo.len();
                    continue;
                }
                (LaneKind::Shared, Err(error)) => {
                    // No other channel is possible, so the replaced one stays in use.
                    let Some((_, lane)) = self.retired.pop() else { return Err(error) };
                    self.replaceable = false;
                    self.shared = Some(lane);
                    continue;
                }
            };
            let lane = Lane::new(kind, Arc::clone(&self.connection), channel, Arc::clone(&self.unwritten));
            match kind {
                LaneKind::Shared => self.shared = Some(lane),
                LaneKind::Solo => self.solo.push(lane),
            }
        }
        Ok(any)
    }

    /// Removes lanes that died and are empty, opens a new shared lane if it died, and returns the
    /// dead ones.
    ///
    /// # Errors
    /// If the connection died with its lanes: the reason.
    pub(crate) fn replace_dead(&mut self) -> Result<Vec<DeadLane>, lapin::Error> {
        let died = self.all().find_map(|lane| lane.died().cloned());
        let Some(error) = died else { return Ok(Vec::new()) };
        if !self.connection.status().connected() {
            return Err(error);
        }
        let mut dead = Vec::new();
        let mut is_empty = |kind, lane: &mut Lane| match lane.died().cloned() {
            Some(error) if lane.in_flight() == 0 => {
                dead.push((kind, error, lane.take_named()));
                true
            }
            Some(_) | None => false,
        };
        self.solo.retain_mut(|lane| !is_empty(LaneKind::Solo, lane));
        self.retired.retain_mut(|(_, lane)| !is_empty(LaneKind::Shared, lane));
        let shared_died = self.shared.as_mut().is_some_and(|lane| is_empty(LaneKind::Shared, lane));
        self.closed.fetch_add(dead.len(), Ordering::Relaxed);
        if shared_died {
            self.shared = None;
            self.open(LaneKind::Shared);
        }
        Ok(dead)
    }

    /// Gives up on every unresolved publish.
    pub(crate) fn abandon(&mut self) -> Vec<(Flight, FlightEnd)> {
        let retired = self.retired.drain(..).map(|(_, lane)| lane);
        let mut lanes: Vec<_> =
            self.shared.take().into_iter().chain(retired).chain(self.solo.drain(..)).collect();
        lanes.iter_mut().flat_map(Lane::abandon).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Lane> {
        self.shared.iter().chain(self.retired.iter().map(|(_, lane)| lane)).chain(&self.solo)
    }

    fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    fn open(&mut self, kind: LaneKind) {
        let connection = Arc::clone(&self.connection);
        let within = self.open_within;
        self.opening.push(Box::pin(async move { (kind, open_channel(&connection, within).await) }));
    }
}

fn is_timeout(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::TimedOut)
}

/// Opens a channel in confirm mode, or gives up after `within`.
pub(crate) async fn open_channel(connection: &Connection, within: Duration) -> Result<Channel, lapin::Error> {
    let opening = async {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    };
    match tokio::time::timeout(within, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
