//! Watches an open connection: the broker's events, its pulse, and the request to drain.

use super::pulse::{Pulse, PulseAction};
use super::reporter::Reporter;
use super::state::ConnectionEvent;
use super::status::WayIn;
use crate::labels::LossReason;
use crate::link::publisher::PublisherMode;
use crate::link::stage::{Stage, draining};
use crate::outcome::Outcome;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use lapin::options::BasicQosOptions;
use lapin::{Channel, Connection, Event};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The interval between looks at lapin's own connection status, in case an event was lost.
const STATUS_CHECK: Duration = Duration::from_millis(250);

/// What is needed to watch one connection.
pub(crate) struct Vigil<'a> {
    pub(crate) reporter: &'a Reporter,
    pub(crate) connection: &'a Connection,
    pub(crate) control: Channel,
    pub(crate) mode: &'a watch::Sender<PublisherMode>,
    pub(crate) way: &'a WayIn,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) stall_timeout: Duration,
}

/// Why a connection was lost.
pub(crate) type Loss = (LossReason, String);

impl Vigil<'_> {
    /// Watches until the connection is lost, and returns why.
    pub(crate) async fn run(self, mut events: BoxStream<'static, Event>) -> Loss {
        let mut stage = self.stage.clone();
        let mut pulse = Pulse::new(self.stall_timeout, Instant::now());
        let mut next_look = Instant::now();
        let mut probe: Option<BoxFuture<'static, ()>> = None;
        let mut probed = Instant::now();
        let witness = self.way.vitals.witness();
        let mut asks = witness.changes();
        let mut check = tokio::time::interval(STATUS_CHECK);
        let mut drain_until = None;
        let mut is_stopped = false;
        if self.connection.status().blocked() {
            self.blocked("the broker blocks publishers");
        }
        loop {
            tokio::select! {
                // Arrived events count before timers, so that a late poll is not taken for silence.
                biased;
                event = events.next() => if let Some(loss) = self.event(event, &mut pulse) { return loss },
                () = answered(&mut probe) => {
                    probe = None;
                    self.way.vitals.answered(probed);
                    self.resumed_if(pulse.probe_answered(Instant::now()));
                }
                () = draining(&mut stage), if drain_until.is_none() => {
                    let Stage::Draining(until) = *stage.borrow() else { continue };
                    drain_until = Some(until);
                    self.mode.send_replace(PublisherMode::Finishing);
                    self.reporter.apply(ConnectionEvent::Drain, None, None);
                }
                () = until(drain_until), if !is_stopped => {
                    is_stopped = true;
                    self.mode.send_replace(PublisherMode::Stopped);
                }
                _ = asks.changed() => {}
                _ = check.tick() => if !self.connection.status().connected() {
                    return (LossReason::Io, "the connection is closed".to_owned());
                },
                () = tokio::time::sleep_until(next_look) => {
                    let (action, next) = self.look(&mut pulse);
                    next_look = next;
                    match action {
                        PulseAction::Wait => {}
                        PulseAction::Probe => {
                            probed = Instant::now();
                            probe = Some(self.probe());
                            // The same may have happened to the others. Whoever answers this is
                            // above suspicion should no answer come here.
                            witness.ask_everybody(probed);
                        }
                        PulseAction::Suspect(since) => {
                            let connection = self.reporter.slot;
                            tracing::debug!(connection, "the broker may have stopped answering");
                            witness.suspect(since);
                        }
                        PulseAction::Stall => self.stalled(),
                        PulseAction::GiveUp => {
                            return (LossReason::Stalled, "the broker stopped answering".to_owned());
                        }
                    }
                }
            }
            if witness.is_asked() && pulse.asked(Instant::now()) {
                probed = Instant::now();
                probe = Some(self.probe());
                next_look = probed;
            }
        }
    }

    fn event(&self, event: Option<Event>, pulse: &mut Pulse) -> Option<Loss> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => self.blocked(&reason),
            Some(Event::ConnectionUnblocked) => {
                pulse.suspend(Instant::now());
                self.way.vitals.witness().unblocked();
                tracing::info!(connection = self.reporter.slot, "the broker takes publishes again");
                let paused = PublisherMode::Paused(Outcome::BrokerBlocked);
                self.mode.send_if_modified(|mode| replace_if(mode, paused, PublisherMode::Publishing));
                self.reporter.apply(ConnectionEvent::Unblocked, None, Some(self.way.clone()));
            }
            Some(Event::Error(error)) if !self.connection.status().connected() => {
                return Some((super::failure::loss_reason(&error), error.to_string()));
            }
            // The publisher handles channel errors: its publishes see them.
            Some(_) => {}
            None => return Some((LossReason::Io, "the connection is gone".to_owned())),
        }
        None
    }

    /// Checks whether the broker still answers. A blocked broker reads nothing, so it is not asked.
    fn look(&self, pulse: &mut Pulse) -> (PulseAction, Instant) {
        let now = Instant::now();
        if self.connection.status().blocked() {
            pulse.suspend(now);
            return (PulseAction::Wait, now + self.stall_timeout);
        }
        self.resumed_if(pulse.word(self.way.vitals.last_word()));
        pulse.look(now, self.way.vitals.owed())
    }

    /// Sends a request that every broker answers at once for any user, and that changes nothing.
    fn probe(&self) -> BoxFuture<'static, ()> {
        let control = self.control.clone();
        Box::pin(async move {
            if control.basic_qos(0, BasicQosOptions::default()).await.is_err() {
                // The channel died with its connection, which the events report. This is not an
                // answer.
                std::future::pending::<()>().await;
            }
        })
    }

    fn blocked(&self, reason: &str) {
        tracing::warn!(connection = self.reporter.slot, reason, "the broker blocks publishers");
        self.reporter.apply(ConnectionEvent::Blocked, Some(reason.to_owned()), None);
        self.way.vitals.witness().blocked();
        self.pause(Outcome::BrokerBlocked);
    }

    fn stalled(&self) {
        let reason = "the broker stopped answering";
        tracing::warn!(connection = self.reporter.slot, reason, "stalled");
        self.reporter.apply(ConnectionEvent::Stalled, Some(reason.to_owned()), None);
        self.pause(Outcome::LinkStalled);
    }

    fn resumed_if(&self, was_stalled: bool) {
        if was_stalled {
            tracing::info!(connection = self.reporter.slot, "the broker answers again");
            let paused = PublisherMode::Paused(Outcome::LinkStalled);
            self.mode.send_if_modified(|mode| replace_if(mode, paused, PublisherMode::Publishing));
            self.reporter.apply(ConnectionEvent::Resumed, None, Some(self.way.clone()));
        }
    }

    fn pause(&self, outcome: Outcome) {
        self.mode.send_if_modified(|mode| match *mode {
            PublisherMode::Publishing | PublisherMode::Paused(_) => {
                *mode = PublisherMode::Paused(outcome);
                true
            }
            PublisherMode::Finishing | PublisherMode::Stopped => false,
        });
    }
}

fn replace_if(mode: &mut PublisherMode, from: PublisherMode, to: PublisherMode) -> bool {
    let matches = *mode == from;
    if matches {
        *mode = to;
    }
    matches
}

async fn answered(probe: &mut Option<BoxFuture<'static, ()>>) {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
