//! Keeps one connection alive: dials, serves, tears down, and dials again, forever.

use super::attempts::{Attempted, Place, Rotation, connect};
use super::dial::{Dialled, KillSwitch};
use super::failure::{DialError, loss_reason};
use super::moving::{self, Successor};
use super::outage_log::OutageLog;
use super::probing::Probing;
use super::renewal::{Renewed, keep_renewed};
use super::reporter::Reporter;
use super::state::ConnectionEvent;
use super::status::WayIn;
use super::vigil::{Loss, Vigil};
use crate::labels::LossReason;
use crate::link::LinkSettings;
use crate::link::backoff::Backoff;
use crate::link::publisher::{Publisher, PublisherEnd, PublisherMode, Vitals};
use crate::link::stage::{Stage, draining};
use crate::when_woken::when_woken;
use lapin::Connection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a connection that is being replaced may take to finish its publishes.
const REPLACE_MAX: Duration = Duration::from_secs(5);

/// The same for a sound connection that moves: no publish is lost by the move.
const MOVE_MAX: Duration = Duration::from_secs(60);

/// How long the broker may take to answer a regular close.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The owner of one connection slot.
pub(crate) struct Supervisor {
    pub(crate) settings: Arc<LinkSettings>,
    pub(crate) reporter: Reporter,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) renewed: Renewed,
    /// Connections that were replaced and finish their publishes.
    pub(crate) retired: JoinSet<()>,
}

/// How a session with the broker ended.
enum SessionEnd {
    Lost(Loss),
    /// Its connection is worn out or moves, and keeps publishing until another one takes its place:
    /// this one, if it is there already.
    Retiring(watch::Sender<PublisherMode>, Option<Box<(Place, Dialled)>>),
    Drained,
}

/// A session whose connection will be replaced.
struct Retiring {
    connection: Arc<Connection>,
    kill_switch: KillSwitch,
    publisher: Publisher,
    mode: watch::Receiver<PublisherMode>,
    stage: watch::Receiver<Stage>,
    /// For the time in which there is a connection more than configured.
    extra: Option<OwnedSemaphorePermit>,
}

