//! The task of one stream: takes lines while there is room, publishes them side by side, and
//! answers each.

use super::Connection;
use super::answers::Answers;
use super::arriving::{ArrivingLines, Upcoming};
use super::elements::Elements;
use super::outbox::{ClientState, FULL, Outbox};
use crate::admission::Permit;
use crate::http::dialect::Entries;
use crate::http::door::Door;
use crate::http::places::{Room, no_room};
use crate::http::rejection::Rejection;
use crate::http::terms::Defaults;
use crate::http::upload::Upload;
use crate::message::{Deadline, Order, Settlement};
use crate::outcome::Outcome;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

/// Rounds in one turn, after which other tasks have their turn.
const ROUNDS_MAX: usize = 32;

/// Lines taken in one round, after which outcomes are collected.
const TAKEN_MAX: usize = 64;

/// The longest time that a stream that ends early lets its client finish a chunk.
const COURTESY: Duration = Duration::from_secs(1);

/// Where the lines come from.
pub(super) enum Source {
    /// A body that is still arriving.
    Lines(ArrivingLines),
    /// An array that has arrived.
    Elements(Elements),
}

/// The moment that a line's deadline counts from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begins {
    /// When the line has arrived whole and is taken.
    WhenTaken,
    /// The start of the request.
    At(Instant),
}

/// Why no more lines are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// There are no more.
    Complete,
    /// The body did not arrive whole.
    Broken(String),
    /// Nothing has arrived for this long.
    Idle(Duration),
    /// The sidecar is shutting down.
    Stopping,
    /// The client is gone.
    ClientLeft,
    /// The client does not read its answers.
    Deaf,
}

/// What became of a line.
struct Line {
    index: u64,
    began: Instant,
    settlement: Settlement,
}

/// A line that waits for its place, for as long as this lives.
struct Blocked {
    has_waited: oneshot::Receiver<()>,
    _is_wanted: oneshot::Sender<()>,
}

/// One stream.
pub(super) struct Engine {
    door: Arc<Door>,
    source: Source,
    entries: Entries,
    defaults: Defaults,
    begins: Begins,
    outbox: Arc<Outbox>,
    connection: Connection,
    under_way: FuturesUnordered<BoxFuture<'static, Line>>,
    /// `Some` until the line that was taken last has its place.
    blocked: Option<Blocked>,
    taken: u64,
    answers: Answers,
    client: ClientState,
    ending: Option<Ending>,
    stopping: BoxFuture<'static, ()>,
    /// The next look at whether the client still sends and reads.
    look: Pin<Box<Sleep>>,
}

impl Ending {
    /// The content of the last answer if the stream ends early.
    fn last_line(&self) -> Option<Rejection> {
        match self {
            Ending::Complete | Ending::ClientLeft | Ending::Deaf => None,
            Ending::Broken(error) => {
                Some(Rejection::invalid("body", format_args!("did not arrive whole: {error}")))
            }
            Ending::Idle(idle) => {
                let detail =
                    format!("nothing arrived for {idle:?} (http.idle_timeout): the stream ends here");
                Some(Rejection::new(Outcome::RequestTimeout, detail))
            }
            Ending::Stopping => {
                let detail = "the sidecar is shutting down: this line and those behind it were not taken";
                Some(Rejection::new(Outcome::Draining, detail))
            }
        }
    }
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Upcoming> {
        match self {
            Source::Lines(lines) => lines.poll_next(cx),
            Source::Elements(elements) => Poll::Ready(elements.next()),
        }
    }
}

impl Engine {
    pub(super) fn new(
        door: Arc<Door>,
        source: Source,
        entries: Entries,
        defaults: Defaults,
        begins: Begins,
        outbox: Arc<Outbox>,
        connection: Connection,
    ) -> Self {
        let mut stop = door.stopping.clone();
        let answers = match source {
            Source::Lines(_) => Answers::as_lines(entries),
            Source::Elements(_) => Answers::as_array(entries),
        };
        Self {
            // If there is no sender, the sidecar itself is gone.
            stopping: Box::pin(async move { drop(stop.wait_for(|stop| *stop).await) }),
            look: Box::pin(sleep_until(Instant::now() + door.idle_timeout)),
            door,
            source,
            entries,
            defaults,
            begins,
            outbox,
            connection,
            under_way: FuturesUnordered::new(),
            blocked: None,
            taken: 0,
            answers,
            client: ClientState { is_full: false, client_left: false },
            ending: None,
        }
    }

    /// Runs until no more lines are taken and each line taken is answered.
    pub(super) async fn run(mut self) {
        let ending = poll_fn(|cx| self.poll(cx)).await;
        if let Some(rejection) = ending.last_line() {
            self.answers.add_last(self.taken, &rejection.into());
        }
        self.answers.end();
        poll_fn(|cx| Poll::Ready(self.outbox.hand_over(&mut self.answers.text, cx))).await;
        if ending == Ending::Deaf {
            tracing::info!(lines = self.taken, "a stream has ended whose client reads no answers");
            self.connection.clock.give_up();
        }
        if let (Source::Lines(lines), Ending::Stopping | Ending::Idle(_)) = (self.source, ending) {
            let until = Deadline::after(Instant::now(), COURTESY);
            Upload::begun(lines.into_body()).discard(until).await;
        }
        drop(self.connection);
        self.outbox.complete();
    }

