//! Keeps one connection alive: dials, watches, kills, and dials again, for ever.

use super::LinkSettings;
use super::backoff::Backoff;
use super::dial::{Dialled, dial};
use super::failure::{DialError, LossReason, loss_reason};
use super::outage_log::OutageLog;
use super::publisher::{Ended, Mode, Publisher};
use super::state::ConnectionEvent;
use super::status::{LinkChange, StateWriter};
use super::ticket::Job;
use crate::metrics::Metrics;
use futures_util::stream::{BoxStream, StreamExt};
use lapin::{Connection, Event};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Between two looks at lapin's own connection status, in case an event was lost.
const STATUS_CHECK: Duration = Duration::from_millis(250);

/// How long a connection that is being replaced may take to finish what it has.
const REPLACE_MAX: Duration = Duration::from_secs(5);

/// What the whole link is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Serve.
    Serving,
    /// Finish what is in flight by then, close the connections, end.
    Draining(Instant),
}

/// The owner of one connection slot.
pub(super) struct Supervisor {
    pub(super) slot: usize,
    pub(super) settings: Arc<LinkSettings>,
    pub(super) state: StateWriter,
    pub(super) metrics: Metrics,
    pub(super) stage: watch::Receiver<Stage>,
}

/// How a session with the broker ended.
enum SessionEnd {
    Lost(LossReason, String),
    Drained,
}

impl Supervisor {
    /// Runs until the link is drained.
    pub(super) async fn run(mut self) {
        let broker = &Arc::clone(&self.settings).broker;
        let mut backoff = Backoff::new(broker.reconnect_min, broker.reconnect_max);
        let mut outage = OutageLog::default();
        let mut attempt = self.slot;
        while !self.is_draining() {
            let endpoint = &broker.endpoints[attempt % broker.endpoints.len()];
            attempt += 1;
            let authority = endpoint.authority();
            self.state.trying(&authority);
            let dialled = tokio::select! {
                dialled = dial(endpoint, broker) => dialled,
                () = draining(&mut self.stage) => break,
            };
            match dialled {
                Ok(dialled) => {
                    outage.over();
                    self.metrics.connect_succeeded();
                    let started = Instant::now();
                    match self.serve(dialled, &authority).await {
                        SessionEnd::Drained => break,
                        SessionEnd::Lost(reason, text) => self.lost(reason, &text, &authority),
                    }
                    if started.elapsed() > broker.reconnect_max {
                        backoff.reset();
                    }
                }
                Err(error) => self.not_connected(&error, &authority, &mut outage),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = draining(&mut self.stage) => {}
            }
        }
        self.apply(ConnectionEvent::Drain, None, None);
    }

    fn not_connected(&self, error: &DialError, endpoint: &str, outage: &mut OutageLog) {
        let reason = error.failure.code();
        let text = format!("{reason}: {}", error.text);
        self.metrics.connect_failed(reason);
        if let Some(unlogged) = outage.worth_a_line(&text) {
            let connection = self.slot;
            tracing::warn!(connection, endpoint, reason, cause = error.text, unlogged, "could not connect");
        }
        self.apply(ConnectionEvent::ConnectFailed, Some(text), None);
    }

    /// One session: from an open connection to its end, with everybody answered.
    async fn serve(&mut self, dialled: Dialled, authority: &str) -> SessionEnd {
        let Dialled { connection, shared, kill_switch, mut events, user } = dialled;
        let (jobs, receiver) = mpsc::channel(self.settings.max_in_flight);
        let (mode, mut mode_reader) = watch::channel(Mode::Publishing);
        let mut publisher = Publisher::new(
            Arc::clone(&connection),
            shared,
            &self.settings,
            user,
            self.metrics.clone(),
            receiver,
        );
        tracing::info!(connection = self.slot, endpoint = authority, "connected");
        self.apply(ConnectionEvent::Connected, None, Some(jobs.clone()));
        if connection.status().blocked() {
            self.blocked(&mode, "the broker blocks publishers");
        }
        let ended = {
            let publishing = publisher.run(&mut mode_reader);
            let watching = self.watch(&connection, &mut events, &mode, &jobs);
            tokio::pin!(publishing, watching);
            tokio::select! {
                ended = &mut publishing => ended,
                error = &mut watching => Ended::Lost(error),
            }
        };
        drop(jobs);
        match ended {
            Ended::Lost(error) => {
                self.apply(ConnectionEvent::Lost, Some(error.to_string()), None);
                kill_switch.pull();
                publisher.wind_up().await;
                SessionEnd::Lost(loss_reason(&error), error.to_string())
            }
            Ended::WornOut => {
                let text = "replaced after many channels were closed by the broker";
                self.apply(ConnectionEvent::Lost, Some(text.to_owned()), None);
                mode.send_replace(Mode::Finishing);
                drop(tokio::time::timeout(REPLACE_MAX, publisher.run(&mut mode_reader)).await);
                close(&connection, Instant::now() + Duration::from_secs(1)).await;
                kill_switch.pull();
                publisher.wind_up().await;
                SessionEnd::Lost(LossReason::Replaced, text.to_owned())
            }
            Ended::Finished | Ended::Stopped => {
                let until = self.drain_deadline();
                close(&connection, until).await;
                kill_switch.pull();
                publisher.wind_up().await;
                SessionEnd::Drained
            }
        }
    }

