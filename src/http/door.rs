//! The door: the parts that every request and every stream needs, the early refusal of a message,
//! and the counting and logging of its outcome.

use super::places::Places;
use super::rejection::Rejection;
use super::terms::Terms;
use crate::admission::Admission;
use crate::config::Live;
use crate::message::{Mode, Settlement, ShortText};
use crate::metrics::Metrics;
use crate::publishing::PublishService;
use crate::tasks::Tasks;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What every request needs: the bounds, the terms, the way to publish.
#[derive(Debug)]
pub struct Door {
    pub(super) terms: Terms,
    pub(super) service: PublishService,
    pub(super) admission: Admission,
    pub(super) metrics: Metrics,
    pub(super) max_body: usize,
    /// Room for the lines of streams, and how many lines one of them may have under way.
    pub(super) places: Places,
    pub(super) stream_in_flight: usize,
    /// The time after which a stream ends if its client does not send, or does not read.
    pub(super) idle_timeout: Duration,
    pub(super) streams: Tasks,
    /// True once no more requests are accepted.
    pub(super) stopping: watch::Receiver<bool>,
}

impl Door {
    /// A door with the limits of the configuration. It follows changes of deadlines and routes.
    /// Streams take no more lines once `stopping` is true.
    #[must_use]
    pub fn new(
        live: &Live,
        service: PublishService,
        admission: Admission,
        metrics: Metrics,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let config = live.now().clone();
        Arc::new(Self {
            terms: Terms::new(live, service.clone()),
            service,
            places: Places::new(admission.clone()),
            admission,
            metrics,
            max_body: config.publish.max_body,
            stream_in_flight: config.publish.stream_in_flight,
            idle_timeout: config.http.idle_timeout,
            streams: Tasks::default(),
            stopping,
        })
    }

    /// Why a message would be refused right now, whatever its content. `mode` is `None` if only the
    /// body says the mode.
    pub(super) fn refusal(&self, mode: Option<Mode>, has_key: bool) -> Option<Rejection> {
        self.service.refusal(mode, has_key).map(Rejection::of)
    }

    /// Counts and logs the outcome of a message. Its request (or line) began at `began`.
    pub(super) fn told(&self, began: Instant, settlement: &Settlement) {
        let elapsed = began.elapsed();
        if settlement.replayed {
            // Its message was counted the first time.
            self.metrics.replayed();
        } else {
            self.metrics.publish_answered(settlement.outcome, elapsed);
        }
        let message_id = settlement.message_id.as_ref().map(ShortText::as_str);
        tracing::debug!(code = settlement.outcome.code(), message_id, ?elapsed, "answered");
    }
}