    /// One turn: does everything that can be done now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        for _ in 0..ROUNDS_MAX {
            let settled = self.poll_settled(cx);
            self.client = self.outbox.hand_over(&mut self.answers.text, cx);
            if self.ending.is_none() {
                self.ending = self.poll_ending(cx);
            }
            let taken = self.poll_taking(cx);
            if let Some(ending) = self.ending.take_if(|_| self.under_way.is_empty()) {
                return Poll::Ready(ending);
            }
            if !(settled || taken || self.poll_look(cx)) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(settled)) = Pin::new(&mut self.under_way).poll_next(cx) {
            let Line { index, began, settlement } = settled;
            self.answer(index, began, &settlement);
            any = true;
        }
        any
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        if self.client.client_left {
            // A line without a place is not begun: clients come and go faster than deadlines pass.
            self.blocked = None;
            return Some(Ending::ClientLeft);
        }
        // An array has arrived already: it is a request under way.
        let is_stopping =
            matches!(self.source, Source::Lines(_)) && self.stopping.as_mut().poll(cx).is_ready();
        is_stopping.then_some(Ending::Stopping)
    }

    fn poll_taking(&mut self, cx: &mut Context<'_>) -> bool {
        for taken in 0..TAKEN_MAX {
            if !self.may_take(cx) {
                return taken > 0;
            }
            let Poll::Ready(arrival) = self.source.poll_next(cx) else { return taken > 0 };
            match arrival {
                Upcoming::Line(text, room) => self.take(&text, room),
                Upcoming::Refused(rejection) => {
                    let index = self.next_index();
                    self.answer(index, Instant::now(), &rejection.into());
                }
                Upcoming::End(ending) => self.ending = Some(ending),
            }
        }
        true
    }

    fn may_take(&mut self, cx: &mut Context<'_>) -> bool {
        let owed = self.answers.owed(self.taken, self.under_way.len());
        let has_room = !self.client.is_full && self.answers.text.len() < FULL;
        if self.ending.is_some() || !has_room || owed >= self.door.stream_in_flight {
            return false;
        }
        if let Some(blocked) = &mut self.blocked {
            if Pin::new(&mut blocked.has_waited).poll(cx).is_pending() {
                return false;
            }
            self.blocked = None;
        }
        true
    }

    /// Publishes one line, or says at once why not.
    fn take(&mut self, text: &Bytes, room: Option<Room>) {
        let index = self.next_index();
        let began = match self.begins {
            Begins::WhenTaken => Instant::now(),
            Begins::At(start) => start,
        };
        let order = match (self.entries.decode)(&self.door.terms, &self.defaults, text, began) {
            Ok(order) => order,
            Err(rejection) => return self.answer(index, began, &rejection.into()),
        };
        if let Some(rejection) = self.door.refusal(Some(order.mode), order.key.is_some()) {
            let settlement = Settlement::from(rejection).about(order.message_id().clone());
            return self.answer(index, began, &settlement);
        }
        let publishing = match self.door.places.take(text.len()) {
            Some(permit) => self.publishing(index, began, order, permit),
            None => self.waiting(index, began, order, text.len(), room),
        };
        self.under_way.push(publishing);
    }

    fn publishing(
        &self,
        index: u64,
        began: Instant,
        order: Order,
        permit: Permit,
    ) -> BoxFuture<'static, Line> {
        let service = self.door.service.clone();
        Box::pin(async move {
            let settlement = service.publish(order, permit).await;
            Line { index, began, settlement }
        })
    }

    /// The same for a line that must wait for its place. Until it has its place, no other line is
    /// taken.
    fn waiting(
        &mut self,
        index: u64,
        began: Instant,
        order: Order,
        bytes: usize,
        room: Option<Room>,
    ) -> BoxFuture<'static, Line> {
        let (service, places) = (self.door.service.clone(), self.door.places.clone());
        let (waits, has_waited) = oneshot::channel::<()>();
        let (is_wanted, not_wanted) = oneshot::channel::<()>();
        self.blocked = Some(Blocked { has_waited, _is_wanted: is_wanted });
        Box::pin(async move {
            let place = tokio::select! {
                biased;
                place = places.take_by(bytes, order.deadline.instant()) => place,
                _ = not_wanted => None,
            };
            drop((room, waits));
            let settlement = match place {
                Some(permit) => service.publish(order, permit).await,
                None => Settlement::from(no_room()).about(order.message_id().clone()),
            };
            Line { index, began, settlement }
        })
    }

    fn next_index(&mut self) -> u64 {
        let index = self.taken;
        self.taken += 1;
        index
    }

    fn answer(&mut self, index: u64, began: Instant, settlement: &Settlement) {
        self.door.told(began, settlement);
        if !self.client.client_left {
            self.answers.add(index, settlement);
        }
    }

    /// Checks whether the client has stopped sending or reading. Returns whether it has checked.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> bool {
        if self.look.as_mut().poll(cx).is_pending() {
            return false;
        }
        let (now, patience) = (Instant::now(), self.door.idle_timeout);
        let untaken_since = self.outbox.untaken_since();
        let waiting_since = match &self.source {
            Source::Lines(lines) if self.ending.is_none() => lines.waiting_since(),
            Source::Lines(_) | Source::Elements(_) => None,
        };
        let is_over = |since: Option<Instant>| since.is_some_and(|since| since + patience <= now);
        if is_over(untaken_since) {
            self.ending = Some(Ending::Deaf);
        } else if is_over(waiting_since) {
            self.ending = Some(Ending::Idle(patience));
        }
        let next = [untaken_since, waiting_since].into_iter().flatten().map(|since| since + patience);
        let next = next.filter(|moment| *moment > now).min().unwrap_or(now + patience);
        self.look.as_mut().reset(next);
        true
    }
}