    /// Watches the connection's events and the link's stage; returns why the connection is lost.
    async fn watch(
        &self,
        connection: &Connection,
        events: &mut BoxStream<'static, Event>,
        mode: &watch::Sender<Mode>,
        jobs: &mpsc::Sender<Job>,
    ) -> lapin::Error {
        let mut stage = self.stage.clone();
        let mut check = tokio::time::interval(STATUS_CHECK);
        let mut finishing = false;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.blocked(mode, &reason),
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(connection = self.slot, "the broker takes publishes again");
                        mode.send_if_modified(|mode| replace_if(mode, Mode::Blocked, Mode::Publishing));
                        self.apply(ConnectionEvent::Unblocked, None, Some(jobs.clone()));
                    }
                    Some(Event::Error(error)) if !connection.status().connected() => return error,
                    // Channel errors are the publisher's: its publishes see them.
                    Some(_) => {}
                    None => return aborted(),
                },
                _ = check.tick() => if !connection.status().connected() { return aborted() },
                () = draining(&mut stage), if !finishing => {
                    finishing = true;
                    mode.send_replace(Mode::Finishing);
                    self.apply(ConnectionEvent::Drain, None, None);
                }
                () = tokio::time::sleep_until(self.drain_deadline()), if finishing => {
                    mode.send_replace(Mode::Stopped);
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    fn blocked(&self, mode: &watch::Sender<Mode>, reason: &str) {
        tracing::warn!(connection = self.slot, reason, "the broker blocks publishers");
        self.apply(ConnectionEvent::Blocked, Some(reason.to_owned()), None);
        mode.send_if_modified(|mode| replace_if(mode, Mode::Publishing, Mode::Blocked));
    }

    fn lost(&self, reason: LossReason, cause: &str, endpoint: &str) {
        self.metrics.disconnected(reason.code());
        tracing::warn!(connection = self.slot, endpoint, reason = reason.code(), cause, "connection lost");
    }

    fn apply(&self, event: ConnectionEvent, reason: Option<String>, lane: Option<mpsc::Sender<Job>>) {
        if let Some(LinkChange { from, to }) = self.state.apply(event, reason, lane) {
            self.metrics.link_changed(to.as_str());
            tracing::info!(from = from.as_str(), to = to.as_str(), "link state");
        }
    }

    fn is_draining(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    fn drain_deadline(&self) -> Instant {
        match *self.stage.borrow() {
            Stage::Serving => Instant::now() + REPLACE_MAX,
            Stage::Draining(until) => until,
        }
    }
}

fn replace_if(mode: &mut Mode, from: Mode, to: Mode) -> bool {
    let matches = *mode == from;
    if matches {
        *mode = to;
    }
    matches
}

/// Ends when the link is asked to drain.
pub(super) async fn draining(stage: &mut watch::Receiver<Stage>) {
    // Without a sender the link itself is gone: that is the end, too.
    drop(stage.wait_for(|stage| *stage != Stage::Serving).await);
}

/// A polite close, never waited for beyond `until`: on a silent broker lapin's close does not end (lapin.md, T6).
async fn close(connection: &Connection, until: Instant) {
    let closing = connection.close(200, "amqpost shuts down".into());
    match tokio::time::timeout_at(until, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the connection was closed already"),
        Err(_) => tracing::warn!("the broker did not answer the close in time"),
    }
}

fn aborted() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()
}