impl Supervisor {
    /// Runs until the link is drained.
    pub(crate) async fn run(mut self) {
        let settings = Arc::clone(&self.settings);
        let broker = &settings.broker;
        let mut backoff = Backoff::new(broker.reconnect_min, broker.reconnect_max);
        let mut outage = OutageLog::default();
        let mut rotation = Rotation::starting_at(self.reporter.slot);
        let mut retiring: Option<watch::Sender<PublisherMode>> = None;
        let mut successor = None;
        while !self.is_draining() {
            let obtained = self.obtain(&mut rotation, &mut outage, successor.take()).await;
            let Some((place, dialled)) = obtained else { break };
            match dialled {
                Ok(dialled) => {
                    outage.over();
                    rotation.connected();
                    self.reporter.metrics.connect_succeeded();
                    self.reporter.state.trying(&place);
                    let started = Instant::now();
                    match self.serve(dialled, &place, retiring.take()).await {
                        SessionEnd::Drained => break,
                        SessionEnd::Lost(loss) => self.lost(&loss, &place, started.elapsed()),
                        SessionEnd::Retiring(mode, next) => {
                            (retiring, successor) = (Some(mode), next);
                            continue;
                        }
                    }
                    if started.elapsed() > broker.reconnect_max {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    if let Some(mode) = retiring.take() {
                        mode.send_replace(PublisherMode::Finishing);
                        self.reporter.apply(ConnectionEvent::Lost, None, None);
                    }
                    self.not_connected(&error, &place, &mut outage);
                    if rotation.has_more() {
                        continue;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = draining(&mut self.stage) => {}
            }
        }
        if let Some(mode) = retiring {
            mode.send_replace(PublisherMode::Finishing);
        }
        self.reporter.apply(ConnectionEvent::Drain, None, None);
        while self.retired.join_next().await.is_some() {}
    }

    /// The connection that is there already, or one that is made now; `None` if the link drains
    /// before.
    async fn obtain(
        &self,
        rotation: &mut Rotation,
        outage: &mut OutageLog,
        ready: Option<Box<(Place, Dialled)>>,
    ) -> Option<Attempted> {
        if let Some((place, dialled)) = ready.map(|ready| *ready) {
            return Some((place, Ok(dialled)));
        }
        let connecting = connect(
            &self.settings,
            rotation,
            |address| self.reporter.state.load(address),
            |place| self.reporter.state.trying(place),
            |place, error| self.not_connected(error, place, outage),
        );
        let mut stage = self.stage.clone();
        tokio::select! {
            attempted = connecting => Some(attempted),
            () = draining(&mut stage) => None,
        }
    }

    fn not_connected(&self, error: &DialError, place: &Place, outage: &mut OutageLog) {
        let reason = error.failure.as_str();
        let text = format!("{reason}: {}", error.text);
        self.reporter.metrics.connect_failed(error.failure);
        self.settings.channel_limit.heard(&error.text);
        if let Some(unlogged) = outage.worth_a_line(&text) {
            let connection = self.reporter.slot;
            let (endpoint, cause) = (place.to_string(), &error.text);
            tracing::warn!(connection, endpoint, reason, cause, unlogged, "could not connect");
        }
        self.reporter.apply(ConnectionEvent::ConnectFailed, Some(text), None);
    }

    fn lost(&self, (reason, cause): &Loss, place: &Place, lived: Duration) {
        if let Some(address) = place.address {
            self.settings.homing.lost(address, lived, Instant::now());
        }
        self.reporter.metrics.disconnected(*reason);
        self.settings.channel_limit.heard(cause);
        let (connection, reason) = (self.reporter.slot, reason.as_str());
        tracing::warn!(connection, endpoint = %place, reason, cause, "connection lost");
    }

    /// One session: serves an open connection until it ends and every request is answered. The
    /// connection `replaced` starts to finish when this one is ready.
    async fn serve(
        &mut self,
        dialled: Dialled,
        place: &Place,
        replaced: Option<watch::Sender<PublisherMode>>,
    ) -> SessionEnd {
        let Dialled { connection, shared, control, kill_switch, transport, events, user, password, proven } =
            dialled;
        let (jobs, receiver) = mpsc::channel(self.settings.max_in_flight);
        let (mode, mut modes) = watch::channel(PublisherMode::Publishing);
        let vitals = Arc::new(Vitals::new(self.settings.suspicion.join(&place.node(), proven)));
        let way = WayIn { jobs, vitals: Arc::clone(&vitals) };
        let mut publisher = Publisher::new(
            Arc::clone(&connection),
            shared,
            &self.settings,
            user,
            self.reporter.metrics.clone(),
            vitals,
            receiver,
        );
        tracing::info!(connection = self.reporter.slot, endpoint = %place, "connected");
        self.reporter.apply(ConnectionEvent::Connected, None, Some(way.clone()));
        if let Some(replaced) = replaced {
            replaced.send_replace(PublisherMode::Finishing);
        }
        let vigil = Vigil {
            reporter: &self.reporter,
            connection: &connection,
            mode: &mode,
            way: &way,
            stage: self.stage.clone(),
            broker: &self.settings.broker,
        };
        let probing = Probing::new(control, transport, &way.vitals);
        let renewing = keep_renewed(&connection, self.renewed.clone(), password, &self.reporter);
        let mut successor = None;
        let ended = tokio::select! {
            () = renewing => PublisherEnd::Stopped,
            found = moving::successor(&self.settings, &self.reporter, &self.stage, place.address) => {
                successor = Some(found);
                PublisherEnd::WornOut
            }
            ended = publisher.run(&mut modes) => ended,
            (reason, cause) = when_woken(vigil.run(events, probing)) => PublisherEnd::Lost(reason, cause),
        };
        let end = match ended {
            PublisherEnd::WornOut => {
                let (next, extra) = successor.map(Successor::split).unzip();
                let stage = self.stage.clone();
                let session = Retiring { connection, kill_switch, publisher, mode: modes, stage, extra };
                self.retire(session, place);
                return SessionEnd::Retiring(mode, next);
            }
            PublisherEnd::Lost(reason, cause) => SessionEnd::Lost((reason, cause)),
            PublisherEnd::ConnectionLost(error) => SessionEnd::Lost((loss_reason(&error), error.to_string())),
            PublisherEnd::Finished | PublisherEnd::Stopped => SessionEnd::Drained,
        };
        match &end {
            SessionEnd::Lost((_, cause)) => {
                self.reporter.apply(ConnectionEvent::Lost, Some(cause.clone()), None);
            }
            SessionEnd::Drained | SessionEnd::Retiring(..) => close(&connection, self.close_by()).await,
        }
        kill_switch.pull();
        publisher.wind_up().await;
        end
    }

    /// Lets a session that will be replaced publish on.
    fn retire(&mut self, session: Retiring, place: &Place) {
        let why = match session.extra {
            Some(_) => "moving the connection to an endpoint that has fewer",
            None => "replacing the connection: its channels are used up or stand still",
        };
        self.reporter.metrics.disconnected(LossReason::Replaced);
        tracing::info!(connection = self.reporter.slot, endpoint = %place, "{why}");
        self.retired.spawn(session.run());
    }

    /// The moment at which a regular close is given up.
    fn close_by(&self) -> Instant {
        match *self.stage.borrow() {
            Stage::Serving => Instant::now() + CLOSE_MAX,
            Stage::Draining(until) => until,
        }
    }

    fn is_draining(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }
}

impl Retiring {
    /// Publishes until another connection has taken its place, then finishes its publishes in
    /// bounded time.
    async fn run(mut self) {
        let (mut mode, mut stage) = (self.mode.clone(), self.stage.clone());
        let within = if self.extra.is_some() { MOVE_MAX } else { REPLACE_MAX };
        let finishing = async move {
            drop(mode.wait_for(|mode| *mode != PublisherMode::Publishing).await);
            let shut_down = async {
                draining(&mut stage).await;
                let Stage::Draining(until) = *stage.borrow() else { return };
                tokio::time::sleep_until(until).await;
            };
            tokio::select! {
                () = tokio::time::sleep(within) => {}
                () = shut_down => {}
            }
        };
        tokio::select! {
            ended = self.publisher.run(&mut self.mode) => {
                tracing::debug!(?ended, "a replaced connection has finished");
            }
            () = finishing => tracing::warn!("a replaced connection did not finish in time"),
        }
        close(&self.connection, Instant::now() + CLOSE_MAX).await;
        self.kill_switch.pull();
        self.publisher.wind_up().await;
        drop(self.extra);
    }
}

/// A regular close of a connection that publishes nothing.
pub(crate) async fn close_promptly(connection: &Connection) {
    close(connection, Instant::now() + CLOSE_MAX).await;
}

/// A regular close, given up at `until`: on a silent broker lapin's close never ends (ADR-0001).
async fn close(connection: &Connection, until: Instant) {
    let closing = connection.close(200, "amqpost shuts down".into());
    match tokio::time::timeout_at(until, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the connection was closed already"),
        Err(_) => tracing::warn!("the broker did not answer the close in time"),
    }
}
