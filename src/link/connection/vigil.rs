//! Watches an open connection: the broker's events, its pulse, and the request to drain.

use super::probing::Probing;
use super::pulse::{Pulse, PulseAction};
use super::reporter::Reporter;
use super::state::ConnectionEvent;
use super::status::WayIn;
use crate::config::BrokerConfig;
use crate::labels::LossReason;
use crate::link::publisher::PublisherMode;
use crate::link::stage::{Stage, draining};
use crate::outcome::Outcome;
use futures_util::stream::{BoxStream, StreamExt};
use lapin::{Connection, Event};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The interval between looks at lapin's own connection status, in case an event was lost.
const STATUS_CHECK: Duration = Duration::from_millis(250);

/// What is needed to watch one connection.
pub(crate) struct Vigil<'a> {
    pub(crate) reporter: &'a Reporter,
    pub(crate) connection: &'a Connection,
    pub(crate) mode: &'a watch::Sender<PublisherMode>,
    pub(crate) way: &'a WayIn,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) broker: &'a BrokerConfig,
}

/// Why a connection was lost.
pub(crate) type Loss = (LossReason, String);

impl Vigil<'_> {
    /// Watches until the connection is lost, and returns why.
    pub(crate) async fn run(self, mut events: BoxStream<'static, Event>, mut probing: Probing<'_>) -> Loss {
        let mut stage = self.stage.clone();
        let mut pulse = Pulse::new(self.broker.stall_timeout, self.broker.transfer_max, Instant::now());
        let mut next_look = Instant::now();
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
                sent = probing.answered() => {
                    self.way.vitals.answered(sent);
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
                    let (action, next) = self.look(&mut pulse, &probing);
                    next_look = next;
                    match action {
                        PulseAction::Wait => {}
                        PulseAction::Probe => {
                            // The same may have happened to the others. Whoever answers this is
                            // above suspicion should no answer come here.
                            witness.ask_everybody(probing.send(&mut pulse));
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
                next_look = probing.send(&mut pulse);
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
    fn look(&self, pulse: &mut Pulse, probing: &Probing<'_>) -> (PulseAction, Instant) {
        let now = Instant::now();
        if self.connection.status().blocked() {
            pulse.suspend(now);
            return (PulseAction::Wait, now + self.broker.stall_timeout);
        }
        self.resumed_if(pulse.word(self.way.vitals.last_word()));
        probing.follow(pulse);
        pulse.look(now, self.way.vitals.owed())
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

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
