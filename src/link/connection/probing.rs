//! Asks the broker whether it still answers, one question at a time.

use super::pulse::Pulse;
use super::transport::Transport;
use crate::link::publisher::Vitals;
use futures_util::future::BoxFuture;
use lapin::Channel;
use lapin::options::BasicQosOptions;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// The probe of one connection.
pub(crate) struct Probing<'a> {
    /// A channel for probes only.
    control: Channel,
    transport: Transport,
    vitals: &'a Vitals,
    /// When the probe was sent that is not answered yet, and its answer.
    asked: Option<(Instant, BoxFuture<'static, ()>)>,
}

impl<'a> Probing<'a> {
    pub(crate) fn new(control: Channel, transport: Transport, vitals: &'a Vitals) -> Self {
        Self { control, transport, vitals, asked: None }
    }

    /// Sends a request that every broker answers at once for any user, and that changes nothing.
    /// Returns the moment.
    pub(crate) fn send(&mut self, pulse: &mut Pulse) -> Instant {
        let now = Instant::now();
        let unwritten = self.vitals.unwritten().load(Ordering::Relaxed);
        pulse.sent_behind(self.transport.progress(), unwritten);
        let control = self.control.clone();
        let asking = async move {
            if control.basic_qos(0, BasicQosOptions::default()).await.is_err() {
                // The channel died with its connection, which the events report. This is not an
                // answer.
                std::future::pending::<()>().await;
            }
        };
        self.asked = Some((now, Box::pin(asking)));
        now
    }

    /// Waits for the answer, and returns when the probe was sent. Never ends while there is none.
    pub(crate) async fn answered(&mut self) -> Instant {
        let Some((sent, answer)) = &mut self.asked else { return std::future::pending().await };
        answer.await;
        let sent = *sent;
        self.asked = None;
        sent
    }

    /// Tells the pulse how far the bytes before the probe have come.
    pub(crate) fn follow(&self, pulse: &mut Pulse) {
        if pulse.waits_for_bytes()
            && let Some(progress) = self.transport.progress()
        {
            pulse.acknowledged(progress.acknowledged, Instant::now());
        }
    }
}
